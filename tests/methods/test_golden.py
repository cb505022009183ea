"""The losses of the first batches of every method: a change that was not meant to move them is seen here.

Every test module of a method has GOLDEN: from the name of a method, and words about the setting, to a function that
makes a tiny method and its data. Where losses are meant to change, or a method is new, write ``golden.json`` again:

    python -m tests.methods.test_golden [NAME ...]
"""

import importlib
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytorch_lightning as pl
import torch

import xdomain.methods
from tests.toys import trainer
from xdomain.methods import Method

FILE = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-4  # two kinds of processors were seen to differ by 2.4e-5 after four updates
STEPS = 4
METHODS = {
    name: kind
    for name in xdomain.methods.__all__
    if issubclass(kind := getattr(xdomain.methods, name), Method)
    and kind.build_optimizers is not Method.build_optimizers
}
SETUPS = {
    name: setup
    for module in sorted({kind.__module__.rsplit(".", 1)[-1] for kind in METHODS.values()})
    for name, setup in importlib.import_module(f"tests.methods.test_{module}").GOLDEN.items()
}
HOW = "run `python -m tests.methods.test_golden {}` if that was meant, and say in the commit why"


class Logged(pl.Callback):
    """Every logged value after every batch."""

    def __init__(self):
        self.values = {}

    def on_train_batch_end(self, trainer, *_):
        for name, value in trainer.callback_metrics.items():
            self.values.setdefault(name, []).append(value.item())


def losses(name, folder):
    """What a setup logs in its first batches."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method, data = SETUPS[name]()
    logged = Logged()
    quiet = {"limit_val_batches": 0, "log_every_n_steps": 1, "enable_checkpointing": False}
    run = trainer(max_steps=STEPS, max_epochs=-1, run_dir=str(folder), callbacks=[logged], **quiet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDOMAIN_CACHE", str(folder))  # without a phase that an earlier run has kept
        run.fit(method, datamodule=data)
    return logged.values


def test_every_method_has_golden_losses():
    assert {name.split()[0] for name in SETUPS} == METHODS.keys()
    assert json.loads(FILE.read_text()).keys() == SETUPS.keys(), HOW.format("")


@pytest.mark.parametrize("name", SETUPS)
def test_losses_are_what_they_were(name, tmp_path):
    golden = json.loads(FILE.read_text())[name]
    found = losses(name, tmp_path)
    assert found.keys() == golden.keys(), HOW.format(repr(name))
    how = HOW.format(repr(name))
    for key, values in golden.items():
        assert found[key] == pytest.approx(values, rel=TOLERANCE, abs=1e-8), f"{key} has moved: {how}"


def main():
    """Write the losses of these setups, or of all, into the file."""
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    with TemporaryDirectory() as folder:
        for name in sys.argv[1:] or SETUPS:
            print(name)
            values = losses(name, folder)
            golden[name] = {key: [float(f"{x:.8g}") for x in values[key]] for key in sorted(values)}
    lines = [f" {json.dumps(name)}: {json.dumps(golden[name])}" for name in sorted(golden.keys() & SETUPS.keys())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
