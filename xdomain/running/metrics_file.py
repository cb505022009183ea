"""The metrics file of a run."""

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from xdomain.files import whole_file


class MetricsFile(Logger):
    """Writes ``metrics.csv``: one row for every time that something is logged, whole rows only, nothing lost on a kill.

    A run that resumes first drops the rows that were written after its checkpoint, so that the file has neither gaps
    nor doubles.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def open(self, path: Path, before_step: int) -> None:
        """Use this file, and keep the rows of the steps before the given one."""
        self.path, self._columns = path, []
        rows = [row for row in read_metrics(path) if int(row["step"]) < before_step] if path.exists() else []
        if path.exists():
            self._rewrite(rows)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.path is None:
            return
        row: dict[str, Any] = {"step": step or 0, **metrics}
        if new := [name for name in row if name not in self._columns]:
            rows = read_metrics(self.path) if self.path.exists() else []
            self._columns += new
            self._rewrite(rows)
        line = ",".join(_cell(row.get(name)) for name in self._columns)
        try:
            with self.path.open("a", newline="") as file:
                file.write(line + "\n")  # one write: a kill leaves the whole row or none of it
        except OSError as error:
            error.filename = str(self.path)  # a full disk is told by a number alone
            raise

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        assert self.path is not None
        self._columns = self._columns or list(rows[0] if rows else ["step"])
        with whole_file(self.path) as file, io.TextIOWrapper(file, newline="") as text:
            writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder holds the whole config."""


def _cell(value: Any) -> str:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file; a last row that was cut off by a kill is left out."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row.get("step") and None not in row.values() and None not in row]
