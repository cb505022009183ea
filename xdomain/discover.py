"""Finds recipes, overlays, methods and data by reading files, without importing torch."""

import ast
import difflib
import functools
import glob
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xdomain.errors import UserError

PACKAGE = Path(__file__).parent
HELPERS = ("attributes", "classifier", "identity", "reader", "segmenter")
"""The files of ``methods`` whose recipes are in ``configs/helpers``."""


def config_folders() -> list[Path]:
    """Where config names are looked up, in order: ``configs`` here, then the recipes of the package."""
    shipped = PACKAGE / "configs"
    if not shipped.is_dir():  # a source checkout: the recipes stand beside the package
        shipped = PACKAGE.parent / "configs"
    return [Path("configs"), shipped]


def find_config(name: str) -> Path:
    """The file of a config given as a path, or by name (``dtn.yaml``, ``dtn``) anywhere below ``configs``.

    Raises:
        UserError: if there is none; the message names the nearest.
    """
    if Path(name).is_file():
        return Path(name)
    wanted = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for folder in config_folders():
        if found := sorted(folder.rglob(glob.escape(wanted))) if Path(wanted).name == wanted else []:
            return found[0]
    known = sorted({path.name for folder in config_folders() for path in folder.rglob("*.yaml")})
    nearest = difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(f"no config named {name!r}: {hint}`xdomain list` shows all recipes and overlays.")


def folder_of(recipe: str) -> Path:
    """The folder below ``configs`` of a recipe, by its name; the empty path for one from elsewhere."""
    for folder in config_folders():
        if found := sorted(folder.rglob(f"{glob.escape(recipe)}.yaml")):
            return found[0].parent.relative_to(folder)
    return Path()


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def recipes() -> dict[str, str]:
    """All recipes: maps a file name to its first comment line."""
    return {path.name: _first_comment(path) for path in _configs(overlays=False)}


def overlays() -> dict[str, dict[str, str]]:
    """Maps an owner (see :func:`owner_of`) to its overlays, each a file name with its first comment line."""
    found: dict[str, dict[str, str]] = {}
    for path in _configs(overlays=True):
        found.setdefault(owner_of(path), {})[path.name] = _first_comment(path)
    return dict(sorted(found.items()))


def _configs(overlays: bool) -> list[Path]:
    """All recipes or overlays; of several with the same name, the first that is found."""
    found: dict[str, Path] = {}
    for folder in config_folders():
        for path in sorted(folder.rglob("*.yaml"), key=lambda path: path.name):
            if ("overlays" in path.relative_to(folder).parts) == overlays:
                found.setdefault(path.name, path)
    return list(found.values())


def _class_nodes(folder: str, files: Sequence[str] = ()) -> Iterator[ast.ClassDef]:
    """All classes in a package folder, or in some of its files."""
    for path in sorted((PACKAGE / folder).glob("*.py")):
        if not files or path.stem in files:
            yield from _class_nodes_of(path.read_text(encoding="utf-8"))


@functools.cache
def _class_nodes_of(code: str) -> tuple[ast.ClassDef, ...]:
    """The classes in the code of a file, which is parsed once."""
    nodes = ast.parse(code).body
    return tuple(node for node in nodes if isinstance(node, ast.ClassDef))


def _bases(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases]


def _classes(folder: str, files: Sequence[str] = ()) -> Iterator[tuple[str, set[str], str]]:
    """Name, bases and first line of the docstring of the same classes."""
    for node in _class_nodes(folder, files):
        yield node.name, set(_bases(node)), (ast.get_docstring(node) or "").split("\n", 1)[0]


def classes(folder: str, roots: set[str]) -> dict[str, str]:
    """Classes of a package folder derived from one of ``roots``: maps a name to the docstring's first line.

    Leaves out those whose docstring begins with "Base ": recipes cannot use them.
    """
    known, found = set(roots), {}
    everything = list(_classes(folder))
    for _ in everything:  # a class may come before its base: repeat until nothing is added
        before = len(known)
        for name, bases, doc in everything:
            if bases & known and name not in known and name not in roots:
                known.add(name)
                found[name] = doc
        if len(known) == before:
            break
    return {name: doc for name, doc in found.items() if not name.startswith("_") and not doc.startswith("Base ")}


def owner_of(overlay: Path) -> str:
    """Owner of an overlay: the folder of a method, the name of a data module, or empty for all recipes."""
    for folder in config_folders():
        if overlay.resolve().is_relative_to(folder.resolve()):
            *parents, _ = overlay.resolve().relative_to(folder.resolve()).parts
            if "overlays" in parents:  # METHOD/overlays/x.yaml, overlays/DATA/x.yaml or overlays/x.yaml
                return next((part for part in parents if part != "overlays"), "")
    return ""


def check_owner(overlay: Path, model: str | None, data: str | None) -> None:
    """Refuse an overlay on a recipe of another owner.

    Args:
        overlay: any config; only overlays below ``configs`` have an owner.
        model: class of the recipe's method, bare or with its path. Nothing is known of those of another package.
        data: likewise of its data module.

    Raises:
        UserError: if it belongs to another method or to other data.
    """
    owner, method, module = owner_of(overlay), _known(model), _known(data)
    if owner in data_modules():
        if module not in (None, owner):
            raise UserError(f"{overlay.name} is an overlay for the data {owner}, not for {module}: leave it out.")
    elif owner and method is not None:
        own = {name for name, _, _ in _classes("methods", HELPERS if owner == "helpers" else (owner,))}
        if own and method not in own:
            raise UserError(f"{overlay.name} is an overlay for recipes of {owner}, not for {method}: leave it out.")


