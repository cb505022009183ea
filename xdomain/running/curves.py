"""Learning curves of a run."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure

from xdomain.files import whole_file
from xdomain.running.folder import run_dir
from xdomain.running.metrics_file import read_metrics


class LearningCurves(pl.Callback):
    """Draws everything in ``metrics.csv`` as ``curves.png`` at every validation and at the end of training."""

    def _draw(self, trainer: pl.Trainer) -> None:
        folder = run_dir(trainer)
        if trainer.is_global_zero and folder is not None and not trainer.sanity_checking:
            draw_curves(folder / "metrics.csv", folder / "curves.png")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer)


def draw_curves(metrics: Path, picture: Path) -> None:
    """One small plot over the steps for every column of a metrics file."""
    if not metrics.exists():
        return
    rows = read_metrics(metrics)
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    if not names:
        return
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.2 * lines), layout="constrained")
    for axes, name in zip(figure.subplots(lines, columns, squeeze=False).flat, names, strict=False):
        points = np.array([(float(row["step"]), float(row[name])) for row in rows if row[name]])
        axes.plot(*points.T, marker="." if len(points) < 40 else "", linewidth=1)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
    with whole_file(picture) as file:
        figure.savefig(file, format="png", dpi=100)
