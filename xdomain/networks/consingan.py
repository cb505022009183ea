"""The growing generator of ConSinGAN: stages pass on features instead of images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.patches import Norm, conv, pad_zeros, patch_block
from xdomain.networks.pyramid import Size


class GrowingGenerator(nn.Module):
    """One generator of several stages (Hinz et al. 2021, section 3.1); all of them exist from the start.

    Every stage upscales the features of the previous one, adds noise, and adds the output of its convolutions on both.
    The convolutions lose pixels at the edges. Either the features are upscaled by as many more, so that the edges vary
    like the rest, or they are padded with zeros.

    Args:
        stages: number of stages.
        width: channels of all features.
        layers: number of convolutions per stage.
        norm: see :func:`xdomain.networks.patches.patch_block`.
        slope: negative slope of the leaky ReLU.
        zeros: pad with zeros at the edges.
    """

    def __init__(
        self,
        stages: int,
        width: int = 64,
        layers: int = 3,
        norm: Norm = "none",
        slope: float = 0.05,
        zeros: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.layers, self.zeros = width, layers, zeros
        self.head = patch_block(3, width, 0, norm, slope)
        self.stages = nn.ModuleList(
            nn.Sequential(*(patch_block(width, width, 0, norm, slope) for _ in range(layers))) for _ in range(stages)
        )
        self.tail = conv(2, width, 3)

    def noise_shape(self, stage: int, size: Size) -> tuple[int, int, int]:
        """Channels, height and width of the noise of a stage whose features have ``size``."""
        if stage == 0:
            return (3, size[0], size[1])
        margin = 0 if self.zeros else 2 * self.layers
        return (self.width, size[0] + margin, size[1] + margin)

    def features(
        self, noises: Sequence[Tensor], sizes: Sequence[Size], below: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Features [N, width, H, W] of the stage of the last noise.

        Args:
            noises: noises of the stages from ``first`` on, [N, *noise_shape]; that of stage 0 is an image or replaces
                it.
            sizes: heights and widths of all stages.
            below: features of the stage before ``first``.
            first: the first stage to run.
        """
        x = below
        for i, noise in enumerate(noises, first):
            x = self._begin(noise) if x is None else self._grow(i, x, noise, sizes[i])
        assert x is not None
        return x

    def forward(
        self, noises: Sequence[Tensor], sizes: Sequence[Size], below: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1]; see :meth:`features` for the arguments."""
        y: Tensor = self.tail(pad_zeros(self.features(noises, sizes, below, first), 1))
        return y.tanh()

    def _begin(self, noise: Tensor) -> Tensor:
        x: Tensor = self.head(pad_zeros(noise, 1))
        if not self.zeros:
            x = enlarge(x, (noise.shape[2] + 2, noise.shape[3] + 2))
        y: Tensor = self.stages[0](pad_zeros(x, self.layers - (0 if self.zeros else 1)))
        return y

    def _grow(self, stage: int, x: Tensor, noise: Tensor, size: Size) -> Tensor:
        kept = enlarge(x, size)
        wide = pad_zeros(kept + noise, self.layers) if self.zeros else enlarge(x, noise.shape[2:]) + noise
        y: Tensor = self.stages[stage](wide)
        return y + kept


def enlarge(features: Tensor, size: Sequence[int]) -> Tensor:
    """Resize features [N, C, H, W] to (height, width): bicubic, with aligned corners, as in ConSinGAN's code."""
    return F.interpolate(features, size=tuple(size), mode="bicubic", align_corners=True)
