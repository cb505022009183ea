"""Permuted AdaIN against its formula, its invariants, and finite differences; where it goes in known networks."""

import pytest
import torch
import torchvision
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from xdomain.errors import UserError
from xdomain.networks import ConvClassifier, PermutedAdaIN, insert_padain
from xdomain.networks.permuted_adain import EPS, exchange_statistics

ORDER = torch.tensor([2, 0, 1, 3])


def maps(*shape, dtype=torch.float64):
    """Feature maps whose images differ in mean and deviation."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    spread = torch.rand((*shape[:2], *[1] * (len(shape) - 2)), generator=generator, dtype=torch.float64) + 0.5
    return (x * spread + 3 * spread**2).to(dtype)


def by_hand(x, order):
    """Section 3 of the paper and the authors' two eps, pixel by pixel."""
    y = torch.empty_like(x)
    n = x[0, 0].numel()
    for i, j in enumerate(order.tolist()):
        for c in range(x.shape[1]):
            (mean, s), (donors_mean, donors_s) = (
                (float(z.sum() / n), float(((z - z.sum() / n).square().sum() / (n - 1) + EPS) ** 0.5))
                for z in (x[i, c], x[j, c])
            )
            y[i, c] = (x[i, c] - mean) / (s + EPS) * donors_s + donors_mean
    return y


def test_formula_and_the_donors_statistics():
    x = maps(4, 3, 6, 5)
    y = exchange_statistics(x, ORDER)
    torch.testing.assert_close(y, by_hand(x, ORDER), rtol=0, atol=1e-12)
    # (s_i / (s_i + eps)) s_pi is the true deviation: mean exact, deviation up to 2 eps
    torch.testing.assert_close(y.mean((2, 3)), x.mean((2, 3))[ORDER], rtol=0, atol=1e-12)
    s, donors = (z.var((2, 3), correction=1) for z in (x, x[ORDER]))
    expected = (s / ((s + EPS).sqrt() + EPS).square()) * (donors + EPS)
    torch.testing.assert_close(y.var((2, 3), correction=1), expected, rtol=1e-6, atol=0)


def test_statistics_of_the_batch_stay():
    x = maps(8, 3, 6, 5)
    y = exchange_statistics(x, torch.randperm(8, generator=torch.Generator().manual_seed(0)))
    assert float((x - y).abs().max()) > 1
    torch.testing.assert_close(y.mean((0, 2, 3)), x.mean((0, 2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(y.var((0, 2, 3)), x.var((0, 2, 3)), rtol=1e-4, atol=0)


def test_gradient_through_the_own_statistics_alone():
    x = maps(4, 2, 3, 3).requires_grad_()
    weights = maps(4, 2, 3, 3).flip(0)
    (exchange_statistics(x, ORDER) * weights).sum().backward()
    frozen = x.detach().clone()
    variance, mean = torch.var_mean(frozen, (2, 3), keepdim=True)
    donors_mean, donors_s = mean[ORDER], (variance + EPS).sqrt()[ORDER]

    def value(z):
        variance, mean = torch.var_mean(z, (2, 3), keepdim=True)
        return float((((z - mean) / ((variance + EPS).sqrt() + EPS) * donors_s + donors_mean) * weights).sum())

    numeric = torch.empty_like(frozen)
    for k in range(frozen.numel()):
        nudge = torch.zeros_like(frozen)
        nudge.view(-1)[k] = 1e-5
        numeric.view(-1)[k] = (value(frozen + nudge) - value(frozen - nudge)) / 2e-5
    torch.testing.assert_close(x.grad, numeric, rtol=0, atol=1e-6)
    # The statistics carry gradient: without it every sum over the pixels would not vanish.
    torch.testing.assert_close(x.grad.sum((2, 3)), torch.zeros(4, 2).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (PermutedAdaIN(0.0), (4, 3, 5, 5)),
        (PermutedAdaIN(1.0).eval(), (4, 3, 5, 5)),
        (PermutedAdaIN(1.0), (4, 3, 1, 1)),
        (PermutedAdaIN(1.0), (1, 3, 5, 5)),
        (PermutedAdaIN(1.0, adversarial=True), (1, 3, 5, 5)),
    ],
    ids=["p 0", "evaluation", "one pixel", "one image", "one image, adversarial"],
)
def test_identity_bit_for_bit(layer, shape):
    x = maps(*shape, dtype=torch.float32)
    assert layer(x) is x


def test_half_precision_has_statistics_in_float32():
    x = maps(4, 3, 40, 40, dtype=torch.bfloat16)  # a sum of 1,600 values in bfloat16 would be off by percents
    y = exchange_statistics(x, ORDER)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), by_hand(x.double(), ORDER), rtol=2**-8, atol=1e-2)


