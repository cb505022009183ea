"""Configs by name, and what the words of a command line say before a parser has read them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import yaml

from xdomain.classes import member
from xdomain.discover import check_owner, find_config
from xdomain.errors import UserError
from xdomain.running.folder import CHECKPOINTS, newest_config

MOST_VALUES = 100_000
"""In one config."""
NO_SETTINGS = (  # settings that change no number: paths, and output on the screen
    *("config", "ckpt_path", "trainer.run_dir", "trainer.default_root_dir"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "return_predictions"),
)
OPTION = re.compile(r"(--config|-c|--ckpt_path|--weights|--trainer\.weights)(?:=(.*))?$", re.DOTALL)


def overrides(args: list[str]) -> dict[str, Any]:
    """The settings that a command line changes: all ``--key value`` except those that change no results."""
    found: dict[str, Any] = {}
    words = iter(args)
    for word in words:
        if not word.startswith("--"):
            continue
        key, equals, value = word[2:].partition("=")
        value = value if equals else next(words, "")
        if key not in NO_SETTINGS:
            found[key] = plain(value)
    return found


def plain(text: str) -> Any:
    """The YAML value of a word of the command line, or the word itself if JSON cannot represent the value."""
    try:
        value = yaml.safe_load(text)
        json.dumps(value)
    except (yaml.YAMLError, TypeError, ValueError):
        return text
    return value


def expand_configs(args: list[str]) -> tuple[list[str], str]:
    """Replace config names by paths, name the run after them, and check that overlays fit their recipes.

    Without ``--config``, the config of the run folder of ``--ckpt_path`` is used.

    Returns:
        the arguments, and the name of the run: the stems of all configs joined by ``+``.
    """
    expanded, names, paths, checkpoint, weights = [], [], [], None, None
    words = iter(args)
    for word in words:
        option = OPTION.match(word)
        if option is None:
            expanded.append(word)
            continue
        value = option.group(2) if option.group(2) is not None else next(words, None)
        if value is None:
            raise UserError(f"{word} needs a value.")
        if option.group(1) == "--ckpt_path":
            checkpoint = value
            expanded += ["--ckpt_path", value]
        elif option.group(1).endswith("weights"):
            weights = value
            expanded += ["--trainer.weights", value]
        else:
            path = find_config(value)
            paths.append(path)
            names.append(name_of(path))
            expanded += ["--config", str(path)]
    if checkpoint is not None and weights is not None:
        raise UserError("--weights begins a new run and --ckpt_path goes on with one: give one of them.")
    contents = [read_config(path) for path in paths]
    for content in (*contents, overrides(args)):
        _check_classes(content)
    chosen = _classes(contents, args)
    for path in paths:
        check_owner(path, *chosen)
    if not names and checkpoint is not None and args[0] != "--help":
        config = _run_config(checkpoint)
        names.append(name_of(config))
        expanded = ["--config", str(config), *expanded]  # first: the command line overrides it, above all --ckpt_path
    return expanded, "+".join(names) or "run"


def _classes(contents: list[dict[str, Any]], args: list[str]) -> tuple[str | None, str | None]:
    """The classes of model and data in configs and command line; the last of each wins."""
    words = overrides(args)

    def last(kind: str) -> str | None:
        given = [content.get(kind) for content in contents]
        found = [value.get("class_path") if isinstance(value, dict) else value for value in given]
        found += [words.get(kind), words.get(f"{kind}.class_path")]
        return next((name for name in reversed(found) if isinstance(name, str)), None)

    return last("model"), last("data")


def _check_classes(settings: Any, key: str = "") -> None:
    """Refuse functions in place of classes: building the method would call them, or fail without naming the key."""
    if isinstance(settings, list):
        settings = dict(enumerate(settings))
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        inner = f"{key}.{name}".lstrip(".")
        if isinstance(value, str) and inner.endswith("class_path"):
            found = member(value)
            if not (found is None or isinstance(found, type)):
                setting = inner.removesuffix("class_path").rstrip(".")
                raise UserError(f"{setting} is {value}, which is no class that fits there: give a class.")
        _check_classes(value, inner)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config; if it is not a YAML mapping, refuse it here, since the parser's error lacks the file name."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        spot, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "this is no text file")
        where = f"{path}, line {spot.line + 1}" if spot else str(path)
        raise UserError(f"{where} is not YAML: {problem}.") from error
    if not isinstance(content, dict) or None in (content.get(key, {}) for key in ("data", "model", "trainer")):
        raise UserError(f"{path} is no config: it must hold settings below `model:`, `data:` or `trainer:`.")
    if _size(content, {}) > MOST_VALUES:
        raise UserError(f"{path} refers to itself, or repeats itself without end: write its anchors (&, *) out.")
    return content


def _size(value: Any, known: dict[int, float]) -> float:
    """The number of values in parsed YAML, including repetitions by anchors; infinite if one contains itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # infinite until it is known, in case it contains itself
        known[id(value)] = 1 + sum(
            _size(inner, known) for inner in (value.values() if isinstance(value, dict) else value)
        )
    return known[id(value)]


def _run_config(checkpoint: str) -> Path:
    given = Path(checkpoint)
    if not given.exists():
        raise UserError(f"checkpoint {checkpoint} does not exist: give a run folder or file, or add --config RECIPE.")
    folder = given if given.is_dir() else given.parent.parent if given.parent.name == CHECKPOINTS else None
    if folder is None or not newest_config(folder).is_file():
        raise UserError(f"{checkpoint} has no run folder with a config.yaml around it: add --config RECIPE.")
    return newest_config(folder)


def name_of(config: Path) -> str:
    """A config's stem; for a config saved by a run, the name of the run."""
    facts = config.with_name("run.json")
    if re.fullmatch(r"config(_resumed_\d+)?", config.stem) and facts.is_file():
        return str(yaml.safe_load(facts.read_text())["recipe"])
    if found := set(config.stem) & set("+@"):
        raise UserError(
            f"{config} has {' and '.join(sorted(found))} in its name, which joins names of configs: rename it."
        )
    return config.stem
