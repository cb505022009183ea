"""Losses: pure functions of tensors."""

from xdomain.losses.content import l_domain
from xdomain.losses.dtn import l_d, l_gang
from xdomain.losses.tv import total_variation

__all__ = ["l_d", "l_domain", "l_gang", "total_variation"]
