"""What all methods share: named optimisers, one count per batch, phases, clipping, accumulation, schedules."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch, Sample, to_uint8
from xdomain.data.base import BaseDataModule
from xdomain.errors import UserError, refuse
from xdomain.optim import GANAdam
from xdomain.running.loop import LossWatch


class Phase(NamedTuple):
    """A stretch of training.

    Attributes:
        name: for logs and messages.
        steps: length in batches; None lasts until the end of training.
        optimizers: names of the optimisers that may step in it; None allows all.
    """

    name: str
    steps: int | None = None
    optimizers: tuple[str, ...] | None = None


class StepCounter(pl.Callback):
    """Ends every training batch of a :class:`Method`: counts it and steps the schedules.

    A callback, and the first of all, so that the others find the count of finished batches. A method whose phases all
    have a length trains to the end of the last one, unless the trainer's ``max_steps`` says otherwise.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.insert(0, callbacks.pop(callbacks.index(self)))
        assert isinstance(pl_module, Method)
        lengths = [phase.steps for phase in pl_module.build_phases()]
        if stage == "fit" and trainer.max_steps == -1 and None not in lengths:
            trainer.fit_loop.epoch_loop.max_steps = sum(length or 0 for length in lengths)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Method)
        pl_module.end_batch()


class Method(pl.LightningModule):
    """Base of all methods.

    A method builds its networks in ``__init__``, names its optimisers in :meth:`build_optimizers`, and writes its
    updates in ``training_step`` through :meth:`step`. ``trainer.global_step`` is the number of finished batches,
    however many optimisers stepped in them.

    Args:
        domains: names of the domains, source first; the data module gives them.
        channels: image channels of every domain; the data module gives them.
        image_size: height and width in pixels, the longest where they vary; the data module gives it.
        shapes: height and width of the images of every domain (of clips: frames, height and width); the data module
            gives them. By default squares of ``image_size``.
        optimizer: makes an optimiser from parameters.
        scheduler: makes a learning-rate schedule from an optimiser; stepped once per update of the weights.
        clip: largest gradient norm per optimiser, applied to unscaled gradients; None does not clip.
        accumulate: batches whose gradients are averaged into one update of the weights.
    """

    def __init__(
        self,
        domains: Sequence[str],
        channels: Sequence[int],
        image_size: int,
        shapes: Sequence[tuple[int, ...]] | None = None,
        optimizer: OptimizerCallable = GANAdam,
        scheduler: LRSchedulerCallable | None = None,
        clip: float | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if accumulate < 1:
            refuse(self, "accumulate", accumulate, "give a number of batches of at least 1.")
        self.domains, self.channels, self.image_size = tuple(domains), tuple(channels), image_size
        self.shapes = tuple(tuple(shape) for shape in shapes or [(image_size, image_size)] * len(self.domains))
        self.optimizer, self.scheduler, self.clip, self.accumulate = optimizer, scheduler, clip, accumulate
        self.losses = LossWatch()
        self._index: dict[str, int] = {}
        self._stepped: set[str] = set()
        self._scale = 1.0
        self.save_hyperparameters()
        for name in [name for name, value in self.hparams.items() if not _is_plain(value)]:
            self.hparams.pop(name)  # made in Python instead of from a config: it could not be loaded safely

    # What a method implements

    def build_optimizers(self) -> dict[str, Optimizer]:
        """The optimisers by name."""
        raise NotImplementedError(f"{type(self).__name__} must implement build_optimizers()")

    def build_phases(self) -> tuple[Phase, ...]:
        """The phases of training, in order."""
        return (Phase("train"),)

    def translate(self, images: Tensor, source: str, target: str, **options: Any) -> Tensor:
        """Translate images from one domain to another.

        Args:
            images: float [N, C, H, W] in [-1, 1], with the channels of the source domain.
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            options: what the method offers beside.

        Returns:
            float [N, C', H, W] in [-1, 1], with the channels of the target domain.
        """
        raise NotImplementedError(f"{type(self).__name__} does not translate")

    # The trainer's side

    @property
    def data(self) -> BaseDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BaseDataModule):
            raise UserError(f"{type(self).__name__} needs one of xdomain's data modules: give the trainer one.")
        return data

    # Logging

    @property
    def logs_now(self) -> bool:
        """Whether the loggers write what is logged now: in training every ``log_every_n_steps`` batches."""
        trainer = self.trainer
        if not trainer.training or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return True
        return trainer._logger_connector.should_update_logs

    def log(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Log a value where it will be read: written by the loggers, averaged over the epoch, or in a progress bar."""
        shown = options.get("prog_bar") and self.trainer.progress_bar_callback is not None
        if self.logs_now or shown or options.get("on_epoch"):
            super().log(name, value, *args, **options)

    # Phases

    def phase_at(self, step: int) -> Phase:
        """The phase that batch number ``step`` (from 0) belongs to; the last phase also holds all later batches."""
        phases = self.build_phases()
        for phase in phases:
            if phase.steps is None or step < phase.steps:
                return phase
            step -= phase.steps
        return phases[-1]

    @property
    def phase(self) -> Phase:
        """The phase of the batch that is being trained."""
        return self.phase_at(self.trainer.global_step)

    # Updates

    def configure_callbacks(self) -> list[pl.Callback]:
        return [StepCounter()]

    def configure_optimizers(self) -> Any:
        optimizers = self.build_optimizers()
        self._index = {name: i for i, name in enumerate(optimizers)}
        if self.scheduler is None:
            return list(optimizers.values())
        return list(optimizers.values()), [self.scheduler(o) for o in optimizers.values()]

    def named_optimizer(self, name: str) -> Optimizer:
        """The optimiser of that name."""
        optimizers = self.optimizers()
        chosen = (optimizers if isinstance(optimizers, list) else [optimizers])[self._index[name]]
        return chosen.optimizer if isinstance(chosen, LightningOptimizer) else chosen

    @contextmanager
    def updating(self, name: str) -> Iterator[Optimizer]:
        """Freeze everything that the named optimiser does not own, and give the optimiser.

        Graphs built inside hold no gradients of the frozen weights, so that no time is spent on them; graphs built
        before keep theirs.
        """
        optimizer = self.named_optimizer(name)
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield optimizer
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def step(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        """One update by the named optimiser.

        Args:
            name: which optimiser.
            loss: builds the scalar to minimise. It is called while all other weights are frozen: what it computes
                through a rival network costs that network no weight gradients.

        Returns:
            the loss, detached.
        """
        phase = self.phase
        if phase.optimizers is not None and name not in phase.optimizers:
            raise RuntimeError(f"optimiser {name!r} must not step in the phase {phase.name!r}")
        if self.accumulate > 1 and name in self._stepped:
            reason = f", but optimiser {name!r} steps more than once in a batch"
            refuse(self, "accumulate", self.accumulate, f"{reason}: set it to 1 and give larger batches instead.")
        self._stepped.add(name)
        position = self.trainer.global_step % self.accumulate
        with self.updating(name) as optimizer:
            value = loss()
            self.losses.note(name, self.trainer.global_step, value)
            if position == 0:
                optimizer.zero_grad()
            self._match_scale(optimizer, first=position == 0)
            self.manual_backward(value / self.accumulate)
            if position == self.accumulate - 1:
                # Through the strategy, not through LightningOptimizer: global_step counts batches (end_batch).
                self.trainer.strategy.optimizer_step(optimizer, closure=_no_closure, model=self)
        return value.detach()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip here: under AMP the gradients have just been unscaled."""
        if self.clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, self.clip)

    def end_batch(self) -> None:
        """Count the batch, whatever was stepped in it, and step the schedules after an update of the weights."""
        self._stepped.clear()
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        if self.scheduler is not None and self.trainer.global_step % self.accumulate == 0:
            for config in self.trainer.lr_scheduler_configs:
                config.scheduler.step()  # type: ignore[call-arg]

    def _match_scale(self, optimizer: Optimizer, first: bool) -> None:
        """Bring accumulated float16 gradients to the present loss scale: it may have changed between two batches."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None or self.accumulate == 1:
            return
        scale = float(scaler.get_scale())
        if not first and scale != self._scale:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.mul_(scale / self._scale)
        self._scale = scale

    # Checkpoints

    @property
    def _between_updates(self) -> bool:
        return self.trainer.global_step % self.accumulate != 0

    def on_validation_model_zero_grad(self) -> None:
        """Keep gradients that still wait for the rest of their batches."""
        if not self._between_updates:
            super().on_validation_model_zero_grad()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add gradients that wait for the rest of their batches."""
        if self._trainer is not None and self._between_updates:
            waiting = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
            checkpoint["accumulated"] = {"gradients": waiting, "scale": self._scale}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the waiting gradients back."""
        if waiting := checkpoint.get("accumulated"):
            self._scale = waiting["scale"]
            for name, parameter in self.named_parameters():
                if (gradient := waiting["gradients"].get(name)) is not None:
                    parameter.grad = gradient.to(parameter.device)

    # Evaluation: metrics and pictures are callbacks that call translate()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to do here; callbacks evaluate the batch."""

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing to do here; callbacks evaluate the batch."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Sample | None:
        """The translated source images of the batch, ``uint8``."""
        if (sample := batch.get("a")) is None:
            return None
        images = self.translate(sample.image, self.domains[0], self.domains[-1])
        return sample._replace(image=to_uint8(images))


def _no_closure() -> None:
    return None


def _is_plain(value: Any) -> bool:
    """Whether a value survives ``torch.load(weights_only=True)``."""
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    return value is None or type(value) in (bool, int, float, str)
