"""The run folder, its facts, and its checkpoints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from xdomain import __version__
from xdomain.running.folder import CHECKPOINTS, git_commit, hardware, write_json
from xdomain.running.metrics_file import MetricsFile

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer


class RunFolder(pl.Callback):
    """Settles the run folder before anything is written and keeps ``run.json``: recipe, seed, commit, hardware, time.

    The training time is part of the checkpoint, so that a resumed run counts what it did before.
    """

    def __init__(self) -> None:
        self.wall_seconds = 0.0
        self._since = 0.0

    def setup(self, trainer: "Trainer", pl_module: pl.LightningModule, stage: str) -> None:  # type: ignore[override]
        trainer.settle_run_dir()

    def on_train_start(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._since = time.monotonic()
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.open(trainer.run_dir / "metrics.csv", before_step=trainer.global_step)
        self._write(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._write(trainer)

    def _elapsed(self) -> float:
        return self.wall_seconds + (time.monotonic() - self._since if self._since else 0.0)

    def _write(self, trainer: "Trainer") -> None:
        if trainer.is_global_zero:
            facts = {
                "recipe": trainer.recipe,
                "overrides": trainer.overrides,
                "seed": trainer.seed,
                "commit": git_commit(),
                "version": __version__,
                "torch": torch.__version__,
                "hardware": hardware(),
                "world_size": trainer.world_size,
                "steps": trainer.global_step,
                "wall_seconds": round(self._elapsed(), 1),
            }
            write_json(trainer.run_dir / "run.json", facts)

    def state_dict(self) -> dict[str, Any]:
        return {"wall_seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.wall_seconds = state_dict["wall_seconds"]


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``, written after every validation and at the end, and ``best.ckpt``.

    After a validation all that belongs to the finished batches has been logged and nothing of the next has begun: the
    one place in the loop from which a resumed run is equal to one that was never stopped.

    Args:
        monitor: metric that chooses ``best``; None keeps only ``last``.
        mode: whether the metric should be ``max`` or ``min``.
    """

    def __init__(self, monitor: str | None = None, mode: str = "max") -> None:
        self.monitor, self.mode = monitor, mode
        self.best: float | None = None
        self._saved_at = -1

    def _path(self, trainer: "Trainer", name: str) -> Path:
        return trainer.run_dir / CHECKPOINTS / f"{name}.ckpt"

    def _save(self, trainer: "Trainer") -> None:
        if trainer.global_step == self._saved_at:
            return
        self._saved_at = trainer.global_step
        value = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        sign = 1 if self.mode == "max" else -1
        improved = value is not None and (self.best is None or sign * float(value) > sign * self.best)
        if improved:
            assert value is not None
            self.best = float(value)
            trainer.save_checkpoint(self._path(trainer, "best"))
        trainer.save_checkpoint(self._path(trainer, "last"))

    def on_validation_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        with _unfinished_epoch(trainer):
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


@contextmanager
def _unfinished_epoch(trainer: pl.Trainer) -> Iterator[None]:
    """Save an epoch that ``max_steps`` cut short as one that goes on.

    Lightning counts it as finished, so that a longer training would begin the next epoch instead.
    """
    loop = trainer.fit_loop
    cut = loop.epoch_loop.batch_progress.current.completed < trainer.num_training_batches
    counts: tuple[Any, ...] = (loop.epoch_progress.total, loop.epoch_progress.current) if cut else ()
    for count in counts:
        count.processed, count.completed = count.processed - 1, count.completed - 1
    try:
        yield
    finally:
        for count in counts:
            count.processed, count.completed = count.processed + 1, count.completed + 1