def test_adversarial_gives_the_first_half_the_statistics_of_the_second():
    x = maps(6, 3, 5, 5)
    layer = PermutedAdaIN(1.0, adversarial=True)
    y = layer(x)
    assert torch.equal(y[3:], x[3:])
    torch.testing.assert_close(y[:3], by_hand(x, torch.tensor([3, 4, 5]))[:3], rtol=0, atol=1e-12)
    with pytest.raises(UserError, match="two halves, but a batch has 3 images"):
        layer(x[:3])


def test_draws_are_those_of_torchs_generator():
    x, layer = maps(4, 3, 5, 5), PermutedAdaIN(0.3)
    torch.manual_seed(3)
    outputs = [layer(x) for _ in range(200)]
    torch.manual_seed(3)
    for y in outputs:
        expected = x
        if torch.rand(()) < 0.3:
            expected = by_hand(x, torch.randperm(4))
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    active = sum(not torch.equal(x, y) for y in outputs)  # one permutation in 24 changes nothing
    assert 40 <= active <= 75


def test_recomputed_activations_are_the_same():
    """Activation checkpoints call the layer twice and bring back the generator of the CPU for that."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).double()
    insert_padain(network, 0.5)
    for seed in range(6):
        gradients = []
        for call in (network, lambda x: checkpoint(network, x, use_reentrant=False)):
            torch.manual_seed(seed)
            x = maps(4, 3, 8, 8).requires_grad_()
            call(x).square().sum().backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients)


def test_compiled_networks_draw_the_same():
    """In every step anew: what is drawn is never frozen into a graph."""
    counter, outputs = CompileCounter(), []
    for compiled in (False, True):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        insert_padain(network, 0.5)
        if compiled:
            network.compile(backend=counter)
        x = maps(4, 3, 8, 8, dtype=torch.float32)
        outputs.append([network(x) for _ in range(8)])
    torch._dynamo.reset()
    assert counter.frame_count >= 2
    torch.testing.assert_close(*outputs)
    assert len({float(y.sum()) for y in outputs[1]}) > 3


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_p_is_a_probability(p):
    with pytest.raises(UserError, match="give a probability"):
        PermutedAdaIN(p)


@pytest.mark.parametrize(("name", "calls"), [("resnet18", 17), ("resnet50", 49), ("resnet101", 100), ("vgg16_bn", 13)])
def test_calls_in_torchvisions_networks(name, calls):
    """Section 4: none at the projections beside the blocks, and a layer for every other convolution."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    keys = list(network.state_dict())
    names = insert_padain(network)
    assert len(names) == calls
    assert not any("downsample" in name for name in names)
    assert list(network.state_dict()) == keys


def test_layers_stand_between_convolution_and_norm():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    x, seen = maps(4, 3, 8, 8, dtype=torch.float32), []
    network[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    plain = network[0](x).detach()
    insert_padain(network, 1.0)
    torch.manual_seed(0)
    network(x)
    torch.manual_seed(0)
    torch.rand(())
    torch.testing.assert_close(seen[0], exchange_statistics(plain, torch.randperm(4)))
    assert torch.equal(network.eval()[0](x), plain)


def test_a_second_call_changes_p_and_adds_nothing():
    network = ConvClassifier(widths=[4, 4, 6], image_size=16, classes=4)
    names = insert_padain(network, 1.0)
    assert insert_padain(network, 0.25) == names
    layers = [module for module in network.modules() if isinstance(module, PermutedAdaIN)]
    assert {layer.p for layer in layers} == {0.25}
    assert len(layers) == len(names)
    assert {len(m._forward_hooks) for m in network.modules() if isinstance(m, nn.Conv2d)} == {1}


def test_nothing_to_follow():
    with pytest.raises(UserError, match="no 2D convolution"):
        insert_padain(nn.Sequential(nn.Linear(3, 4)))
