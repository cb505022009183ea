"""UNIT: two domains with one code."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.losses import lsgan
from xdomain.methods.translation import DiscriminatorFactory, TranslationMethod
from xdomain.networks.patch_discriminator import MultiScaleDiscriminator
from xdomain.networks.unit import UNITAutoencoders


class UNIT(TranslationMethod):
    """UNIT: variational autoencoders of both domains whose codes have one distribution.

    Liu, Breuel, Kautz, "Unsupervised Image-to-Image Translation Networks", NIPS 2017. The networks, losses and weights
    are those of the authors' later code: codes are their means with N(0, 1) added in training, and the divergence is
    the mean of their squares. The paper ties the domains together by weights that they share, that code by the cycle
    alone: ``share`` is the number of shared residual blocks.

    Args:
        width: channels after the first convolution of the encoders.
        blocks: residual blocks of every encoder and decoder.
        share: how many of them, next to the code, both domains share; 0 in the later code.
        discriminator: makes a discriminator from the channels of its domain.
        gan: weight of the adversarial losses.
        reconstruction: weight of the distance of an image from its reconstruction.
        cycle: weight of the distance of an image from the reconstruction of its translation.
        kl: weight of the divergences of all codes, those of the translations included.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 4,
        share: int = 1,
        discriminator: DiscriminatorFactory = MultiScaleDiscriminator,
        gan: float = 1.0,
        reconstruction: float = 10.0,
        cycle: float = 10.0,
        kl: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not 0 <= share <= blocks:
            refuse(self, "share", share, f", but there are {blocks} blocks: give a number from 0 to {blocks}.")
        self.weights = {"l_gan": gan, "l_reconstruction": reconstruction, "l_cycle": cycle, "l_kl": kl}
        x, y = self.channels
        self.G = UNITAutoencoders((x, y), width, blocks, share)
        self.D_X, self.D_Y = discriminator(x), discriminator(y)

    def build_optimizers(self) -> dict[str, Optimizer]:
        discriminators = [*self.D_X.parameters(), *self.D_Y.parameters()]
        return {"d": self.optimizer(discriminators), "g": self.optimizer(self.G.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch["a"].image, batch["b"].image
        means = [self.G.encode(x, 0), self.G.encode(y, 1)]
        codes = [mean + torch.randn_like(mean) for mean in means]
        # The draw of noise serves both updates: the discriminators see what the generators are judged by. What both
        # codes become in a domain is one pass, and the shared blocks see every code once.
        in_x, in_y = self.G.decode_into_both(torch.cat(codes))
        own, fake_x, fake_y = (in_x[: len(x)], in_y[len(x) :]), in_x[len(x) :], in_y[: len(x)]

        def discriminator_loss() -> Tensor:
            pairs = ((self.D_X, x, fake_x.detach()), (self.D_Y, y, fake_y.detach()))
            return torch.stack([lsgan(D(real), True) + lsgan(D(fake), False) for D, real, fake in pairs]).sum()

        def generator_loss() -> Tensor:
            again = [self.G.encode(fake_y, 1), self.G.encode(fake_x, 0)]
            back = [self.G.decode(mean + torch.randn_like(mean), domain) for domain, mean in enumerate(again)]
            losses = {
                "l_gan": lsgan(self.D_X(fake_x), True) + lsgan(self.D_Y(fake_y), True),
                "l_reconstruction": F.l1_loss(own[0], x) + F.l1_loss(own[1], y),
                "l_cycle": F.l1_loss(back[0], x) + F.l1_loss(back[1], y),
                "l_kl": torch.stack([code.square().mean() for code in (*means, *again)]).sum(),
            }
            self.log_dict({name: loss.detach() for name, loss in losses.items()})
            return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def generate(self, images: Tensor, target: str) -> Tensor:
        """What the target's decoder makes of the code, without noise."""
        domain = self.domains.index(target)
        return self.G.decode(self.G.encode(images, 1 - domain), domain)
