"""Packed weights: smaller, the same translations, refused if damaged; and those that come with the package."""

import json
import shutil

import pytest
import torch

from tests.commands.test_translate import SIZE, SPEC, save
from xdomain import discover
from xdomain.commands.main import main
from xdomain.errors import UserError
from xdomain.inference import packed, packing
from xdomain.inference.loading import load
from xdomain.inference.packed import WEIGHTS, packed_names
from xdomain.inference.packing import pack, translations
from xdomain.methods import DTN, SinGAN


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run folder of an untrained DTN whose test has been written."""
    folder = tmp_path_factory.mktemp("runs") / "dtn"
    (folder / "checkpoints").mkdir(parents=True)
    torch.manual_seed(0)
    method = DTN(f=SPEC, domains=("colour", "grey"), channels=(3, 1), image_size=SIZE)
    save(method, folder / "checkpoints" / "last.ckpt")
    (folder / "run.json").write_text(json.dumps({"recipe": "dtn", "commit": "abc", "seed": 3, "steps": 7}))
    (folder / "results.json").write_text(json.dumps({"metrics": {"accuracy": 0.5}}))
    return folder


@pytest.fixture
def file(run, tmp_path):
    pack(run, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def test_packed_weights_translate_as_the_run(run, file):
    one, other = load(run), load(file)
    pairs = list(zip(translations(one), translations(other), strict=True))
    assert pairs
    for expected, found in pairs:
        assert 0 < (expected - found).abs().max() < 5e-3
    assert all(weight.dtype == torch.float32 for weight in other.state_dict().values() if weight.is_floating_point())


def test_networks_that_only_a_training_needs_are_left_out(run, file):
    card = json.loads(file.with_suffix(".json").read_text())
    assert card["left_out"] == ["D"]
    needed = sum(weight.numel() for name, weight in load(run).state_dict().items() if not name.startswith("D."))
    assert 2 * needed < file.stat().st_size < 2 * needed + 20_000


def test_the_card_says_where_weights_come_from(file):
    card = json.loads(file.with_suffix(".json").read_text())
    assert {name: card[name] for name in ("recipe", "commit", "seed", "steps")} == {
        **{"recipe": "dtn", "commit": "abc"},
        **{"seed": 3, "steps": 7},
    }
    assert card["metrics"] == {"accuracy": 0.5}
    assert card["method"] == "xdomain.methods.DTN"


def test_weights_out_of_range_stay_as_they_are(run, tmp_path):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in content["state_dict"] if name.startswith("f.") and name.endswith("weight"))
    content["state_dict"][name][0] = 1e6
    torch.save(content, tmp_path / "large.ckpt")
    pack(tmp_path / "large.ckpt", tmp_path / "large.safetensors")
    assert torch.equal(load(tmp_path / "large.safetensors").state_dict()[name], content["state_dict"][name])


def test_damaged_weights_are_refused(file):
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"small\.safetensors is damaged: its checksum"):
        load(file)


def test_weights_without_their_card(file):
    file.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"has no card small\.json .*: copy both files"):
        load(file)


def test_a_card_that_names_foreign_code_is_refused(file):
    card = json.loads(file.with_suffix(".json").read_text())
    file.with_suffix(".json").write_text(json.dumps(card | {"method": "os.system"}))
    with pytest.raises(UserError, match=r"os\.system, which is neither of xdomain nor of torch"):
        load(file)


def test_weights_that_there_are_not(tmp_path, monkeypatch, file):
    with pytest.raises(UserError, match=r"none\.safetensors do not exist: give a file that `xdomain pack` made"):
        load(tmp_path / "none.safetensors")
    monkeypatch.setattr(packed, "WEIGHTS", file.parent)
    assert load("zoo:small").domains == ("colour", "grey")
    with pytest.raises(UserError, match=r"zoo:smal is none of the weights .* did you mean small\?"):
        load("zoo:smal")


def test_what_cannot_be_packed(run, tmp_path, capsys, monkeypatch):
    assert main(["pack", str(run), "--output", str(tmp_path / "x.ckpt")]) == 2
    assert "x.ckpt: give a file that ends in .safetensors" in capsys.readouterr().err
    assert main(["pack", str(run), "--output", str(tmp_path / "x.safetensors")]) == 0
    assert "without D" in capsys.readouterr().out
    assert main(["pack", str(run), "--output", str(tmp_path / "x.safetensors")]) == 2
    assert "exist already: give another output, or overwrite" in capsys.readouterr().err
    monkeypatch.setattr(packing, "of_images", lambda _: {})
    assert main(["pack", str(run), "--output", str(tmp_path / "y.safetensors")]) == 2
    assert "a DTN translates no images" in capsys.readouterr().err


def test_nothing_is_left_out_of_what_draws_samples(tmp_path):
    method = SinGAN(min_size=12, width=4, layers=3, domains=("one",), channels=(3,), image_size=16)
    save(method, tmp_path / "one.ckpt")
    assert pack(tmp_path / "one.ckpt", tmp_path / "one.safetensors")["left_out"] == []


@pytest.mark.parametrize("name", packed_names())
def test_weights_of_the_package(name):
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    overlays = {overlay for of_one in discover.overlays().values() for overlay in of_one}
    assert {f"{part}.yaml" for part in card["recipe"].split("+")} <= discover.recipes().keys() | overlays
    assert card["metrics"]
    assert not card["commit"].endswith("+")
    assert card["change_by_half_precision"] < 0.05
    method = load(f"zoo:{name}")
    assert all(made.isfinite().all() for made in translations(method))
    assert f"zoo:{name}" in discover.catalogue()


def test_weights_of_the_package_are_small():
    assert packed_names()
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*.*")) <= 10 * 2**20


def test_weights_of_the_package_are_copied_as_they_are(tmp_path):
    name = packed_names()[0]
    for ending in (".safetensors", ".json"):
        shutil.copy(WEIGHTS / f"{name}{ending}", tmp_path / f"mine{ending}")
    one, other = load(f"zoo:{name}").state_dict(), load(tmp_path / "mine.safetensors").state_dict()
    card = json.loads((WEIGHTS / f"{name}.json").read_text())
    kept = [key for key in one if key.split(".")[0] not in card["left_out"]]
    assert kept
    assert all(torch.equal(one[key], other[key]) for key in kept)
