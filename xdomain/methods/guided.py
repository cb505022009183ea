"""Guided content transfer: the ancestor of DIDD and of masked transfer."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.losses import l_domain
from xdomain.methods.content import Codes, ContentMethod
from xdomain.networks import CodeDiscriminator, ContentDecoder, ContentEncoder
from xdomain.networks.content import Norm, trunk


class GuidedTransfer(ContentMethod):
    """Auto-encoding with a common code and, where there is something to add, a content code.

    Press, Galanti, Benaim, Wolf, "Emerging Disentanglement in Auto-Encoder Based Unsupervised Image Content Transfer",
    ICLR 2019. The first domain has the content, the second lacks it. E_1 is the common encoder, E_2 that of the
    content, D the decoder of [common, content], d the discriminator of common codes.

    Args:
        sep: channels of the content code.
        width: channels after the first layer; 32 in the paper.
        depth: number of layers that halve the image; None goes down to 2x2 like the paper's networks.
        norm: ``instance`` as in the paper, or ``batch``, with statistics of both domains together: colours, which
            InstanceNorm hides from the codes, are learned many times sooner.
        reconstruction: ``mse`` as in the paper's code, or ``l1`` as in its text.
        confusion: weight of the domain confusion.
        ramp: batches in which the confusion's weight grows from 0; 0 is none, as in the paper. A code that is confused
            before it can reconstruct carries less and less.
        stale_codes: train d on the codes from before the update of E_1, which saves one pass of E_1.
        clip: largest gradient norm.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        sep: int = 25,
        width: int = 32,
        depth: int | None = None,
        norm: Norm = "instance",
        reconstruction: Literal["mse", "l1"] = "mse",
        confusion: float = 0.001,
        ramp: int = 0,
        stale_codes: bool = False,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(clip=clip, **options)
        self.contents = self.domains[:1]
        self.confusion, self.ramp, self.stale_codes = confusion, ramp, stale_codes
        self.distance = F.mse_loss if reconstruction == "mse" else F.l1_loss
        channels, size = self.channels[0], self.image_size
        *hidden, last = trunk(size, width, depth)
        common = [*(min(c, last - sep) for c in hidden), last - sep]
        self.E_1 = ContentEncoder(channels, common, size, norm)
        self.E_2 = ContentEncoder(channels, [*(min(c, last // 4) for c in hidden), sep], size, norm)
        self.D = ContentDecoder(channels, size, width, depth, norm)
        self.d = CodeDiscriminator(self.E_1.dim, last)

    def build_optimizers(self) -> dict[str, Optimizer]:
        autoencoder = [p for net in (self.E_1, self.E_2, self.D) for p in net.parameters()]
        return {"g": self.optimizer(autoencoder), "d": self.optimizer(self.d.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        plus = batch["a"].image
        x = torch.cat([plus, batch["b"].image])  # one batch: InstanceNorm treats every image by itself
        codes: list[Tensor] = []

        def autoencoder_loss() -> Tensor:
            common, content = self.E_1(x), self.E_2(plus)
            codes.append(common.detach())
            d_a, d_b = self.d(common).chunk(2)
            y = self.D(torch.cat([common, torch.cat([content, torch.zeros_like(content)])], 1)).tanh()
            l_reconstruction = 2 * self.distance(y, x)  # the sum of the means of two equal batches
            l_confuse = l_domain(d_a, d_b, 0, 0)
            self.log_dict({"l_reconstruction": l_reconstruction.detach(), "l_confuse": l_confuse.detach()})
            return l_reconstruction + self.ramped(self.confusion, self.ramp) * l_confuse

        def discriminator_loss() -> Tensor:
            with torch.no_grad():
                common = codes[0] if self.stale_codes else self.E_1(x)
            with_content, without = self.d(common).chunk(2)
            self.log("d_accuracy", torch.cat([with_content > 0, without < 0]).float().mean())
            return l_domain(with_content, without, 1, 0)

        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)
        self.log("l_d", self.step("d", discriminator_loss), prog_bar=True)

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E_1(images)
        return code

    def content(self, images: Tensor, domain: str) -> Tensor:
        code: Tensor = self.E_2(images)
        return code

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        common, content = codes["common"], codes.get(self.contents[0])
        if content is None:
            content = common.new_zeros(len(common), self.E_2.dim)
        result: Tensor = self.D(torch.cat([common, content], 1)).tanh()
        return result
