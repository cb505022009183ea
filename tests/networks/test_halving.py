import pytest
import torch
from torch import nn

from xdomain.networks.halving import DoublingConv, HalvingConv

KINDS = {"halving": HalvingConv, "doubling": DoublingConv}
SIZES = {"halving": [(8, 8), (4, 2), (3, 5), (2, 2)], "doubling": [(4, 4), (2, 1), (1, 1)]}
CASES = [(kind, size) for kind, sizes in SIZES.items() for size in sizes]


def passes(layer, plain, x):
    """Outputs and gradients of a layer, and of torch's of the same weights."""
    found = []
    for forward in (layer.forward, lambda x: plain.forward(layer, x)):
        x = x.detach().requires_grad_()
        y = forward(x)
        layer.zero_grad()
        (y.sin().sum() + y.square().sum()).backward()
        found.append([y, x.grad, *(p.grad.clone() for p in layer.parameters())])
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(("kind", "size"), CASES)
def test_small_maps_are_those_of_torch(kind, size, layout):
    torch.manual_seed(0)
    layer, plain = KINDS[kind](6, 10), KINDS[kind].__mro__[1]
    layer.weight.data = layer.weight.data.contiguous(memory_format=layout)
    x = torch.randn(3, 6, *size).contiguous(memory_format=layout)
    for ours, theirs in zip(*passes(layer, plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert layer(x).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_for_small_maps_in_training_in_float32(kind, monkeypatch):
    layer, plain = KINDS[kind](2, 3, bias=False) if kind == "doubling" else KINDS[kind](2, 3), KINDS[kind].__mro__[1]
    calls = []
    monkeypatch.setattr(plain, "forward", lambda self, x, *_: calls.append(tuple(x.shape)))
    small, large = (1, 2, 2, 2), (1, 2, 16, 16)
    layer(torch.zeros(small))
    assert not calls
    layer(torch.zeros(large))
    layer.eval()(torch.zeros(small))
    layer.train()(torch.zeros(small, dtype=torch.float64))
    with torch.autocast("cpu"):
        layer(torch.zeros(small))
    assert calls == [large, small, small, small]


def test_weights_have_the_names_of_torch():
    assert HalvingConv(2, 3).state_dict().keys() == nn.Conv2d(2, 3, 4).state_dict().keys()
    assert DoublingConv(2, 3, bias=False).state_dict().keys() == {"weight"}
