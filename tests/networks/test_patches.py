"""Convolutions over clips against torch's own, and the stacks that see patches."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from xdomain.networks.patches import (
    Conv3d,
    PatchGenerator,
    init_normal,
    pad_zeros,
    patch_block,
    patch_stack,
    warm_start,
)


def twins(*args, **options):
    """Our convolution and torch's with the same weights, in double precision."""
    torch.manual_seed(0)
    ours, theirs = Conv3d(*args, **options).double(), nn.Conv3d(*args, **options).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


SETTINGS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 0, "bias": False},
    {"kernel_size": (1, 3, 5), "padding": (0, 1, 2)},
    {"kernel_size": (3, 1, 1), "padding": (2, 0, 0)},
    {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_usual_convolution_in_value_and_two_orders_of_gradients(settings):
    results = []
    for network in twins(2, 3, **settings):
        x = torch.randn(1, 2, 5, 6, 7, dtype=torch.double, generator=torch.Generator().manual_seed(1)).requires_grad_()
        weights = [x, *network.parameters()]
        y = network(x)
        first = torch.autograd.grad(y.square().sum(), weights, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(3).sum() for g in first), weights)
        results.append([y, *first, *second])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_clip_of_one_frame_and_a_single_window():
    for frames, padding in ((1, 1), (3, 0)):
        ours, theirs = twins(1, 2, 3, padding=padding)
        x = torch.randn(1, 1, frames, 3, 3, dtype=torch.double)
        assert ours(x).shape[2] == 1
        torch.testing.assert_close(ours(x), theirs(x))


def spied(function, seen):
    """The function, which notes the shapes of what it is given."""
    return lambda x, *args, **options: seen.append(x.shape) or function(x, *args, **options)


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((1, 2, 5, 6, 7), True),
        ((1, 2, 5, 2048, 1), True),
        ((1, 2, 5, 2049, 1), False),  # one row more, and torch takes its fast kernel
        ((2, 2, 5, 6, 7), False),
    ],
)
def test_runs_as_one_convolution_of_pictures_where_torch_is_slow(shape, flat, monkeypatch):
    seen = []
    for name in ("conv2d", "conv3d"):
        monkeypatch.setattr(F, name, spied(getattr(F, name), seen))
    network = Conv3d(2, 3, 3, padding=1)
    network(torch.zeros(shape))
    assert [len(s) for s in seen] == [4 if flat else 5]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(shape))
    assert len(seen[1]) == 5  # in bfloat16 torch's is the faster one


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("padding", "lost"), [(0, 8), (1, 0)])
def test_a_stack_loses_what_is_not_padded(dims, padding, lost):
    stack = patch_stack(3, 4, 2, layers=4, padding=padding, dims=dims)
    y = stack(torch.rand(2, 3, *(12,) * dims))
    assert y.shape == (2, 2, *(12 - lost,) * dims)
    assert len(stack) == 4


@pytest.mark.parametrize("dims", [2, 3])
def test_a_stack_sees_patches(dims):
    stack = patch_stack(3, 4, 1, layers=4, padding=1, norm="none", dims=dims)
    x = torch.rand(1, 3, *(15,) * dims, requires_grad=True)
    middle = (0, 0, *(7,) * dims)
    (slope,) = torch.autograd.grad(stack(x)[middle], x)
    rows = slope.abs().amax((0, 1, *range(3, 2 + dims))) > 0
    assert rows.nonzero().flatten().tolist() == list(range(3, 12))  # 2 x 4 + 1 pixels


@pytest.mark.parametrize(
    ("norm", "kinds"),
    [("batch", (nn.BatchNorm2d, nn.BatchNorm3d)), ("instance", (nn.InstanceNorm2d, nn.InstanceNorm3d)), ("none", ())],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_norms_stand_in_all_blocks_but_the_last(norm, kinds, dims):
    stack = patch_stack(3, 4, 1, layers=3, norm=norm, slope=0.3, dims=dims)
    norms = [module for module in stack.modules() if isinstance(module, kinds)]
    assert [type(module) for module in norms] == ([kinds[dims - 2]] * 2 if kinds else [])
    assert all(module.affine for module in norms)
    assert [module.negative_slope for module in stack.modules() if isinstance(module, nn.LeakyReLU)] == [0.3, 0.3]


def test_instance_norm_is_the_batch_norm_of_one_sample():
    torch.manual_seed(0)
    x = torch.randn(3, 3, 6, 5)
    batch, instance = (patch_block(3, 4, 1, norm, 0.2) for norm in ("batch", "instance"))
    instance.load_state_dict(batch.state_dict(), strict=False)
    torch.testing.assert_close(instance(x), torch.cat([batch(one) for one in x.split(1)]))


@pytest.mark.parametrize("dims", [2, 3])
def test_spectral_norm_bounds_all_but_the_last(dims):
    torch.manual_seed(0)
    stack = patch_stack(3, 4, 1, layers=3, padding=1, norm="none", dims=dims, spectral=True)
    for _ in range(30):
        stack(torch.rand(1, 3, *(5,) * dims))
    stack.eval()
    layers = [module for module in stack.modules() if isinstance(module, (nn.Conv2d, nn.Conv3d))]
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers]
    assert norms[:2] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert norms[2] != pytest.approx(1.0, rel=1e-2)


def test_zeros_stand_at_every_side():
    clip = pad_zeros(torch.ones(1, 2, 2, 3, 4), 2)
    assert clip.shape == (1, 2, 6, 7, 8)
    assert clip.sum() == 48
    assert clip[:, :, 2:4, 2:5, 2:6].sum() == 48


def test_a_generator_adds_to_what_is_before():
    torch.manual_seed(0)
    G = PatchGenerator(4, layers=3, dims=3)
    noise, before = torch.randn(2, 3, 4, 6, 5), torch.rand(2, 3, 4, 6, 5)
    y = G(noise, before)
    assert y.shape == before.shape
    assert (y - before).abs().max() < 1
    torch.testing.assert_close(y - before, G.body(F.pad(noise + before, [3] * 6)).tanh(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_start_of_the_weights(dims):
    torch.manual_seed(0)
    stack = patch_stack(3, 64, 3, layers=4, norm="instance", dims=dims)
    bias = stack[0][0].bias.clone()
    init_normal(stack)
    for layer in (stack[1][0], stack[2][0]):
        assert layer.weight.mean().item() == pytest.approx(0, abs=1e-3)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    scales = torch.cat([stack[i][1].weight for i in range(3)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.25)
    assert (stack[0][1].bias == 0).all()
    assert torch.equal(stack[0][0].bias, bias)


def test_warm_start_copies_weights_and_the_state_of_norms():
    torch.manual_seed(0)
    old, new = (patch_stack(3, 4, 1, layers=3, padding=1, norm="batch", spectral=True) for _ in range(2))
    old(torch.rand(2, 3, 6, 6))
    assert warm_start(new, old)
    assert all(torch.equal(a, b) for a, b in zip(new.state_dict().values(), old.state_dict().values(), strict=True))
    with torch.no_grad():
        new[2].weight.add_(1)
    assert not torch.equal(new[2].weight, old[2].weight)


def test_warm_start_leaves_networks_of_another_shape_alone():
    old, new = patch_stack(3, 4, 1, layers=3), patch_stack(3, 8, 1, layers=3)
    before = [value.clone() for value in new.state_dict().values()]
    assert not warm_start(new, old)
    assert all(torch.equal(a, b) for a, b in zip(new.state_dict().values(), before, strict=True))
