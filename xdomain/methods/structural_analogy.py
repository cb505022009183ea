"""Structural analogy: two pyramids of patch GANs, one per image, that translate each other's samples."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.data.base import ROLES
from xdomain.errors import UserError, choice, refuse
from xdomain.losses import gradient_penalty
from xdomain.methods.pyramid import PyramidMethod
from xdomain.networks.patches import PatchTranslator, init_normal, patch_stack, warm_start
from xdomain.networks.pyramid import Size, paired_sizes, resize, rmse, size_of_longest, sizes_like, width_at

PIECE = 8  # frames of a clip per pass through a pyramid


class StructuralAnalogy(PyramidMethod):
    """Two images exchange their styles: each has a pyramid of patch GANs, which also translate the other's samples.

    Benaim, Mokady, Bermano, Cohen-Or, Wolf, "Structural-analogy from a Single Image Pair", Computer Graphics Forum
    2020. At every scale and for the image a: r_a is the image itself, f_a a random sample, g_a a reconstruction, and
      m_ab = G_b(f_a) has the style of b in the layout of a's sample.

    Role a may be a clip: every batch shows one of its frames.

    Args:
        min_size: shorter side of the coarsest scale in pixels.
        max_size: longer side of the finest scale in pixels; a smaller image keeps its size.
        factor: desired ratio between the sizes of neighbouring scales.
        width: channels of the coarsest scales.
        max_width: largest number of channels; the width doubles every four scales up to it.
        layers: number of convolutions of every network.
        switch_res: number of the finest scales that draw whole images; the others add to the previous scale.
        alpha: weight of the reconstructions.
        beta: weight of the cycle losses.
        lambda_g: weight of D_b's adversarial loss for the generators.
        lambda_self: weight of the translated other image itself among the fakes; 0 leaves it out.
        penalty: weight of the gradient penalties.
        noise: standard deviation of a scale's noise, relative to the reconstruction error of the previous scales.
        fixed_z: draw z*, from which an image is reconstructed, only once. If false, as in the authors' code, it is
            drawn anew in every batch.
        options: see :class:`xdomain.methods.pyramid.PyramidMethod`.
    """

    amps: Tensor
    z_star_a: Tensor
    z_star_b: Tensor

    def __init__(
        self,
        min_size: int = 18,
        max_size: int = 220,
        factor: float = 0.75,
        width: int = 32,
        max_width: int = 128,
        layers: int = 5,
        switch_res: int = 2,
        alpha: float = 1.0,
        beta: float = 1.0,
        lambda_g: float = 1.0,
        lambda_self: float = 0.0,
        penalty: float = 0.1,
        noise: float = 0.1,
        fixed_z: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if len(self.domains) != 2:
            raise UserError("StructuralAnalogy learns from two images: use data of two domains, such as ImagePair.")
        if min_size < 2 * layers + 1:
            reason = f", but {layers} layers see patches of {2 * layers + 1} pixels"
            refuse(self, "min_size", min_size, f"{reason}: give at least as many.")
        self.alpha, self.beta, self.lambda_g, self.lambda_self = alpha, beta, lambda_g, lambda_self
        self.penalty, self.noise, self.fixed_z = penalty, noise, fixed_z
        sizes = paired_sizes([shape[-2:] for shape in self.shapes], min_size, max_size, factor)
        self.sizes = dict(zip(ROLES, sizes, strict=True))
        widths = [width_at(i, width, max_width) for i in range(self.scales)]
        residual = [i < self.scales - switch_res for i in range(self.scales)]

        def generators() -> nn.ModuleList:
            pairs = zip(widths, residual, strict=True)
            return nn.ModuleList(PatchTranslator(w, layers, residual=added) for w, added in pairs)

        def discriminators() -> nn.ModuleList:
            return nn.ModuleList(patch_stack(3, w, 1, layers, norm="instance") for w in widths)

        self.G_a, self.G_b, self.D_a, self.D_b = generators(), generators(), discriminators(), discriminators()
        init_normal(self)
        self.G = {"a": self.G_a, "b": self.G_b}
        self.register_buffer("amps", torch.ones(2, self.scales))
        for role, shape in zip(ROLES, self.shapes, strict=True):  # every frame of a clip has its own z*
            frames = shape[0] if len(shape) == 3 else 1
            self.register_buffer(f"z_star_{role}", torch.randn(frames, 3, *self.sizes[role][0]))

    @property
    def scales(self) -> int:
        return len(self.sizes["a"])

    def build_optimizers(self) -> dict[str, Optimizer]:
        def both(a: Iterable[nn.Module], b: Iterable[nn.Module]) -> list[list[nn.Parameter]]:
            return [[*x.parameters(), *y.parameters()] for x, y in zip(a, b, strict=True)]

        d = {f"d{i}": self.d_optimizer(weights) for i, weights in enumerate(both(self.D_a, self.D_b))}
        return d | {f"g{i}": self.optimizer(weights) for i, weights in enumerate(both(self.G_a, self.G_b))}

    @torch.no_grad()
    def begin_scale(self, scale: int, batch: Batch) -> None:
        if scale == 0:
            return
        for nets in (self.G_a, self.G_b, self.D_a, self.D_b):
            warm_start(nets[scale], nets[scale - 1])
        for amps, role in zip(self.amps, ROLES, strict=True):
            amps[scale] = self.noise * rmse(self.reals(role, batch, scale), self.known(role, scale))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        n = self.scale
        G_a, G_b, D_a, D_b = self.G_a[n], self.G_b[n], self.D_a[n], self.D_b[n]
        (r_a, known_a), (r_b, known_b) = self.example("a", batch), self.example("b", batch)
        f_a, f_b = (G(*self.noisy(role, n, self.before(role, 1, n))) for role, G in (("a", G_a), ("b", G_b)))
        m_ab, m_ba = G_b(f_a, f_a), G_a(f_b, f_b)
        fakes_a, fakes_b = [f_a, m_ba], [f_b, m_ab]  # D and G share one graph of each
        if self.lambda_self:
            fakes_a.append(G_a(*self.noisy("b", n, r_b)))
            fakes_b.append(G_b(*self.noisy("a", n, r_a)))

        l_d = self.step(f"d{n}", lambda: self.l_critic(D_a, r_a, fakes_a) + self.l_critic(D_b, r_b, fakes_b))

        l_rec = F.mse_loss(G_a(known_a, known_a), r_a) + F.mse_loss(G_b(known_b, known_b), r_b)
        l_cycle = F.mse_loss(G_a(m_ab, m_ab), f_a) + F.mse_loss(G_b(m_ba, m_ba), f_b)

        def l_g() -> Tensor:
            l_gan = self.l_gan(D_a, fakes_a) + self.lambda_g * self.l_gan(D_b, fakes_b)
            return l_gan + self.alpha * l_rec + self.beta * l_cycle

        self.log("l_g", self.step(f"g{n}", l_g), prog_bar=True)
        self.log_dict({"l_d": l_d, "l_rec": l_rec.detach(), "l_cycle": l_cycle.detach(), "scale": float(n)})

    # Losses

    def weighted(self, fakes: list[Tensor]) -> list[tuple[float, Tensor]]:
        """Fakes with weights: the random sample, the other's sample translated, the other image itself translated."""
        return list(zip((1.0, 1.0, self.lambda_self), fakes, strict=False))

    def l_critic(self, D: nn.Module, real: Tensor, fakes: list[Tensor]) -> Tensor:
        """Loss of a discriminator; the real image is evaluated once for all fakes."""
        pairs = self.weighted([fake.detach() for fake in fakes])
        score = D(real).mean()
        loss = torch.stack([weight * (D(fake).mean() - score) for weight, fake in pairs]).sum()
        penalties = [weight * gradient_penalty(D, *same_size(real, fake)) for weight, fake in pairs]
        return loss + self.penalty * torch.stack(penalties).sum()

    def l_gan(self, D: nn.Module, fakes: list[Tensor]) -> Tensor:
        """Adversarial loss of the generators on the fakes."""
        return -torch.stack([weight * D(fake).mean() for weight, fake in self.weighted(fakes)]).sum()

    # Pyramids

    def reals(self, role: str, batch: Batch, scale: int) -> Tensor:
        """The image at a scale [1, 3, H, W]; for a clip, all its frames [T, 3, H, W]."""
        image = batch[role].image[:1]
        return resize(image[0].transpose(0, 1) if image.ndim == 5 else image, self.sizes[role][scale])

    def example(self, role: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """The image (one frame of a clip) and the input of its reconstruction, at the current scale."""
        n = self.scale
        reals = self.constant(("real", role), lambda: self.reals(role, batch, n))
        t = int(torch.randint(len(reals), ())) if len(reals) > 1 else 0
        if not self.fixed_z:
            return reals[t : t + 1], self.known(role, n, 1)
        known = self.constant(("known", role), lambda: self.known(role, n))  # the scales below n do not change any more
        return reals[t : t + 1], known[t : t + 1]

    @torch.no_grad()
    def known(self, role: str, scale: int, fresh: int | None = None) -> Tensor:
        """Reconstruction of the image (of every frame) by the scales below, at this one's size; z* at the coarsest.

        Args:
            role: role of the image.
            scale: index of the scale that it is made for.
            fresh: number of new z* to draw.
        """
        z_star: Tensor = getattr(self, f"z_star_{role}")
        if not self.fixed_z:
            z_star = torch.randn_like(z_star[: fresh or len(z_star)])
        pieces = []
        for y in torch.split(z_star, PIECE):
            for G, size in zip(self.G[role][:scale], self.sizes[role][1:], strict=False):
                y = resize(G(y, y), size)
            pieces.append(y)
        return torch.cat(pieces)

    def noisy(self, role: str, scale: int, base: Tensor, clip: bool = False) -> tuple[Tensor, Tensor]:
        """The two inputs of a generator: a base [N, 3, H, W] with noise (the same in all frames) and without."""
        z = torch.randn_like(base[:1] if clip else base)
        return base + self.amps[ROLES.index(role), scale] * z, base

    @torch.no_grad()
    def climb(self, role: str, y: Tensor, scales: range, sizes: list[Size] | None = None, clip: bool = False) -> Tensor:
        """Pass images [N, 3, H, W] through some scales of a pyramid, with noise.

        Args:
            role: role of the pyramid's image.
            y: output of the scale before the first of them, or an image.
            scales: indices of the scales to run.
            sizes: sizes of all scales; by default those of training.
            clip: whether the images are frames of one clip.
        """
        sizes = sizes or self.sizes[role]
        for i in scales:
            y = self.G[role][i](*self.noisy(role, i, resize(y, sizes[i]), clip))
        return y

    def before(self, role: str, count: int, scale: int) -> Tensor:
        """Random images of the scales below, at the size of this one; zeros at the coarsest."""
        zeros = torch.zeros(count, 3, *self.sizes[role][0], device=self.device)
        return resize(self.climb(role, zeros, range(scale)), self.sizes[role][scale])

    # Images

    @torch.no_grad()
    def sample_pairs(self, count: int, size: Size | None = None) -> tuple[Tensor, Tensor]:
        """Random images in the style of a, and the same layouts in the style of b.

        Args:
            count: number of pairs.
            size: height and width in pixels; by default those of a at the finest scale reached so far.

        Returns:
            two float tensors [count, 3, H, W] in [-1, 1].
        """
        n = self.finest
        sizes = self.sizes["a"][: n + 1]
        sizes = sizes_like(sizes, size) if size else sizes
        a = self.climb("a", torch.zeros(count, 3, *sizes[0], device=self.device), range(n + 1), sizes)
        return a.clamp(-1, 1), self.G_b[n](a, a).clamp(-1, 1)

    def sample(self, count: int, size: Size | None = None) -> Tensor:
        """Random images in the style of b with layouts of a; see :meth:`sample_pairs`."""
        return self.sample_pairs(count, size)[1]

    def not_exported(self, task: str) -> str:
        return "it draws noise in proportion to pictures" if task == "random" else super().not_exported(task)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        first, second = self.domains
        return (first, second), (second, first)

    @torch.no_grad()
    def translate(
        self,
        images: Tensor,
        source: str,
        target: str,
        start: int | None = None,
        path: Literal["source", "target"] = "source",
    ) -> Tensor:
        """Translate images into the style of the target.

        An image is injected at a scale, with that scale's noise, and passes through all finer ones. It is resized to
        the longer side of the source's finest scale, keeping its aspect ratio.

        Args:
            images: float [N, 3, H, W] in [-1, 1], or clips [N, 3, T, H, W], in which every frame gets the same noise.
            source: name of the images' domain.
            target: name of the domain whose style they get.
            start: scale at which the images are injected; 0 is the coarsest.
            path: ``source`` uses the source's pyramid, and only the target's finest generator translates, like m_ab in
                training; ``target`` uses the target's generators at every scale from ``start`` on.

        Returns:
            float [N, 3, (T,) H, W] in [-1, 1], of the size of the images.
        """
        if images.ndim == 5:
            clips = [self._brought(clip.transpose(0, 1), source, target, start, path, clip=True) for clip in images]
            return torch.stack(clips).transpose(1, 2)
        return self._brought(images, source, target, start, path, clip=False)

    def _brought(self, images: Tensor, source: str, target: str, start: int | None, path: str, clip: bool) -> Tensor:
        """Images [N, 3, H, W], or the frames of one clip, in the style of the target."""
        a, b = (self._role(domain) for domain in (source, target))
        n = self.finest
        start = (n + 1) // 2 if start is None else start
        self.check_start(start)
        height, width = images.shape[-2:]
        size = size_of_longest(height, width, max(self.sizes[a][n]))
        sizes = sizes_like(self.sizes[a][: n + 1], size)
        if path == "target":
            y = self.climb(b, images, range(start, n + 1), sizes, clip)
        else:
            y = self.climb(a, images, range(start, n + 1), sizes, clip)
            y = self.G[b][n](y, y)
        return resize(y.clamp(-1, 1), (height, width))

    def _role(self, domain: str) -> str:
        if domain not in self.domains:
            raise UserError(f"unknown domain {domain!r}: this method knows {choice(self.domains)}.")
        return ROLES[self.domains.index(domain)]


def same_size(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Random crops of two images [1, 3, H, W], the largest that fit into both; the images if their sizes agree.

    A penalty between images needs equal sizes; crops keep the patches, which resizing would distort.
    """
    size = [min(sides) for sides in zip(x.shape[-2:], y.shape[-2:], strict=True)]

    def part(picture: Tensor) -> Tensor:
        for dim, side in zip((-2, -1), size, strict=True):
            if (slack := picture.shape[dim] - side) > 0:
                picture = picture.narrow(dim, int(torch.randint(slack + 1, ())), side)
        return picture

    return part(x), part(y)
