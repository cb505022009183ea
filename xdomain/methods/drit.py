"""DRIT: content in which the domains cannot be told apart, and attributes of each domain."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import SettingError, refuse
from xdomain.losses import bce_gan, kl_divergence, l_domain
from xdomain.methods.style import StyleMethod, sum_of
from xdomain.methods.translation import DiscriminatorFactory
from xdomain.networks import ContentDiscriminator, MultiScaleDiscriminator
from xdomain.networks.drit import DRITAttributeEncoder, DRITContentEncoder, DRITGenerator

CONTENT_LR = 0.4  # the content discriminator's learning rate as a share of the others', in the authors' code
CONTENT_CLIP = 5.0  # the largest norm of its gradients there


class DRIT(StyleMethod):
    """DRIT: content that an adversary cannot assign to a domain, and a vector of attributes, which is the style.

    Lee, Tseng, Huang, Singh, Yang, "Diverse Image-to-Image Translation via Disentangled Representations", ECCV 2018.
    E_c encodes content, E_a attributes, G draws both; D_X and D_Y judge translations with the attributes of an image,
    D_X2 and D_Y2 those with random ones, D_c the content. Networks, losses and weights are those of the authors' code
    without the mode seeking loss of its second version.

    The first half of a batch is encoded. The second is what images with random attributes are compared with.

    Args:
        width: channels after the first convolution of the encoders.
        blocks: residual blocks that each domain has of its own in the content encoder, and in the generator.
        style_length: length of the attribute vector.
        discriminator: makes an image discriminator from the channels of its domain.
        content_discriminator: makes D_c from the channels of the content. The authors' needs images of 212 pixels; see
            :class:`xdomain.networks.ContentDiscriminator` for smaller ones.
        content_updates: updates of D_c for each of the others: in all but every ``content_updates``-th batch only D_c
            learns.
        gan: weight of the adversarial losses of images.
        content_gan: weight of the adversarial loss of content, which is to leave D_c undecided.
        cycle: weight of the cross-cycle: two images that have exchanged attributes twice.
        reconstruction: weight of the distance of an image from its reconstruction.
        latent: weight of the distance of random attributes from those of the translation that has them; E_a does not
            learn from it.
        kl: weight of the divergence of attributes from N(0, 1), and of the mean square of content.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 3,
        style_length: int = 8,
        discriminator: DiscriminatorFactory = MultiScaleDiscriminator,
        content_discriminator: Callable[[int], nn.Module] = ContentDiscriminator,
        content_updates: int = 3,
        gan: float = 1.0,
        content_gan: float = 1.0,
        cycle: float = 10.0,
        reconstruction: float = 10.0,
        latent: float = 10.0,
        kl: float = 0.01,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if content_updates < 1:
            refuse(self, "content_updates", content_updates, "give a number of at least 1.")
        if self.accumulate > 1 and content_updates > 1:
            reason = ", but not every batch updates all networks"
            refuse(self, "accumulate", self.accumulate, f"{reason}: set content_updates to 1, or accumulate to 1.")
        self.style_length, self.content_updates = style_length, content_updates
        self.weights = {"l_gan": gan, "l_content_gan": content_gan, "l_cycle": cycle}
        self.weights |= {"l_reconstruction": reconstruction, "l_latent": latent, "l_kl": kl}
        x, y = self.channels
        self.E_c = DRITContentEncoder((x, y), width, blocks)
        self.E_a = DRITAttributeEncoder((x, y), width, style_length)
        self.G = DRITGenerator((x, y), width, blocks, style_length)
        self.D_X, self.D_Y = discriminator(x), discriminator(y)
        self.D_X2, self.D_Y2 = discriminator(x), discriminator(y)
        self.D_c = content_discriminator(4 * width)

    def setup(self, stage: str) -> None:
        """Refuse images whose content is too small for D_c."""
        super().setup(stage)
        least = self.stride * int(getattr(self.D_c, "least", 1))
        smallest = min(side for shape in self.shapes for side in shape[-2:])
        if stage == "fit" and smallest < least:
            needs = f"needs images of {least} pixels, but the data has {smallest}"
            raise SettingError(self, "content_discriminator", f"{needs}: give it a smaller kernel, or fewer halvings.")

    def build_optimizers(self) -> dict[str, Optimizer]:
        networks = {"d": (self.D_X, self.D_Y, self.D_X2, self.D_Y2), "d_content": (self.D_c,)}
        networks |= {"g": (self.E_c, self.E_a, self.G)}
        found = {name: self.optimizer([p for net in nets for p in net.parameters()]) for name, nets in networks.items()}
        for group in found["d_content"].param_groups:
            group["lr"] *= CONTENT_LR
        return found

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        if optimizer is self.named_optimizer("d_content"):
            nn.utils.clip_grad_norm_(self.D_c.parameters(), CONTENT_CLIP)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        images = [batch[role].image[: (len(batch[role].image) + 1) // 2] for role in "ab"]
        others = [batch[role].image[len(batch[role].image) // 2 :] for role in "ab"]
        everything = (self.trainer.global_step + 1) % self.content_updates == 0
        with torch.set_grad_enabled(everything):
            contents = [self.E_c(x, domain) for domain, x in enumerate(images)]

        def content_discriminator_loss() -> Tensor:
            a, b = (self.D_c(content.detach()) for content in contents)
            return l_domain(a, b, 0, 1)

        if not everything:
            self.log("l_d_content", self.step("d_content", content_discriminator_loss), prog_bar=True)
            return
        moments = [self.E_a(x, domain) for domain, x in enumerate(images)]
        styles = [sampled(*pair) for pair in moments]
        drawn = [torch.randn_like(styles[1]), torch.randn_like(styles[0])]
        # One pass of the shared block for each content, one of each decoder for all that is drawn in its domain, and
        # what the discriminators learn from is what the generator is judged by.
        shared = [self.G.shared(content) for content in contents]
        pictures = []
        for domain, (own, other) in enumerate((shared, shared[::-1])):
            codes = torch.cat([other, own, other]), torch.cat([styles[domain], styles[domain], drawn[domain]])
            pictures.append(self.G.decode(*codes, domain).chunk(3))
        fakes, same, random = zip(*pictures, strict=True)
        judged = [*zip((self.D_X, self.D_Y), fakes, images, strict=True)]
        judged += zip((self.D_X2, self.D_Y2), random, others, strict=True)

        def discriminator_loss() -> Tensor:
            losses = (bce_gan(d(real), True) + bce_gan(d(fake.detach()), False) for d, fake, real in judged)
            return self.weights["l_gan"] * sum_of(losses)

        def generator_loss() -> Tensor:
            again = [self.G.shared(self.E_c(fake, domain)) for domain, fake in enumerate(fakes)][::-1]
            seen = [sampled(*self.E_a(fake, domain)) for domain, fake in enumerate(fakes)]
            back = [self.G.decode(again[domain], style, domain) for domain, style in enumerate(seen)]
            fixed = {name: weight.detach() for name, weight in self.E_a.named_parameters()}  # it learns nothing here
            latent = [functional_call(self.E_a, fixed, (x, domain))[0] for domain, x in enumerate(random)]
            divergence = sum_of(self.style_length * kl_divergence(*pair) for pair in moments)
            losses = {
                "l_gan": sum_of(bce_gan(d(fake), True) for d, fake, _ in judged),
                "l_content_gan": l_domain(self.D_c(contents[0]), self.D_c(contents[1]), 0.5, 0.5),
                "l_cycle": sum_of(map(F.l1_loss, back, images)),
                "l_reconstruction": sum_of(map(F.l1_loss, same, images)),
                "l_latent": sum_of(map(F.l1_loss, latent, drawn)),
                "l_kl": divergence + sum_of(content.square().mean() for content in contents),
            }
            return self.summed(losses, self.weights)

        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_d_content", self.step("d_content", content_discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def content(self, images: Tensor, domain: int) -> Tensor:
        code: Tensor = self.E_c(images, domain)
        return code

    def style(self, images: Tensor, domain: int) -> Tensor:
        """The means of the attributes."""
        mean: Tensor = self.E_a(images, domain)[0]
        return mean

    def decode(self, content: Tensor, style: Tensor, domain: int) -> Tensor:
        images: Tensor = self.G(content, style, domain)
        return images


def sampled(mean: Tensor, logvar: Tensor) -> Tensor:
    """One draw of each N(mean, exp(logvar))."""
    return mean + torch.randn_like(mean) * (logvar / 2).exp()
