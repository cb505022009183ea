"""HP-VAE-GAN: patch VAEs at the coarse levels, patch GANs at the fine ones, from a single image or clip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.losses import kl_divergence
from xdomain.methods.levels import LevelMethod
from xdomain.methods.pyramid import check_at_least_one
from xdomain.networks.patch_vaegan import PatchEncoder, PatchLevel
from xdomain.networks.patches import patch_stack, warm_start
from xdomain.networks.pyramid import Size, rmse


class PatchVAEGAN(LevelMethod):
    """A patch VAE makes the coarse levels diverse, residual patch GANs make the fine levels sharp.

    Gur, Benaim, Wolf, "Hierarchical Patch VAE-GAN: Generating Diverse Videos from a Single Sample", NeurIPS 2020; with
    2D convolutions for an image and 3D convolutions for a clip. E encodes x_0, the sample at level 0, into a latent
    vector per position, G_0 decodes it, ``levels`` i >= 1 upscale and refine; D[i] are the critics of the levels from
    ``vae_levels`` on.

    Args:
        vae_levels: number M of levels that are trained as a VAE, the others are GANs; null trains all as VAEs.
        latent: dimension of the latent vectors.
        layers: number of convolutions of G_0, of every level and of D.
        beta: weight of the KL divergence from N(0, 1).
        clip: largest gradient norm of G.
        options: see :class:`xdomain.methods.levels.LevelMethod`.
    """

    def __init__(
        self,
        vae_levels: int | None = 3,
        latent: int = 128,
        layers: int = 7,
        beta: float = 1.0,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(clip=clip, **options)
        self.M = self.scales if vae_levels is None else vae_levels
        check_at_least_one(self, vae_levels=self.M, latent=latent)
        if self.scales < self.M:
            refuse(self, "vae_levels", vae_levels, f", but there are {self.scales} levels: give at most as many.")
        self.beta, self.latent = beta, latent
        width, dims = self.width, self.dims
        self.E = PatchEncoder(width, latent, dims)
        self.G_0 = patch_stack(latent, width, 3, layers, 1, "instance", dims=dims)
        self.levels = nn.ModuleList(PatchLevel(width, layers, dims) for _ in range(self.scales - 1))
        self.D = nn.ModuleDict()
        for i in range(self.M, self.scales):
            self.D[str(i)] = patch_stack(3, width, 1, layers, 1, "none", dims=dims, spectral=True)
        torch.randint(2**31, ())  # not used: keeps the random numbers of a seed as in version 0.1.0

    def parts(self, level: int) -> list[tuple[nn.Module, int]]:
        vae: list[tuple[nn.Module, int]] = [(self.E, level), (self.G_0, level)] if self.whole(level) else []
        return vae + [(self.levels[i - 1], level - i) for i in range(self.first(level), level + 1)]

    def whole(self, level: int) -> bool:
        """Whether E and G_0 are trained at a level."""
        return level < self.M

    def first(self, level: int) -> int:
        """The oldest of ``levels`` that is trained; those between it and a trained G_0 only pass gradients through."""
        border = 0 if level < self.M else self.M - 1  # no gradients from the GANs to the VAE
        return max(level - self.train_depth, border) + 1

    def begin_scale(self, scale: int, batch: Batch) -> None:
        super().begin_scale(scale, batch)
        if scale == 0:
            return
        if scale > 1:
            warm_start(self.levels[scale - 1], self.levels[scale - 2])
        self._settle(scale)
        with torch.no_grad():
            start = self.window()
            y = self.climb(self.decode(draw(*self.posterior(start), len(batch["a"].image))), 1, scale)
            self.amps[scale] = self.amp(rmse(self.real(scale, start), y), len(batch["a"].image))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n, count, start = self.scale, len(batch["a"].image), self.window()
        self._settle(n)
        x = self.constant(("real", n, start), lambda: self.real(n, start))
        if n < self.M:
            self._train_vae(n, count, start, x)
        else:
            self._train_gan(n, count, start, x)
        self.log("scale", float(n))

    def _train_vae(self, n: int, count: int, start: int, x: Tensor) -> None:
        x_0 = self.constant(("real", 0, start), lambda: self.real(0, start))

        def l_vae() -> Tensor:
            mu, logvar = self.E(x_0)
            y_0 = self.decode(draw(mu, logvar, count))
            y = self.climb(y_0, 1, n)
            l_rec = F.mse_loss(y, x.expand_as(y)) + F.mse_loss(y_0, x_0.expand_as(y_0))
            l_kl = kl_divergence(mu, logvar)
            self.log_dict({"l_rec": l_rec.detach(), "l_kl": l_kl.detach()})
            return self.alpha * l_rec + self.beta * l_kl

        self.log("l_g", self.step(f"g{n}", l_vae), prog_bar=True)

    def _train_gan(self, n: int, count: int, start: int, x: Tensor) -> None:
        mu, logvar = self.posterior(start)
        first = self.first(n)
        # Random samples and reconstructions go through G in one pass: its normalisation does not mix them.
        both = self.climb(self.below(first, count, start), first, n, count)
        y, rec = both[:count], both[count:]
        l_d = self.update_critic(n, x, y.detach())
        l_rec = F.mse_loss(rec, x.expand_as(rec))
        l_g = self.step(f"g{n}", lambda: self.alpha * l_rec - self.score(n, y))
        self.log_dict({"l_d": l_d, "l_rec": l_rec.detach(), "l_kl": kl_divergence(mu, logvar).detach()})
        self.log("l_g", l_g, prog_bar=True)

    def _settle(self, level: int) -> None:
        """Freeze the spectral norms of E with it: its output for x_0 is then constant."""
        self.E.train(self.whole(level))

    # Images

    def decode(self, z: Tensor) -> Tensor:
        """Decode latent vectors to images of level 0."""
        y: Tensor = self.G_0(z)
        return y.tanh()

    def climb(self, y: Tensor, first: int, last: int, noisy: int = 0, sizes: Sequence[Size] | None = None) -> Tensor:
        """Images of level ``last`` from those of the level before ``first``.

        Args:
            y: images of the level before ``first``.
            first: the first level to run.
            last: the last level to run.
            noisy: number of leading images that get noise.
            sizes: sizes of the levels; by default those of training.
        """
        sizes = sizes or self.sizes
        for i in range(first, last + 1):
            noise = None
            if noisy and i >= self.M:
                noise = self.amps[i] * torch.randn(noisy, 3, *sizes[i], device=self.device)
            y = self.levels[i - 1](y, sizes[i], noise)
        return y

    def latents(self, count: int, size: Size | None = None) -> Tensor:
        """Latent vectors of random samples, from N(0, 1)."""
        return torch.randn(count, self.latent, *(size or self.sizes[0]), device=self.device)

    def posterior(self, start: int) -> tuple[Tensor, Tensor]:
        """Posterior by E of x_0: mean and log-variance [1, ...] of the latent vectors."""
        if self.whole(self.scale):
            mu, logvar = self.E(self.real(0, start))
        else:
            mu, logvar = self.constant(("posterior", start), lambda: self.E(self.real(0, start)))
        return mu, logvar

    @torch.no_grad()
    def below(self, first: int, count: int, start: int) -> Tensor:
        """Input of the oldest trained level: random samples, then reconstructions, both without gradient."""
        z = torch.cat([self.latents(count), draw(*self.posterior(start), count)])
        return self.climb(self.decode(z), 1, first - 1, count)

    def random(self, count: int, sizes: Sequence[Size]) -> Tensor:
        return self.climb(self.decode(self.latents(count, sizes[0])), 1, len(sizes) - 1, count, sizes)

    def reconstruction(self) -> Tensor:
        """Reconstruction of the training sample by the levels reached so far, from the mean of its latent vectors."""
        with self.evaluating():
            mu, _ = self.E(self.real(0))
            return self.climb(self.decode(mu), 1, self.finest)


def draw(mu: Tensor, logvar: Tensor, count: int) -> Tensor:
    """Sample latent vectors [count, ...] from N(mu, exp(logvar)), both [1, ...]."""
    return mu + (logvar / 2).exp() * torch.randn(count, *mu.shape[1:], device=mu.device)
