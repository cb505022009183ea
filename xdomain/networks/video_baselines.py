"""SinGAN and ConSinGAN carried over to clips, as the study of the patch VAE-GAN compares itself with them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdomain.networks.patches import conv, pad_zeros, patch_block, patch_stack
from xdomain.networks.pyramid import Size, resize_clip


class LevelGenerator(nn.Module):
    """Base of generators whose levels enlarge what the level before gives and add to it; all exist from the start.

    The convolutions of a level lose ``margin`` positions at every side, in time too. A random clip is enlarged by as
    much more and gets noise everywhere; a reconstruction gets zeros around it and no noise. Both go through a level
    together: their norms do not mix them.

    Attributes:
        levels: networks of the levels.
        channels: of what a level hands on.
        margin: what its convolutions lose at every side.
    """

    levels: nn.ModuleList
    channels: int
    margin: int

    def noise_shape(self, level: int, size: Size) -> tuple[int, ...]:
        """Shape of the noise of a level that gives clips of a size: what it starts from at level 0, 3 channels."""
        if level == 0:
            return (3, *size)
        return (self.channels, *(side + 2 * self.margin for side in size))

    def begin(self, z: Tensor) -> Tensor:
        """What level 0 hands on, from noise [N, 3, T, H, W]."""
        raise NotImplementedError

    def finish(self, x: Tensor) -> Tensor:
        """What a level hands on, out of its sum."""
        return x

    def picture(self, x: Tensor) -> Tensor:
        """Clips in [-1, 1] from what a level hands on."""
        raise NotImplementedError

    def climb(self, x: Tensor, noises: Sequence[Tensor], sizes: Sequence[Size], first: int, last: int) -> Tensor:
        """What level ``last`` hands on.

        Args:
            x: what level ``first`` starts from: at level 0 noise, else what the level before hands on; the random clips
                first, then the reconstructions.
            noises: of all levels, each [n, *noise_shape] for the random clips; that of level 0 is not looked at.
            sizes: of all levels.
            first: the first level to run.
            last: the last one; below ``first``, ``x`` comes back.
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
    """Levels that hand on clips: SinGAN for clips (``GeneratorSG`` of Gur et al. 2020).

    Args:
        levels: number of levels.
        width: channels in between.
        layers: convolutions of a level.
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
    """Levels that hand on features between a head and a tail: ConSinGAN for clips (``GeneratorCSG``, likewise).

    Args:
        levels: number of levels.
        width: channels of all features.
        layers: convolutions of a level.
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
