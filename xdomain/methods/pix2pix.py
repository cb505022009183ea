"""pix2pix: translation learned from pairs."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import UserError
from xdomain.losses import bce_gan
from xdomain.methods.translation import DiscriminatorFactory, GeneratorFactory, TranslationMethod
from xdomain.networks import PairDiscriminator, UNetGenerator


class Pix2Pix(TranslationMethod):
    """pix2pix: a conditional GAN that learns from pairs; the upper bound of what learns without.

    Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017; (n) are its
    equations. It needs data whose training batches hold pairs. With the defaults and RGB images of 256 pixels it is
    the authors' later code, but for translations in evaluation mode: they do not depend on other images of the batch.

    Args:
        generator: makes G from the channels of both domains.
        discriminator: makes D from the channels of both domains together.
        l1: weight lambda of the distance from the true image.
        reverse: translate from the second domain to the first instead.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        generator: GeneratorFactory = UNetGenerator,
        discriminator: DiscriminatorFactory = PairDiscriminator,
        l1: float = 100.0,
        reverse: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.l1, self.reverse = l1, reverse
        source, target = self.channels[::-1] if reverse else self.channels
        self.G = generator(source, target)
        self.D = discriminator(source + target)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        source, target = self.domains[::-1] if self.reverse else self.domains
        return ((source, target),)

    def on_fit_start(self) -> None:
        """Refuse data without pairs before the first batch."""
        if not self.data.pairs:
            raise UserError(f"Pix2Pix learns from pairs, but {type(self.data).__name__} gives none: set its pairs.")

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {"d": self.optimizer(self.D.parameters()), "g": self.optimizer(self.G.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = (batch[role].image for role in ("ba" if self.reverse else "ab"))
        fake = self.G(x)  # one forward serves both updates

        def discriminator_loss() -> Tensor:
            real_scores, fake_scores = self.D(torch.cat([x, y], 1)), self.D(torch.cat([x, fake.detach()], 1))
            return (bce_gan(real_scores, True) + bce_gan(fake_scores, False)) / 2  # (1)

        def generator_loss() -> Tensor:
            losses = {"l_gan": bce_gan(self.D(torch.cat([x, fake], 1)), True), "l_l1": F.l1_loss(fake, y)}  # (1), (3)
            self.log_dict({name: loss.detach() for name, loss in losses.items()})
            return losses["l_gan"] + self.l1 * losses["l_l1"]  # (4)

        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def generate(self, images: Tensor, target: str) -> Tensor:
        result: Tensor = self.G(images)
        return result
