"""Permuted AdaIN in a training: checkpoints and resuming."""

import pytest
import torch

from tests.methods.faces import Faces
from tests.toys import trainer, weights
from xdomain.callbacks import InsertPermutedAdaIN
from xdomain.errors import UserError
from xdomain.methods import Classifier
from xdomain.networks import ConvClassifier


class Stopped(Exception):
    """Stands for the end of the process."""


class Stopping(Classifier):
    """Dies in the middle of one batch."""

    stop_at = None

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.trainer.global_step == self.stop_at:
            raise Stopped


def fit(folder, p=0.4, stop_at=None, ckpt_path=None, steps=9):
    torch.manual_seed(4)
    network = ConvClassifier(widths=[4, 4, 6], image_size=16, classes=4)
    method = Stopping(network, domains=("plus",), channels=(3,), image_size=16)
    method.stop_at = stop_at
    layers = [InsertPermutedAdaIN(["network"], p)] if p is not None else []
    run = trainer(max_steps=steps, run_dir=str(folder), limit_val_batches=1, callbacks=layers)
    try:
        run.fit(method, datamodule=Faces(), ckpt_path=ckpt_path, weights_only=True)
    except Stopped:
        return None
    return weights(method)


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path):
    straight = fit(tmp_path / "straight")
    fit(tmp_path / "killed", stop_at=7)
    resumed = fit(tmp_path / "killed", ckpt_path=tmp_path / "killed/checkpoints/last.ckpt")
    assert same(straight, resumed)


def test_p_0_is_the_run_without(tmp_path):
    assert same(fit(tmp_path / "without", p=None), fit(tmp_path / "never", p=0.0))
    assert not same(fit(tmp_path / "without again", p=None), fit(tmp_path / "often"))


def test_a_network_that_is_not_there(tmp_path):
    method = Classifier(
        ConvClassifier(widths=[4, 4, 6], image_size=16, classes=4), domains=("plus",), channels=(3,), image_size=16
    )
    run = trainer(max_steps=1, run_dir=str(tmp_path), callbacks=[InsertPermutedAdaIN(["f"])])
    with pytest.raises(UserError, match=r"InsertPermutedAdaIN\.networks names 'f', but Classifier has: network\."):
        run.fit(method, datamodule=Faces())
