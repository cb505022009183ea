"""What there is to run: recipes, overlays, methods, data. Found by looking, without importing torch."""

import ast
import difflib
from collections.abc import Iterator
from pathlib import Path

from xdomain.errors import UserError

PACKAGE = Path(__file__).parent


def config_folders() -> list[Path]:
    """Where a config name is looked up, in order: ``configs`` here, then the recipes that come with the package."""
    shipped = PACKAGE / "configs"
    if not shipped.is_dir():  # a source checkout: the recipes stand beside the package
        shipped = PACKAGE.parent / "configs"
    return [Path("configs"), shipped]


def find_config(name: str) -> Path:
    """The file of a config given as a path, or by name (``dtn.yaml``, ``dtn``) wherever it lies below ``configs``.

    Raises:
        UserError: if there is none; the sentence names the nearest.
    """
    if Path(name).is_file():
        return Path(name)
    wanted = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for folder in config_folders():
        if found := sorted(folder.rglob(wanted)) if Path(wanted).name == wanted else []:
            return found[0]
    known = sorted({path.name for folder in config_folders() for path in folder.rglob("*.yaml")})
    nearest = difflib.get_close_matches(wanted, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise UserError(f"no config named {name!r}: {hint}`xdomain list` shows all recipes and overlays.")


def folder_of(recipe: str) -> Path:
    """The folder below ``configs`` in which a recipe lies, by its name; the empty path for one from elsewhere."""
    for folder in config_folders():
        if found := sorted(folder.rglob(f"{recipe}.yaml")):
            return found[0].parent.relative_to(folder)
    return Path()


def _first_comment(path: Path) -> str:
    line = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def configs(kind: str) -> dict[str, str]:
    """Recipes (``kind="recipes"``) or overlays (``"overlays"``): from file name to its first comment line."""
    found: dict[str, str] = {}
    for folder in config_folders():
        for path in sorted(folder.rglob("*.yaml"), key=lambda path: path.name):
            if ("overlays" in path.relative_to(folder).parts) == (kind == "overlays"):
                found.setdefault(path.name, _first_comment(path))
    return found


def _classes(folder: str) -> Iterator[tuple[str, set[str], str]]:
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases}
                doc = (ast.get_docstring(node) or "").split("\n", 1)[0]
                yield node.name, bases, doc


def classes(folder: str, roots: set[str]) -> dict[str, str]:
    """Classes of a package folder that descend from one of ``roots``: from name to first line of the docstring.

    Without those whose docstring begins with "Base ": no recipe can name them.
    """
    known, found = set(roots), {}
    everything = list(_classes(folder))
    for _ in everything:  # a class may stand before its base: repeat until nothing is added
        before = len(known)
        for name, bases, doc in everything:
            if bases & known and name not in known and name not in roots:
                known.add(name)
                found[name] = doc
        if len(known) == before:
            break
    return {name: doc for name, doc in found.items() if not name.startswith("_") and not doc.startswith("Base ")}


def methods() -> dict[str, str]:
    """All methods."""
    return classes("methods", {"Method"})


def data_modules() -> dict[str, str]:
    """All data modules that a recipe can name."""
    return classes("data", {"BaseDataModule"})


def catalogue() -> str:
    """The text of ``xdomain list``."""
    sections = {
        "methods": methods(),
        "recipes": configs("recipes"),
        "data": data_modules(),
        "overlays": configs("overlays"),
    }
    lines = []
    for title, entries in sections.items():
        lines.append(f"{title}:")
        width = max((len(name) for name in entries), default=0)
        lines += [f"  {name:<{width}}  {doc}".rstrip() for name, doc in sorted(entries.items())]
        lines.append("")
    return "\n".join(lines).rstrip()
