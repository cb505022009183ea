"""Domain Intersection and Domain Difference."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.methods.confusion import ConfusionMethod
from xdomain.methods.content import Codes
from xdomain.networks import CodeDecoder, CodeEncoder
from xdomain.networks.codes import Norm, trunk


class DIDD(ConfusionMethod):
    """Domain Intersection and Domain Difference: one common and two separate codes, one decoder.

    Benaim, Khaitov, Galanti, Wolf, "Domain Intersection and Domain Difference", ICCV 2019. E_c is the common encoder,
    E_a and E_b are the separate ones, G decodes [common, slot a, slot b], d is the discriminator of common codes. The
    defaults are the architecture and the weights of the authors' code; the docs list where it departs from the paper by
    accident.

    Args:
        sep: channels of each separate code.
        common: channels of the common code; None takes the rest of the trunk's last layer beside the separate codes, as
            in the paper. A short code leaves less room for what d does not detect.
        width: channels after the first layer; 32 in the paper.
        depth: number of layers that halve the image; None goes down to 2x2 as in the paper.
        norm: ``instance`` as in the paper, or ``batch``, with statistics over both domains together: colours, which
            InstanceNorm hides from the codes, are then learned much sooner.
        separate_norm: normalisation of the separate encoders; None uses ``norm``, as in the paper. ``instance``
            together with ``norm: batch`` hides skin and lighting from the separate codes: content is then a shape that
            looks the same on every face.
        reconstruction: weight of the reconstruction losses.
        zero: weight of the loss that empties E_a on domain b and E_b on domain a.
        confusion: weight of the domain confusion; this, ``ramp``, ``confusion_target``, ``d_steps`` and
            ``discriminant`` are those of :class:`xdomain.methods.confusion.ConfusionMethod`.
        spectral: divide weights by their largest singular values.
        content_start: number of batches in which the separate codes are kept empty, so that the common code first
            learns what it can carry, and the separate codes then learn the rest. 0 as in the paper: they learn from the
            first batch.
        slot_dropout: share of the training images that are decoded with both slots empty; their common code gets no
            gradient. G then learns to draw images without content, which removal and the read-outs ``Strength`` and
            ``Regions`` need. 0 as in the paper, where G sees empty slots only after training.
        clip: largest gradient norm, for d too; the authors' code intends to clip d but does not.
        options: see :class:`xdomain.methods.content.ContentMethod`.
    """

    labels = (0, 1)

    def __init__(
        self,
        sep: int = 25,
        common: int | None = None,
        width: int = 32,
        depth: int | None = None,
        norm: Norm = "instance",
        separate_norm: Norm | None = None,
        reconstruction: float = 1.0,
        zero: float = 1.0,
        confusion: float = 0.001,
        spectral: bool = True,
        content_start: int = 0,
        slot_dropout: float = 0.0,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(confusion, clip=clip, **options)
        if not 0 <= slot_dropout < 1:
            refuse(self, "slot_dropout", slot_dropout, "give a share of at least 0 and below 1.")
        self.contents = self.domains
        self.weights = {"l_reconstruction": reconstruction, "l_zero": zero, **self.weights}
        self.content_start, self.slot_dropout, self.knows_empty = content_start, slot_dropout, slot_dropout > 0
        channels, size = self.channels[0], self.image_size
        *hidden, last = trunk(size, width, depth)
        common = last - 2 * sep if common is None else common
        both: dict[str, Any] = {"image_size": size, "spectral": spectral}
        self.E_c = CodeEncoder(channels, [*(min(c, last - sep) for c in hidden), common], norm=norm, **both)
        self.E_a = CodeEncoder(channels, [*hidden, sep], norm=separate_norm or norm, **both)
        self.E_b = CodeEncoder(channels, [*hidden, sep], norm=separate_norm or norm, **both)
        self.G = CodeDecoder(channels, width=width, depth=depth, norm=norm, inputs=common + 2 * sep, **both)
        self.build_adversaries(self.E_c.dim, last)
        self.build_readouts(self.E_c.dim, self.E_a.dim)

    def build_optimizers(self) -> dict[str, Optimizer]:
        autoencoder = [p for net in (self.E_c, self.E_a, self.E_b, self.G) for p in net.parameters()]
        return {"g": self.optimizer(autoencoder), "d": self.optimizer(self.d.parameters())}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x = torch.cat([batch["a"].image, batch["b"].image])  # InstanceNorm treats every image separately
        waiting = self.trainer.global_step < self.content_start

        def autoencoder_loss() -> Tensor:
            c = self.E_c(x)
            s_a, s_b = (c.new_zeros(len(x), E.dim) if waiting else E(x) for E in (self.E_a, self.E_b))
            (own_a, other_a), (other_b, own_b) = s_a.chunk(2), s_b.chunk(2)
            empty = torch.zeros_like(own_a)
            slots = torch.cat([torch.cat([own_a, empty], 1), torch.cat([empty, own_b], 1)])
            y = self.G(self._dropped(c, slots)).tanh()
            losses = {
                "l_reconstruction": 2 * (y - x).abs().mean(),  # the sum of the means of two equal batches
                "l_zero": other_a.abs().mean() + other_b.abs().mean(),
                **self.confusion_losses(*c.chunk(2)),
            }
            return self.weighted(losses)

        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)
        self.train_discriminator(lambda: self.E_c(x).chunk(2))

    def _dropped(self, c: Tensor, slots: Tensor) -> Tensor:
        """Input of G in training, [N, D], from common codes and both slots."""
        if self.slot_dropout:
            kept = torch.rand(len(c), 1, device=c.device) >= self.slot_dropout
            c, slots = torch.where(kept, c, c.detach()), slots * kept
        return torch.cat([c, slots], 1)

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E_c(images)
        return code

    def separate(self, images: Tensor, domain: str) -> Tensor:
        code: Tensor = (self.E_a if domain == self.domains[0] else self.E_b)(images)
        return code

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        common = codes["common"]
        empty = common.new_zeros(common.shape[0], self.E_a.dim)
        result: Tensor = self.G(torch.cat([common, *(codes.get(domain, empty) for domain in self.domains)], 1)).tanh()
        return result
