"""Losses: pure functions of tensors."""

from xdomain.losses.consistency import jensen_shannon
from xdomain.losses.distance import half_distances, l_distance, pair_distances
from xdomain.losses.domain import l_domain
from xdomain.losses.dtn import l_d, l_gang
from xdomain.losses.gan import bce_gan, lsgan
from xdomain.losses.parameters import l_parameters
from xdomain.losses.patch_nce import patch_nce
from xdomain.losses.tv import total_variation
from xdomain.losses.vae import kl_divergence
from xdomain.losses.wgan import gradient_penalty, l_critic

__all__ = [
    "bce_gan",
    "gradient_penalty",
    "half_distances",
    "jensen_shannon",
    "kl_divergence",
    "l_critic",
    "l_d",
    "l_distance",
    "l_domain",
    "l_gang",
    "l_parameters",
    "lsgan",
    "pair_distances",
    "patch_nce",
    "total_variation",
]
