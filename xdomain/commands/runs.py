"""Run folders as reports and comparisons read them: without torch, and without running anything."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from xdomain.errors import UserError
from xdomain.running.folder import facts_of, newest_config
from xdomain.running.publishing import RESULTS, read_result

SEEDS = re.compile(r"(seed_everything|data\.(init_args\.)?seed)$")
UNSETTLED = ("ckpt_path", "trainer.run_dir", "trainer.recipe", "trainer.default_root_dir", "trainer.weights")
"""Settings that say where a run lives, not what it is."""
PICTURE = re.compile(r"step_(\d+)\.png$")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it is.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is no run folder: give one that xdomain fit has made, as runs/dtn/0001.")
        if not newest_config(self.folder).is_file():
            raise UserError(f"{self.folder} has no config.yaml: give the folder of a run, as runs/dtn/0001.")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """``run.json``: recipe, seed, commit, hardware, steps, time."""
        return facts_of(self.folder)

    @cached_property
    def name(self) -> str:
        """Recipe and number, such as ``dtn/0001``."""
        recipe = str(self.facts.get("recipe") or self.folder.parent.name)
        number = self.folder.resolve().name
        return recipe if number == recipe else f"{recipe}/{number}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The whole config as ``key.of.the.setting`` to value, without paths of the run and without seeds."""
        path = newest_config(self.folder)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not YAML: restore it, or leave this run out.") from error
        return {key: value for key, value in settled(content).items() if not SEEDS.fullmatch(key)}

    @cached_property
    def seed(self) -> Any:
        return self.facts.get("seed")

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """``results.json``, or None before the run was tested."""
        path = self.folder / RESULTS
        return read_result(path) if path.exists() else None

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics; empty before the run was tested."""
        return dict(self.result["metrics"]) if self.result else {}

    @property
    def pictures(self) -> list[tuple[int, Path]]:
        """Step and file of the samples, in the order of the steps."""
        found = [(int(m[1]), path) for path in self.folder.glob("samples/*.png") if (m := PICTURE.fullmatch(path.name))]
        return sorted(found)


def settled(config: Any) -> dict[str, Any]:
    """A whole config as ``key.of.the.setting`` to value, without what says where a run lives."""
    return {key: value for key, value in flat(config).items() if key not in UNSETTLED}


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested settings as one level; ``init_args`` of a class is left out of the keys, lists are numbered."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= flat(inner, key if name == "init_args" else f"{key}.{name}".lstrip("."))
    return found


def shown(value: Any) -> str:
    """A setting as text; a class by its bare name."""
    if isinstance(value, str) and re.fullmatch(r"(\w+\.)+[A-Z]\w*", value):
        return value.rsplit(".", 1)[-1]
    return "" if value is None else str(value)


def number(value: float) -> str:
    """Four significant digits, never in scientific notation where a person would not write it."""
    return f"{value:.4g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.2e}"
