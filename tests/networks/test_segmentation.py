"""The parts of DeepLab and of FADA: sizes by hand, dilations by what a pixel can reach."""

import pytest
import torch
import torchvision
from torch import nn

from xdomain.networks import DilatedHeads, FineGrainedDiscriminator, ResNetFeatures, SmallFeatures
from xdomain.networks.segmentation import enlarged


def size(network):
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_those_of_their_layers():
    features = SmallFeatures(3, 32)
    assert features(torch.zeros(2, 3, 64, 48)).shape == (2, 64, 16, 12)
    assert features.dim == 64
    assert size(features) == 9 * (3 * 32 + 32 * 64 + 2 * 64 * 64) + 2 * (32 + 3 * 64)
    assert size(DilatedHeads(2048, 19)) == 4 * (9 * 2048 * 19 + 19)
    d = FineGrainedDiscriminator(2048, 19)
    assert size(d) == 9 * (2048 * 256 + 256 * 128 + 2 * 128 * 19) + 256 + 128 + 2 * 19
    assert FineGrainedDiscriminator(8, 5, (4, 4))(torch.zeros(2, 8, 7, 9)).shape == (2, 10, 7, 9)


@pytest.mark.parametrize("dilations", [(1,), (6, 12, 18, 24)])
def test_heads_see_the_pixels_of_their_dilations(dilations):
    heads = DilatedHeads(1, 1, dilations)
    for head in heads.heads:
        nn.init.ones_(head.weight)
    x = torch.zeros(1, 1, 61, 61, requires_grad=True)
    heads(x)[0, 0, 30, 30].backward()
    seen = {tuple(place) for place in (x.grad[0, 0].nonzero() - 30).tolist()}
    assert seen == {(i * d, j * d) for d in dilations for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert x.grad[0, 0, 30, 30] == len(dilations)  # the sum of all


def test_the_first_half_of_the_maps_belongs_to_the_source():
    d = FineGrainedDiscriminator(4, 3, (4, 4))
    nn.init.zeros_(d.source.weight), nn.init.constant_(d.source.bias, 7.0)
    maps = d(torch.randn(1, 4, 5, 5))
    assert (maps[:, :3] == 7).all()
    assert not (maps[:, 3:] == 7).any()


def test_corners_stay_where_they_are():
    maps = torch.arange(4.0).view(1, 1, 2, 2)
    large = enlarged(maps, (5, 9))[0, 0]
    assert [large[i, j].item() for i in (0, -1) for j in (0, -1)] == [0, 1, 2, 3]
    assert large[2, 4] == 1.5


def test_the_features_of_deeplab_have_an_eighth_of_the_resolution_and_torchvisions_weights():
    with torch.device("meta"):
        whole = torchvision.models.resnet101(weights=None)
        assert size(ResNetFeatures(depth=101)) == size(whole) - size(whole.fc)
    torch.manual_seed(0)
    features, plain = ResNetFeatures(depth=50).eval(), torchvision.models.resnet50(weights=None).eval()
    features.load_pretrained(plain.state_dict())
    images = torch.rand(1, 3, 33, 41) * 2 - 1
    assert features(images).shape == (1, 2048, 5, 6)
    normalised = (images + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    normalised = normalised / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    stem = plain.maxpool(plain.relu(plain.bn1(plain.conv1(normalised))))
    expected = plain.layer2(plain.layer1(stem))  # before the dilated stages, which see further than torchvision's
    seen = []
    features.network.layer2.register_forward_hook(lambda *args: seen.append(args[-1]))
    features(images)
    torch.testing.assert_close(seen[0], expected)
    strides = [
        m.stride
        for stage in ("layer3", "layer4")
        for m in getattr(features.network, stage).modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert set(strides) == {(1, 1)}
