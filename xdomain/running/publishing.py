"""The published numbers from which the tables are made: reading them, and the rules for adding one."""

import json
from pathlib import Path
from typing import Any

from xdomain.discover import folder_of
from xdomain.errors import UserError
from xdomain.running.folder import write_json

RESULTS = "results.json"
"""The file of a run folder that holds its test metrics."""


def changed(overrides: dict[str, Any]) -> str:
    """The end of a line about a run: the settings that were changed on the command line."""
    settings = ", ".join(f"{key} {json.dumps(value)}" for key, value in overrides.items())
    return f", changed on the command line: {settings}" if settings else ""


def result_file(recipe: str, folder: Path) -> Path:
    """Where the result of a recipe, with its overlays after ``+``, is published: in the folder of the recipe."""
    return folder / folder_of(recipe.partition("@")[0].partition("+")[0]) / f"{recipe}.json"


def read_result(path: Path) -> dict[str, Any]:
    """The content of a result's JSON file.

    Raises:
        UserError: if it cannot be read, or is no result.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: restore it, or test the run again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("metrics"), dict) or "recipe" not in content:
        raise UserError(f"{path} is no result: it must hold `recipe` and `metrics`.")
    return content


def publish(result: dict[str, Any], folder: Path, anyway: bool = False) -> Path:
    """Write a result where the tables look for it; returns the file.

    Args:
        result: as :class:`Results` writes it; a metric over several runs is a dict with ``mean``, ``std`` and ``n``.
        folder: of the published results.
        anyway: although the code was not committed, or settings were changed on the command line.

    Raises:
        UserError: see :func:`check_publication`.
    """
    path = check_publication(result, folder, anyway)
    write_json(path, result)
    return path


def check_publication(result: dict[str, Any], folder: Path, anyway: bool = False) -> Path:
    """Where :func:`publish` would write a result; of one that is still to be made, what is known.

    Raises:
        UserError: for uncommitted code or changed settings, unless told, and for one run in the place of several.
    """
    recipe, path = result["recipe"], result_file(result["recipe"], folder)
    commits = [str(result.get(name)) for name in ("commit", "commit_test")]
    if not anyway and any(commit.endswith("+") for commit in commits):
        raise UserError(f"the code of {recipe} is not committed: commit it and run it again, or add --anyway.")
    if not anyway and result.get("overrides"):
        raise UserError(f"{recipe} is not its recipe alone{changed(result['overrides'])}: add --anyway.")
    if path.is_file() and (runs := _runs(read_result(path))) > _runs(result):
        raise UserError(f"{path} holds the numbers of {runs} runs: remove it first, if fewer shall take its place.")
    return path


def _runs(result: dict[str, Any]) -> int:
    """Runs over which a result is the mean."""
    metrics = result.get("metrics", {}).values()
    return max((value["n"] for value in metrics if isinstance(value, dict)), default=1)
