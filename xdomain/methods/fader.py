"""Fader Networks."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.methods.content import ContentMethod, Task
from xdomain.networks import CodeDecoder, CodeEncoder, FaderDiscriminator
from xdomain.networks.codes import trunk


class FaderNetwork(ContentMethod):
    """An auto-encoder with a domain-invariant code; the decoder gets the domain as a second input.

    Lample et al., "Fader Networks: Manipulating Images by Sliding Attributes", NIPS 2017. The attribute y is the
    domain, one-hot. There are no guides: all images of a domain get the same content. E and D are encoder and decoder,
    d is the latent discriminator.

    Args:
        width: channels after the first layer; 32 in the paper's code.
        depth: number of layers that halve the image; None goes down to 2x2.
        adversarial: weight of E's adversarial loss after its ramp; 1e-4 suits the mean squared error in [-1, 1].
        ramp: number of batches over which that weight grows from 0; 500,000 in the paper, 0 disables the ramp.
        dropout: dropout rate of d.
        clip: largest gradient norm.
        options: see :class:`xdomain.methods.content.ContentMethod`.
    """

    guided = False

    def __init__(
        self,
        width: int = 32,
        depth: int | None = None,
        adversarial: float = 1e-4,
        ramp: int = 500_000,
        dropout: float = 0.3,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(clip=clip, **options)
        self.contents = self.domains
        self.adversarial, self.ramp = adversarial, ramp
        channels, size, labels = self.channels[0], self.image_size, len(self.domains)
        layers = trunk(size, width, depth)
        self.E = CodeEncoder(channels, layers, size, "batch", without_norm=[0])
        self.D = CodeDecoder(channels, size, width, depth, "batch", labels=labels, bias=False)
        self.d = FaderDiscriminator(self.D.shape, labels, 16 * width, dropout)
        self.build_readouts(self.E.dim)

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {
            "d": self.optimizer(self.d.parameters()),
            "g": self.optimizer([*self.E.parameters(), *self.D.parameters()]),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x = torch.cat([batch["a"].image, batch["b"].image])
        y = torch.arange(2, device=x.device).repeat_interleave(len(batch["a"].image))
        weight = self.ramped(self.adversarial, self.ramp)

        def discriminator_loss() -> Tensor:
            logits = self.d(self._steady(x))
            self.log("d_accuracy", (logits.argmax(1) == y).float().mean())
            return F.cross_entropy(logits, y)

        def autoencoder_loss() -> Tensor:
            z = self.E(x)
            self.d.eval()  # no dropout, running statistics
            l_adversarial = F.cross_entropy(self.d(z), 1 - y)
            self.d.train()
            l_reconstruction = F.mse_loss(self.D(z, F.one_hot(y, 2).to(z)).tanh(), x)
            self.log_dict({"l_reconstruction": l_reconstruction.detach(), "l_adversarial": l_adversarial.detach()})
            self.log("weight_adversarial", weight)
            return l_reconstruction + weight * l_adversarial

        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)
        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)

    @torch.no_grad()
    def _steady(self, images: Tensor) -> Tensor:
        """Codes computed with E's running statistics."""
        self.E.eval()
        codes: Tensor = self.E(images)
        self.E.train()
        return codes

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E(images)
        return code

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        with self.evaluating():
            return {"common": self.read_common(images)}

    def slide(self, images: Tensor, amount: float) -> Tensor:
        """Decode with y = [1 - amount, amount]: 0 is the first domain, 1 the second; amounts may go beyond."""
        with self.evaluating():
            y = images.new_tensor([1 - amount, amount]).expand(images.shape[0], 2)
            result: Tensor = self.D(self.read_common(images), y).tanh()
            return result

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        own = self.domains.index(source)
        return self.slide(images, float(1 - own if given is None else self.domains.index(given)))

    def interpolate(self, images: Tensor, guide: Tensor | None = None, fixed: str = "common", steps: int = 7) -> Tensor:
        """Keep the code and vary y from the first domain to the second: [N, 1, steps, C, H, W]. Ignores ``guide``."""
        self.check_interpolation(fixed, steps)
        row = [self.slide(images, amount) for amount in torch.linspace(0, 1, steps).tolist()]
        return torch.stack(row, 1)[:, None]
