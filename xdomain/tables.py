"""Writes the results tables of the README and the docs from ``results/*.json``: ``python -m xdomain.tables``.

A table is defined in ``docs/tables.yaml`` and stands between two markers, ``<!-- results:NAME -->`` and
``<!-- /results:NAME -->``, in any Markdown file of the project. Numbers are never typed.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from xdomain.errors import UserError

MARKED = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(<!-- /results:\2 -->)", re.DOTALL)


def cell(result: dict[str, Any] | None, metric: str, scale: float = 100.0) -> str:
    """One number as text: ``91.2``, or ``91.2 ± 0.4 (n = 3)`` over several seeds; ``not run`` without a result."""
    if result is None:
        return "not run"
    value = result["metrics"].get(metric)
    if value is None:
        return "not measured"
    if isinstance(value, dict) and value["n"] == 1:
        value = value["mean"]
    if isinstance(value, dict):
        return f"{scale * value['mean']:.1f} ± {scale * value['std']:.1f} (n = {value['n']})"
    return f"{scale * value:.1f}".removesuffix(".0" if scale == 1 else "")  # a count has no decimals


def render(table: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table from its definition.

    Args:
        table: ``columns`` (title to what it shows: ``{metric, scale}``, where the metric may hold fields of the row in
            braces, or the name of a field of the rows) and ``rows`` (each a dict with ``recipe`` and the fields that
            the columns name).
        results: from recipe to the content of its JSON file.
    """
    columns = table["columns"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in table["rows"]:
        cells = []
        for source in columns.values():
            if isinstance(source, str):
                cells.append(str(row.get(source, "")))
            else:
                metric = source["metric"].format(**row)
                cells.append(cell(results.get(row["recipe"]), metric, source.get("scale", 100.0)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def update(text: str, tables: dict[str, Any], results: dict[str, dict[str, Any]], name: str = "text") -> str:
    """Fill every marked place of a Markdown text."""

    def fill(match: re.Match[str]) -> str:
        if match.group(2) not in tables:
            raise UserError(f"{name} wants the table {match.group(2)!r}, which docs/tables.yaml does not define.")
        return match.group(1) + render(tables[match.group(2)], results) + match.group(3)

    return MARKED.sub(fill, text)


def main(root: Path) -> int:
    """Rewrite all marked tables below ``root``; returns the exit status."""
    tables = yaml.safe_load((root / "docs" / "tables.yaml").read_text())
    results = {path.stem: json.loads(path.read_text()) for path in (root / "results").glob("*.json")}
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        before = path.read_text()
        after = update(before, tables, results, str(path))
        if after != before:
            path.write_text(after)
            print(f"updated {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
