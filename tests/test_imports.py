"""Imports run down only: a room knows what stands below it, never what stands above."""

import ast
from pathlib import Path

import pytest

import xdomain

PACKAGE = Path(xdomain.__file__).parent
ROOMS = (
    {"commands"},
    {"callbacks", "inference"},
    {"methods"},
    {"metrics"},
    {"features"},
    {"data", "running"},
    {"engines", "integrations", "networks", "losses", "pixels"},
    {"batch", "changes", "classes", "discover", "files", "optim", "paths", "renamed"},
    {"errors"},
)
"""From the top floor to the ground floor; what stands on one floor may not import its neighbours."""
FLOOR = {room: number for number, rooms in enumerate(reversed(ROOMS)) for room in rooms}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(path):
    """The modules of this package that a file imports, also inside of functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "xdomain")
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield f"a relative import: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "xdomain":
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in below)


def allowed(importing, found):
    """Whether an import from one module of the package to another runs down or stays in its room."""
    (_, *here), (_, *there) = importing.split("."), found.split(".")
    if not there:  # the package itself, for its version
        return True
    return here[0] == there[0] or (there[0] in FLOOR and FLOOR[there[0]] < FLOOR[here[0]])


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"xdomain", "xdomain.__main__"}))
def test_imports_run_down(module):
    assert [found for found in imported(MODULES[module]) if not allowed(module, found)] == []


def test_every_room_has_a_floor():
    rooms = {module.split(".")[1] for module in MODULES if "." in module} - {"__main__"}
    assert rooms == FLOOR.keys()


@pytest.mark.parametrize(
    ("importing", "found"),
    [
        ("xdomain.data.base", "xdomain.commands.options"),
        ("xdomain.data.base", "xdomain.running.folder"),
        ("xdomain.paths", "xdomain.batch"),
        ("xdomain.callbacks.pictures", "xdomain.inference.tasks"),
    ],
)
def test_an_arrow_that_runs_up_is_found(importing, found):
    assert not allowed(importing, found)
