"""Tables of published results: ``xdomain table NAME`` prints one, ``xdomain table --collect RUN`` publishes a run.

``python -m xdomain.commands.table`` writes those of the README and the docs. A table is defined in ``tables.yaml``
beside this file and is placed between two markers, ``<!-- results:NAME -->`` and ``<!-- /results:NAME -->``, in any
Markdown file of the project. Numbers are never typed by hand.
"""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from xdomain.commands.options import Parser
from xdomain.discover import find_config
from xdomain.errors import UserError, did_you_mean
from xdomain.files import whole_file
from xdomain.running.folder import git_commit, new_run_dir
from xdomain.running.publishing import RESULTS, check_publication, publish, read_result

TABLES = Path(__file__).with_name("tables.yaml")

MARKED = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(<!-- /results:\2 -->)", re.DOTALL)


def cell(result: dict[str, Any] | None, metric: str, scale: float = 100.0, error: bool = False) -> str:
    """One number as text: ``91.2``, or ``91.2 ± 0.4 (n = 3)`` over several seeds; ``not run`` without a result.

    After the ± stands the standard deviation of one run, or with ``error`` the standard error of the mean.
    """
    if result is None:
        return "not run"
    value = result["metrics"].get(metric)
    if value is None:
        return "not measured"
    if isinstance(value, dict) and value["n"] == 1:
        value = value["mean"]
    if isinstance(value, dict):
        mean, digits = scale * value["mean"], _digits(scale * value["mean"])
        spread = scale * value["std"] / (math.sqrt(value["n"]) if error else 1)
        return f"{mean:.{digits}f} ± {spread:.{digits}f} (n = {value['n']})"
    return f"{scale * value:.{_digits(scale * value)}f}".removesuffix(".0" if scale == 1 else "")  # counts are integers


def _digits(value: float) -> int:
    """Decimals that show at least two digits: one for percentages and counts, up to four for distances near 0."""
    return 1 if value == 0 or abs(value) >= 1 else min(4, 1 - math.floor(math.log10(abs(value))))


def render(table: dict[str, Any], results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table from its definition.

    Args:
        table: ``columns`` maps a title to ``{metric, scale, recipe, error}`` (metric and recipe may contain fields of
            the row in braces; the default recipe is the row's; see :func:`cell`) or to the name of a field of the rows.
            ``rows`` is a list of dicts with ``recipe`` and the fields that the columns name.
        results: maps a recipe to the parsed JSON file of its result.
    """
    columns = table["columns"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in table["rows"]:
        cells = []
        for source in columns.values():
            if isinstance(source, str):
                cells.append(str(row.get(source, "")))
            else:
                metric, result = source["metric"].format(**row), results.get(recipe_of(source, row))
                cells.append(cell(result, metric, source.get("scale", 100.0), source.get("error", False)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def recipe_of(column: dict[str, Any], row: dict[str, Any]) -> str:
    """The recipe whose result a cell shows, with overlays after ``+``."""
    return str(column.get("recipe", "{recipe}")).format(**row)


def recipes(table: dict[str, Any]) -> list[str]:
    """All recipes of a table, each once."""
    columns = [column for column in table["columns"].values() if isinstance(column, dict)]
    return list(dict.fromkeys(recipe_of(column, row) for row in table["rows"] for column in columns))


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Maps recipes to their parsed JSON files, found anywhere below a folder.

    Raises:
        UserError: if a file is not a result, or two have the same name.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.json")):
        if path.stem in files:
            raise UserError(f"{files[path.stem]} and {path} are both the result of {path.stem}: remove one.")
        files[path.stem] = path
    return {name: read_result(path) for name, path in files.items()}


def table_command(args: list[str]) -> int:
    """Run ``xdomain table``; returns the exit status.

    Raises:
        UserError: for an undefined table, and for a run that may not be published.
    """
    parser = Parser("xdomain table", description="Print a table of results as Markdown.", allow_abbrev=False)
    tables = yaml.safe_load(TABLES.read_text())
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"one of {', '.join(tables)}")
    parser.add_argument("--results", metavar="DIR", default="results", help="folder of JSON files; by default results")
    parser.add_argument("--run", action="store_true", help="train and test recipes without a result first")
    parser.add_argument("--collect", metavar="RUN", help="publish the numbers that `xdomain test` left in a run folder")
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="publish although code was not committed or settings were changed on the command line",
    )
    options = parser.parse_args(args)
    if options.collect is not None:
        path = publish(tested(Path(options.collect)), Path(options.results), options.anyway)
        print(f"published {path}")
    if options.name is None:
        if options.collect is None:
            raise UserError(f"xdomain table needs a name, or --collect RUN: there are {', '.join(tables)}.")
        return 0
    if options.name not in tables:
        hint = did_you_mean(options.name, tables, f": there are {', '.join(tables)}.")
        raise UserError(f"there is no table {options.name!r}{hint}")
    table, folder = tables[options.name], Path(options.results)
    if options.run:
        there = read_results(folder)
        for recipe in recipes(table):
            if recipe not in there:
                _run(recipe, folder, options.anyway)
    print(render(table, read_results(folder)), end="")
    return 0


def tested(run: Path) -> dict[str, Any]:
    """The numbers that ``xdomain test`` left in a run folder."""
    if not (run / RESULTS).is_file():
        raise UserError(f"{run} holds no {RESULTS}: run xdomain test --ckpt_path {run} first.")
    return read_result(run / RESULTS)


def _run(recipe: str, results: Path, anyway: bool) -> None:
    """Train and test a recipe in separate processes, and publish its numbers."""
    if "@" in recipe:
        script = "one_shot" if recipe.endswith("@samples") else "inputs"
        raise UserError(f"{recipe} has no result: benchmarks/{script}.py makes it, over several inputs.")
    configs = [word for part in recipe.split("+") for word in ("--config", str(find_config(part)))]
    check_publication({"recipe": recipe, "commit": git_commit()}, results, anyway)  # before hours of work
    run = new_run_dir(Path("runs") / recipe)
    for command in (["fit", *configs, "--trainer.run_dir", str(run)], ["test", "--ckpt_path", str(run)]):
        words = [sys.executable, "-m", "xdomain", *command]
        if status := subprocess.run(words, stdout=sys.stderr).returncode:
            raise UserError(f"xdomain {command[0]} --config {recipe} failed with status {status}: see the lines above.")
    publish(tested(run), results, anyway)


def update(text: str, tables: dict[str, Any], results: dict[str, dict[str, Any]], name: str = "text") -> str:
    """Fill every marked place of a Markdown text."""

    def fill(match: re.Match[str]) -> str:
        if match.group(2) not in tables:
            raise UserError(f"{name} wants the table {match.group(2)!r}, which {TABLES.name} does not define.")
        return match.group(1) + render(tables[match.group(2)], results) + match.group(3)

    return MARKED.sub(fill, text)


def main(root: Path) -> int:
    """Rewrite all marked tables below ``root``; returns the exit status."""
    tables, results = yaml.safe_load(TABLES.read_text()), read_results(root / "results")
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        before = path.read_text()
        after = update(before, tables, results, str(path))
        if after != before:
            with whole_file(path) as file:
                file.write(after.encode())
            print(f"updated {path}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path.cwd()))
    except UserError as error:
        sys.exit(f"xdomain: error: {error}")
