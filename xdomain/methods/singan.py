"""SinGAN: a pyramid of patch GANs that learns from a single image."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float, to_uint8
from xdomain.data.base import ROLES
from xdomain.errors import refuse
from xdomain.losses import l_critic
from xdomain.methods.pyramid import PyramidMethod, check_at_least_one, check_walk
from xdomain.networks.patches import PatchGenerator, init_normal, patch_stack, warm_start
from xdomain.networks.pyramid import (
    Size,
    random_walk,
    resize,
    rmse,
    singan_sizes,
    size_of_longest,
    sizes_like,
    width_at,
)

Sizes = Sequence[Size] | Mapping[int, Size]


class SinGAN(PyramidMethod):
    """A pyramid of patch GANs; every scale adds details to the upscaled output of the previous one.

    Shaham, Dekel, Michaeli, "SinGAN: Learning a Generative Model from a Single Natural Image", ICCV 2019; (n) are its
    equations. G[i] and D[i] are the networks of scale i, z* is the noise from which the training image is
    reconstructed. Of a pair of images, the method learns the second, and :meth:`translate` brings the first into its
    style.

    Args:
        min_size: shorter side of the coarsest scale in pixels.
        max_size: longer side of the finest scale in pixels; a smaller image keeps its size.
        factor: desired ratio between the sizes of neighbouring scales.
        width: channels of the coarsest scales.
        max_width: largest number of channels; the width doubles every four scales up to it.
        layers: number of convolutions of every network.
        alpha: weight of the reconstruction.
        penalty: weight of the gradient penalty.
        d_steps: updates of D per batch.
        g_steps: updates of G per batch; each generates new images (the authors' code does not, see the docs).
        noise: standard deviation of a scale's noise, relative to the reconstruction error of the previous scales.
        fixed_z: draw z* once, as in the paper. If false, as in the authors' code, z* of the coarsest scale is drawn
            anew in every batch, and the last one is kept.
        options: see :class:`xdomain.methods.pyramid.PyramidMethod`.
    """

    amps: Tensor
    z_star: Tensor
    image: Tensor

    grey = True

    def __init__(
        self,
        min_size: int = 25,
        max_size: int = 250,
        factor: float = 0.75,
        width: int = 32,
        max_width: int = 128,
        layers: int = 5,
        alpha: float = 10.0,
        penalty: float = 0.1,
        d_steps: int = 3,
        g_steps: int = 3,
        noise: float = 0.1,
        fixed_z: bool = True,
        decay: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(decay=decay, **options)
        check_at_least_one(self, d_steps=d_steps, g_steps=g_steps, min_size=min_size, max_size=max_size)
        check_at_least_one(self, width=width, max_width=max_width, layers=layers)
        self.alpha, self.penalty, self.d_steps, self.g_steps = alpha, penalty, d_steps, g_steps
        self.noise, self.fixed_z = noise, fixed_z
        height, wide = self.shapes[-1]
        self.sizes = singan_sizes(height, wide, min_size, max_size, factor)
        widths = [width_at(i, width, max_width) for i in range(self.scales)]
        self.G = nn.ModuleList(PatchGenerator(w, layers, channels=self.channels[-1]) for w in widths)
        self.D = nn.ModuleList(patch_stack(self.channels[-1], w, 1, layers) for w in widths)
        init_normal(self)
        self.register_buffer("amps", torch.ones(self.scales))
        self.register_buffer("z_star", torch.randn(1, 1, *self.sizes[0]))
        self.register_buffer("image", torch.zeros(1, self.channels[-1], *self.sizes[-1], dtype=torch.uint8))

    @property
    def scales(self) -> int:
        return len(self.sizes)

    def build_optimizers(self) -> dict[str, Optimizer]:
        d = {f"d{i}": self.d_optimizer(D.parameters()) for i, D in enumerate(self.D)}
        return d | {f"g{i}": self.optimizer(G.parameters()) for i, G in enumerate(self.G)}

    def begin_scale(self, scale: int, batch: Batch) -> None:
        if scale == 0:
            self.image.copy_(to_uint8(resize(batch[ROLES[len(self.domains) - 1]].image[:1], self.sizes[-1])))
            return
        for nets in (self.G, self.D):
            warm_start(nets[scale], nets[scale - 1])
        self._settle(scale)
        with torch.no_grad():  # section 3: noise in proportion to the reconstruction error
            self.amps[scale] = self.noise * rmse(self.real(scale), self.reconstruction(scale - 1, self.sizes[scale]))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n = self.scale
        self._settle(n)
        G, D, size = self.G[n], self.D[n], self.sizes[n]
        x = self.constant("real", lambda: self.real(n))
        prefix = self.constant("prefix", lambda: self.reconstruction(n - 1, size))  # the scales below n are frozen
        if n == 0 and not self.fixed_z:
            self.z_star.normal_()
        z_rec = self.known(n)
        z = self.draw(n, 1)
        previous = self.pictures(self.d_steps, n - 1, size)  # for all updates of D in one batch

        for k in range(self.d_steps):
            last = k == self.d_steps - 1
            with torch.set_grad_enabled(last):  # G's first update uses the last images of D's updates
                y = G(z, previous[k : k + 1])
            l_d = self.step(f"d{n}", lambda y=y: l_critic(D, x, y.detach(), self.penalty))  # type: ignore[misc]
        for k in range(self.g_steps):
            y = y if k == 0 else G(z, previous[-1:])
            l_rec = F.mse_loss(G(z_rec, prefix), x)  # (5)
            l_g = self.step(f"g{n}", lambda y=y, l_rec=l_rec: self.alpha * l_rec - D(y).mean())  # type: ignore[misc]
        self.log_dict({"l_d": l_d, "l_rec": l_rec.detach(), "scale": float(n)})
        self.log("l_g", l_g, prog_bar=True)

    def _settle(self, scale: int) -> None:
        """Let finished generators use their running statistics, as in the authors' code."""
        for i, G in enumerate(self.G):
            G.train(i == scale)

    # Images

    def real(self, scale: int) -> Tensor:
        """The image at a scale, float [1, C, H, W] in [-1, 1]."""
        return resize(to_float(self.image), self.sizes[scale])

    def draw(self, scale: int, count: int, size: Size | None = None) -> Tensor:
        """Noise of a scale [count, C, H, W]; the same in all channels at the coarsest scale."""
        channels = self.channels[-1]
        z = torch.randn(count, 1 if scale == 0 else channels, *(size or self.sizes[scale]), device=self.device)
        return self.amps[scale] * z.expand(-1, channels, -1, -1)

    def known(self, scale: int) -> Tensor:
        """The noise from which the training image is reconstructed: z* at the coarsest scale, zero at finer ones."""
        if scale == 0:
            return self.z_star.expand(-1, self.channels[-1], -1, -1)
        return self.amps.new_zeros(1, self.channels[-1], *self.sizes[scale])

    def climb(self, y: Tensor, noises: Iterable[tuple[int, Tensor]], sizes: Sizes) -> Tensor:
        """Pass images through more scales, (1) and (2); ``noises`` gives pairs of a scale's index and its noise."""
        for i, z in noises:
            y = self.G[i](z, resize(y, sizes[i]))
        return y

    @torch.no_grad()
    def reconstruction(self, scale: int, size: Size) -> Tensor:
        """Reconstruction of the image by the scales up to this one, (5), resized; zeros below the coarsest scale."""
        nothing = self.amps.new_zeros(1, self.channels[-1], *self.sizes[0])
        return resize(self.climb(nothing, ((i, self.known(i)) for i in range(scale + 1)), self.sizes), size)

    @torch.no_grad()
    def pictures(
        self,
        count: int,
        scale: int,
        size: Size,
        start: int = 0,
        given: Tensor | None = None,
        sizes: Sequence[Size] | None = None,
    ) -> Tensor:
        """Random images of a scale, (1) and (2), resized.

        Args:
            count: number of images.
            scale: index of the last scale to run; -1 gives zeros.
            size: height and width of the result.
            start: first scale that draws noise.
            given: images [count, C, H, W] that replace the output of the scales below ``start``.
            sizes: sizes of the scales; by default those of training.
        """
        sizes = sizes or self.sizes
        y = self.amps.new_zeros(count, self.channels[-1], *sizes[start]) if given is None else given
        noises = ((i, self.draw(i, count, sizes[i])) for i in range(start, scale + 1))
        return resize(self.climb(y, noises, sizes), size)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        return tuple((domain, self.domains[-1]) for domain in self.domains)

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        return super().tasks | {
            "paint": self.translate,
            "harmonise": self.harmonise,
            "edit": self.edit,
            "super_resolve": self.super_resolve,
            "animate": self.animate,
        }

    def sample(self, count: int, size: Size | None = None, start: int = 0) -> Tensor:
        """Random samples of any size and aspect ratio.

        Args:
            count: number of images.
            size: height and width in pixels; by default those of the finest scale reached so far.
            start: first scale that draws noise; the scales below reconstruct the image, which keeps its layout.
        """
        self.check_start(start)
        size = size or self.sizes[self.finest]
        if start:
            return self.inject(self.real(self.finest).expand(count, -1, -1, -1), start, size)
        with self.evaluating():
            return self.random(count, self.sizes_to(size))

    def random(self, count: int, sizes: Sequence[Size]) -> Tensor:
        return self.pictures(count, len(sizes) - 1, sizes[-1], sizes=sizes).clamp(-1, 1)

    # Image manipulation: an image is injected at a coarse scale (section 4)

    def sizes_to(self, size: Size) -> list[Size]:
        """Sizes of the scales reached so far, scaled so that the finest has the given size."""
        return sizes_like(self.sizes[: self.finest + 1], size)

    def inject(self, images: Tensor, start: int, size: Size | None = None) -> Tensor:
        """Inject images at the scale ``start`` and pass them through all finer ones.

        Args:
            images: [N, C, H, W] in [-1, 1].
            start: scale that takes the images as the output of the previous scale, from 1.
            size: height and width of the result; by default the aspect ratio of the images and the longer side of the
                finest scale.
        """
        self.check_start(start, 1)
        size = size or size_of_longest(images.shape[2], images.shape[3], max(self.sizes[self.finest]))
        sizes = self.sizes_to(size)
        with self.evaluating():
            given = resize(resize(images, sizes[start - 1]), sizes[start])  # no sharper than the previous scale
            return self.pictures(len(images), self.finest, size, start, given, sizes).clamp(-1, 1)

    def translate(self, images: Tensor, source: str, target: str, start: int = 1) -> Tensor:
        """Translate images into the style of the training image, like "paint to image" in the paper.

        Args:
            images: float [N, C, H, W] in [-1, 1], of any size.
            source: name of any domain.
            target: name of the learned domain.
            start: scale at which the images are injected, from 1; a coarse one also changes their layout.

        Returns:
            float [N, C, H', W'] in [-1, 1], with the aspect ratio of the images and the longer side of the finest
            scale.
        """
        self.check_target(target)
        return self.inject(images, start)

    def harmonise(self, images: Tensor, mask: Tensor, start: int, radius: float = 7.0) -> Tensor:
        """Fit a pasted object into its background, the training image.

        Args:
            images: images with the object, float [N, C, H, W] in [-1, 1].
            mask: where the object is, [N, 1, H, W] or [1, 1, H, W] in [0, 1].
            start: scale at which the images are injected, from 1.
            radius: radius by which the mask is dilated, in pixels of an image of 250 pixels.

        Returns:
            float [N, C, H', W'] in [-1, 1]; unchanged outside of the dilated mask.
        """
        return self.blend(self.inject(images, start), images, mask, radius)

    def edit(self, images: Tensor, mask: Tensor, start: int, radius: float = 20.0) -> Tensor:
        """Make a collage of parts of the training image seamless.

        Args:
            images: images in which parts were moved or copied, float [N, C, H, W] in [-1, 1].
            mask: where the changes are, [N, 1, H, W] or [1, 1, H, W] in [0, 1].
            start: scale at which the images are injected, from 1.
            radius: radius by which the mask is dilated, in pixels of an image of 250 pixels.

        Returns:
            float [N, C, H', W'] in [-1, 1]; unchanged outside of the dilated mask.
        """
        return self.blend(self.inject(images, start), images, mask, radius)

    def super_resolve(self, images: Tensor, factor: float = 4.0) -> Tensor:
        """Upscale images in steps of about the ratio between scales; after each the finest G adds details.

        Args:
            images: images of the size of the finest scale or larger, float [N, C, H, W] in [-1, 1].
            factor: upscaling factor, above 1.

        Returns:
            float [N, C, factor H, factor W] in [-1, 1].
        """
        if not factor > 1:
            refuse(self, "factor", f"{factor:g}", "give a number above 1.")
        n = self.finest
        ratio = max(self.sizes[n]) / max(self.sizes[n - 1]) if n else factor
        steps = max(1, round(math.log(factor) / math.log(ratio)))
        y = images
        with self.evaluating():
            for k in range(1, steps + 1):
                size = tuple(round(side * factor ** (k / steps)) for side in images.shape[2:])
                y = self.climb(y, [(n, self.draw(n, len(y), size))], {n: size})
        return y.clamp(-1, 1)

    def animate(self, frames: int = 30, alpha: float = 0.1, beta: float = 0.9, start: int = 2) -> Tensor:
        """Animate the image by a random walk around the noise of its reconstruction (supplement).

        Args:
            frames: number of frames; the first is the image.
            alpha: how strongly the noise is pulled back to that of the reconstruction, from 0 to 1.
            beta: how smoothly the noise moves, from 0 to 1.
            start: first scale whose noise moves.

        Returns:
            float [frames, C, H, W] in [-1, 1].
        """
        self.check_start(start)
        check_walk(self, frames, alpha, beta)
        scales, channels = range(self.finest + 1), self.channels[-1]
        with self.evaluating():
            known = [self.z_star if i == 0 else self.known(i) for i in scales]
            walks = [
                random_walk(z, frames, alpha, beta, 0.05) if i >= start else repeat(z) for i, z in enumerate(known)
            ]
            clip = []
            for _ in range(frames):
                noises = [(i, self.amps[i] * next(walk).expand(-1, channels, -1, -1)) for i, walk in enumerate(walks)]
                clip.append(self.climb(torch.zeros_like(noises[0][1]), noises, self.sizes))
        return torch.cat(clip).clamp(-1, 1)
