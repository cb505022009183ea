"""Tiny versions of the methods that translate whole domains, and their data."""

import torch

from tests.methods.faces import Faces
from xdomain.methods import CUT, DRIT, MUNIT, UNIT, CycleGAN, DistanceGAN, Pix2Pix
from xdomain.networks import ContentDiscriminator, PairDiscriminator, PatchDiscriminator, ResnetGenerator, UNetGenerator


def generator(channels_in, channels_out):
    return ResnetGenerator(channels_in, channels_out, width=4, blocks=1)


def unet(channels_in, channels_out):
    return UNetGenerator(channels_in, channels_out, width=4, depth=3, dropout=0.0)


def discriminator(channels):
    return PatchDiscriminator(channels, width=4, layers=1)


def pair_discriminator(channels):
    return PairDiscriminator(channels, width=4, layers=1)


def content_discriminator(channels):
    return ContentDiscriminator(channels, halvings=0)


LAYERS = (0, 4, 8, 12)
TINY = {
    CycleGAN: {"generator": generator, "discriminator": discriminator},
    DistanceGAN: {"generator": generator, "discriminator": discriminator},
    Pix2Pix: {"generator": unet, "discriminator": pair_discriminator},
    DRIT: {
        **{"width": 4, "blocks": 1, "style_length": 3},
        **{"discriminator": discriminator, "content_discriminator": content_discriminator},
    },
    MUNIT: {"width": 4, "blocks": 2, "style_length": 3, "discriminator": discriminator},
    UNIT: {"width": 4, "blocks": 2, "discriminator": discriminator},
    CUT: {
        "width": 4,
        "blocks": 1,
        "discriminator": discriminator,
        "layers": (0, 4, 8, 12),
        "patches": 7,
        "features": 5,
    },
}


class Pairs(Faces):
    """The same with pairs in training."""

    pairs = True


def tiny(method, **options):
    settings = {k: v for k, v in TINY[method].items() if v is not None}
    torch.manual_seed(1)
    common = {"domains": Faces.domains, "channels": Faces.channels, "image_size": Faces.image_size}
    options = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), **common, **settings, **options}
    return method(**options)


def score(scores, real):
    """Least squares of a discriminator's scores."""
    return ((scores - real) ** 2).mean()


def cyclegan_losses(m, x, y, gan=1.0, cycle=10.0, identity=0.5):
    """Six passes through the generators."""
    losses = {}
    if gan:
        losses["l_gan"] = gan * (score(m.D_Y(m.G(x)), 1) + score(m.D_X(m.F(y)), 1))
    if cycle:
        losses["l_cycle"] = cycle * ((m.F(m.G(x)) - x).abs().mean() + (m.G(m.F(y)) - y).abs().mean())
    if identity and cycle:
        losses["l_identity"] = cycle * identity * ((m.G(y) - y).abs().mean() + (m.F(x) - x).abs().mean())
    return losses
