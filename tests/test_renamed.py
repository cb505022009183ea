"""Checkpoints of version 0.1.0: a stored one, and what others say."""

import gzip
from pathlib import Path

import pytest
import torch

from tests.methods.faces import Faces, pictures
from tests.toys import trainer
from xdomain.errors import UserError
from xdomain.features.helpers import build_network
from xdomain.inference.loading import load
from xdomain.methods import DIDD, Erasure, Regions, Strength
from xdomain.renamed import in_new_words

STORED = Path(__file__).parent / "fakes" / "didd_0.1.0.ckpt.gz"
"""Six batches of a DIDD of four thousand weights with ``erasure: true``, ``strength: 2`` and ``regions: 0.5``."""
PIXELS = {
    "transfer": [0.515263, 0.520416, -0.208174, 0.055568, -0.380427, 0.303826, 0.132762, -0.160261],
    "remove": [0.515263, 0.528039, -0.162569, 0.02053, -0.380427, 0.303826, 0.132762, -0.221914],
    "add": [0.515263, 0.520416, 0.029954, 0.055568, -0.380427, 0.303826, 0.132762, 0.23138],
    "swap": [0.515263, 0.501705, -0.130227, -0.061392, -0.380427, 0.303826, 0.132762, -0.410503],
}
"""Every 307th value of what version 0.1.0 made of two images with it."""


class Smiles(Faces):
    domains = ("smile", "glasses")


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.ckpt"
    path.write_bytes(gzip.decompress(STORED.read_bytes()))
    return path


def test_an_old_checkpoint_translates_as_it_did(old):
    method = load(old)
    assert [*method.readouts] == ["erasure", "strength", "regions"]
    assert (method.readouts["strength"].factor, method.readouts["regions"].share) == (2.0, 0.5)
    x, guide = pictures(1), pictures(2)
    for task, values in PIXELS.items():
        result = method.translate(x, "smile", "glasses", guide=guide, task=task)
        assert result.flatten()[::307].tolist() == pytest.approx(values, abs=1e-5), task


def test_an_old_training_goes_on(old, tmp_path):
    data = Smiles()
    shape = {"width": 2, "depth": 2, "sep": 1, "common": 2, "norm": "batch", "separate_norm": "instance"}
    settings = {**shape, "spectral": False, "slot_dropout": 0.25, "discriminant": 0.01}
    facts = {name: getattr(data, name) for name in ("domains", "channels", "image_size")}
    readouts = [Erasure(), Strength(2.0), Regions(0.5)]
    method = DIDD(**settings, **facts, readouts=readouts, optimizer=lambda p: torch.optim.SGD(p, lr=0.05))
    run = trainer(max_steps=7, run_dir=str(tmp_path / "run"), limit_val_batches=0)
    run.fit(method, datamodule=data, ckpt_path=str(old), weights_only=True)
    assert run.global_step == 7
    assert method.readouts["erasure"].fitted_at == 7


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [("DIDD", "slots", "copy"), ("PatchVAEGAN", "pool", 64), ("MaskedTransfer", "stale_codes", True)],
)
def test_what_is_gone_is_named_with_the_version_that_reads_it(method, option, value, old):
    settings = {"_class_path": f"xdomain.methods.{method}", option: value}
    with pytest.raises(UserError, match=f"this {method} was trained with {option} {value}.* version 0.1.0"):
        in_new_words({"hyper_parameters": settings, "state_dict": {}})
    checkpoint = torch.load(old, weights_only=True)
    checkpoint["hyper_parameters"] |= settings
    torch.save(checkpoint, old)
    with pytest.raises(UserError, match=rf"old.ckpt: this {method} was trained with {option}"):
        load(old)


def test_settings_of_other_methods_are_left_alone():
    settings = {"_class_path": "xdomain.methods.CycleGAN", "pool": 50, "erasure": 1}
    checkpoint = {"hyper_parameters": settings, "state_dict": {"erasure.weight": torch.ones(1)}}
    assert in_new_words(checkpoint) == checkpoint
    assert in_new_words({"state_dict": {}}) == {"state_dict": {}}


@pytest.mark.parametrize(
    "path", ["HalfClassifier", "xdomain.networks.HalfClassifier", "xdomain.networks.half.HalfClassifier"]
)
def test_renamed_networks_are_found(path):
    f = {"class_path": path, "init_args": {"width": 2, "dim": 4}}
    settings = in_new_words({"hyper_parameters": {"f": f, "g": [f]}})["hyper_parameters"]
    assert build_network(settings["f"]).dim == 4
    assert settings["g"] == [settings["f"]]


def test_what_only_an_option_needed_is_dropped():
    settings = {"_class_path": "xdomain.methods.PatchVAEGAN", "pool": 0, "layers": 7}
    checkpoint = in_new_words({"hyper_parameters": settings, "state_dict": {"pool_seed": torch.tensor(3)}})
    assert checkpoint["state_dict"] == {}
    assert "pool" not in checkpoint["hyper_parameters"]
