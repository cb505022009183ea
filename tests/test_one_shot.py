"""The benchmark over single images: what it trains, where it goes on, and what it publishes."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from xdomain.errors import UserError

WORLD = "data: {class_path: FacadeWorld, init_args: {image_size: 16, train_size: 4, val_size: 1, test_size: 3}}"
ONE = f"""
model:
  class_path: OST
  init_args:
    autoencoders: {{class_path: DrawingAutoencoders, init_args: {{width: 4, blocks: 1}}}}
    discriminator: {{class_path: PatchDiscriminator, init_args: {{width: 4, layers: 1}}}}
    autoencoder_steps: 1
    steps: 2
data:
  class_path: OneShot
  init_args:
    {WORLD}
    batch_size: 1
trainer:
  callbacks:
    scores: {{class_path: OneShotScores, init_args: {{images: 20}}}}
"""
ALL = f"""
model:
  class_path: CycleGAN
  init_args:
    generator: {{class_path: ResnetGenerator, init_args: {{width: 4, blocks: 1}}}}
    discriminator: {{class_path: PatchDiscriminator, init_args: {{width: 4, layers: 1}}}}
{WORLD}
trainer: {{max_steps: 1}}
"""
ROWS = ("one", "one+no_cycle", "all", "all+reverse")


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script, with two small recipes in its working folder."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["one_shot.py"])
    Path("configs/small").mkdir(parents=True)
    Path("configs/small/one.yaml").write_text(ONE)
    Path("configs/small/all.yaml").write_text(ALL)
    Path("configs/small/no_cycle.yaml").write_text("model: {init_args: {cycle: none}}")
    yield importlib.import_module("one_shot")
    for name in ("one_shot", "common"):
        sys.modules.pop(name, None)


@pytest.fixture
def trained(script, monkeypatch):
    """The rows in the order of their trainings."""
    found, fit = [], script.Row.fit

    def noted(row, data):
        found.append(row.name)
        fit(row, data)

    monkeypatch.setattr(script.Row, "fit", noted)
    return found


def run(script, *words, rows=ROWS):
    script.main([*rows, "--folder", "done", "--anyway", *words])
    return {row: json.loads(Path(f"results/small/{row}@samples.json").read_text()) for row in rows}


def test_all_rows_have_their_turn_on_every_sample_and_what_is_done_is_kept(script, trained):
    first = run(script, "--samples", "1")
    assert trained == ["one", "one+no_cycle", "all"]  # not for the other direction
    results = run(script, "--samples", "2")
    assert trained[3:] == ["one", "one+no_cycle"]
    for row, result in results.items():
        for name, value in result["metrics"].items():
            assert value["n"] == len(value["values"]) == 2
            assert value["values"][0] == first[row]["metrics"][name]["values"][0]
        content = result["metrics"]["content@random-conv/2"]
        assert len(set(content["values"])) == 2  # other images, other values
    assert results["one"]["metrics"]["l1"] != results["one+no_cycle"]["metrics"]["l1"]
    random = "l1_untranslated"  # photo to labels and back: the same pairs
    assert results["all"]["metrics"][random] == results["all+reverse"]["metrics"][random]
    assert results["all"]["metrics"]["l1"] != results["all+reverse"]["metrics"]["l1"]


def test_every_sample_begins_with_the_same_weights(script):
    row = script.Row("one", [], Path(), {})
    results = [row.run(0, row.scores)["metrics"] for _ in range(2)]
    assert results[0] == results[1]
    assert not torch.equal(row.initial["G.private_encoders.0.1.weight"], row.cli.model.G.private_encoders[0][1].weight)


def test_rows_with_the_same_images_share_them(script):
    known = {}
    rows = [script.Row(name, [], Path(), known) for name in ("one", "one+no_cycle", "one+reverse")]
    assert len(known) == 1
    assert len({id(row.data(1).wrapped) for row in rows}) == 1
    assert [row.data(1).domains[0] for row in rows] == ["photo", "photo", "labels"]
    assert [row.data(number).sample for row in rows for number in (0, 2)] == [0, 2] * 3


def test_other_settings_need_another_folder(script):
    run(script, "--samples", "1", rows=["one"])
    with pytest.raises(UserError, match=r"samples\.json was made with other --set"):
        run(script, "--samples", "1", "--set", "model.init_args.steps=1", rows=["one"])
