"""SinGAN: a pyramid of patch GANs that learns from one image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float, to_uint8
from xdomain.data.base import ROLES
from xdomain.losses import l_critic
from xdomain.methods.pyramid import PyramidMethod
from xdomain.networks.patches import PatchGenerator, init_normal, patch_stack, warm_start
from xdomain.networks.pyramid import Size, resize, rmse, singan_sizes, sizes_like, width_at


class SinGAN(PyramidMethod):
    """A pyramid of patch GANs, every scale adding details to the enlarged picture of the one before.

    Shaham, Dekel, Michaeli, "SinGAN: Learning a Generative Model from a Single Natural Image", ICCV 2019; (n) are its
    equations. G[i] and D[i] are the networks of scale i, z* is the noise from which the image itself is reconstructed.
    Of a pair of images it learns the second, into whose look :meth:`translate` brings the first.

    Args:
        min_size: shorter side of the coarsest scale in pixels.
        max_size: longest side of the finest scale; a smaller image keeps its size.
        factor: wanted ratio of two neighbouring scales.
        width: channels of the coarsest scales.
        max_width: most channels; the width doubles every four scales up to it.
        layers: convolutions of every network.
        alpha: weight of the reconstruction.
        penalty: weight of the gradient penalty.
        d_steps: updates of D per batch.
        g_steps: updates of G per batch; each makes its pictures anew (the authors' code does not, see the docs).
        noise: standard deviation of a scale's noise as a part of what the scales before got wrong.
        fixed_z: draw z* once, as in the paper. Without, as in the authors' code, z* of the coarsest scale is drawn anew
            in every batch, and the last one is kept.
        options: see :class:`xdomain.methods.pyramid.PyramidMethod`.
    """

    amps: Tensor
    z_star: Tensor
    image: Tensor

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
        self.alpha, self.penalty, self.d_steps, self.g_steps = alpha, penalty, d_steps, g_steps
        self.noise, self.fixed_z = noise, fixed_z
        height, wide = self.shapes[-1]
        self.sizes = singan_sizes(height, wide, min_size, max_size, factor)
        widths = [width_at(i, width, max_width) for i in range(self.scales)]
        self.G = nn.ModuleList(PatchGenerator(w, layers) for w in widths)
        self.D = nn.ModuleList(patch_stack(3, w, 1, layers) for w in widths)
        init_normal(self)
        self.register_buffer("amps", torch.ones(self.scales))
        self.register_buffer("z_star", torch.randn(1, 1, *self.sizes[0]))
        self.register_buffer("image", torch.zeros(1, 3, *self.sizes[-1], dtype=torch.uint8))

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
        with torch.no_grad():  # section 3: noise in proportion to what is still missing
            self.amps[scale] = self.noise * rmse(self.real(scale), self.reconstruction(scale - 1, self.sizes[scale]))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n = self.scale
        self._settle(n)
        G, D, size = self.G[n], self.D[n], self.sizes[n]
        x = self.constant("real", lambda: self.real(n))
        known = self.constant("known", lambda: self.reconstruction(n - 1, size))  # below n nothing changes any more
        if n == 0 and not self.fixed_z:
            self.z_star.normal_()
        z_rec = self.z_star.expand(-1, 3, -1, -1) if n == 0 else torch.zeros_like(x)
        z = self.draw(n, 1)
        previous = self.pictures(self.d_steps, n - 1, size)  # for all updates of D in one batch

        for k in range(self.d_steps):
            last = k == self.d_steps - 1
            with torch.set_grad_enabled(last):  # G's first update is on the last of D's pictures
                y = G(z, previous[k : k + 1])
            l_d = self.step(f"d{n}", lambda y=y: l_critic(D, x, y.detach(), self.penalty))  # type: ignore[misc]
        for k in range(self.g_steps):
            y = y if k == 0 else G(z, previous[-1:])
            l_rec = F.mse_loss(G(z_rec, known), x)  # (5)
            l_g = self.step(f"g{n}", lambda y=y, l_rec=l_rec: self.alpha * l_rec - D(y).mean())  # type: ignore[misc]
        self.log_dict({"l_d": l_d, "l_rec": l_rec.detach(), "scale": float(n)})
        self.log("l_g", l_g, prog_bar=True)

    def _settle(self, scale: int) -> None:
        """Finished generators use their running statistics, as in the authors' code."""
        for i, G in enumerate(self.G):
            G.train(i == scale)

    # Pictures

    def real(self, scale: int) -> Tensor:
        """The image at a scale, float [1, 3, H, W] in [-1, 1]."""
        return resize(to_float(self.image), self.sizes[scale])

    def draw(self, scale: int, count: int, size: Size | None = None) -> Tensor:
        """Noise of a scale [count, 3, H, W]; at the coarsest one the same in all channels."""
        z = torch.randn(count, 1 if scale == 0 else 3, *(size or self.sizes[scale]), device=self.device)
        return self.amps[scale] * z.expand(-1, 3, -1, -1)

    @torch.no_grad()
    def reconstruction(self, scale: int, size: Size) -> Tensor:
        """The image as the scales up to this one know it, (5), resized; nothing (zeros) below the coarsest."""
        y = torch.zeros(1, 3, *self.sizes[0], device=self.device)
        for i in range(scale + 1):
            z = self.z_star.expand(-1, 3, -1, -1) if i == 0 else torch.zeros(1, 3, *self.sizes[i], device=self.device)
            y = self.G[i](z, resize(y, self.sizes[i]))
        return resize(y, size)

    @torch.no_grad()
    def pictures(
        self,
        count: int,
        scale: int,
        size: Size,
        start: int = 0,
        given: Tensor | None = None,
        sizes: list[Size] | None = None,
    ) -> Tensor:
        """Random pictures of a scale, (1) and (2), resized.

        Args:
            count: how many.
            scale: up to which scale; -1 gives zeros.
            size: height and width of the result.
            start: first scale that draws noise.
            given: pictures that take the place of what the scales below ``start`` would give, [count, 3, H, W].
            sizes: of the scales; by default those of training.
        """
        sizes = sizes or self.sizes
        y = torch.zeros(count, 3, *sizes[start], device=self.device) if given is None else given
        for i in range(start, scale + 1):
            y = self.G[i](self.draw(i, count, sizes[i]), resize(y, sizes[i]))
        return resize(y, size)

    def sample(self, count: int, size: Size | None = None, start: int = 0, **options: Any) -> Tensor:
        """Random samples of any size and aspect ratio.

        Args:
            count: how many.
            size: height and width in pixels; by default those of the finest scale that training has come to.
            start: first scale that draws noise; below it stands the image itself, so that its layout is kept.
            options: none.
        """
        finest = self.finest
        size = size or self.sizes[finest]
        sizes = sizes_like(self.sizes[: finest + 1], size)
        given = self.coarse(self.real(finest).expand(count, -1, -1, -1), start, sizes) if start else None
        return self.pictures(count, finest, size, start, given, sizes).clamp(-1, 1)

    def coarse(self, images: Tensor, start: int, sizes: list[Size]) -> Tensor:
        """Images as the scale before ``start`` would hand them on."""
        return resize(resize(images, sizes[start - 1]), sizes[start])
