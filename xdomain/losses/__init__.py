"""Losses: pure functions of tensors."""

from xdomain.losses.content import l_domain
from xdomain.losses.dtn import l_d, l_gang
from xdomain.losses.tv import total_variation
from xdomain.losses.vae import kl_divergence
from xdomain.losses.wgan import gradient_penalty, l_critic

__all__ = ["gradient_penalty", "kl_divergence", "l_critic", "l_d", "l_domain", "l_gang", "total_variation"]
