"""What the methods share that turn one whole domain into another."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xdomain.errors import UserError
from xdomain.methods.base import Method

GeneratorFactory = Callable[[int, int], nn.Module]
"""Makes a generator from the channels of both domains. Its attribute ``stride`` says what the sides of images must be
multiples of; without one it takes only squares of the size that it was trained with."""

DiscriminatorFactory = Callable[[int], nn.Module]
"""Makes a discriminator from the channels of its domain."""


class TranslationMethod(Method):
    """Base class for methods with a generator ``G`` from one domain to another, or one for each direction."""

    full_size = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if len(self.domains) != 2:
            raise UserError(f"{type(self).__name__} needs two domains, but the data has {len(self.domains)}: use two.")

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Both ways; a method with one generator overrides it."""
        return (self.domains[0], self.domains[1]), (self.domains[1], self.domains[0])

    def setup(self, stage: str) -> None:
        """Refuse, before the first batch, images that the generators do not take."""
        for height, width in (shape[-2:] for shape in self.shapes):
            if stage == "fit" and self.any_size and (height % self.stride or width % self.stride):
                takes = f"images whose sides are multiples of {self.stride} pixels, but the data has {height}x{width}"
                way = "give the data another image_size, or the method a generator with fewer halvings"
                raise UserError(f"this {type(self).__name__} learns from {takes}: {way}.")

    @property
    def any_size(self) -> bool:  # type: ignore[override]
        """Whether the generator takes all multiples of a stride."""
        return hasattr(self.G, "stride")

    @property
    def stride(self) -> int:
        """What the sides of images must be multiples of."""
        return int(getattr(self.G, "stride", self.image_size))

    def not_exported(self, task: str) -> str:
        return ""

    def generate(self, images: Tensor, target: str) -> Tensor:
        """What the generator into a domain makes of images whose sides are multiples of the stride."""
        raise NotImplementedError(f"{type(self).__name__} must implement generate()")

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """Translate images of any size in evaluation mode.

        Args:
            images: float [N, C, H, W] in [-1, 1], with the channels of the source domain.
            source: name of the domain that the images come from.
            target: name of the domain to translate into.

        Returns:
            float [N, C', H, W] in [-1, 1].

        Raises:
            SettingError: for a direction that the method does not have.
        """
        self.direction("transfer", source, target)
        height, width = images.shape[2:]
        training = self.training
        self.eval()
        try:
            padded = at_stride(images, self.stride, min(2 * self.stride, self.image_size))
            return self.generate(padded, target)[..., :height, :width]
        finally:
            self.train(training)


def at_stride(images: Tensor, stride: int, least: int = 1) -> Tensor:
    """Images [N, C, H, W] continued to the right and below by their mirror images, up to multiples of a stride.

    Args:
        images: of any size.
        stride: of both sides.
        least: sides are not below it.
    """
    height, width = (max(side, least) + -max(side, least) % stride for side in images.shape[2:])
    return images[:, :, mirrored(images.shape[2], height)][:, :, :, mirrored(images.shape[3], width)]


def mirrored(length: int, wanted: int) -> Tensor:
    """Places of a line that is mirrored at its ends until it is long enough, int64 [wanted]; the ends stand once."""
    places = torch.arange(wanted) % max(2 * length - 2, 1)
    return torch.minimum(places, 2 * length - 2 - places)
