"""MUNIT: content that both domains share, and a style of each domain."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.losses import lsgan
from xdomain.methods.style import StyleMethod, sum_of
from xdomain.methods.translation import DiscriminatorFactory
from xdomain.networks import MultiScaleDiscriminator
from xdomain.networks.munit import MUNITAutoencoders


class MUNIT(StyleMethod):
    """MUNIT: an image is content, which both domains share, and a style of its domain; a translation has a new style.

    Huang, Liu, Belongie, Kautz, "Multimodal Unsupervised Image-to-Image Translation", ECCV 2018; (n) are its equations.
    The style goes into the decoder as the means and deviations of its residual blocks. Networks, losses and weights are
    those of the authors' code.

    Args:
        width: channels after the first convolution of the encoders.
        blocks: residual blocks of every content encoder and decoder.
        style_length: length of a style.
        discriminator: makes a discriminator from the channels of its domain.
        gan: weight of the adversarial losses.
        reconstruction: weight of the distance of an image from its reconstruction.
        content: weight of the distance of a content from that of its translation.
        style: weight of the distance of a drawn style from that of the translation that has it.
        cycle: weight of the distance of an image from its translation there and back in its own style; 0 or 10 in the
            authors' settings. Without it an image's structure is kept by its content alone.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 4,
        style_length: int = 8,
        discriminator: DiscriminatorFactory = MultiScaleDiscriminator,
        gan: float = 1.0,
        reconstruction: float = 10.0,
        content: float = 1.0,
        style: float = 1.0,
        cycle: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.style_length = style_length
        self.weights = {"l_gan": gan, "l_reconstruction": reconstruction, "l_content": content, "l_style": style}
        self.weights |= {"l_cycle": cycle} if cycle else {}
        x, y = self.channels
        self.G = MUNITAutoencoders((x, y), width, blocks, style_length)
        self.D_X, self.D_Y = discriminator(x), discriminator(y)

    def build_optimizers(self) -> dict[str, Optimizer]:
        discriminators = [*self.D_X.parameters(), *self.D_Y.parameters()]
        return {"d": self.optimizer(discriminators), "g": self.optimizer(self.G.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        G, D = self.G, (self.D_X, self.D_Y)
        images = batch["a"].image, batch["b"].image
        contents = [G.content(x, domain) for domain, x in enumerate(images)]
        styles = [G.style(x, domain) for domain, x in enumerate(images)]
        # The drawn styles serve both updates: the discriminators see what the generators are judged by. What is drawn
        # in a domain, its own images and the translations into it, is one pass.
        drawn = [torch.randn_like(styles[1]), torch.randn_like(styles[0])]
        same, fakes = [], []
        for domain, own in enumerate(contents):
            codes = torch.cat([own, contents[1 - domain]]), torch.cat([styles[domain], drawn[domain]])
            both = G.decode(*codes, domain)
            same.append(both[: len(own)])
            fakes.append(both[len(own) :])

        def discriminator_loss() -> Tensor:
            pairs = zip(D, images, fakes, strict=True)
            losses = (lsgan(d(real), True) + lsgan(d(fake.detach()), False) for d, real, fake in pairs)
            return self.weights["l_gan"] * sum_of(losses)

        def generator_loss() -> Tensor:
            again = [G.content(fake, domain) for domain, fake in enumerate(fakes)]
            seen = [G.style(fake, domain) for domain, fake in enumerate(fakes)]
            losses = {
                "l_gan": sum_of(lsgan(d(fake), True) for d, fake in zip(D, fakes, strict=True)),  # (4)
                "l_reconstruction": sum_of(map(F.l1_loss, same, images)),  # (1)
                "l_content": sum_of(map(F.l1_loss, again, contents[::-1])),  # (2)
                "l_style": sum_of(map(F.l1_loss, seen, drawn)),  # (3)
            }
            if "l_cycle" in self.weights:
                back = [G.decode(again[1 - domain], style, domain) for domain, style in enumerate(styles)]
                losses["l_cycle"] = sum_of(map(F.l1_loss, back, images))
            return self.summed(losses, self.weights)  # (5)

        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def content(self, images: Tensor, domain: int) -> Tensor:
        return self.G.content(images, domain)

    def style(self, images: Tensor, domain: int) -> Tensor:
        return self.G.style(images, domain)

    def decode(self, content: Tensor, style: Tensor, domain: int) -> Tensor:
        return self.G.decode(content, style, domain)
