"""Base class of the patch VAE-GAN and its video baselines: levels of increasing size and frame rate."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float, to_uint8
from xdomain.data.base import ROLES
from xdomain.errors import refuse
from xdomain.losses import gradient_penalty
from xdomain.methods.base import Phase
from xdomain.methods.pyramid import PyramidMethod, check_at_least_one
from xdomain.networks.patches import warm_start
from xdomain.networks.pyramid import Size, sizes_like, vaegan_frames, vaegan_sizes

CHUNK = 4  # samples per pass, which bounds the memory; no normalisation mixes them


class LevelMethod(PyramidMethod):
    """Base class for methods that learn an image or a clip level by level, as in Gur et al. 2020.

    The frame rate of clips increases with the level. Every adversarial level has its own critic; older levels of G are
    trained at lower learning rates or not at all.

    Args:
        min_size: width of the coarsest level in pixels.
        max_size: width of the finest level in pixels; a narrower sample keeps its width.
        factor: desired ratio between the sizes of neighbouring levels.
        rates: steps between the frames of a level, coarse levels first. All levels cover the same time span, the least
            common multiple of the rates; a longer clip is learned in windows of that length. Not used for images.
        width: channels of the hidden layers.
        alpha: weight of the reconstruction.
        penalty: weight of the gradient penalty.
        noise: standard deviation of a level's noise, relative to the reconstruction error when training of the level
            starts.
        share_noise: divide that by the batch size, as in the authors' code.
        train_depth: number of the newest levels of G that are trained together.
        lr_scale: factor of the learning rate per level below the newest.
        antialias: downscale with antialiasing; the authors' code does not.
        options: see :class:`xdomain.methods.pyramid.PyramidMethod`.
    """

    at_once = CHUNK
    amps: Tensor
    real_sample: Tensor
    D: nn.ModuleDict

    def __init__(
        self,
        min_size: int = 32,
        max_size: int = 256,
        factor: float = 0.75,
        rates: Sequence[int] = (4, 3, 2, 1),
        width: int = 64,
        alpha: float = 10.0,
        penalty: float = 0.1,
        noise: float = 0.1,
        share_noise: bool = False,
        train_depth: int = 1,
        lr_scale: float = 0.2,
        antialias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_at_least_one(self, width=width, train_depth=train_depth)
        self.width, self.alpha, self.penalty = width, alpha, penalty
        self.noise, self.share_noise, self.antialias = noise, share_noise, antialias
        self.train_depth, self.lr_scale = train_depth, lr_scale
        *time, height, wide = self.shapes[-1]
        self.dims = 2 + len(time)
        self.sizes = vaegan_sizes(height, wide, min_size, max_size, factor)
        self.windows = 1
        if time:
            self._check_rates(rates, time[0])
            self.windows = time[0] - math.lcm(*rates)
            last = len(self.sizes) - 1
            frames = [vaegan_frames(i, last, rates) for i in range(last + 1)]
            self.steps = [step for _, step in frames]
            self.sizes = [(count, *size) for (count, _), size in zip(frames, self.sizes, strict=True)]
        self.register_buffer("amps", torch.ones(self.scales))
        self.register_buffer("real_sample", torch.zeros(1, 3, *time, *self.sizes[-1][-2:], dtype=torch.uint8))

    def _check_rates(self, rates: Sequence[int], frames: int) -> None:
        if not rates or min(rates) < 1:
            refuse(self, "rates", list(rates), "give steps between frames of at least 1.")
        needed = math.lcm(*rates) + 1
        if frames < needed:
            reason = f", which needs {needed} frames, but the clip has {frames}"
            refuse(self, "rates", list(rates), f"{reason}: give more frames or smaller rates, such as [2, 1] for 3.")

    # What a method implements

    def parts(self, level: int) -> list[tuple[nn.Module, int]]:
        """Parts of G that are trained at a level, each with its distance from the newest: the power of ``lr_scale``."""
        raise NotImplementedError(f"{type(self).__name__} must implement parts()")

    def not_exported(self, task: str) -> str:
        if task == "random" and self.dims == 3:
            return "its samples are clips"
        return super().not_exported(task)

    # Levels

    @property
    def scales(self) -> int:
        return len(self.sizes)

    def build_phases(self) -> tuple[Phase, ...]:
        names = [(f"d{i}", f"g{i}") if str(i) in self.D else (f"g{i}",) for i in range(self.scales)]
        return tuple(Phase(f"level {i}", self.iterations, name) for i, name in enumerate(names))

    def build_optimizers(self) -> dict[str, Optimizer]:
        d = {f"d{i}": self.d_optimizer(D.parameters()) for i, D in self.D.items()}
        return d | {f"g{i}": self._generator_optimizer(i) for i in range(self.scales)}

    def _generator_optimizer(self, level: int) -> Optimizer:
        parts = self.parts(level)
        optimizer = self.optimizer([{"params": list(part.parameters())} for part, _ in parts])
        for group, (_, distance) in zip(optimizer.param_groups, parts, strict=True):
            group["lr"] *= self.lr_scale**distance
        return optimizer

    def begin_scale(self, scale: int, batch: Batch) -> None:
        if scale == 0:
            self.real_sample.copy_(
                self._spatial(batch[ROLES[len(self.domains) - 1]].image[:1], self.sizes[-1], to_bytes=True)
            )
        elif str(scale) in self.D and str(scale - 1) in self.D:
            warm_start(self.D[str(scale)], self.D[str(scale - 1)])

    def amp(self, error: Tensor, batch_size: int) -> Tensor:
        """Standard deviation of the noise of a level, from its reconstruction error when it is added."""
        return self.noise * error / (batch_size if self.share_noise else 1)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Only G is clipped, as in the authors' code."""
        if optimizer is self.named_optimizer(f"g{self.scale}"):
            super().on_before_optimizer_step(optimizer)

    # Real samples

    def window(self) -> int:
        """First frame of the time window to learn from."""
        return int(torch.randint(self.windows, ())) if self.windows > 1 else 0

    def real(self, level: int, start: int = 0) -> Tensor:
        """The image at a level, or the clip from frame ``start`` on: float [1, 3, (T,) H, W] in [-1, 1]."""
        sample = self._spatial(to_float(self.real_sample), self.sizes[level])
        if self.dims == 2:
            return sample
        step = self.steps[level]
        return sample[:, :, start : start + (self.sizes[level][0] - 1) * step + 1 : step]

    def _spatial(self, images: Tensor, size: Size, to_bytes: bool = False) -> Tensor:
        """Downscale images or all frames of clips, bilinearly."""
        frames = images.transpose(1, 2).flatten(0, 1) if self.dims == 3 else images
        if tuple(frames.shape[2:]) != size[-2:]:
            frames = F.interpolate(frames, size=size[-2:], mode="bilinear", antialias=self.antialias)
        frames = to_uint8(frames) if to_bytes else frames
        return frames.view(len(images), -1, *frames.shape[1:]).transpose(1, 2) if self.dims == 3 else frames

    # Updates

    def update_critic(self, level: int, x: Tensor, y: Tensor) -> Tensor:
        """Update D on a real sample [1, ...] and random ones [N, ...]; returns the loss."""
        D = self.D[str(level)]

        def l_d() -> Tensor:
            fake, real = D(torch.cat([y, x])).split([len(y), 1])  # D does not mix samples: one pass for both
            value: Tensor = fake.mean() - real.mean()
            return value + self.penalty * gradient_penalty(D, x, y)

        return self.step(f"d{level}", l_d)

    def score(self, level: int, y: Tensor) -> Tensor:
        """Score by D of random samples, in the update of G."""
        D = self.D[str(level)]
        D.eval()  # keep the estimates of the spectral norms of D's update, which have just been made
        try:
            score: Tensor = D(y).mean()
        finally:
            D.train()
        return score

    # Samples

    def sizes_to(self, size: Size | None) -> list[Size]:
        """Sizes of the levels reached so far, scaled so that the finest has the given size."""
        sizes = self.sizes[: self.finest + 1]
        if size is not None and len(size) != self.dims:
            sides = "frames, height and width" if self.dims == 3 else "height and width"
            refuse(self, "size", tuple(size), f"give {sides}.")
        return sizes if size is None else sizes_like(sizes, size)

    @torch.no_grad()
    def sample(self, count: int, size: Size | None = None) -> Tensor:
        """Random samples of any size; clips may have any number of frames.

        Args:
            count: number of samples.
            size: height and width in pixels (for clips: frames, height and width); by default those of the finest level
                reached so far.
        """
        sizes = self.sizes_to(size)
        chunks = [self.random(min(CHUNK, count - done), sizes) for done in range(0, count, CHUNK)]
        return torch.cat(chunks)
