"""Grad-CAM against class activation maps, which it equals for a linear head, and against plain automatic gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xdomain.metrics import cam_layer, gradcam
from xdomain.networks import AttributeNet


def small(inplace=False):
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)).eval()


def images(n=3):
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("layer", ["1", "2"])
def test_equals_class_activation_maps_of_a_linear_head(layer):
    network, x = small(), images()
    maps = network[:3](x)
    cam = (network[5].weight[1].view(1, 6, 1, 1) * maps).sum(1, keepdim=True).relu().detach()
    cam = F.interpolate(cam, size=(16, 16), mode="bilinear")
    found = gradcam(network, x, "2", 1)
    torch.testing.assert_close(found, cam / cam.amax((2, 3), keepdim=True))
    assert (found.amax((1, 2, 3)) == 1).all()
    assert torch.equal(gradcam(small(inplace=True), x, layer, 1), gradcam(network, x, layer, 1))


def test_equals_gradients_through_the_whole_network():
    torch.manual_seed(0)
    network, x = AttributeNet(classes=3, image_size=32, width=4, hidden=16).eval(), images().repeat(1, 1, 2, 2)
    kept = []
    hook = network.body[9].register_forward_hook(lambda _m, _i, output: kept.append(output) or output.retain_grad())
    network(x)[:, 2].sum().backward()
    hook.remove()
    cam = (kept[0].grad.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu().detach()
    cam = F.interpolate(cam, size=(32, 32), mode="bilinear")
    before = [p.grad.clone() for p in network.parameters()]
    torch.testing.assert_close(gradcam(network, x, "body.9", 2), cam / cam.amax((2, 3), keepdim=True).clamp(min=1e-12))
    assert all(torch.equal(p.grad, old) for p, old in zip(network.parameters(), before, strict=True))


def test_equals_captum():
    attr = pytest.importorskip("captum.attr", reason="needs pip install captum")
    torch.manual_seed(0)
    network, x = AttributeNet(classes=3, image_size=32, width=4, hidden=16).eval(), images().repeat(1, 1, 2, 2)
    cam = attr.LayerGradCam(network, network.body[9]).attribute(x, target=2, relu_attributions=True)
    cam = attr.LayerAttribution.interpolate(cam, (32, 32), "bilinear").detach()
    assert cam.amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(gradcam(network, x, "body.9", 2), cam / cam.amax((2, 3), keepdim=True))


def test_where_gradients_are_switched_off():
    x = images()
    expected = gradcam(small(), x, "2", 0)
    frozen = small().requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(gradcam(frozen, x, "2", 0), expected)
    with torch.inference_mode():
        made_there = small().requires_grad_(False)
        assert torch.equal(gradcam(made_there, x * 1, "2", 0), expected)
    assert not made_there[2]._forward_hooks


def test_nothing_speaks_for_the_class():
    network = small()
    with torch.no_grad():
        network[5].weight[0] = -network[5].weight[0].abs()
    assert torch.equal(gradcam(network, images(), "2", 0), torch.zeros(3, 1, 16, 16))


def test_the_last_layer_of_8x8():
    network = AttributeNet(image_size=64, width=2, hidden=4).eval()
    name = cam_layer(network, torch.zeros(1, 3, 64, 64))
    assert isinstance(network.get_submodule(name), nn.ReLU)
    stages = [i for i, layer in enumerate(network.body) if isinstance(layer, nn.MaxPool2d)]
    assert name == f"body.{stages[3] - 1}"  # in front of the fourth maximum, which leaves 4x4
    assert cam_layer(network, torch.zeros(1, 3, 64, 64), least=4) == f"body.{stages[4] - 1}"
    with pytest.raises(ValueError, match="no layer of AttributeNet gives maps of 99x99"):
        cam_layer(network, torch.zeros(1, 3, 64, 64), least=99)
    with pytest.raises(ValueError, match=r"'5' gives .*which are no maps"):
        gradcam(small(), images(), "5", 0)
