"""IcGAN."""

from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import UserError, refuse
from xdomain.losses import bce_gan
from xdomain.methods.base import Phase
from xdomain.methods.editor import AttributeEditor, NetworkFactory
from xdomain.methods.latent import LatentMethod
from xdomain.networks import IcGANDiscriminator, IcGANEncoder, IcGANGenerator


class IcGAN(LatentMethod, AttributeEditor):
    """A GAN that is told attributes, then an encoder that finds its latent vectors, then one that reads attributes.

    Perarnau, van de Weijer, Raducanu, Alvarez, "Invertible Conditional GANs for Image Editing", 2016. G(z, y) draws an
    image with attributes y, each -1 or 1. E_z learns the z of images that G draws, E_y the y of real images. An edit of
    x is G(E_z(x), y') with y' from the signs of E_y(x): the whole image is drawn anew.

    Args:
        generator: makes G from (channels, image size, length of z, number of attributes).
        discriminator: makes D from (channels, image size, number of attributes); it has ``maps`` and ``judged``.
        latent_encoder: makes E_z from (channels, image size, length of z).
        attribute_encoder: makes E_y from (channels, image size, number of attributes).
        latent: length of z, drawn from N(0, 1).
        gan_steps: batches of the GAN; by default 25 epochs of the authors' images in batches of 64.
        latent_steps: batches of E_z; by default 15 epochs of two thirds of the images, as the authors'.
        attribute_steps: batches of E_y, likewise.
        ema: decay of the average of G's weights and running statistics over the GAN's batches, which is inverted and
            draws the edits; None takes G as it is, as in the authors' code.
        encoder_optimizer: builds the optimisers of E_z and E_y; None uses ``optimizer``.
        options: see :class:`xdomain.methods.editor.AttributeEditor`.
    """

    edits = False

    def __init__(
        self,
        generator: Callable[[int, int, int, int], nn.Module] = IcGANGenerator,
        discriminator: NetworkFactory = IcGANDiscriminator,
        latent_encoder: NetworkFactory = IcGANEncoder,
        attribute_encoder: NetworkFactory = IcGANEncoder,
        latent: int = 100,
        gan_steps: int = 71_325,
        latent_steps: int = 28_245,
        attribute_steps: int = 28_245,
        ema: float | None = None,
        encoder_optimizer: OptimizerCallable | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        steps = {"gan_steps": gan_steps, "latent_steps": latent_steps, "attribute_steps": attribute_steps}
        for name, value in {**steps, "latent": latent}.items():
            if value < 1:
                refuse(self, name, value, "give a number of at least 1.")
        self.latent, self.encoder_optimizer, self.steps = latent, encoder_optimizer, steps
        channels, size, attributes = self.channels[0], self.image_size, len(self.names)
        self.G = generator(channels, size, latent, attributes)
        self.D = cast(IcGANDiscriminator, discriminator(channels, size, attributes))
        self.E_z = latent_encoder(channels, size, latent)
        self.E_y = attribute_encoder(channels, size, attributes)
        self.build_average(ema)

    def build_phases(self) -> tuple[Phase, ...]:
        return (
            Phase("adversarial", self.steps["gan_steps"], ("d", "g")),
            Phase("inversion", self.steps["latent_steps"], ("z",)),
            Phase("attributes", self.steps["attribute_steps"], ("y",)),
        )

    def build_optimizers(self) -> dict[str, Optimizer]:
        of_encoders = self.encoder_optimizer or self.optimizer
        return {
            "d": self.optimizer(self.D.parameters()),
            "g": self.optimizer(self.G.parameters()),
            "z": of_encoders(self.E_z.parameters()),
            "y": of_encoders(self.E_y.parameters()),
        }

    # Training

    def on_fit_start(self) -> None:
        if self.data.batch_size < 2:
            raise UserError("IcGAN shows D images with the attributes of others: give a batch_size of at least 2.")
        super().on_fit_start()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, own, others = self.sampled(batch["a"])
        y = self.label(own)
        if self.phase.name == "adversarial":
            self.adversarial(x, y, self.label(others))
        elif self.phase.name == "inversion":
            self.invert("z", self.E_z, y)
        else:
            self.log("l_y", self.step("y", lambda: F.mse_loss(self.E_y(x), y)), prog_bar=True)

    def label(self, own: Tensor) -> Tensor:
        """Attributes [N, K] of 0 and 1 as y, which has -1 and 1."""
        return 2 * own - 1

    def adversarial(self, x: Tensor, y: Tensor, wrong: Tensor) -> None:
        """One batch of the GAN, with real images x, their y, and y of other images. One pass of G serves D and G."""
        with self.updating("g"):
            fake = self.G(self.noise(len(y)), y)

        def d_loss() -> Tensor:
            maps, differ = self.D.maps(x), (wrong != y).any(1).to(x)
            l_wrong = (differ * F.softplus(self.D.judged(maps, wrong))).sum() / differ.sum().clamp(min=1)
            losses = {
                "l_real": bce_gan(self.D.judged(maps, y), True),
                "l_fake": bce_gan(self.D(fake.detach(), y), False),
                "l_wrong": l_wrong,
            }
            return self.summed(losses, {"l_fake": 0.5, "l_wrong": 0.5})

        self.log("l_d", self.step("d", d_loss), prog_bar=True)
        self.log("l_g", self.step("g", lambda: bce_gan(self.D(fake, y), True)), prog_bar=True)
        self.follow()

    # Inference

    def edited(self, images: Tensor, own: Tensor, target: Tensor, strength: float = 1.0) -> Tensor:
        with self.evaluating(), self.frozen() as G:
            result: Tensor = G(self.E_z(images), self.label(torch.lerp(own, target, strength)))
            return result

    def read(self, images: Tensor) -> Tensor:
        """What E_y sees of :attr:`names` in images [N, C, H, W] in [-1, 1]: float [N, K] of 0 and 1."""
        with self.evaluating():
            seen: Tensor = self.E_y(images)
            return (seen > 0).float()
