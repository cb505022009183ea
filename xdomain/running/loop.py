"""The loop over batches; between two batches it checks losses, writes checkpoints and handles signals."""

import math
import signal
import threading
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer.connectors.checkpoint_connector import _CheckpointConnector
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from torch import Tensor

from xdomain.errors import UserError
from xdomain.running.signals import ENDING, Handler, Stopped
from xdomain.running.slurm import ANNOUNCING, job, started_again

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer

PENDING = 64
"""Number of losses per check on an accelerator, where every check makes the processor wait for the device."""


class LossWatch:
    """Finds the first loss that is not finite; keeps a few losses and checks them together."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, int, Tensor]] = []

    def note(self, name: str, step: int, loss: Tensor) -> None:
        """Remember a loss.

        Args:
            name: name of the optimiser that minimises it.
            step: index of the batch.
            loss: a scalar.
        """
        self._waiting.append((name, step, loss.detach()))

    def find(self, at_once: bool = True) -> tuple[str, int, float] | None:
        """Name, step and value of the first noted loss that is not finite, if there is one.

        Args:
            at_once: check now, even if the processor must wait for the device.
        """
        if not self._waiting:
            return None
        here = self._waiting[0][2].device.type == "cpu"
        if not at_once and not here and len(self._waiting) < PENDING:
            return None
        waiting, self._waiting = self._waiting, []
        losses = [loss for *_, loss in waiting]
        values = [float(loss) for loss in losses] if here else torch.stack([loss.float() for loss in losses]).tolist()
        found = zip(waiting, values, strict=True)
        return next(((name, step, value) for (name, step, _), value in found if not math.isfinite(value)), None)


class Signals(_SignalConnector):
    """Records a signal that arrives during a training; the loop handles it when the batch is finished.

    A second signal ends the training at once. Elsewhere, in evaluation and before the first batch, a signal ends the
    process as usual. On SLURM, the signal that announces the end of the job's time is recorded as well.
    """

    trainer: "Trainer"

    def __init__(self, trainer: "Trainer") -> None:
        super().__init__(trainer)
        self.pending = 0
        self.requeue: signal.Signals | None = None
        self._leaving = False

    def register_signal_handlers(self) -> None:
        self.pending, self.requeue, self.received_sigterm, self._leaving = 0, None, False, False
        self._original_handlers = {}
        if self.trainer.state.fn != "fit" or threading.current_thread() is not threading.main_thread():
            return
        environment = self.trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.requeue = environment.requeue_signal

        def note(signum: int) -> None:
            if self.pending and signum in ENDING and not self._leaving:
                raise Stopped(signum, " at once: nothing was saved.")
            self.pending = self.pending or signum

        handler, before = Handler(note), signal.getsignal(ANNOUNCING) if ANNOUNCING else None
        for signum in (*ENDING, *([self.requeue] if self.requeue else [])):
            self._original_handlers[signum] = signal.signal(signum, handler)
        if isinstance(before, Handler):  # when the training has ended, there is nothing to start again
            before.silent = True

    def leave(self) -> None:
        """SLURM ends a job that it shall start again: from now on SIGTERM is nothing new."""
        self._leaving = True
        if isinstance(before := self._original_handlers.get(signal.SIGTERM), Handler):
            before.silent = True


class Checkpoints(_CheckpointConnector):
    """Never loads a checkpoint that was not given: Lightning would load any that a SLURM job left in the folder."""

    _hpc_resume_path = None


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop over batches, with a hook between two batches.

    At this point everything of the finished batches has been logged and nothing of the next one has begun: a run that
    resumes from a checkpoint written there is identical to one that was never stopped.
    """

    trainer: "Trainer"

    def on_run_start(self, data_fetcher: Any) -> None:
        super().on_run_start(data_fetcher)
        self._count()

    def on_advance_end(self, data_fetcher: Any) -> None:
        trainer = self.trainer
        bad = self._losses.find(at_once=trainer.world_size > 1) if self._losses else None
        signum, due, fault = trainer.signals.pending, int(trainer.saving_is_due()), int(bad is not None)
        if trainer.world_size > 1:
            mine = torch.tensor([signum, due, fault], device=trainer.strategy.root_device)
            torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX)
            signum, due, fault = mine.tolist()
        if fault:
            refuse_loss(trainer, bad)
        super().on_advance_end(data_fetcher)  # validates if it is due
        self._count()
        if self.global_step >= self.max_steps != -1:
            return  # the end of the training saves
        if trainer.world_size == 1:
            signum, due = trainer.signals.pending, due or int(trainer.saving_is_due())
        if due or signum:
            trainer.save_last()
        if signum:
            self._stop(signum)

    @property
    def _losses(self) -> LossWatch | None:
        losses = getattr(self.trainer.lightning_module, "losses", None)
        return losses if isinstance(losses, LossWatch) else None

    def _count(self) -> None:
        """Set the step of the next logged values: Lightning's own count depends on where the checkpoint was written."""
        if self._losses is not None:  # a method, whose global_step counts batches
            self._batches_that_stepped = self.global_step

    def _broadcast_sigterm_tensor(self) -> None:
        """Does nothing: the ranks synchronise signals at the end of every batch."""

    def _stop(self, signum: int) -> None:
        trainer = self.trainer
        rest = f" after step {trainer.global_step:,}"
        if trainer.run_dir is not None and trainer.save_last():
            rest += f": --ckpt_path {trainer.run_dir} goes on from there"
        if signum == trainer.signals.requeue and trainer.run_dir is not None:
            trainer.signals.leave()
            rest += requeue(trainer) if trainer.is_global_zero else ""
        raise Stopped(signum, f"{rest}." if trainer.is_global_zero else None)


def refuse_loss(trainer: "Trainer", bad: tuple[str, int, float] | None) -> None:
    """End the training on all ranks if a loss of one of them is not finite."""
    found: list[tuple[str, int, float] | None] = [bad]
    if trainer.world_size > 1:
        found = [None] * trainer.world_size
        torch.distributed.all_gather_object(found, bad)
    name, step, value = min((x for x in found if x is not None), key=lambda x: x[1])
    if not trainer.is_global_zero:
        raise SystemExit(2)  # reported by one process
    kept = trainer.run_dir / "checkpoints" / "last.ckpt" if trainer.run_dir else None
    after = f"; {kept} holds the state before it" if kept and kept.is_file() else ""
    raise UserError(f"the loss {name} of step {step:,} is {value}: train with a smaller learning rate or clip{after}.")


def requeue(trainer: "Trainer") -> str:
    """Ask SLURM to start the job again, and leave a note in the run folder so that the job finds its run."""
    if (number := job()) is None or trainer.run_dir is None:
        return ""
    (trainer.run_dir / "requeued").write_text(number)
    return started_again(number)
