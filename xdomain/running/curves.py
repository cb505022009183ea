"""Learning curves of a run."""

import time

import pytorch_lightning as pl

from xdomain.running.folder import run_dir
from xdomain.running.plots import draw_curves

SHARE = 0.02  # of the time of a training that its plots may take


class LearningCurves(pl.Callback):
    """Plots all columns of ``metrics.csv`` in ``curves.png`` at validations and at the end of training.

    A validation that comes so soon after the plots before that these would take more than 2 % of the time has none.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def _draw(self, trainer: pl.Trainer) -> None:
        folder = run_dir(trainer)
        if trainer.is_global_zero and folder is not None and not trainer.sanity_checking:
            before = time.monotonic()
            draw_curves(folder / "metrics.csv", folder / "curves.png")
            now = time.monotonic()
            self._next = now + (now - before) / SHARE

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._next = time.monotonic() + 1 / SHARE

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and time.monotonic() >= self._next:
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer)
