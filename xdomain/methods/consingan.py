"""ConSinGAN: one growing generator that learns from a single image, training several stages at a time."""

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float, to_uint8
from xdomain.data.base import ROLES
from xdomain.errors import refuse
from xdomain.losses import gradient_penalty
from xdomain.methods.pyramid import PyramidMethod, check_at_least_one, check_walk
from xdomain.networks.consingan import GrowingGenerator
from xdomain.networks.patches import init_normal, patch_stack, warm_start
from xdomain.networks.pyramid import (
    Size,
    consingan_sizes,
    random_walk,
    resize,
    rmse,
    size_of_longest,
    sizes_like,
)

Mode = Literal["generation", "retarget", "harmonisation", "animation"]


class ConSinGAN(PyramidMethod):
    """A growing generator; its last stages are trained together, older ones at lower learning rates.

    Hinz, Fisher, Wang, Wermter, "Improved Techniques for Training Single-Image GANs", WACV 2021. G grows by a stage per
    phase, D[i] is the discriminator of phase i, z_i the fixed noise of stage i from which the training image is
    reconstructed; z_0 is the image itself at the coarsest stage. Of a pair of images, the method learns the second.

    Args:
        stages: number of stages.
        min_size: shorter side of the coarsest stage in pixels.
        max_size: longer side of the finest stage in pixels; a smaller image keeps its size.
        mode: the task to train for. ``generation``: random samples. ``retarget``: samples of other sizes; the features
            are padded with zeros. ``harmonisation``: fits objects into their background; zero padding, equal ratios
            between sizes, and training on augmented copies of the coarsest image instead of noise. ``animation``:
            clips; the coarsest z_i is noise.
        width: channels of all layers.
        layers: convolutions per stage; D has two more.
        train_depth: number of stages that are trained together.
        lr_scale: factor of the learning rate per stage below the newest.
        norm: ``instance`` is the authors' option of a BatchNorm in G, which always sees a single image.
        slope: negative slope of the leaky ReLU.
        alpha: weight of the reconstruction.
        penalty: weight of the gradient penalty.
        d_steps: updates of D per batch.
        g_steps: how often the single gradient of G is applied per batch.
        noise: standard deviation of a stage's noise, relative to its reconstruction error when it is added.
        options: see :class:`xdomain.methods.pyramid.PyramidMethod`.
    """

    amps: Tensor
    image: Tensor

    def __init__(
        self,
        stages: int = 6,
        min_size: int = 25,
        max_size: int = 250,
        mode: Mode = "generation",
        width: int = 64,
        layers: int = 3,
        train_depth: int = 3,
        lr_scale: float = 0.1,
        norm: Literal["none", "instance"] = "none",
        slope: float = 0.05,
        alpha: float = 10.0,
        penalty: float = 0.1,
        d_steps: int = 3,
        g_steps: int = 3,
        noise: float = 0.1,
        decay: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(decay=decay, **options)
        check_at_least_one(self, train_depth=train_depth, d_steps=d_steps, g_steps=g_steps)
        self.mode, self.train_depth, self.lr_scale = mode, train_depth, lr_scale
        self.alpha, self.penalty, self.d_steps, self.g_steps, self.noise = alpha, penalty, d_steps, g_steps, noise
        height, wide = self.shapes[-1]
        self.sizes = consingan_sizes(height, wide, stages, min_size, max_size, geometric=mode == "harmonisation")
        zeros = mode in ("retarget", "harmonisation")
        self.G = GrowingGenerator(stages, width, layers, norm, slope, zeros)
        self.D = nn.ModuleList(patch_stack(3, width, 1, layers + 2, norm="none", slope=slope) for _ in range(stages))
        init_normal(self)
        self.register_buffer("amps", torch.ones(stages))
        self.register_buffer("image", torch.zeros(1, 3, *self.sizes[-1], dtype=torch.uint8))
        for i, size in enumerate(self.sizes):
            self.register_buffer(f"z_{i}", torch.randn(1, *self.G.noise_shape(i, size)))

    @property
    def scales(self) -> int:
        return len(self.sizes)

    def first(self, scale: int) -> int:
        """Index of the oldest stage that is trained in a phase."""
        return max(0, scale - self.train_depth + 1)

    def build_optimizers(self) -> dict[str, Optimizer]:
        d = {f"d{i}": self.d_optimizer(D.parameters()) for i, D in enumerate(self.D)}
        return d | {f"g{i}": self._generator_optimizer(i) for i in range(self.scales)}

    def _generator_optimizer(self, scale: int) -> Optimizer:
        """Optimiser of the tail, the trained stages (older ones slower) and, while stage 0 is trained, the head."""
        distances = {f"stages.{i}.": scale - i for i in range(self.first(scale), scale + 1)} | {"tail.": 0}
        if scale < self.train_depth:
            distances["head."] = scale
        named = list(self.G.named_parameters())
        groups = [{"params": [p for name, p in named if name.startswith(part)]} for part in distances]
        optimizer = self.optimizer(groups)
        for group, distance in zip(optimizer.param_groups, distances.values(), strict=True):
            group["lr"] *= self.lr_scale**distance
        return optimizer

    def begin_scale(self, scale: int, batch: Batch) -> None:
        if scale == 0:
            self.image.copy_(to_uint8(resize(batch[ROLES[len(self.domains) - 1]].image[:1], self.sizes[-1])))
            if self.mode != "animation":
                self.get_buffer("z_0").copy_(self.real(0))
            return
        for nets in (self.G.stages, self.D):
            warm_start(nets[scale], nets[scale - 1])
        self.amps[scale] = 0
        with torch.no_grad():  # noise in proportion to the error of the new stage without noise
            self.amps[scale] = self.noise * rmse(self.real(scale), self.G(self.known(scale), self.sizes))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n = self.scale
        first, D = self.first(n), self.D[n]
        x = self.constant("real", lambda: self.real(n))
        z_star = self.constant("noise", lambda: self.known(n))
        z = self.draw(n, 1)
        below = None
        if first:  # the frozen stages: their part of the reconstruction does not change
            known = self.constant("features", lambda: self.G.features(z_star[:first], self.sizes))
            with torch.no_grad():
                below = torch.cat([self.G.features(z[:first], self.sizes), known])
        both = [torch.cat(pair) for pair in zip(z[first:], z_star[first:], strict=True)]
        y, rec = self.G(both, self.sizes, below, first).split(1)  # all updates share one image and one noise

        def l_d() -> Tensor:
            fake, real = D(torch.cat([y.detach(), x])).split(1)  # D has no normalisation that would mix the two
            value: Tensor = fake.mean() - real.mean() + self.penalty * gradient_penalty(D, x, y.detach())
            return value

        for _ in range(self.d_steps):
            critic = self.step(f"d{n}", l_d)
        l_rec = F.mse_loss(rec, x)
        l_g = self.step(f"g{n}", lambda: self.alpha * l_rec - D(y).mean())
        for _ in range(1, self.g_steps):
            self._repeat(f"g{n}")
        self.log_dict({"l_d": critic, "l_rec": l_rec.detach(), "scale": float(n)})
        self.log("l_g", l_g, prog_bar=True)

    def _repeat(self, name: str) -> None:
        """Repeat the last update with the same gradient."""
        weights = [p for group in self.named_optimizer(name).param_groups for p in group["params"]]
        pairs = [(p, p.grad.clone()) for p in weights if p.grad is not None]
        self.step(name, lambda: torch.stack([(p * gradient).sum() for p, gradient in pairs]).sum())

    # Images

    def real(self, scale: int) -> Tensor:
        """The image at a stage, float [1, 3, H, W] in [-1, 1]."""
        return resize(to_float(self.image), self.sizes[scale])

    def known(self, scale: int) -> list[Tensor]:
        """The fixed noises, up to a stage, from which the training image is reconstructed."""
        return [self.amps[i] * self.get_buffer(f"z_{i}") for i in range(scale + 1)]

    def draw(self, scale: int, count: int, sizes: Sequence[Size] | None = None) -> list[Tensor]:
        """Random noises up to a stage; in harmonisation the first are augmented copies of the coarsest image."""
        sizes = sizes or self.sizes
        shapes = [self.G.noise_shape(i, size) for i, size in enumerate(sizes[: scale + 1])]
        noises = [self.amps[i] * torch.randn(count, *shape, device=self.device) for i, shape in enumerate(shapes)]
        if self.mode == "harmonisation":
            noises[0] = torch.cat([disturb(resize(self.real(0), sizes[0])) for _ in range(count)])
        return noises

    def sizes_to(self, size: Size) -> list[Size]:
        """Sizes of the stages reached so far, scaled so that the finest has the given size."""
        return sizes_like(self.sizes[: self.finest + 1], size)

    @torch.no_grad()
    def reconstruction(self) -> Tensor:
        """Reconstruction of the image by the stages reached so far, float [1, 3, H, W] in [-1, 1]."""
        pictures: Tensor = self.G(self.known(self.finest), self.sizes)
        return pictures

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return tuple((domain, self.domains[-1]) for domain in self.domains)

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return super().tasks | {"paint": self.translate, "harmonise": self.harmonise, "animate": self.animate}

    @torch.no_grad()
    def sample(self, count: int, size: Size | None = None) -> Tensor:
        """Random samples of any size and aspect ratio; in harmonisation mode, augmented copies of the image.

        Args:
            count: number of samples.
            size: height and width in pixels; by default those of the finest stage reached so far.
        """
        return self.random(count, self.sizes_to(size or self.sizes[self.finest]))

    def random(self, count: int, sizes: Sequence[Size]) -> Tensor:
        pictures: Tensor = self.G(self.draw(len(sizes) - 1, count, sizes), sizes)
        return pictures

    def not_exported(self, task: str) -> str:
        if task == "random" and self.mode == "harmonisation":
            return "in the mode harmonisation its samples are changed copies of the image, not drawn from noise"
        return super().not_exported(task)

    @torch.no_grad()
    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        """Translate images into the style of the training image: they replace the coarsest noise.

        Args:
            images: float [N, 3, H, W] in [-1, 1], of any size.
            source: name of any domain.
            target: name of the learned domain.

        Returns:
            float [N, 3, H', W'] in [-1, 1], with the aspect ratio of the images and the longer side of the finest
            stage.
        """
        self.check_target(target)
        if self.mode == "animation":
            refuse(self, "mode", "animation", ", which has seen no image as input: train another.")
        sizes = self.sizes_to(size_of_longest(images.shape[2], images.shape[3], max(self.sizes[self.finest])))
        noises = self.draw(self.finest, len(images), sizes)
        pictures: Tensor = self.G([resize(images, sizes[0]), *noises[1:]], sizes)
        return pictures

    def harmonise(self, images: Tensor, mask: Tensor, start: int = 0, radius: float = 7.0) -> Tensor:
        """Fit a pasted object into its background, the training image; works best in the mode ``harmonisation``.

        Args:
            images: images with the object, float [N, 3, H, W] in [-1, 1].
            mask: where the object is, [N, 1, H, W] or [1, 1, H, W] in [0, 1].
            start: the stage at which the images are injected: 0, since the others take features.
            radius: radius by which the mask is dilated, in pixels of an image of 250 pixels.

        Returns:
            float [N, 3, H', W'] in [-1, 1]; unchanged outside of the dilated mask.
        """
        if start != 0:
            refuse(self, "start", start, ", but the stages of ConSinGAN above 0 take features, no images: give 0.")
        learned = self.domains[-1]
        return self.blend(self.translate(images, learned, learned), images, mask, radius)

    @torch.no_grad()
    def animate(self, frames: int = 30, alpha: float = 0.1, beta: float = 0.9, start: int = 1) -> Tensor:
        """Animate the image: a clip that starts at it, by a random walk around the noise of its reconstruction.

        Args:
            frames: number of frames.
            alpha: how strongly the noise is pulled back to that of the reconstruction, from 0 to 1.
            beta: how smoothly the noise moves, from 0 to 1.
            start: first stage whose noise moves.

        Returns:
            float [frames, 3, H, W] in [-1, 1].
        """
        if start == 0 and self.mode != "animation":
            refuse(self, "start", 0, f", where the input of mode {self.mode} is the image: give 1, or train animation.")
        self.check_start(start)
        check_walk(self, frames, alpha, beta)
        anchors = [self.get_buffer(f"z_{i}") for i in range(self.finest + 1)]
        walks = [repeat(z) if i < start else random_walk(z, frames, alpha, beta, 0.01) for i, z in enumerate(anchors)]
        clip = []
        for _ in range(frames):
            clip.append(self.G([self.amps[i] * next(walk) for i, walk in enumerate(walks)], self.sizes))
        return torch.cat(clip)


def disturb(image: Tensor) -> Tensor:
    """Augmented copy [1, 3, H, W] with other colours and random rectangles, as in the authors' harmonisation.

    With probability 1/4 the colours change: noise, a negative, mixed or missing channels, or less saturation. With
    probability 9/10 one or two rectangles of a random colour cover a part of the image.
    """
    image = image.clone()
    if torch.rand(()) < 0.25:
        grey = image.mean(1, keepdim=True)
        kind = int(torch.randint(5, ()))
        if kind == 0:
            image = image + 0.2 * torch.randn_like(image)
        elif kind == 1:
            image = -image
        elif kind == 2:
            image = image[:, torch.randperm(3)]
        elif kind == 3:
            image[:, int(torch.randint(3, ()))] = -1
        else:
            image = torch.lerp(grey, image, float(torch.rand(())))
    if torch.rand(()) < 0.9:
        height, width = image.shape[2:]
        count = int(torch.randint(1, 3, ()))
        for _ in range(count):
            most = 0.5 if count == 1 else 0.25
            h, w = (max(1, round(side * (most / 2 + most / 2 * float(torch.rand(()))))) for side in (height, width))
            top, left = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
            image[:, :, top : top + h, left : left + w] = torch.rand(1, 3, 1, 1, device=image.device) * 2 - 1
    return image.clamp(-1, 1)
