"""Encoder and levels of the patch VAE-GAN, in two and three dimensions."""

import pytest
import torch
from torch.nn import functional as F

from xdomain.networks.patch_vaegan import PatchEncoder, PatchLevel

SHAPES = {2: (9, 13), 3: (4, 9, 13)}


@pytest.mark.parametrize("dims", [2, 3])
def test_the_encoder_keeps_every_position_and_sees_patches(dims):
    torch.manual_seed(0)
    E = PatchEncoder(width=4, latent=5, dims=dims)
    x = torch.rand(2, 3, *SHAPES[dims], requires_grad=True)
    mu, logvar = E(x)
    assert mu.shape == logvar.shape == (2, 5, *SHAPES[dims])
    (slope,) = torch.autograd.grad(mu[0, :, ..., 4, 6].sum(), x)
    columns = slope.abs().amax(tuple(range(x.ndim - 1))) > 0
    assert columns.nonzero().flatten().tolist() == list(range(2, 11))  # 9 pixels
    assert (slope[1] == 0).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_level_adds_to_what_it_enlarges(dims):
    torch.manual_seed(0)
    level = PatchLevel(width=4, layers=3, dims=dims)
    below, size = torch.rand(3, 3, *SHAPES[dims]), tuple(side + 2 for side in SHAPES[dims])
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    kept = F.interpolate(below, size=size, mode=mode, align_corners=True)
    noise = torch.randn(2, 3, *size)
    y = level(below, size, noise)
    x = torch.cat([kept[:2] + noise, kept[2:]])
    for i in range(3):  # each as if it were alone
        torch.testing.assert_close(y[i : i + 1], (level.body(x[i : i + 1]) + kept[i : i + 1]).tanh())
    torch.testing.assert_close(level(below, size)[2:], y[2:])
    assert not torch.allclose(level(below, size)[:2], y[:2], atol=1e-3)
