"""``xdomain schema``: the JSON schema of recipes and overlays, for editors."""

import argparse
import collections.abc
import importlib
import inspect
import json
import os
import pkgutil
import sys
import types
import typing
from itertools import groupby
from pathlib import Path
from typing import Any

from xdomain.commands.options import Parser
from xdomain.discover import data_modules, methods

DESCRIPTION = """\
Write the JSON schema of recipes and overlays. An editor then completes keys, and underlines settings that there are
not, classes that are not known and values of the wrong kind. For the YAML extension of VS Code:

  xdomain schema --output recipe.schema.json
  # yaml-language-server: $schema=recipe.schema.json      (a line of the recipe)

Classes of other packages are taken as they are. What only the classes themselves know, such as settings that do not go
together, is checked at the start of a training."""
ROOMS = ("callbacks", "data", "engines", "features", "losses", "methods", "metrics", "networks", "optim")
"""Packages and modules whose classes recipes name."""
LINKED = ("domains", "channels", "image_size", "shapes")
"""Arguments of methods that the data set."""
SIMPLE: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    type(None): {"type": "null"},
    Path: {"type": "string"},
    os.PathLike: {"type": "string"},
}
KINDS = ("pytorch_lightning", "torch", "xdomain")
"""Packages whose classes are given by class_path and init_args."""
CLASS = {"$ref": "#/$defs/class"}


def schema_command(args: list[str]) -> int:
    """Run ``xdomain schema``; returns the exit status."""
    parser = Parser(
        "xdomain schema",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--output", metavar="FILE", help="file to write; by default on the screen")
    options = parser.parse_args(args)
    if options.output is None:
        print(json.dumps(schema(), indent=1))
        return 0
    from xdomain.running.folder import write_json

    write_json(Path(options.output), schema())
    return 0


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe or an overlay."""
    from xdomain.running.trainer import Trainer

    known, models = _known_classes(), methods()
    definitions = {name: _arguments(kind, LINKED if name in models else ()) for name, kind in known.items()}
    anything = {"class_path": {"anyOf": [{"enum": sorted(known)}, {"type": "string", "pattern": r"\."}]}}
    trainer = _arguments(Trainer, ())
    named = {"anyOf": [CLASS, {"type": "null"}]}
    lists = {"type": "array", "items": CLASS}
    callbacks = {"anyOf": [{"type": "object", "additionalProperties": named}, lists, {"type": "null"}]}
    trainer["properties"] |= {"callbacks": callbacks, "logger": {}, "profiler": {}, "plugins": {}, "strategy": {}}
    trainer["patternProperties"] = {r"\+$": {}}  # adds to a list
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe or overlay of xdomain",
        "type": "object",
        "properties": {
            "model": _of_kind(models),
            "data": _of_kind(data_modules()),
            "trainer": trainer,
            "seed_everything": {"type": ["integer", "boolean"]},
            "ckpt_path": {"type": ["string", "null"]},
        },
        "additionalProperties": False,
        "$defs": {
            "class": {"anyOf": [{"type": "string"}, _class(anything, sorted(known))]},
            **{f"{name}.init_args": definition for name, definition in sorted(definitions.items())},
        },
    }


def _class(path: dict[str, Any], names: collections.abc.Iterable[str]) -> dict[str, Any]:
    """A class with its settings: those of a known class by its bare name are checked; the names are sorted."""
    return {
        "type": "object",
        "properties": {**path, "init_args": {"type": ["object", "null"]}, "dict_kwargs": {"type": "object"}},
        "additionalProperties": False,
        "allOf": [
            _if({"pattern": f"^{letter}"}, {"allOf": [_if({"const": name}, _settings(name)) for name in group]})
            for letter, group in groupby(names, key=lambda name: name[0])  # for a quick answer while one types
        ],
    }


def _if(path: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {"class_path": path}, "required": ["class_path"]}, "then": then}


def _settings(name: str) -> dict[str, Any]:
    return {"properties": {"init_args": {"$ref": f"#/$defs/{name}.init_args"}}}


def _of_kind(names: collections.abc.Iterable[str]) -> dict[str, Any]:
    """A method or data module, by bare name or from another package."""
    word = {"anyOf": [{"enum": sorted(names)}, {"type": "string", "pattern": r"\."}]}
    return {"anyOf": [word, _class({"class_path": word}, sorted(names))]}


def _known_classes() -> dict[str, type]:
    """The classes that recipes give by their bare names."""
    for room in ROOMS:
        module = importlib.import_module(f"xdomain.{room}")
        for entry in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"xdomain.{room}.{entry.name}")
    found: dict[str, type] = {}
    places = tuple(f"xdomain.{room}" for room in ROOMS)
    for name, module in sorted(sys.modules.items()):
        if name.startswith(places):
            kinds = (kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == name)
            found |= {kind.__name__: kind for kind in kinds if not kind.__name__.startswith("_")}
    return found


def _arguments(kind: type, left_out: collections.abc.Collection[str]) -> dict[str, Any]:
    """The settings of a class: arguments of its constructor and, through ``**options``, of those of its bases."""
    properties: dict[str, Any] = {}
    open_ended = True
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        try:
            hints = typing.get_type_hints(base.__init__)  # type: ignore[misc]
        except (NameError, TypeError):  # a name that is imported for types alone
            hints = {}
        given = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        for argument in given:
            if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
                properties.setdefault(argument.name, _value(hints.get(argument.name, Any)))
        open_ended = any(argument.kind == argument.VAR_KEYWORD for argument in given)
        if not open_ended:
            break
    kept = {name: value for name, value in properties.items() if name not in left_out}
    return {"type": ["object", "null"], "properties": kept, "additionalProperties": open_ended}


def _value(hint: Any) -> dict[str, Any]:
    """The schema of an annotation; anything for one that says nothing about YAML."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in SIMPLE:
        return SIMPLE[hint]
    if origin is os.PathLike:
        return SIMPLE[str]
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_value(kind) for kind in inner]}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        items = [kind for kind in inner if kind is not Ellipsis]
        return {"type": "array", "items": _value(items[0]) if len(set(items)) == 1 else {}}
    if origin in (dict, collections.abc.Mapping):
        return {"type": "object", "additionalProperties": _value(inner[1])}
    if origin is collections.abc.Callable or (inspect.isclass(hint) and hint.__module__.split(".")[0] in KINDS):
        return CLASS
    return {}
