"""The ONNX embedder on a stand-in for onnxruntime."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from xdomain.errors import UserError
from xdomain.features.onnx import OnnxEmbedder


class Session:
    """A network whose features are the channel means and the upper left pixel; it keeps what it was given."""

    def __init__(self, shape, given):
        self.shape, self.given = shape, given

    def get_inputs(self):
        return [SimpleNamespace(name="data", shape=self.shape)]

    def run(self, outputs, feeds):
        assert outputs is None
        (images,) = feeds.values()
        assert list(feeds) == ["data"]
        assert images.dtype == np.float32
        self.given.append(images)
        return [np.concatenate([images.mean((2, 3)), images[:, :, 0, 0]], axis=1)]


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Installs the stand-in; its networks take what the test says."""
    module = ModuleType("onnxruntime")
    module.shape, module.given, module.asked = ["N", 3, 8, 8], [], []
    module.get_available_providers = lambda: ["TensorrtExecutionProvider", "CPUExecutionProvider"]

    def session(path, providers):
        module.asked.append((path, providers))
        if Path(path).read_text() == "broken":
            raise RuntimeError("protobuf parsing failed")
        return Session(module.shape, module.given)

    module.InferenceSession = session
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    (tmp_path / "face.onnx").write_text("")
    module.path = tmp_path / "face.onnx"
    return module


def test_features_of_known_images(runtime):
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    features = OnnxEmbedder(runtime.path)(images)
    expected = torch.cat([images.mean((2, 3)), images[:, :, 0, 0]], dim=1)
    torch.testing.assert_close(features, expected / expected.norm(dim=1, keepdim=True))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))
    assert runtime.asked == [(str(runtime.path), ["CPUExecutionProvider"])]
    assert len(runtime.given) == 1


def test_images_are_clamped_and_normalised_per_channel(runtime):
    embed = OnnxEmbedder(runtime.path, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 0.1))
    images = torch.tensor([3.0, 0.0, -3.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    embed(images)
    np.testing.assert_allclose(runtime.given[0][0, :, 0, 0], [1.0, 1.0, 0.0], atol=1e-6)


def test_images_are_resized(runtime):
    runtime.shape = [None, 3, "h", "w"]
    images = torch.zeros(2, 3, 16, 16)
    images[..., 8:] = 1
    OnnxEmbedder(runtime.path, size=4)(images)
    assert runtime.given[0].shape == (2, 3, 4, 4)
    assert runtime.given[0].mean() == pytest.approx(0.5)
    np.testing.assert_allclose(runtime.given[0][0, 0, :, -1], 1, atol=0.05)


def test_no_pixel_is_lost_on_the_way_to_a_smaller_size(runtime):
    images = torch.full((1, 3, 32, 32), -1.0)
    images[..., 0] = 1
    OnnxEmbedder(runtime.path)(images)
    assert runtime.given[0][0, 0, 0, 0] > -0.8


@pytest.mark.parametrize(("channels", "given"), [(1, 3), (3, 1)])
def test_grey_and_colour_become_what_the_network_wants(runtime, channels, given):
    runtime.shape = ["N", channels, 8, 8]
    OnnxEmbedder(runtime.path)(torch.full((2, given, 8, 8), 0.4))
    np.testing.assert_allclose(runtime.given[0], np.full((2, channels, 8, 8), 0.4), atol=1e-3)


def test_a_network_for_one_image_gets_them_one_by_one(runtime):
    images = torch.rand(3, 3, 8, 8)
    together = OnnxEmbedder(runtime.path)(images)
    runtime.shape = [1, 3, 8, 8]
    torch.testing.assert_close(OnnxEmbedder(runtime.path)(images), together)
    assert [len(batch) for batch in runtime.given] == [3, 1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "size", "sentence"),
    [
        (["N", 8, 8, 3], None, "export it for images as"),
        (["N", 512], None, "export it for images as"),
        ([4, 3, 8, 8], None, "takes 4 images at a time only"),
        (["N", 3, "h", "w"], None, "say which, as in onnx:"),
        (["N", 3, 8, 8], 16, "takes images of 8 x 8 only, not of 16"),
    ],
)
def test_networks_of_other_input_are_refused(runtime, shape, size, sentence):
    runtime.shape = shape
    with pytest.raises(UserError, match=sentence):
        OnnxEmbedder(runtime.path, size)


def test_files_that_are_missing_or_broken(runtime):
    with pytest.raises(UserError, match=r"none\.onnx does not exist"):
        OnnxEmbedder(runtime.path.with_name("none.onnx"))
    runtime.path.write_text("broken")
    with pytest.raises(UserError, match=r"face.onnx cannot be read as an ONNX network \(RuntimeError\)"):
        OnnxEmbedder(runtime.path)


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="run `pip install onnxruntime`"):
        OnnxEmbedder("face.onnx")
