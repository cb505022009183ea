"""Learning curves of a run."""

import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xdomain.files import whole_file
from xdomain.running.folder import run_dir
from xdomain.running.metrics_file import read_metrics

SHARE = 0.02  # of the time of a training that its plots may take
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 3.2, 2.2, 0.6, 0.15, 0.35, 0.3
"""Size of a plot and its margins, in inches."""


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


def draw_curves(metrics: Path, picture: Path) -> None:
    """One small plot over the steps per column of a metrics file."""
    if not metrics.exists():
        return
    rows = read_metrics(metrics)
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    if not names:
        return
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    width, height = WIDTH * columns, HEIGHT * lines
    figure = Figure(figsize=(width, height))  # its layout engines take several times as long as the plots
    for number, name in enumerate(names):
        line, column = divmod(number, columns)
        left, bottom = WIDTH * column + LEFT, HEIGHT * (lines - line - 1) + BOTTOM
        box = left / width, bottom / height, (WIDTH - LEFT - RIGHT) / width, (HEIGHT - BOTTOM - TOP) / height
        axes = figure.add_axes(box)
        points = np.array([(float(row["step"]), float(row[name])) for row in rows if row[name]])
        axes.plot(*points.T, marker="." if len(points) < 40 else "", linewidth=1)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    with whole_file(picture) as file:
        figure.savefig(file, format="png", dpi=100)
