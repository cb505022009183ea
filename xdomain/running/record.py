"""The run folder, its facts, and its checkpoints."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from xdomain import __version__
from xdomain.errors import UserError
from xdomain.running.folder import CHECKPOINTS, facts_of, git_commit, hardware, run_dir, write_json
from xdomain.running.loop import refuse_loss
from xdomain.running.metrics_file import MetricsFile

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer


class RunFolder(pl.Callback):
    """Chooses the run folder before anything is written and keeps ``run.json``: recipe, data, commit, hardware, time.

    The training time is part of the checkpoint, so that a resumed run includes its earlier time. So is the fingerprint
    of the data: a training is not resumed on others, unless the trainer allows it. Settings that were changed on the
    command line are collected over all continuations.
    """

    def __init__(self) -> None:
        self.wall_seconds = 0.0
        self.data: str | None = None
        self._since = 0.0

    def setup(self, trainer: "Trainer", pl_module: pl.LightningModule, stage: str) -> None:  # type: ignore[override]
        folder = trainer.settle_run_dir()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(folder / CHECKPOINTS)  # Lightning's own choice is shared by all runs

    def on_train_start(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._since = time.monotonic()
        folder = run_dir(trainer)
        assert folder is not None
        self._know_data(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.open(folder / "metrics.csv", before_step=trainer.global_step)
        self._write(trainer)
        if trainer.is_global_zero:
            (folder / "requeued").unlink(missing_ok=True)

    def on_train_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._write(trainer)

    def on_exception(self, trainer: "Trainer", pl_module: pl.LightningModule, exception: BaseException) -> None:  # type: ignore[override]
        full = isinstance(exception, OSError) or isinstance(exception.__cause__, OSError)
        try:
            if self._since and not full:  # nothing can be written on a full disk
                self._write(trainer)
        finally:
            trainer.leave_run_dir()

    def teardown(self, trainer: "Trainer", pl_module: pl.LightningModule, stage: str) -> None:  # type: ignore[override]
        trainer.leave_run_dir()

    def _know_data(self, trainer: "Trainer") -> None:
        """Remember the fingerprint of the data, and refuse data that are not those of the checkpoint."""
        fingerprint = getattr(getattr(trainer, "datamodule", None), "fingerprint", None)
        now = fingerprint(times=False) if fingerprint is not None else None
        if None not in (self.data, now) and self.data != now and not trainer.changed_data:
            raise UserError(
                "the data are not those that the checkpoint was trained on: their files, sizes, parts or settings have "
                "changed. Give the same data, or --trainer.changed_data true to go on with these."
            )
        self.data = now

    def _elapsed(self) -> float:
        return self.wall_seconds + (time.monotonic() - self._since if self._since else 0.0)

    def _write(self, trainer: "Trainer") -> None:
        folder = run_dir(trainer)
        if trainer.is_global_zero and folder is not None:
            facts = {
                "recipe": trainer.recipe,
                "overrides": {**facts_of(folder).get("overrides", {}), **trainer.overrides},
                "weights": facts_of(folder).get("weights") or trainer.weights,
                "seed": trainer.seed,
                "data": self.data,
                "commit": git_commit(),
                "version": __version__,
                "torch": torch.__version__,
                "hardware": hardware(),
                "world_size": trainer.world_size,
                "steps": trainer.global_step,
                "wall_seconds": round(self._elapsed(), 1),
            }
            write_json(folder / "run.json", facts)

    def state_dict(self) -> dict[str, Any]:
        return {"wall_seconds": self._elapsed(), "data": self.data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.wall_seconds = state_dict["wall_seconds"]
        self.data = state_dict.get("data")  # none in older checkpoints


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``, and ``best.ckpt`` if a metric is monitored.

    ``last`` is written after every validation, every few minutes between two batches, on a signal and at the end. At
    these points everything of the finished batches has been logged and nothing of the next one has begun, so that a
    resumed run is identical to one that was never stopped. Non-finite weights, or weights after a non-finite loss, are
    never saved.

    Args:
        monitor: metric that chooses ``best``; None keeps only ``last``.
        mode: whether the metric should be ``max`` or ``min``.
        minutes: minutes between two checkpoints; None writes none besides those of the validations.
    """

    def __init__(self, monitor: str | None = None, mode: str = "max", minutes: float | None = 10.0) -> None:
        self.monitor, self.mode, self.minutes = monitor, mode, minutes
        self.best: float | None = None
        self._saved_at = -1
        self._saved_when = time.monotonic()

    def due(self) -> bool:
        """Whether a checkpoint between two batches is due."""
        return self.minutes is not None and time.monotonic() - self._saved_when >= 60 * self.minutes

    def save_last(self, trainer: "Trainer") -> None:
        """Write ``last``, unless it already holds this step."""
        if trainer.global_step == self._saved_at:
            return
        self._save(trainer, "last")
        self._saved_at, self._saved_when = trainer.global_step, time.monotonic()

    def _save(self, trainer: "Trainer", name: str) -> None:
        check_finite(trainer)
        folder = run_dir(trainer)
        assert folder is not None
        trainer.save_checkpoint(folder / CHECKPOINTS / f"{name}.ckpt")

    def on_train_start(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._saved_when = time.monotonic()

    def on_validation_start(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        if trainer.state.fn == "fit":
            check_finite(trainer)  # before anything is measured

    def on_validation_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if (absent := self.monitor is not None and self.monitor not in trainer.callback_metrics) or not self._improved(
            trainer
        ):
            self.save_last(trainer)
        else:
            self._save(trainer, "best")
            self.save_last(trainer)
        if absent:
            there = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise UserError(
                f"the monitored metric {self.monitor} is not there after a validation, which measured {there}: monitor "
                "one of these, or nothing."
            )

    def _improved(self, trainer: "Trainer") -> bool:
        if self.monitor is None:
            return False
        value, sign = float(trainer.callback_metrics[self.monitor]), 1 if self.mode == "max" else -1
        if math.isnan(value) or not (self.best is None or sign * value > sign * self.best):
            return False
        self.best = value
        return True

    def on_train_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        with _unfinished_epoch(trainer):
            self.save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "monitor": self.monitor, "mode": self.mode}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        same = (state_dict.get("monitor", self.monitor), state_dict.get("mode", self.mode)) == (self.monitor, self.mode)
        self.best = best if same and best is not None and not math.isnan(best) else None


def check_finite(trainer: "Trainer") -> None:
    """Raise a UserError if a loss or a weight is not finite: such a state would be useless."""
    module = trainer.lightning_module
    if (losses := getattr(module, "losses", None)) is not None and (bad := losses.find()) is not None:
        refuse_loss(trainer, bad)
    weights = list(module.named_parameters())
    if weights and not bool(torch.stack([w.detach().isfinite().all() for _, w in weights]).all()):
        name = next(n for n, w in weights if not bool(w.detach().isfinite().all()))
        raise UserError(
            f"the weights {name} are not finite after step {trainer.global_step - 1:,}: train with a smaller learning "
            "rate or clip; the checkpoints hold an earlier state."
        )


@contextmanager
def _unfinished_epoch(trainer: pl.Trainer) -> Iterator[None]:
    """Save the last epoch as unfinished, even if it had all its batches.

    Lightning counts it as finished. A longer training would start the next epoch instead of its rest, or take the end
    of its batches for a place in the next epoch.
    """
    loop = trainer.fit_loop
    counts: tuple[Any, ...] = (loop.epoch_progress.total, loop.epoch_progress.current)
    if loop.epoch_progress.current.completed < loop.epoch_progress.current.ready:
        counts = ()
    for count in counts:
        count.processed, count.completed = count.processed - 1, count.completed - 1
    try:
        yield
    finally:
        for count in counts:
            count.processed, count.completed = count.processed + 1, count.completed + 1
