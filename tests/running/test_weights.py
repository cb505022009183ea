"""A new run that begins with the weights of another."""

import json
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from tests.methods.single import OneImage
from tests.methods.single import facts as facts_of
from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.errors import UserError
from xdomain.methods import PyramidMethod


def fit(folder, model=None, steps=6, ckpt_path=None, **options):
    job = trainer(max_steps=steps, limit_val_batches=1, run_dir=str(folder), **options)
    model = model or ToyGAN(scheduler=partial(StepLR, step_size=2))
    start = []
    model.on_train_start = lambda: start.append(weights(model))
    job.fit(model, datamodule=ToyPair(), ckpt_path=ckpt_path, weights_only=True)
    return job, start[0]


def saved(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def facts(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_new_run_begins_with_the_weights_of_another(tmp_path):
    fit(tmp_path / "first")
    assert facts(tmp_path / "first")["weights"] is None
    torch.manual_seed(5)
    _, begun = fit(tmp_path / "second", steps=3, weights=str(tmp_path / "first"))
    for name, value in saved(tmp_path / "first")["state_dict"].items():
        assert torch.equal(begun[name], value), name
    after = saved(tmp_path / "second")
    assert after["global_step"] == after["updates"]["count"] == 3
    assert after["optimizer_states"][0]["state"][0]["step"] == 3
    assert after["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(2e-5)
    assert facts(tmp_path / "second")["weights"] == str(tmp_path / "first/checkpoints/last.ckpt")


def test_a_resumed_run_has_weights_of_its_own_and_remembers_the_first(tmp_path):
    fit(tmp_path / "first")
    last = tmp_path / "second/checkpoints/last.ckpt"
    fit(tmp_path / "second", steps=3, weights=str(tmp_path / "first"))
    before = saved(tmp_path / "second")["state_dict"]
    _, begun = fit(tmp_path / "second", steps=4, weights=str(tmp_path / "first"), ckpt_path=str(last))
    assert all(torch.equal(begun[name], value) for name, value in before.items())
    assert facts(tmp_path / "second")["weights"] == str(tmp_path / "first/checkpoints/last.ckpt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    class Wide(ToyGAN):
        def __init__(self, **options):
            super().__init__(**options)
            self.D.add_module("3", torch.nn.Linear(1, 1))

    fit(tmp_path / "first")
    path = tmp_path / "first/checkpoints/last.ckpt"
    way = "make the settings of both runs equal"
    with pytest.raises(UserError, match=rf"but D\.3\.weight is not there, and 1 more do not fit: {way}"):
        fit(tmp_path / "second", Wide(), weights=str(path))
    content = saved(tmp_path / "first")
    content["state_dict"]["g.1.weight"] = torch.zeros(3, 2)
    torch.save(content, path)
    with pytest.raises(UserError, match=rf"but g\.1\.weight is \[3, 2\] there and \[64, 192\] here: {way}"):
        fit(tmp_path / "second", weights=str(path))
    content["hyper_parameters"]["_class_path"] = "xdomain.methods.DTN"
    torch.save(content, path)
    with pytest.raises(UserError, match=r", a checkpoint of DTN and not of ToyGAN: give one of the same method\."):
        fit(tmp_path / "second", weights=str(path))
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="is no checkpoint"):
        fit(tmp_path / "second", weights=str(path))
    assert not (tmp_path / "second").exists()


def test_a_pyramid_does_not_begin_with_weights(tmp_path):
    data = OneImage()
    job = trainer(weights=str(tmp_path), run_dir=str(tmp_path / "second"))
    with pytest.raises(UserError, match=r"^Trainer: weights is .*, but PyramidMethod learns its scales one after"):
        job.fit(PyramidMethod(**facts_of(data)), datamodule=data)
    assert not (tmp_path / "second").exists()
