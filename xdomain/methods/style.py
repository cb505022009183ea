"""What the methods share that give the content of an image the style of another domain: MUNIT and DRIT."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from xdomain.errors import refuse
from xdomain.methods.content import MOST_TILES
from xdomain.methods.translation import TranslationMethod, at_stride

LEAST_GUIDE = 16  # sides of an image that the style encoders can halve four times


class StyleMethod(TranslationMethod):
    """Base class for methods that split an image into content, which a translation keeps, and a style of its domain.

    A style is a short vector with the prior N(0, 1): a guide gives it, or it is drawn. A subclass has a generator ``G``
    with a ``stride``, sets :attr:`style_length` and implements :meth:`content`, :meth:`style` and :meth:`decode`, which
    name domains by their numbers, 0 and 1.

    Attributes:
        style_length: length of a style.
        contents: domains whose images can be guides, by the name that methods of content transfer have for it: both.
        guided: translations take guides.
        masked: they have no masks.
    """

    guided = True
    masked = False
    style_length: int

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.contents = self.domains

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Both ways, and from each domain to itself: another style there."""
        first, second = self.domains
        return (first, second), (second, first), (first, first), (second, second)

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return super().tasks | {"interpolate": self.interpolate}

    def not_exported(self, task: str) -> str:
        return "it needs a style for every image, from a guide of any size or at random"

    def on_train_start(self) -> None:
        """Let every rank draw styles of its own."""
        self.separate_noise()

    def content(self, images: Tensor, domain: int) -> Tensor:
        """Content [N, D, H / stride, W / stride] of images of a domain."""
        raise NotImplementedError(f"{type(self).__name__} must implement content()")

    def style(self, images: Tensor, domain: int) -> Tensor:
        """Styles [N, style_length] of images of a domain, without noise."""
        raise NotImplementedError(f"{type(self).__name__} must implement style()")

    def decode(self, content: Tensor, style: Tensor, domain: int) -> Tensor:
        """Images of a domain, [N, C, H, W] in [-1, 1], of content and styles."""
        raise NotImplementedError(f"{type(self).__name__} must implement decode()")

    def translate(self, images: Tensor, source: str, target: str, guide: Tensor | None = None) -> Tensor:
        """Draw the content of images in a style of the target domain, in evaluation mode; images have any size.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            guide: images of the target domain that give the style, one for each image. Without guides styles are
                random; if source equals target, each image is its own guide, which reconstructs it.

        Returns:
            float [N, C', H, W] in [-1, 1].

        Raises:
            SettingError: for a domain that the method does not know.
        """
        self.direction("transfer", source, target)
        guide = images if guide is None and source == target else guide
        with self.evaluating():
            return self._drawn(images, source, target, [self._style(images, target, guide)])[:, 0]

    def interpolate(
        self, images: Tensor, source: str, target: str, guide: Tensor | None = None, steps: int = 7
    ) -> Tensor:
        """A row of styles: from the mean of all styles to that of the guide, or to a random one without a guide.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            guide: images of the target domain, one for each image.
            steps: number of tiles.

        Returns:
            [N, 1, steps, C', H, W].

        Raises:
            SettingError: for an unknown domain or a wrong number of steps.
        """
        self.direction("interpolate", source, target)
        if not 2 <= steps <= MOST_TILES:
            refuse(self, "steps", steps, f"give a number of tiles from 2 to {MOST_TILES}.")
        with self.evaluating():
            style = self._style(images, target, guide)
            styles = [share * style for share in torch.linspace(0, 1, steps).tolist()]
            return self._drawn(images, source, target, styles)[:, None]

    def _style(self, images: Tensor, target: str, guide: Tensor | None) -> Tensor:
        """The guides' styles, or random ones for the images."""
        if guide is None:
            return torch.randn(len(images), self.style_length, device=images.device)
        return self.style(at_stride(guide, self.stride, LEAST_GUIDE), self.domains.index(target))

    def _drawn(self, images: Tensor, source: str, target: str, styles: list[Tensor]) -> Tensor:
        """Images [N, len(styles), C', H, W] of the target domain, with the content of images, in some styles."""
        own, other = self.domains.index(source), self.domains.index(target)
        height, width = images.shape[2:]
        padded = at_stride(images, self.stride, min(2 * self.stride, self.image_size))
        content = self.content(padded, own)
        return torch.stack([self.decode(content, style, other)[..., :height, :width] for style in styles], 1)


def sum_of(losses: Iterable[Tensor]) -> Tensor:
    """The sum of scalars, such as a loss of both domains."""
    return torch.stack([*losses]).sum()