def _known(name: str | None) -> str | None:
    """The bare name of a class of this package, or None."""
    path, _, bare = (name or "").rpartition(".")
    return bare if bare and path.split(".")[0] in ("", PACKAGE.name) else None


def methods() -> dict[str, str]:
    """All methods."""
    return classes("methods", {"Method"})


class TaskOption(NamedTuple):
    """An argument of a task.

    Attributes:
        annotation: its type, as written in the code, without ``None``.
        default: its default value, as written in the code; None if it is required.
        doc: its description.
    """

    annotation: str
    default: str | None
    doc: str


class TaskEntry(NamedTuple):
    """A task of methods: its one-line description, and its arguments by name."""

    doc: str
    options: dict[str, TaskOption]


def tasks() -> dict[str, TaskEntry]:
    """All tasks by name, read from the property ``tasks`` of the methods, with the arguments of all methods."""
    nodes = {node.name: node for node in _class_nodes("methods")}
    found: dict[str, TaskEntry] = {}
    for name in nodes:
        for task, member in _task_members(name, nodes).items():
            function = _member(name, member, nodes)
            if function is None or "NotImplementedError" in ast.unparse(function):
                continue
            doc = _doc(_first_member(name, task, nodes)).split("\n", 1)[0]
            options, entry = _options(function), found.get(task)
            if entry is None:
                entry = TaskEntry(doc, {})
            elif entry.options.keys() & options.keys() == {"images"}:  # another kind of method, another meaning
                entry = entry._replace(doc=f"{entry.doc} Or: {doc}")
            found[task] = entry
            for option, value in options.items():
                if option not in entry.options or (value.doc and not entry.options[option].doc):
                    entry.options[option] = value
    return found


def _member(class_name: str, name: str, nodes: dict[str, ast.ClassDef]) -> ast.FunctionDef | None:
    """A function of a class, or else of its nearest base."""
    if class_name not in nodes:
        return None
    for node in nodes[class_name].body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return next((found for base in _bases(nodes[class_name]) if (found := _member(base, name, nodes))), None)


def _first_member(class_name: str, task: str, nodes: dict[str, ast.ClassDef]) -> ast.FunctionDef:
    """The function of a task in the most basic class that has the task, which says what it does in all of them."""
    for base in _bases(nodes[class_name]):
        if task in _task_members(base, nodes):
            return _first_member(base, task, nodes)
    function = _member(class_name, _task_members(class_name, nodes)[task], nodes)
    assert function is not None
    return function


def _doc(function: ast.FunctionDef) -> str:
    return inspect.cleandoc(ast.get_docstring(function) or "")


def _task_members(class_name: str, nodes: dict[str, ast.ClassDef]) -> dict[str, str]:
    """Maps the tasks of a class to the names of its functions: the literals in its property ``tasks``."""
    if class_name not in nodes:
        return {}
    own = [node for node in nodes[class_name].body if isinstance(node, ast.FunctionDef) and node.name == "tasks"]
    found: dict[str, str] = {}
    if not own or "super().tasks" in ast.unparse(own[0]):
        for base in _bases(nodes[class_name]):
            found |= _task_members(base, nodes)
    for literal in (part for node in own for part in ast.walk(node) if isinstance(part, ast.Dict)):
        for key, value in zip(literal.keys, literal.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Attribute):
                found[str(key.value)] = value.attr
    return found


def _options(function: ast.FunctionDef) -> dict[str, TaskOption]:
    arguments, given = function.args.args[1:], [ast.unparse(value) for value in function.args.defaults]  # without self
    defaults = [*[None] * (len(arguments) - len(given)), *given]
    doc, found = _doc(function), {}
    for argument, default in zip(arguments, defaults, strict=True):
        annotation = ast.unparse(argument.annotation).removesuffix(" | None") if argument.annotation else ""
        text = re.search(rf"^ *{argument.arg}: (.*(?:\n {{8,}}.*)*)", doc, re.MULTILINE)
        found[argument.arg] = TaskOption(annotation, default, re.sub(r"\s+", " ", text[1]).rstrip(".") if text else "")
    return found


def data_modules() -> dict[str, str]:
    """All data modules that recipes can use."""
    return classes("data", {"BaseDataModule"})


def trained_weights() -> dict[str, str]:
    """The trained weights that come with the package, by what ``--ckpt_path`` calls them."""
    found = {}
    for card in (PACKAGE / "weights").glob("*.json"):
        facts = json.loads(card.read_text(encoding="utf-8"))
        method, domains = facts["method"].rpartition(".")[2], facts["settings"].get("domains", [])
        found[f"zoo:{card.stem}"] = f"{method}: {', '.join(domains)}"
    return found


def catalogue() -> str:
    """The text of ``xdomain list``."""
    sections = {
        "methods": methods(),
        "recipes": recipes(),
        "data": data_modules(),
        "trained weights, for --ckpt_path": trained_weights(),
        **{f"overlays for {owner or 'all recipes'}": entries for owner, entries in overlays().items()},
    }
    lines = []
    for title, entries in sections.items():
        lines.append(f"{title}:")
        width = max((len(name) for name in entries), default=0)
        lines += [f"  {name:<{width}}  {doc}".rstrip() for name, doc in sorted(entries.items())]
        lines.append("")
    return "\n".join(lines).rstrip()
