"""What `xdomain list` finds, held against what can be imported."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

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
    bases = {"ContentMethod", "PyramidMethod", "StyleMethod", "TranslationMethod"}
    assert set(found) == public(xdomain.methods, Method) - bases
    assert all(doc == inspect.getdoc(getattr(xdomain.methods, name)).splitlines()[0] for name, doc in found.items())


def test_data_modules_are_the_importable_ones_without_the_bases():
    assert set(discover.data_modules()) == public(xdomain.data, BaseDataModule) - {"SingleDomain"}


def test_recipes_and_overlays_all_say_what_they_are():
    for found in (discover.recipes(), *discover.overlays().values()):
        assert found
        assert all(found.values()), found
    assert "dtn.yaml" in discover.recipes()
    assert "cpu.yaml" in discover.overlays()[""]


def test_catalogue_names_everything():
    text = discover.catalogue()
    names = (*discover.methods(), *discover.data_modules(), *discover.recipes())
    for name in (*names, *(name for found in discover.overlays().values() for name in found)):
        assert re.search(f"^  {re.escape(name)}( |$)", text, re.MULTILINE)
    titles = [line for line in text.splitlines() if not line.startswith(" ") and line]
    weights = "trained weights, for --ckpt_path:"
    assert titles[:5] == ["methods:", "recipes:", "data:", weights, "overlays for all recipes:"]
    owners = {title.removeprefix("overlays for ").removesuffix(":") for title in titles[4:]}
    assert owners >= {"ImagePair", "SingleImage", "dtn", "helpers"}


SHIPPED = discover.config_folders()[1]
OVERLAYS = sorted(path.stem for path in SHIPPED.rglob("*.yaml") if "overlays" in path.parts)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_taken_by_its_owner_and_refused_by_others(overlay):
    path = discover.find_config(overlay)
    owner = discover.owner_of(path)
    if owner == "":
        discover.check_owner(path, "DTN", "DomainPair")
    elif owner in discover.data_modules():
        discover.check_owner(path, "DTN", f"xdomain.data.{owner}")
        with pytest.raises(UserError, match=f"{overlay}.yaml is an overlay for the data {owner}, not for Avatars"):
            discover.check_owner(path, "DTN", "Avatars")
    else:
        own = [yaml.safe_load(file.read_text())["model"]["class_path"] for file in (SHIPPED / owner).glob("*.yaml")]
        assert own
        for name in own:
            discover.check_owner(path, name, "Avatars")
            discover.check_owner(path, f"xdomain.methods.{name}", "Avatars")
        other = "DIDD" if owner == "gram" else "GramStyleTransfer"
        with pytest.raises(UserError, match=f"{overlay}.yaml is an overlay for recipes of {owner}, not for {other}"):
            discover.check_owner(path, other, "Avatars")
    discover.check_owner(path, "somebodys.Own", "somebodys.Data")
    discover.check_owner(path, None, None)


def test_a_users_own_overlays_have_owners_too():
    Path("configs/dtn/overlays").mkdir(parents=True)
    Path("configs/dtn/overlays/mine.yaml").write_text("# mine\n")
    Path("elsewhere.yaml").write_text("# not mine\n")
    assert discover.owner_of(discover.find_config("mine")) == "dtn"
    assert discover.owner_of(Path("elsewhere.yaml")) == ""
    with pytest.raises(UserError, match="for recipes of dtn, not for DIDD"):
        discover.check_owner(discover.find_config("mine"), "DIDD", None)


@pytest.mark.parametrize("name", ["dtn", "dtn.yaml", "cpu"])
def test_configs_are_found_by_name(name):
    path = discover.find_config(name)
    assert path.is_file()
    assert path.stem == Path(name).stem


def test_a_users_own_config_comes_first(tmp_path):
    Path("configs").mkdir()
    Path("configs/dtn.yaml").write_text("# mine\n")
    assert discover.find_config("dtn").read_text() == "# mine\n"
    assert discover.recipes()["dtn.yaml"] == "mine"
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
    docs = [entry.doc for entry in found.values()]
    assert len(docs) == len(set(docs))  # where one function does two tasks, it has words of its own for each
    steps = found["interpolate"].options["steps"]
    assert (steps.annotation, steps.default, steps.doc) == ("int", "7", "number of tiles along a side")
    assert found["edit"].options["start"].default is None
    assert found["mask"].options["guide"].annotation == "Tensor"
