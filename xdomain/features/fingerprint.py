"""What the weights of a helper network depend on, as one hash."""

import ast
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import xdomain.data
import xdomain.engines as engines_room
from xdomain import __version__
from xdomain.paths import data_root

FOR_EDITORS = re.compile(r"^# yaml-language-server:.*\n", re.MULTILINE)
"""The line of a recipe that names its schema, on which no weights depend."""


def fingerprint(configs: list[Path], root: Path | None) -> str:
    """A hash of everything that the weights of a recipe depend on."""
    recipes = [FOR_EDITORS.sub("", config.read_text()) for config in configs]
    engines = [engine.read_text() for engine in engines_of(configs)]
    parts = [__version__, *recipes, *engines, *_data(configs, root)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def engines_of(configs: list[Path]) -> list[Path]:
    """The files of the engines that a recipe names or that its data classes import, and of what these import."""
    kinds = {
        getattr(room, str(settings.get("class_path")).rpartition(".")[2], None)
        for config in configs
        for settings in _mappings(yaml.safe_load(config.read_text()))
        for room in (xdomain.data, engines_room)
    }
    modules = {base.__module__ for kind in kinds if isinstance(kind, type) for base in kind.__mro__}
    sources = [Path(inspect.getfile(sys.modules[name])) for name in modules if name.split(".")[0] == "xdomain"]
    folder, found = Path(engines_room.__file__).parent, set[Path]()
    while sources:
        source = sources.pop()
        if source.parent == folder:
            found.add(source)
        names = _imports(source.read_text(encoding="utf-8"))
        sources += [file for name in names if (file := folder / f"{name}.py").exists() and file not in found]
    return sorted(found)


@cache
def _imports(source: str) -> list[str]:
    """Names that a module imports from the engines: a module, or ``__init__`` for what the room itself hands out."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == engines_room.__name__:
            parts = {alias.name for alias in node.names}
            found += parts
            if any(isinstance(getattr(engines_room, part, None), type) for part in parts):
                found.append("__init__")
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{engines_room.__name__}."):
            found.append(str(node.module).rsplit(".", 1)[1])
    return found


def _data(configs: list[Path], root: Path | None) -> Iterator[str]:
    """The files that a recipe is trained on: their paths, sizes and modification times."""
    for config in configs:
        for settings in _mappings(yaml.safe_load(config.read_text()), "data"):
            kind = getattr(xdomain.data, str(settings.get("class_path")).rpartition(".")[2], None)
            if (below := getattr(kind, "subfolder", None)) is not None:
                own = (settings.get("init_args") or {}).get("root")
                yield from _contents((data_root(own) if own or root is None else Path(root)) / below)
            for value in settings.values():
                if isinstance(value, str) and os.sep in value and Path(value).expanduser().exists():
                    yield from _contents(Path(value).expanduser())


def _mappings(content: Any, key: str | None = None) -> Iterator[dict[str, Any]]:
    """All mappings in a config, or all below one of its keys."""
    if isinstance(content, dict):
        if key is None:
            yield content
        for name, value in content.items():
            if key in (None, name):
                yield from _mappings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _mappings(value)


def _contents(path: Path) -> Iterator[str]:
    yield str(path.absolute())
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if file.exists():
            facts = file.stat()
            yield f"{file.name} {'' if file.is_dir() else facts.st_size} {facts.st_mtime_ns}"
