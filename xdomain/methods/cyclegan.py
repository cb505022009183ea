"""CycleGAN: two generators, each the inverse of the other."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import UserError, refuse
from xdomain.losses import lsgan
from xdomain.methods.translation import DiscriminatorFactory, GeneratorFactory, TranslationMethod
from xdomain.networks import ImagePool, PatchDiscriminator, ResnetGenerator


class CycleGAN(TranslationMethod):
    """CycleGAN: generators in both directions, each the inverse of the other, and a discriminator for each domain.

    Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV
    2017; (n) are its equations. G translates from the first domain to the second, F back; D_X judges the first
    domain, D_Y the second. With the defaults and RGB images of 256 pixels it is the authors' code.

    Args:
        generator: makes G and F from the channels of their two domains.
        discriminator: makes D_X and D_Y from the channels of their domain.
        gan: weight of the adversarial losses; 0 is the paper's ablation "cycle alone".
        cycle: weight lambda of the cycle consistency loss; 0 is the ablation "GAN alone".
        identity: weight of the identity loss as a share of ``cycle``; both domains need the same channels for it. 0.5
            in the authors' code, 0 leaves it out.
        pool: size of the pools of earlier translations that the discriminators learn from.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        generator: GeneratorFactory = ResnetGenerator,
        discriminator: DiscriminatorFactory = PatchDiscriminator,
        gan: float = 1.0,
        cycle: float = 10.0,
        identity: float = 0.5,
        pool: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        x, y = self.channels
        if identity and x != y:
            reason = f", which needs as many channels in both domains, but they have {x} and {y}"
            refuse(self, "identity", identity, f"{reason}: set it to 0.")
        if not gan and not cycle:
            raise UserError(f"{type(self).__name__} has neither gan nor cycle: set one of them above 0.")
        self.gan, self.cycle, self.identity = gan, cycle, identity
        self.G, self.F = generator(x, y), generator(y, x)
        self.D_X, self.D_Y = discriminator(x), discriminator(y)
        size = self.image_size
        self.pool_x, self.pool_y = ImagePool(pool, (x, size, size)), ImagePool(pool, (y, size, size))

    def build_optimizers(self) -> dict[str, Optimizer]:
        generators, discriminators = ([self.G, self.F], [self.D_X, self.D_Y])
        return {
            "g": self.optimizer([p for network in generators for p in network.parameters()]),
            "d": self.optimizer([p for network in discriminators for p in network.parameters()]),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch["a"].image, batch["b"].image
        fakes: list[Tensor] = []

        def generator_loss() -> Tensor:
            fake_y, same_y = with_identity(self.G, x, y if self.identity and self.cycle else None)
            fake_x, same_x = with_identity(self.F, y, x if self.identity and self.cycle else None)
            fakes.extend((fake_x.detach(), fake_y.detach()))
            losses = {}
            if self.gan:  # (1)
                losses["l_gan"] = self.gan * (lsgan(self.D_Y(fake_y), True) + lsgan(self.D_X(fake_x), True))
            if self.cycle:  # (2)
                back = F.l1_loss(self.F(fake_y), x) + F.l1_loss(self.G(fake_x), y)
                losses["l_cycle"] = self.cycle * back
            if same_x is not None and same_y is not None:
                same = F.l1_loss(same_y, y) + F.l1_loss(same_x, x)
                losses["l_identity"] = self.identity * self.cycle * same
            losses |= self.further_losses(x, y, fake_x, fake_y)
            self.log_dict({name: loss.detach() for name, loss in losses.items()})
            return torch.stack([*losses.values()]).sum()  # (3)

        def discriminator_loss() -> Tensor:
            fake_x, fake_y = self.pool_x(fakes[0]), self.pool_y(fakes[1])
            return l_discriminator(self.D_X, x, fake_x) + l_discriminator(self.D_Y, y, fake_y)

        self.log("l_g", self.step("g", generator_loss), prog_bar=True)
        if self.gan:
            self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)

    def further_losses(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> dict[str, Tensor]:
        """What a successor adds to the generators' losses, weighted."""
        return {}

    def generate(self, images: Tensor, target: str) -> Tensor:
        network = self.G if target == self.domains[1] else self.F
        result: Tensor = network(images)
        return result


def with_identity(
    network: Callable[[Tensor], Tensor], images: Tensor, own: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Translations of images and, in the same pass, of images that are in the target domain already, if any."""
    if own is None:
        return network(images), None
    both = network(torch.cat([images, own]))
    return both[: len(images)], both[len(images) :]


def l_discriminator(D: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Half of the two least-squares terms of a discriminator of single images, out of one pass."""
    scores = D(torch.cat([real, fake]))
    return (lsgan(scores[: len(real)], True) + lsgan(scores[len(real) :], False)) / 2
