"""``xdomain compare``: runs side by side, their seeds averaged."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from xdomain import discover
from xdomain.commands import html
from xdomain.commands.options import Parser
from xdomain.commands.runs import Run, number, shown
from xdomain.errors import UserError
from xdomain.files import whole_file

DESCRIPTION = """\
Runs side by side: the settings in which they differ, and their test metrics. Runs that differ in nothing but the seed
share a column with mean and standard deviation. A judge is part of a metric's name, so that two judges never share a
row; runs whose test images or evaluations differ are refused."""
TESTED_ON = ("class_path", "holdout", "world_seed", "image_size")
"""Settings of the data that decide what is tested, beside those whose names begin with ``test`` or ``eval``."""


class Column:
    """Runs with the same settings.

    Args:
        runs: one per seed.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.settings = runs, runs[0].settings
        same = len({run.name for run in runs}) == 1 or len(runs) == 1
        recipes = dict.fromkeys(str(run.facts.get("recipe")) for run in runs)
        self.title = runs[0].name if same else f"{', '.join(recipes)}, {len(runs)} seeds"

    def cell(self, metric: str) -> str:
        """Mean and standard deviation (n - 1) over the seeds that have the metric."""
        values = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        if not values:
            return ""
        mean = number(statistics.mean(values))
        return f"{mean} ± {number(statistics.stdev(values))}" if len(values) > 1 else mean


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """Runs in columns, in the order given; those with equal settings together.

    Raises:
        UserError: if a run is given twice, or two runs of a column have the same seed.
    """
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(json.dumps(run.settings, sort_keys=True, default=str), []).append(run)
    for same in together.values():
        seeds = [run.seed for run in same]
        if len(set(map(str, seeds))) < len(seeds):
            names = " and ".join(str(run.folder) for run in same)
            raise UserError(f"{names} are the same run with the same seed: give one of them.")
    return [Column(same) for same in together.values()]


def differing(columns: Sequence[Column]) -> list[str]:
    """Keys of the settings in which the columns differ, in the order of the configs."""
    keys = dict.fromkeys(key for column in columns for key in column.settings)
    return [key for key in keys if len({str(column.settings.get(key, "")) for column in columns}) > 1]


def check_comparable(columns: Sequence[Column]) -> None:
    """Raise a UserError if what the numbers are measured on, or by, differs between the columns."""
    evaluations = discover.classes("callbacks", {"Evaluation"})
    measuring = {
        key.removesuffix("class_path")
        for column in columns
        for key, value in column.settings.items()
        if key.startswith("trainer.callbacks.") and key.endswith(".class_path") and shown(value) in evaluations
    }
    for key in differing(columns):
        given = [column for column in columns if key in column.settings]
        last = key.rsplit(".", 1)[-1]
        measures = key.startswith(tuple(measuring))
        tests = key.startswith("data.") and (last.startswith(("test", "eval_images")) or last in TESTED_ON)
        if (measures or tests) and len(given) > 1:
            values = ", ".join(f"{column.title}: {shown(column.settings[key])}" for column in given)
            raise UserError(
                f"these runs were not tested alike, {key} differs ({values}): compare their numbers with --anyway."
            )


def compare_command(args: list[str]) -> int:
    """Run ``xdomain compare``; returns the exit status."""
    parser = Parser(prog="xdomain compare", description=DESCRIPTION)
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="run folders, such as runs/dtn/0001")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the comparison as a page of one file")
    parser.add_argument("--anyway", action="store_true", help="also if test images or evaluations differ")
    options = parser.parse_args(args)
    columns = columns_of([Run(folder) for folder in options.runs])
    if not options.anyway:
        check_comparable(columns)
    header = ["", *(column.title for column in columns)]
    settings = [[key, *(shown(column.settings.get(key)) for column in columns)] for key in differing(columns)]
    names = dict.fromkeys(name for column in columns for run in column.runs for name in run.metrics)
    metrics = [[name, *(column.cell(name) for column in columns)] for name in names]
    untested = [str(run.folder) for column in columns for run in column.runs if run.result is None]
    notes = [f"not tested yet: {', '.join(untested)} (xdomain test --ckpt_path RUN)"] if untested else []
    for title, rows in (("settings that differ", settings), ("test metrics", metrics)):
        print(f"{title}\n{_aligned([header, *rows])}\n" if rows else f"{title}: none\n")
    for note in notes:
        print(note)
    if options.html:
        parts = [html.heading("Settings that differ"), html.table(header, settings)]
        parts += [html.heading("Test metrics"), html.table(header, metrics, numbers=True), *map(html.paragraph, notes)]
        with whole_file(options.html) as file:
            file.write(html.page("Runs side by side", parts).encode())
        print(f"page:     {options.html}")
    return 0


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
