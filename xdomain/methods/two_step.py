"""The two-step method: an AC-GAN over all domains, then an encoder that inverts its frozen generator."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch, to_channels
from xdomain.errors import UserError, refuse
from xdomain.losses import bce_gan
from xdomain.methods.base import Phase
from xdomain.methods.latent import LatentMethod
from xdomain.networks.two_step import ConditionalGenerator, LatentEncoder, TwoHeadDiscriminator

RATE = 0.1  # of Adam in the optimisation of latent vectors


class TwoStep(LatentMethod):
    """Translation through the latent space of a class-conditional GAN, between any two of N domains.

    Dong, Neekhara, Wu, Guo, "Unsupervised Image-to-Image Translation with Generative Adversarial Networks", 2017. Step
    1 trains an AC-GAN: G(z, y) draws an image of domain y from z, D tells real from drawn images and names the domain.
    Step 2 freezes G and trains E on G's images alone, to find the z behind them. An image x is then translated by
    G(E(x), y) with another y.

    With ``n`` images per domain in a batch there are n of every class, and a batch of step 2 is as large. Step 2 looks
    at no image of the data, unless ``inversion`` is ``pixels``. Grey domains are repeated to RGB where another is RGB.

    Args:
        generator: makes G from (channels, image size, length of z, number of domains).
        discriminator: makes D from (channels, image size, number of domains).
        encoder: makes E from (channels, image size, length of z).
        latent: length of z, drawn from N(0, 1).
        gan_steps: batches of step 1.
        encoder_steps: batches of step 2.
        generator_updates: updates of G per update of D; 2 in the authors' code.
        reuse_z: all these updates have the same z, as in the authors' code; otherwise each draws its own.
        class_on_fake: train D's class head on drawn images too, as Odena et al. 2017 do; the authors' code does not.
        ema: decay of the average of G's weights and running statistics over step 1, from which step 2 and translations
            draw; None draws with G as it is, as in the authors' code.
        inversion: what finds z. ``latents``: E, which learns z of drawn images. ``pixels``: E, which learns to make
            G(E(x), y) resemble images x of domain y of the data. ``optimised``: ``optimisation_steps`` of Adam on z for
            each image, from z = 0, so that G(z, y) resembles x; there is no E and no step 2.
        optimisation_steps: see ``inversion``.
        encoder_optimizer: builds the optimiser of E; None uses ``optimizer``.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        generator: Callable[[int, int, int, int], nn.Module] = ConditionalGenerator,
        discriminator: Callable[[int, int, int], nn.Module] = TwoHeadDiscriminator,
        encoder: Callable[[int, int, int], nn.Module] = LatentEncoder,
        latent: int = 100,
        gan_steps: int = 295_000,
        encoder_steps: int = 30_000,
        generator_updates: int = 2,
        reuse_z: bool = True,
        class_on_fake: bool = False,
        ema: float | None = None,
        inversion: Literal["latents", "pixels", "optimised"] = "latents",
        optimisation_steps: int = 200,
        encoder_optimizer: OptimizerCallable | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if len(self.domains) < 2:
            raise UserError("TwoStep translates between domains, but the data has only one: give it more.")
        steps = {"gan_steps": gan_steps, "encoder_steps": encoder_steps, "optimisation_steps": optimisation_steps}
        for name, value in {**steps, "latent": latent, "generator_updates": generator_updates}.items():
            if value < 1:
                refuse(self, name, value, "give a number of at least 1.")
        self.latent, self.gan_steps, self.encoder_steps = latent, gan_steps, encoder_steps
        self.generator_updates, self.reuse_z, self.class_on_fake = generator_updates, reuse_z, class_on_fake
        self.inversion, self.optimisation_steps = inversion, optimisation_steps
        self.encoder_optimizer = encoder_optimizer
        self.colours, size, classes = max(self.channels), self.image_size, len(self.domains)
        self.G = generator(self.colours, size, latent, classes)
        self.D = discriminator(self.colours, size, classes)
        self.E = encoder(self.colours, size, latent) if inversion != "optimised" else None
        self.build_average(ema)

    def build_phases(self) -> tuple[Phase, ...]:
        gan = Phase("adversarial", self.gan_steps, ("d", "g"))
        return (gan,) if self.E is None else (gan, Phase("inversion", self.encoder_steps, ("e",)))

    def build_optimizers(self) -> dict[str, Optimizer]:
        optimizers = {"d": self.optimizer(self.D.parameters()), "g": self.optimizer(self.G.parameters())}
        if self.E is not None:
            optimizers["e"] = (self.encoder_optimizer or self.optimizer)(self.E.parameters())
        return optimizers

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """Between any two domains, and from each to itself."""
        pairs = [(source, target) for source in self.domains for target in self.domains]
        return tuple(sorted(pairs, key=lambda pair: pair[0] == pair[1]))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.phase.name == "adversarial":
            self.adversarial(*self.labelled(batch))
        elif self.inversion == "latents":
            count = sum(len(sample.image) for sample in batch.values())
            assert self.E is not None
            self.invert("e", self.E, torch.randint(len(self.domains), (count,), device=self.device))
        else:
            self.reconstruct(*self.labelled(batch))

    def labelled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images of all domains [N, C, H, W] and their classes, ``int64`` [N]."""
        images = [to_channels(sample.image, self.colours) for _, sample in sorted(batch.items())]
        counts = torch.tensor([len(x) for x in images], device=images[0].device)
        return torch.cat(images), torch.arange(len(images), device=images[0].device).repeat_interleave(counts)

    # Step 1

    def adversarial(self, x: Tensor, y: Tensor) -> None:
        """One batch of step 1. G(z, y) is computed once for D's update and the first of G."""
        z = self.noise(len(y))
        with self.updating("g"):
            fake = self.G(z, y)

        def d_loss() -> Tensor:
            real, kind = self.D(x)
            drawn, kind_of_drawn = self.D(fake.detach())
            losses = {
                "l_real": bce_gan(real, True),
                "l_fake": bce_gan(drawn, False),
                "l_class": F.cross_entropy(kind, y),
            }
            if self.class_on_fake:
                losses["l_class_fake"] = F.cross_entropy(kind_of_drawn, y)
            return self.summed(losses)

        self.log("l_d", self.step("d", d_loss), prog_bar=True)

        def g_loss() -> Tensor:
            drawn, kind = self.D(fake)
            self.log("class_accuracy", (kind.argmax(1) == y).float().mean())
            return self.summed({"l_gan": bce_gan(drawn, True), "l_class_g": F.cross_entropy(kind, y)})

        for update in range(self.generator_updates):
            if update > 0:
                z = z if self.reuse_z else self.noise(len(y))
                with self.updating("g"):
                    fake = self.G(z, y)
            l_g = self.step("g", g_loss)
        self.log("l_g", l_g, prog_bar=True)
        self.follow()

    # Step 2

    def reconstruct(self, x: Tensor, y: Tensor) -> None:
        """One batch of step 2 with ``pixels``: G(E(x), y) learns to resemble images x of domain y."""
        E = self.E
        assert E is not None
        with self.frozen() as G:
            self.log("l_e", self.step("e", lambda: F.mse_loss(G(E(x), y), x)), prog_bar=True)

    # Inference

    def draw(self, z: Tensor, domain: str) -> Tensor:
        """Images of a domain from latent vectors.

        Args:
            z: float [N, latent], such as from N(0, 1).
            domain: name of the domain.

        Returns:
            float [N, C, H, W] in [-1, 1], with the channels of the domain.
        """
        index = self.domains.index(domain)
        y = torch.full((z.shape[0],), index, dtype=torch.int64, device=z.device)
        with self.frozen() as G:
            return to_channels(G(z, y), self.channels[index])

    def latents(self, images: Tensor, domain: str) -> Tensor:
        """Latent vectors of images.

        Args:
            images: float [N, C, H, W] in [-1, 1], with the channels of the domain.
            domain: name of the domain that they come from.

        Returns:
            float [N, latent].
        """
        images = to_channels(images, self.colours)
        if self.E is None:
            return self.optimised(images, domain)
        training = self.E.training
        self.E.eval()
        try:
            z: Tensor = self.E(images)
            return z
        finally:
            self.E.train(training)

    def optimised(self, images: Tensor, domain: str) -> Tensor:
        """Latent vectors [N, latent] whose images are closest to images [N, C, H, W] of a domain, by Adam."""
        with torch.inference_mode(False), torch.enable_grad():
            x = images.detach().clone()
            z = x.new_zeros(len(x), self.latent, requires_grad=True)
            y = torch.full((len(x),), self.domains.index(domain), dtype=torch.int64, device=x.device)
            adam = torch.optim.Adam([z], lr=RATE)
            with self.frozen() as G:
                for _ in range(self.optimisation_steps):
                    error = (G(z, y) - x).square().flatten(1).mean(1).sum()  # every image for itself
                    (z.grad,) = torch.autograd.grad(error, [z])
                    adam.step()
        return z.detach()

    def not_exported(self, task: str) -> str:
        return "" if self.E is not None else "it finds the latent vectors of every image by optimisation"

    def translate(self, images: Tensor, source: str, target: str) -> Tensor:
        self.direction("transfer", source, target)
        return self.draw(self.latents(images, source), target)
