"""SinGAN and ConSinGAN for clips: the baselines of the patch VAE-GAN paper."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdomain.networks.patches import conv, pad_zeros, patch_block, patch_stack
from xdomain.networks.pyramid import Size, resize_clip


class LevelGenerator(nn.Module):
    """Base class of generators whose levels upscale the previous output and add to it; all exist from the start.

    The convolutions of a level lose ``margin`` positions at every side, also in time. A random clip is upscaled by as
    much more and gets noise everywhere; a reconstruction is padded with zeros and gets no noise. Both pass through a
    level together: its normalisation does not mix them.

    Attributes:
        levels: networks of the levels.
        channels: channels of a level's output.
        margin: positions that a level's convolutions lose at every side.
    """

    levels: nn.ModuleList
    channels: int
    margin: int

    def noise_shape(self, level: int, size: Size) -> tuple[int, ...]:
        """Noise shape of a level for clips of a size; at level 0 the noise is the input and has 3 channels."""
        if level == 0:
            return (3, *size)
        return (self.channels, *(side + 2 * self.margin for side in size))

    def begin(self, z: Tensor) -> Tensor:
        """Output of level 0 from noise [N, 3, T, H, W]."""
        raise NotImplementedError

    def finish(self, x: Tensor) -> Tensor:
        """Output of a level from its sum."""
        return x

    def picture(self, x: Tensor) -> Tensor:
        """Clips in [-1, 1] from the output of a level."""
        raise NotImplementedError

    def climb(self, x: Tensor, noises: Sequence[Tensor], sizes: Sequence[Size], first: int, last: int) -> Tensor:
        """Output of level ``last``.

        Args:
            x: input of level ``first``: noise at level 0, else the output of the previous level; the random clips
                first, then the reconstructions.
            noises: noises of all levels, each [n, *noise_shape] for the random clips; that of level 0 is ignored.
            sizes: sizes of all levels.
            first: the first level to run.
            last: the last level to run; if it is below ``first``, ``x`` is returned.
        """
        for i in range(first, last + 1):
            if i == 0:
                x = self.begin(x)
                continue
            n = len(noises[i])
            kept = resize_clip(x, sizes[i])
            wide = resize_clip(x[:n], noises[i].shape[2:]) + noises[i]
            x = self.finish(self.levels[i](torch.cat([wide, pad_zeros(kept[n:], self.margin)])) + kept)
        return x


class PictureLevels(LevelGenerator):
    """Levels that pass on clips: SinGAN for clips (``GeneratorSG`` of Gur et al. 2020).

    Args:
        levels: number of levels.
        width: channels of the hidden layers.
        layers: number of convolutions per level.
    """

    def __init__(self, levels: int, width: int = 64, layers: int = 7) -> None:
        super().__init__()
        self.channels, self.margin = 3, layers
        self.levels = nn.ModuleList(patch_stack(3, width, 3, layers, norm="instance", dims=3) for _ in range(levels))

    def begin(self, z: Tensor) -> Tensor:
        return self.finish(self.levels[0](pad_zeros(z, self.margin)))

    def finish(self, x: Tensor) -> Tensor:
        return x.tanh()

    def picture(self, x: Tensor) -> Tensor:
        return x


class FeatureLevels(LevelGenerator):
    """Levels that pass on features between a head and a tail: ConSinGAN for clips (``GeneratorCSG``, likewise).

    Args:
        levels: number of levels.
        width: channels of all features.
        layers: number of convolutions per level.
    """

    def __init__(self, levels: int, width: int = 64, layers: int = 5) -> None:
        super().__init__()
        self.channels, self.margin = width, layers
        self.head = patch_block(3, width, 0, "instance", 0.2, 3)
        self.levels = nn.ModuleList(
            nn.Sequential(*(patch_block(width, width, 0, "instance", 0.2, 3) for _ in range(layers)))
            for _ in range(levels)
        )
        self.tail = conv(3, width, 3)

    def begin(self, z: Tensor) -> Tensor:
        x: Tensor = self.levels[0](pad_zeros(self.head(pad_zeros(z, 1)), self.margin))
        return x

    def picture(self, x: Tensor) -> Tensor:
        y: Tensor = self.tail(pad_zeros(x, 1))
        return y.tanh()
