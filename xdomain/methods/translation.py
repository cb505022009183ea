"""What the methods share that turn one whole domain into another."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.errors import UserError
from xdomain.methods.base import Method

GeneratorFactory = Callable[[int, int], nn.Module]
"""Makes a generator from the channels of both domains."""

DiscriminatorFactory = Callable[[int], nn.Module]
"""Makes a discriminator from the channels of its domain."""


class TranslationMethod(Method):
    """Base class for methods with a generator from one domain to another, or one for each direction."""

    any_size = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if len(self.domains) != 2:
            raise UserError(f"{type(self).__name__} needs two domains, but the data has {len(self.domains)}: use two.")

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Both ways; a method with one generator overrides it."""
        return (self.domains[0], self.domains[1]), (self.domains[1], self.domains[0])

    @property
    def stride(self) -> int:
        """What the sides of images must be multiples of."""
        raise NotImplementedError(f"{type(self).__name__} must implement stride")

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
            return self.generate(at_stride(images, self.stride), target)[..., :height, :width]
        finally:
            self.train(training)


def at_stride(images: Tensor, stride: int) -> Tensor:
    """Images [N, C, H, W] continued to the right and below by their mirror image, up to multiples of a stride."""
    height, width = images.shape[2:]
    bottom, right = -height % stride, -width % stride
    if not bottom and not right:
        return images
    return F.pad(images, (0, right, 0, bottom), "reflect" if bottom < height and right < width else "replicate")
