"""STGAN."""

from typing import Any

from torch import Tensor

from xdomain.methods.attgan import AttGAN
from xdomain.methods.editor import NetworkFactory
from xdomain.networks import STGANGenerator


class STGAN(AttGAN):
    """AttGAN that is told the difference of the attributes, and whose shortcuts select what must be changed.

    Liu, Ding, Xia, Liu, Ding, Zuo, Wen, "STGAN: A Unified Selective Transfer Network for Arbitrary Image Attribute
    Editing", CVPR 2019.

    Args:
        generator: makes G from (channels, image size, number of attributes); it has ``encode`` and ``decode``.
        options: see :class:`xdomain.methods.attgan.AttGAN`.
    """

    def __init__(self, generator: NetworkFactory = STGANGenerator, **options: Any) -> None:
        super().__init__(generator=generator, **options)

    def label(self, own: Tensor, target: Tensor) -> Tensor:
        """The difference of the attributes: 1 to add, -1 to take away, 0 to leave."""
        return target - own
