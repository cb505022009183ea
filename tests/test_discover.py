"""What `xdomain list` finds, held against what can be imported."""

import inspect
from pathlib import Path

import pytest

import xdomain.data
import xdomain.methods
from xdomain import discover, methods
from xdomain.data import BaseDataModule
from xdomain.errors import UserError
from xdomain.methods import Method


def public(module, base):
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }


def test_methods_are_the_importable_ones_without_the_bases():
    found = discover.methods()
    assert set(found) == public(xdomain.methods, Method) - {"ContentMethod", "PyramidMethod"}
    assert all(doc == inspect.getdoc(getattr(xdomain.methods, name)).splitlines()[0] for name, doc in found.items())


def test_data_modules_are_the_importable_ones_without_the_bases():
    assert set(discover.data_modules()) == public(xdomain.data, BaseDataModule) - {"SingleDomain"}


def test_recipes_and_overlays_all_say_what_they_are():
    for kind in ("recipes", "overlays"):
        found = discover.configs(kind)
        assert found
        assert all(found.values()), found
    assert "dtn.yaml" in discover.configs("recipes")
    assert "cpu.yaml" in discover.configs("overlays")


def test_catalogue_names_everything():
    text = discover.catalogue()
    for name in (*discover.methods(), *discover.data_modules(), *discover.configs("recipes")):
        assert f"  {name} " in text
    assert [line for line in text.splitlines() if not line.startswith(" ") and line] == [
        "methods:",
        "recipes:",
        "data:",
        "overlays:",
    ]


@pytest.mark.parametrize("name", ["dtn", "dtn.yaml", "cpu"])
def test_configs_are_found_by_name(name):
    path = discover.find_config(name)
    assert path.is_file()
    assert path.stem == Path(name).stem


def test_a_users_own_config_comes_first(tmp_path):
    Path("configs").mkdir()
    Path("configs/dtn.yaml").write_text("# mine\n")
    assert discover.find_config("dtn").read_text() == "# mine\n"
    assert discover.configs("recipes")["dtn.yaml"] == "mine"
    (tmp_path / "x.yaml").write_text("")
    assert discover.find_config(str(tmp_path / "x.yaml")) == tmp_path / "x.yaml"


def test_no_two_configs_have_one_name():
    shipped = discover.config_folders()[1]
    stems = [path.stem for path in shipped.rglob("*.yaml")]
    assert len(stems) > 90
    assert sorted(stems) == sorted(set(stems))


def test_an_unknown_config_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no config named 'street_clasifier': did you mean street_classifier.yaml\?"):
        discover.find_config("street_clasifier")


def test_classes_are_found_before_their_bases_and_without_importing(tmp_path, monkeypatch):
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "a.py").write_text(
        'import nothing_like_that\nclass Leaf(b.Middle):\n    """The leaf.\n\n    More.\n    """\nclass Alone: ...\n'
    )
    (tmp_path / "kind" / "b.py").write_text('class Middle(base.Root):\n    """Between."""\n')
    monkeypatch.setattr(discover, "PACKAGE", tmp_path)
    assert discover.classes("kind", {"Root"}) == {"Middle": "Between.", "Leaf": "The leaf."}


def test_tasks_are_those_of_the_methods():
    """What is read from the source is what the classes have."""
    found = discover.tasks()
    kinds = [value for value in vars(methods).values() if isinstance(value, type)]
    assert {"transfer", "remove", "add", "swap", "interpolate", "mask", "paint", "harmonise", "edit"} < found.keys()
    assert {"super_resolve", "random", "animate"} < found.keys()
    for name, entry in found.items():
        member = {"transfer": "translate", "paint": "translate", "random": "sample"}.get(name, name)
        signatures = [inspect.signature(getattr(kind, member)).parameters for kind in kinds if hasattr(kind, member)]
        assert entry.doc
        assert set(entry.options) <= {option for signature in signatures for option in signature}
    steps = found["interpolate"].options["steps"]
    assert (steps.annotation, steps.default, steps.doc) == ("int", "7", "number of tiles along a side")
    assert found["edit"].options["start"].default is None
    assert found["mask"].options["guide"].annotation == "Tensor"
