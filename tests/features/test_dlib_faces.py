"""The judge dlib on a stand-in for its packages."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from xdomain.errors import UserError
from xdomain.features.dlib_faces import WEIGHTS, DlibEmbedder, cut_out

FIND = importlib.util.find_spec


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """A network whose features are the mean colours; what it was given."""
    given = []

    class Model:
        def __init__(self, path):
            assert path.endswith(WEIGHTS)

        def compute_face_descriptor(self, chips):
            assert all(chip.shape == (150, 150, 3) and chip.dtype == np.uint8 for chip in chips)
            given.extend(chips)
            return [np.resize(chip.mean((0, 1)), 128) for chip in chips]

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / WEIGHTS).touch()
    module = ModuleType("dlib")
    module.face_recognition_model_v1 = Model
    monkeypatch.setitem(sys.modules, "dlib", module)
    specs = {
        "dlib": SimpleNamespace(),
        "face_recognition_models": SimpleNamespace(submodule_search_locations=[tmp_path]),
    }
    monkeypatch.setattr("importlib.util.find_spec", lambda name: specs.get(name) or FIND(name))
    return given


def test_features_are_those_of_the_network_and_known_faces_cost_nothing(installed):
    grey = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 3, 64, 64)
    embedder = DlibEmbedder()
    features = embedder.features(grey)
    expected = torch.tensor([0.0, 128.0, 255.0]).view(3, 1).expand(3, 128)
    torch.testing.assert_close(features, expected, atol=1, rtol=0)
    assert len(installed) == 3
    assert torch.equal(embedder.features(grey.flip(0)), features.flip(0))
    assert len(installed) == 3


@pytest.mark.parametrize("size", [64, 128])
def test_eyes_are_where_the_network_expects_them(size):
    """Of the pupils of CelebA's aligned faces, (69, 111) and (107, 112) in 178x218, and of dlib's mean face."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    for column, row, expected in ((69, 111, 47.7), (107, 112, 100.3)):
        centre = column / 178 * size, (row - 20) / 178 * size
        spot = torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (size / 32) ** 2)
        chip = cut_out(spot.expand(1, 1, -1, -1))[0, 0]
        at = (torch.arange(150) + 0.5) * chip.clamp(min=0).sum(0) / chip.clamp(min=0).sum()
        assert at.sum() == pytest.approx(expected, abs=1.5)
        at = (torch.arange(150) + 0.5) * chip.clamp(min=0).sum(1) / chip.clamp(min=0).sum()
        assert at.sum() == pytest.approx(47.1, abs=1.5)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="run `make judges`, or `pip install dlib-bin face-recognition-models`"):
        DlibEmbedder()
