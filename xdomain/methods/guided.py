"""Guided content transfer, the predecessor of DIDD and masked transfer."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.methods.confusion import ConfusionMethod
from xdomain.methods.content import Codes
from xdomain.networks import CodeDecoder, CodeEncoder
from xdomain.networks.codes import Norm, trunk


class GuidedTransfer(ConfusionMethod):
    """An auto-encoder with a common code and, for the domain with content, a content code.

    Press, Galanti, Benaim, Wolf, "Emerging Disentanglement in Auto-Encoder Based Unsupervised Image Content Transfer",
    ICLR 2019. The first domain has the content, the second lacks it. E_1 is the common encoder, E_2 that of the
    content, D the decoder of [common, content], d the discriminator of common codes.

    Args:
        sep: channels of the content code.
        common: channels of the common code; None takes the rest of the trunk's last layer beside the content code, as
            in the paper. A short code leaves less room for what d does not detect.
        width: channels after the first layer; 32 in the paper.
        depth: number of layers that halve the image; None goes down to 2x2 as in the paper.
        norm: ``instance`` as in the paper, or ``batch``, with statistics over both domains together: colours, which
            InstanceNorm hides from the codes, are then learned much sooner.
        reconstruction: ``mse`` as in the authors' code, or ``l1`` as in the paper.
        confusion: weight of the domain confusion; this, ``ramp``, ``confusion_target``, ``d_steps`` and
            ``discriminant`` are those of :class:`xdomain.methods.confusion.ConfusionMethod`.
        clip: largest gradient norm.
        options: see :class:`xdomain.methods.content.ContentMethod`.
    """

    def __init__(
        self,
        sep: int = 25,
        common: int | None = None,
        width: int = 32,
        depth: int | None = None,
        norm: Norm = "instance",
        reconstruction: Literal["mse", "l1"] = "mse",
        confusion: float = 0.001,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(confusion, clip=clip, **options)
        self.contents = self.domains[:1]
        self.weights = {"l_reconstruction": 1.0, **self.weights}
        self.distance = F.mse_loss if reconstruction == "mse" else F.l1_loss
        channels, size = self.channels[0], self.image_size
        *hidden, last = trunk(size, width, depth)
        common = last - sep if common is None else common
        self.E_1 = CodeEncoder(channels, [*(min(c, last - sep) for c in hidden), common], size, norm)
        self.E_2 = CodeEncoder(channels, [*(min(c, last // 4) for c in hidden), sep], size, norm)
        self.D = CodeDecoder(channels, size, width, depth, norm, inputs=common + sep)
        self.build_adversaries(self.E_1.dim, last)
        self.build_readouts(self.E_1.dim, self.E_2.dim)

    def build_optimizers(self) -> dict[str, Optimizer]:
        autoencoder = [p for net in (self.E_1, self.E_2, self.D) for p in net.parameters()]
        return {"g": self.optimizer(autoencoder), "d": self.optimizer(self.d.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        plus = batch["a"].image
        x = torch.cat([plus, batch["b"].image])  # one batch: InstanceNorm treats every image separately

        def autoencoder_loss() -> Tensor:
            common, content = self.E_1(x), self.E_2(plus)
            y = self.D(torch.cat([common, torch.cat([content, torch.zeros_like(content)])], 1)).tanh()
            losses = {"l_reconstruction": 2 * self.distance(y, x)}  # the sum of the means of two equal batches
            return self.weighted({**losses, **self.confusion_losses(*common.chunk(2))})

        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)
        self.train_discriminator(lambda: self.E_1(x).chunk(2))

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E_1(images)
        return code

    def separate(self, images: Tensor, domain: str) -> Tensor:
        code: Tensor = self.E_2(images)
        return code

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        common, content = codes["common"], codes.get(self.contents[0])
        if content is None:
            content = common.new_zeros(common.shape[0], self.E_2.dim)
        result: Tensor = self.D(torch.cat([common, content], 1)).tanh()
        return result
