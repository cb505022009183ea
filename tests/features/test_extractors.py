"""Feature networks: what the string names, frozen for good, the same everywhere, and clamped at the door."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from xdomain.batch import to_channels
from xdomain.errors import UserError
from xdomain.features import build_extractor
from xdomain.features.base import HookedExtractor, set_channels
from xdomain.features.classifier import ClassifierExtractor
from xdomain.features.inception import Inception
from xdomain.features.random_conv import RandomConv
from xdomain.metrics.distribution import FID
from xdomain.networks import HalfResolutionClassifier


@pytest.fixture(scope="module")
def squeezenet():
    torch.manual_seed(1)
    return torchvision.models.squeezenet1_0(weights=None).eval()


@pytest.fixture
def weights(squeezenet, tmp_path):
    path = tmp_path / "squeezenet.pth"
    torch.save({k: v.half() for k, v in squeezenet.state_dict().items()}, path)
    return path


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 40, generator=torch.Generator().manual_seed(5)) * 2 - 1


def every_extractor(weights):
    yield build_extractor("random-conv")
    yield build_extractor(f"torchvision:squeezenet1_0:{weights}")
    yield ClassifierExtractor(HalfResolutionClassifier(), "toy")


def test_every_network_keeps_its_contract(weights):
    images = torch.rand(2, 3, 32, 32) * 4 - 2
    for extractor in every_extractor(weights):
        features = extractor.features(images)
        assert features.shape == (2, extractor.dim)
        torch.testing.assert_close(features, extractor.features(images.clamp(-1, 1)), atol=0, rtol=0)
        assert not torch.allclose(features, extractor.features(images.clamp(-0.9, 0.9)))
        for layer, maps in zip(extractor.layers, extractor.pyramid(images, extractor.layers), strict=True):
            assert maps.ndim == 4
            assert torch.equal(maps, extractor.maps(images.clamp(-1, 1), layer))
        assert extractor.layers
        grey = images[:, :1]
        assert torch.equal(extractor.features(grey), extractor.features(grey.expand(-1, 3, -1, -1)))
        with pytest.raises(ValueError, match=f"{extractor.name} has no layer 'nowhere'"):
            extractor.maps(images, "nowhere")
        with pytest.raises(ValueError, match="float tensors of 4 dimensions"):
            extractor.features(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_no_owner_can_thaw_a_network(weights):
    for extractor in every_extractor(weights):
        owner = nn.ModuleDict({"extractor": extractor})
        owner.train()
        assert not any(module.training for module in extractor.modules())
        owner.requires_grad_(True)
        images = torch.rand(1, 3, 32, 32, requires_grad=True)
        assert not extractor.features(images).requires_grad
        assert not extractor.maps(images, extractor.layers[0]).requires_grad


def test_random_weights_are_the_same_everywhere():
    weights = build_extractor("random-conv").weights
    sums = [weight.abs().double().sum().item() for weight in weights]
    assert sums == pytest.approx([611.1904, 1282.6418, 3629.9966, 10250.4917], rel=1e-5)
    state = torch.get_rng_state()
    build_extractor("random-conv3d")
    assert torch.equal(torch.get_rng_state(), state)


def test_random_weights_are_orthogonal_and_keep_the_second_moment():
    network = RandomConv()
    for weight in network.weights[1:]:
        rows = weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, 2 / 1.04 * torch.eye(len(rows)), atol=1e-5, rtol=0)
    noise = torch.randn(4, 64, 32, 32)
    after = F.leaky_relu(F.conv2d(noise, network.weights[2]), 0.2)
    assert after.square().mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("dims", [2, 3])
def test_most_random_filters_see_edges_only(dims):
    filters = RandomConv(dims).weights[0].flatten(2)
    plain = len(filters) // 4
    assert filters[plain:].sum(2).abs().max() < 1e-5
    assert filters[:plain].sum(2).abs().min() > 1e-3
    strength = filters.flatten(1).norm(dim=1) / (2 / 1.04) ** 0.5
    expected = torch.cat([torch.ones(plain), torch.full((3 * plain,), 4.0)])
    torch.testing.assert_close(strength, expected)


def test_random_maps_are_the_written_out_network(images):
    network = RandomConv()
    one = F.leaky_relu(F.conv2d(images, network.weights[0], padding=1), 0.2)
    two = F.leaky_relu(F.conv2d(F.avg_pool2d(one, 2), network.weights[1], padding=1), 0.2)
    torch.testing.assert_close(network.maps(images, "2"), two)
    torch.testing.assert_close(network.features(images)[:, :96], torch.cat([one.mean((2, 3)), two.mean((2, 3))], 1))
    first, again = network.pyramid(images, ["2", "1"])
    assert torch.equal(first, network.maps(images, "2"))
    assert torch.equal(again, network.maps(images, "1"))
    assert network.features(images[:, :, :1, :1]).shape == (3, 480)


def test_videos_have_a_network_of_their_own():
    network = build_extractor("random-conv3d")
    clips = torch.rand(2, 1, 5, 16, 12) * 2 - 1
    assert network.features(clips).shape == (2, network.dim)
    assert network.maps(clips, "2").shape == (2, 32, 3, 8, 6)
    expected = F.leaky_relu(F.conv3d(clips.expand(-1, 3, -1, -1, -1), network.weights[0], padding=1), 0.2)
    torch.testing.assert_close(network.maps(clips, "1"), expected)
    with pytest.raises(ValueError, match="random-conv3d takes float tensors of 5 dimensions"):
        network.features(clips[:, :, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_of_videos_are_those_of_their_frames(channels):
    clips = torch.rand(2, 4 - channels, 3, 4, 5)
    changed = set_channels(clips, channels)
    for t in range(3):
        assert torch.equal(changed[:, :, t], to_channels(clips[:, :, t], channels))


@pytest.mark.parametrize("kind", ["imagenet", "caffe"])
def test_torchvision_input_is_what_the_network_was_trained_on(squeezenet, weights, images, kind):
    extractor = build_extractor(f"torchvision:squeezenet1_0:{weights}:input={kind}")
    assert extractor.name == "squeezenet1-0"
    unit = (images.double() + 1) / 2
    if kind == "imagenet":
        normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        seen = normalise(unit)
    else:
        seen = unit * 255 - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)
    half = squeezenet.half().float()
    with torch.no_grad():
        torch.testing.assert_close(extractor.logits(images), half(seen.float()), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            extractor.features(images), half.features(seen.float()).mean((2, 3)), atol=1e-3, rtol=1e-3
        )


def test_torchvision_layers_can_be_chosen(squeezenet, weights, images):
    extractor = build_extractor(f"torchvision:squeezenet1_0:{weights}:layer=features.4")
    assert extractor.dim == 128
    torch.testing.assert_close(extractor.features(images), extractor.maps(images, "features.4").mean((2, 3)))
    assert extractor.layers == tuple(f"features.{i}" for i in (1, 3, 4, 5, 7, 8, 9, 10, 12))
    # a ReLU that works in place must not reach back into the maps of the convolution before it
    assert extractor.maps(images, "features.0").min() < 0
    torch.testing.assert_close(extractor.maps(images, "features.0").relu(), extractor.maps(images, "features.1"))


@pytest.mark.parametrize(("start", "end"), [("features.1", "features.5"), ("features.5", "features.9")])
def test_torchvision_networks_run_in_parts(weights, images, start, end):
    extractor = build_extractor(f"torchvision:squeezenet1_0:{weights}:input=caffe")
    first, last = extractor.pyramid(images, [start, end])
    before = first.clone()
    assert torch.equal(extractor.onward(first, start, end), last)
    assert torch.equal(first, before)
    with pytest.raises(ValueError, match=f"layer '{start}' of squeezenet1-0 does not come after layer '{end}'"):
        extractor.onward(last, end, start)


def test_random_convolutions_run_in_parts(images):
    extractor = build_extractor("random-conv")
    first, last = extractor.pyramid(images, ["1", "3"])
    first.requires_grad_()
    made = extractor.onward(first, "1", "3")
    assert torch.equal(made, last)
    made.sum().backward()
    assert first.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="random-conv has no layer '5'"):
        extractor.onward(last, "3", "5")


def test_a_network_that_is_no_chain_does_not_run_in_parts(images):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.two(self.one(x))

    extractor = HookedExtractor("toy", Branches(), lambda x: x)
    with pytest.raises(ValueError, match="toy cannot be run from one layer to another"):
        extractor.onward(extractor.maps(images, "one"), "one", "two")


def test_maps_run_no_further_than_needed(images):
    class Trap(nn.Module):
        def forward(self, x):
            raise AssertionError("the network ran to its end")

    extractor = HookedExtractor("toy", nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Trap()), lambda x: x)
    assert extractor.maps(images, "0").shape == (3, 4, 30, 38)
    assert not extractor.network[0]._forward_hooks


def test_relative_weights_are_found_in_the_data_root(weights, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("XDOMAIN_DATA", str(weights.parent))
    assert build_extractor(f"torchvision:squeezenet1_0:{weights.name}").dim == 512


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:squeezenet1_0", "does not read as torchvision:NET:PATH"),
        ("torchvision:squeezenet1_0:w.pth:features.4", "does not read as"),
        ("torchvision:squeezenet1_0:w.pth:layer=", "does not read as"),
        ("torchvision::w.pth", "does not read as"),
        ("torchvision:squeezenet1_0:w.pth:input=bgr", "does not read as"),
        ("torchvision:squeezenet9:w.pth", "torchvision has no classifier 'squeezenet9'"),
        ("torchvision:squeezenet1_0:missing.pth", "there are no weights missing.pth"),
        ("torchvision:squeezenet1_0:broken.pth", "broken.pth cannot be read as a state dict"),
        ("torchvision:squeezenet1_1:squeezenet.pth", "does not hold the state dict of torchvision's squeezenet1_1"),
        ("torchvision:squeezenet1_0:squeezenet.pth:layer=features.99", "squeezenet1-0 has no layer 'features.99'"),
        ("torchvision:squeezenet1_0:squeezenet.pth:layer=classifier.9", "has no layer"),
        ("no_such_recipe", "no_such_recipe"),
    ],
)
def test_bad_strings_are_told_in_one_sentence(spec, message, weights, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=message):
        build_extractor(spec)


def test_inception_without_package_or_weights_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    with pytest.raises(UserError, match="pip install torch-fidelity"):
        build_extractor("inception")
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", torch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match=r"weights of inception are not at .*weights-inception-2015-12-05"):
        build_extractor("inception")


def test_timm_that_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(
        UserError, match=r"timm:resnet18 needs a package that is not installed: run `pip install timm`\."
    ):
        build_extractor("timm:resnet18:weights.pth")


def test_inception_maps_are_taken_before_the_poolings(images):
    network = torchvision.models.Inception3(init_weights=False, aux_logits=False).eval()
    extractor = Inception(network)
    assert [extractor.at(layer) for layer in extractor.layers] == ["inception-64", "inception-192"]
    images = images * 1.5
    x = images.clamp(-1, 1)
    with torch.no_grad():
        x = network.Conv2d_2b_3x3(network.Conv2d_2a_3x3(network.Conv2d_1a_3x3(x)))
        torch.testing.assert_close(extractor.maps(images, "64"), x)
        x = network.Conv2d_4a_3x3(network.Conv2d_3b_1x1(network.maxpool1(x)))
    torch.testing.assert_close(extractor.maps(images, "192"), x)
    assert extractor.maps(images, "192").shape[1] == 192


def test_inception_sees_whole_bytes():
    class Bytes(nn.Module):
        fc = nn.Linear(12, 5)

        def forward(self, x):
            assert x.dtype == torch.uint8
            return x.flatten(1).float()

    extractor = Inception(Bytes())
    images = torch.tensor([-3.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    assert extractor.features(images).tolist() == [[0, 0, 128, 255] * 3]
    torch.testing.assert_close(extractor.logits(images), extractor.features(images) @ Bytes.fc.weight.T)


def test_a_classifier_gives_its_features_and_logits():
    network = HalfResolutionClassifier(in_channels=1).eval()
    extractor = ClassifierExtractor(network, "toy")
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(extractor.features(images), network.features(to_channels(images, 1)))
        torch.testing.assert_close(extractor.logits(images), network(to_channels(images, 1)))
    assert extractor.layers == ("body.3", "body.7", "body.11")
    with pytest.raises(ValueError, match="Linear has no features and no dim and no in_channels"):
        ClassifierExtractor(nn.Linear(2, 2), "toy")
    with pytest.raises(ValueError, match="random-conv is no classifier"):
        RandomConv().logits(images)


def test_a_zoo_classifier_works_once_it_is_fetched(monkeypatch):
    state = torch.get_rng_state()
    extractor = build_extractor("street_classifier")
    assert torch.equal(torch.get_rng_state(), state)
    assert extractor.name == "street-classifier"
    images = torch.rand(2, 3, 32, 32)
    with pytest.raises(RuntimeError, match="street-classifier has no weights yet"):
        extractor.features(images)

    class Strategy:
        is_global_zero = True

        def broadcast(self, state):
            return state

    ones = {k: torch.ones_like(v) for k, v in extractor.network.state_dict().items()}
    monkeypatch.setattr("xdomain.features.helpers.load_weights", lambda *_: ones)
    extractor.fetch(Strategy())
    torch.testing.assert_close(extractor.features(images), extractor.classifier.features(images))
    assert all((p == 1).all() for p in extractor.network.parameters())


def test_metrics_own_no_weights_but_move_them(monkeypatch):
    metric = FID(RandomConv())
    owner = nn.ModuleList([metric])
    assert not list(owner.parameters())
    assert not owner.state_dict()
    owner.train()
    owner.to("meta")
    assert {weight.device.type for weight in metric.extractor.weights} == {"meta"}
    assert metric.real_moment2.device.type == "meta"


def test_metrics_keep_their_precision():
    metric = FID(RandomConv())
    nn.ModuleList([metric]).half()
    assert {weight.dtype for weight in metric.extractor.weights} == {torch.float32}
    assert metric.real_moment2.dtype == torch.float64
