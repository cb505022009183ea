"""SinGAN and ConSinGAN for clips: the baselines of the patch VAE-GAN paper."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import Batch
from xdomain.errors import UserError
from xdomain.methods.levels import LevelMethod
from xdomain.networks.patches import init_normal, patch_stack, warm_start
from xdomain.networks.pyramid import Size, rmse
from xdomain.networks.video_baselines import FeatureLevels, LevelGenerator, PictureLevels


class VideoBaseline(LevelMethod):
    """Base class of the baselines: GANs at all levels, z* as in SinGAN, levels as in the patch VAE-GAN.

    G[i] adds level i; D[i] are the critics; z* is the noise volume from which the training clip is reconstructed.

    Args:
        layers: number of convolutions per level.
        critic_layers: number of convolutions of a critic.
        options: see :class:`xdomain.methods.levels.LevelMethod`.
    """

    z_star: Tensor
    G: LevelGenerator

    def __init__(
        self,
        layers: int = 7,
        critic_layers: int = 7,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if self.dims != 3:
            raise UserError(f"{type(self).__name__} learns clips: use {type(self).__name__[:-2]} for an image.")
        self.G = self.generator(layers)
        self.D = nn.ModuleDict()
        for i in range(self.scales):
            self.D[str(i)] = patch_stack(3, self.width, 1, critic_layers, 1, "none", dims=3, spectral=True)
        init_normal(self.G)
        self.register_buffer("z_star", torch.randn(1, 3, *self.sizes[0]))

    def generator(self, layers: int) -> LevelGenerator:
        """Build G with ``layers`` convolutions per level."""
        raise NotImplementedError(f"{type(self).__name__} must implement generator()")

    def first(self, level: int) -> int:
        """The oldest level that is trained."""
        return max(0, level - self.train_depth + 1)

    def parts(self, level: int) -> list[tuple[nn.Module, int]]:
        return [(self.G.levels[i], level - i) for i in range(self.first(level), level + 1)]

    def begin_scale(self, scale: int, batch: Batch) -> None:
        super().begin_scale(scale, batch)
        if scale:
            warm_start(self.G.levels[scale], self.G.levels[scale - 1])
            with torch.no_grad():
                y = self.G.picture(self.G.climb(self.z_star, self.silence(scale), self.sizes, 0, scale))
                self.amps[scale] = self.amp(rmse(self.real(scale, self.window()), y), len(batch["a"].image))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n, count, start = self.scale, len(batch["a"].image), self.window()
        first = self.first(n)
        x = self.constant(("real", n, start), lambda: self.real(n, start))
        noises = self.draw(count, self.sizes[: n + 1])
        with torch.no_grad():  # the frozen levels: their part of the reconstruction does not change
            known = self.constant("known", lambda: self.G.climb(self.z_star, self.silence(n), self.sizes, 0, first - 1))
            below = torch.cat([self.G.climb(noises[0], noises, self.sizes, 0, first - 1), known])
        both = self.G.picture(self.G.climb(below, noises, self.sizes, first, n))
        y, rec = both[:count], both[count:]
        l_d = self.update_critic(n, x, y.detach())
        l_rec = F.mse_loss(rec, x)
        l_g = self.step(f"g{n}", lambda: self.alpha * l_rec - self.score(n, y))
        self.log_dict({"l_d": l_d, "l_rec": l_rec.detach(), "scale": float(n)})
        self.log("l_g", l_g, prog_bar=True)

    # Clips

    def draw(self, count: int, sizes: Sequence[Size]) -> list[Tensor]:
        """Noises of random clips for all levels."""
        shapes = [self.G.noise_shape(i, size) for i, size in enumerate(sizes)]
        return [self.amps[i] * torch.randn(count, *shape, device=self.device) for i, shape in enumerate(shapes)]

    def silence(self, level: int) -> list[Tensor]:
        """Noises of zero random clips, up to a level."""
        return [self.amps.new_zeros(0, *self.G.noise_shape(i, self.sizes[i])) for i in range(level + 1)]

    def random(self, count: int, sizes: Sequence[Size]) -> Tensor:
        noises = self.draw(count, sizes)
        return self.G.picture(self.G.climb(noises[0], noises, sizes, 0, len(sizes) - 1))

    def reconstruction(self) -> Tensor:
        """Reconstruction of the training clip by the levels reached so far."""
        with self.evaluating():
            n = self.finest
            return self.G.picture(self.G.climb(self.z_star, self.silence(n), self.sizes, 0, n))


class SinGAN3D(VideoBaseline):
    """SinGAN for clips, a pyramid of patch GANs; ``GeneratorSG`` in the code of Gur et al. 2020.

    Args:
        options: see :class:`VideoBaseline`.
    """

    def generator(self, layers: int) -> LevelGenerator:
        return PictureLevels(self.scales, self.width, layers)


class ConSinGAN3D(VideoBaseline):
    """ConSinGAN for clips: levels of features, several trained together.

    ``GeneratorCSG`` in the code of Gur et al. 2020. The head is trained as long as level 0 is, the tail always.

    Args:
        layers: number of convolutions per level.
        train_depth: number of the newest levels that are trained together.
        options: see :class:`VideoBaseline`.
    """

    def __init__(self, layers: int = 5, train_depth: int = 3, **options: Any) -> None:
        super().__init__(layers=layers, train_depth=train_depth, **options)

    def generator(self, layers: int) -> LevelGenerator:
        return FeatureLevels(self.scales, self.width, layers)

    def parts(self, level: int) -> list[tuple[nn.Module, int]]:
        G = self.G
        assert isinstance(G, FeatureLevels)
        head: list[tuple[nn.Module, int]] = [(G.head, level)] if level < self.train_depth else []
        return [*super().parts(level), *head, (G.tail, 0)]
