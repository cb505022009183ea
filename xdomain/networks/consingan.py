"""The growing generator of ConSinGAN: stages that hand on features instead of pictures."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.networks.patches import Norm, conv, pad_zeros, patch_block
from xdomain.networks.pyramid import Size


class GrowingGenerator(nn.Module):
    """One generator of several stages (Hinz et al. 2021, section 3.1); all of them exist from the start.

    Every stage enlarges the features of the one before, adds noise and what its convolutions make of both. The
    convolutions lose pixels at the edges; the features are enlarged by as many more, so that the edges are as varied as
    the rest, or zeros stand around them.

    Args:
        stages: number of stages.
        width: channels of all features.
        layers: convolutions of a stage.
        norm: see :func:`xdomain.networks.patches.patch_block`.
        slope: of the leaky ReLU.
        zeros: zeros at the edges.
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
        """Channels, height and width of the noise of a stage that gives features of ``size``."""
        if stage == 0:
            return (3, size[0], size[1])
        margin = 0 if self.zeros else 2 * self.layers
        return (self.width, size[0] + margin, size[1] + margin)

    def features(
        self, noises: Sequence[Tensor], sizes: Sequence[Size], below: Tensor | None = None, first: int = 0
    ) -> Tensor:
        """Features [N, width, H, W] of the stage that the last of the noises is for.

        Args:
            noises: of the stages from ``first`` on, [N, *noise_shape]; of stage 0 it is a picture or takes its place.
            sizes: height and width of all stages.
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
        """Pictures [N, 3, H, W] in [-1, 1]; arguments as those of :meth:`features`."""
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
    """Resize features [N, C, H, W] to (height, width): bicubic, corners on corners, as in ConSinGAN's code."""
    return F.interpolate(features, size=tuple(size), mode="bicubic", align_corners=True)
