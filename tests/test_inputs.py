"""The benchmark that runs recipes on several inputs: what it runs, and what becomes of the numbers."""

import importlib
import json
import statistics
import sys
from pathlib import Path

import pytest
import yaml

from xdomain.commands.table import TABLES, cell, recipes
from xdomain.discover import find_config
from xdomain.errors import UserError

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def inputs(monkeypatch):
    """The script, with results that count the calls."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("inputs")
    calls = []

    def fake(recipe, run, settings=(), threads=None):
        calls.append((recipe, run.name, list(settings)))
        number = len(calls)
        return {
            "recipe": "that of the run",
            "metrics": {"sifid": 0.1 * number**2, "n": 50.0, **({"rare": 1.0} if number == 1 else {})},
            "seed": 0,
            "wall_seconds": 10.0 * number,
            "overrides": {
                "data.init_args.path": "x",
                "model.init_args.iterations": 5,
            },
        }

    monkeypatch.setattr(module, "train_and_test", fake)
    yield module, calls
    for name in ("inputs", "common"):
        sys.modules.pop(name, None)


def run(module, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["inputs.py", *words])
    module.main()


def test_inputs_are_overlays_or_paths(inputs, monkeypatch):
    module, calls = inputs
    run(
        module,
        monkeypatch,
        "singan_tiny",
        "--inputs",
        "photo_brick",
        "engine:water",
        "a/b.png",
        "--set",
        "model.x=5",
        "--anyway",
    )
    assert calls == [
        ("singan_tiny+photo_brick", "singan_tiny-photo_brick", ["--model.x", "5"]),
        ("singan_tiny", "singan_tiny-engine_water", ["--model.x", "5", "--data.init_args.path", "engine:water"]),
        ("singan_tiny", "singan_tiny-a_b_png", ["--model.x", "5", "--data.init_args.path", "a/b.png"]),
    ]


def test_the_numbers_of_all_inputs_become_one_result(inputs, monkeypatch):
    module, calls = inputs
    run(
        module,
        monkeypatch,
        "singan_tiny",
        "patch_vaegan_video_tiny+vae_levels_1",
        "--inputs",
        "x",
        "y",
        "z",
        "--anyway",
    )
    assert len(calls) == 6
    result = json.loads(Path("results/singan/singan_tiny.json").read_text())
    values = [0.1, 0.4, 0.9]
    sifid = result["metrics"]["sifid"]
    assert sifid["values"] == pytest.approx(values)
    assert sifid["mean"] == pytest.approx(statistics.mean(values), abs=1e-6)
    assert sifid["std"] == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert (sifid["n"], sifid["inputs"]) == (3, ["x", "y", "z"])
    assert set(result["metrics"]) == {"sifid", "n"}  # what not all have says nothing about all
    assert result["overrides"] == {"model.init_args.iterations": 5}
    assert (result["recipe"], result["wall_seconds"], result["seed"]) == ("singan_tiny", 20.0, 0)
    assert cell(result, "sifid", 1) == "0.47 ± 0.40 (n = 3)"
    assert Path("results/patch_vaegan/patch_vaegan_video_tiny+vae_levels_1.json").exists()


def test_what_could_not_be_published_is_refused_before_any_run(inputs, monkeypatch):
    module, calls = inputs
    monkeypatch.setattr(sys.modules["common"], "git_commit", lambda: "0123")
    with pytest.raises(UserError, match=r"not its recipe alone, changed on the command line: model.x \"5\""):
        run(module, monkeypatch, "singan_tiny", "--set", "model.x=5")
    Path("results/singan").mkdir(parents=True)
    several = {"recipe": "singan_tiny", "metrics": {"x": {"mean": 1, "std": 0, "n": 6}}}
    Path("results/singan/singan_tiny.json").write_text(json.dumps(several))
    with pytest.raises(UserError, match="holds the numbers of 6 runs"):
        run(module, monkeypatch, "singan_tiny")
    assert calls == []


def test_another_choice_of_inputs_has_a_result_of_its_own(inputs, monkeypatch):
    module, _ = inputs
    run(module, monkeypatch, "singan_tiny", "--inputs", "x", "y", "--inputs-name", "mine", "--anyway")
    assert json.loads(Path("results/singan/singan_tiny@mine.json").read_text())["recipe"] == "singan_tiny@mine"
    assert not Path("results/singan/singan_tiny.json").exists()


def test_the_photographs_and_the_recipes_of_the_tables_are_there(inputs):
    module, _ = inputs
    paths = [yaml.safe_load(find_config(name).read_text())["data"]["init_args"]["path"] for name in module.PHOTOGRAPHS]
    assert len(set(paths)) == 5
    tables = yaml.safe_load(TABLES.read_text())
    for name in ("single_image", "single_video"):
        for recipe in recipes(tables[name]):
            callbacks = yaml.safe_load(find_config(recipe.split("+")[0]).read_text())["trainer"]["callbacks"]
            assert {callback["class_path"] for callback in callbacks.values()} == {"SampleQuality", "SampleSheet"}
