"""What a test leaves behind."""

import json
from pathlib import Path

import torch

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import Results
from xdomain.running.results import rounded, table


class Measured(ToyGAN):
    def test_step(self, batch, batch_idx):
        self.log_dict({"accuracy@x": torch.tensor(0.12345678), "n": torch.tensor(10.0)})


def test_results_are_written_and_printed(tmp_path, capsys):
    options = {"recipe": "toy", "callbacks": [Results()], "run_dir": str(tmp_path / "run")}
    run = trainer(max_steps=3, limit_val_batches=0, **options)
    run.seed, run.overrides = 5, {"trainer.max_steps": 3}
    run.fit(Measured(), datamodule=ToyPair())
    later = trainer(**options)
    later.overrides = {"data.init_args.eval_batch_size": 4}
    later.test(Measured(), datamodule=ToyPair(), verbose=False)

    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["recipe"] == "toy"
    assert result["metrics"] == {"accuracy@x": 0.123457, "n": 10.0}
    assert result["seed"] == 5
    assert result["steps"] == 3
    assert result["wall_seconds"] >= 0
    assert result["overrides"] == {"trainer.max_steps": 3, "data.init_args.eval_batch_size": 4}
    assert "CPU" in result["hardware"] or "x" in result["hardware"]
    assert set(result) >= {"commit", "commit_test"}
    assert not Path("results").exists()  # publishing is a step of its own

    out = capsys.readouterr().out
    assert "accuracy@x      0.1235" in out
    assert str(tmp_path / "run" / "results.json") in out
    assert "changed on the command line: trainer.max_steps 3, data.init_args.eval_batch_size 4" in out


def test_a_test_without_training_has_facts_of_its_own(tmp_path):
    run = trainer(run_dir=str(tmp_path), recipe="alone", callbacks=[Results()])
    run.seed = 3
    run.test(Measured(), datamodule=ToyPair(), verbose=False)
    result = json.loads((tmp_path / "results.json").read_text())
    assert (result["seed"], result["wall_seconds"], result["steps"]) == (3, None, None)
    assert result["hardware"]


def test_table_is_aligned():
    lines = table({"accuracy": 0.5, "n@long-name": 2000.0}).splitlines()
    assert lines == ["accuracy         0.5000", "n@long-name   2000     "]
    assert table({}) == ""
    assert table({"style": 7.012e-7, "loss": -0.25}).splitlines() == ["style     7.0e-07", "loss      -0.2500"]


def test_small_numbers_keep_their_figures():
    assert [rounded(x) for x in (12.3456789, 0.12345678, 7.0123456789e-7, 0.0)] == [12.345679, 0.123457, 7.01235e-7, 0]
