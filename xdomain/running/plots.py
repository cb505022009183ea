"""Plots of the columns of a metrics file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xdomain.files import whole_file
from xdomain.running.metrics_file import read_metrics

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 3.2, 2.2, 0.6, 0.15, 0.35, 0.3
"""Size of a plot and its margins, in inches."""


def draw_curves(metrics: Path, picture: Path) -> None:
    """Write the plots of a metrics file as PNG; nothing if it has no columns."""
    figure = curves_figure(read_metrics(metrics)) if metrics.exists() else None
    if figure is not None:
        with whole_file(picture) as file:
            figure.savefig(file, format="png", dpi=100)


def curves_figure(rows: Sequence[dict[str, str]]) -> Figure | None:
    """One small plot over the steps per column of a metrics file, or None if it has no columns."""
    names = [name for name in (rows[0] if rows else {}) if name not in ("step", "epoch")]
    if not names:
        return None
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
    return figure
