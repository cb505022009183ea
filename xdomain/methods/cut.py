"""CUT: contrastive learning between the patches of an image and of its translation."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from xdomain.batch import Batch
from xdomain.errors import refuse
from xdomain.losses import lsgan, patch_nce
from xdomain.methods.cyclegan import l_discriminator
from xdomain.methods.translation import DiscriminatorFactory, TranslationMethod
from xdomain.networks import PatchDiscriminator, PatchSampler, ResnetGenerator


class CUT(TranslationMethod):
    """CUT: a patch of a translation resembles the patch at the same place more than all others of the image.

    Park, Efros, Zhang, Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020; (n) are its
    equations. One direction, one generator G, whose first half is the encoder of the patches, and the projection heads
    H. FastCUT of the same paper is ``nce: 10``, ``identity: false``, ``flip: true``.

    Args:
        width: channels after the generator's first convolution.
        blocks: its residual blocks.
        discriminator: makes D from the channels of the target domain.
        gan: weight of the adversarial loss.
        nce: weight of the contrastive losses.
        identity: compare images of the target domain with their own translations as well, and halve both losses.
        flip: mirror the source images of half of the batches, and compare with the features of the unmirrored.
        layers: numbers of the generator's layers whose maps are compared, in rising order.
        patches: places in every map.
        features: length of the features of a patch.
        temperature: see :func:`xdomain.losses.patch_nce`.
        reverse: translate from the second domain to the first instead.
        options: see :class:`xdomain.methods.base.Method`.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 9,
        discriminator: DiscriminatorFactory = PatchDiscriminator,
        gan: float = 1.0,
        nce: float = 1.0,
        identity: bool = True,
        flip: bool = False,
        layers: Sequence[int] = (0, 4, 8, 12, 16),
        patches: int = 256,
        features: int = 256,
        temperature: float = 0.07,
        reverse: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        source, target = self.channels[::-1] if reverse else self.channels
        if identity and source != target:
            reason = f", which needs as many channels in both domains, but they have {source} and {target}"
            refuse(self, "identity", "true", f"{reason}: set it to false.")
        self.gan, self.nce, self.identity, self.flip = gan, nce, identity, flip
        self.layers, self.temperature, self.reverse = tuple(layers), temperature, reverse
        self.G = ResnetGenerator(source, target, width, blocks, antialias=True)
        deepest = 11 + blocks
        if list(layers) != sorted({*layers}) or not layers or layers[0] < 0 or layers[-1] > deepest:
            refuse(self, "layers", list(layers), f"give rising numbers from 0 to {deepest}, the last residual block.")
        self.H = PatchSampler([self.G.width_of(layer) for layer in layers], features, patches)
        self.D = discriminator(target)

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        source, target = self.domains[::-1] if self.reverse else self.domains
        return ((source, target),)

    def build_optimizers(self) -> dict[str, Optimizer]:
        return {
            "d": self.optimizer(self.D.parameters()),
            "g": self.optimizer([*self.G.parameters(), *self.H.parameters()]),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = (batch[role].image for role in ("ba" if self.reverse else "ab"))
        mirrored = self.flip and bool(torch.rand(()) < 0.5)
        images = torch.cat([x, y]) if self.identity else x
        # Without a mirror, one pass makes the translations and the maps of the images that they are compared with.
        outputs, maps = self.G.with_maps(images.flip(3) if mirrored else images, self.layers)
        fake = outputs[: len(x)]

        def generator_loss() -> Tensor:
            losses = {"l_gan": self.gan * lsgan(self.D(fake), True)}
            losses["l_nce"] = self.nce * self.l_nce(outputs, None if mirrored else maps, images)
            self.log_dict({name: loss.detach() for name, loss in losses.items()})
            return losses["l_gan"] + losses["l_nce"]  # (5)

        self.log("l_d", self.step("d", lambda: l_discriminator(self.D, y, fake.detach())), prog_bar=True)
        self.log("l_g", self.step("g", generator_loss), prog_bar=True)

    def l_nce(self, outputs: Tensor, keys: list[Tensor] | None, images: Tensor) -> Tensor:
        """The contrastive loss, (4), mean over layers; with the target domain's images in the batch, of both domains.

        Args:
            outputs: translations [N, C, H, W]; without keys, of mirrored images.
            keys: the images' maps, or None if they are to be made.
            images: [N, C, H, W], not mirrored.
        """
        queries = self.G.maps(outputs, self.layers)
        if keys is None:
            queries = [x.flip(3) for x in queries]
        with torch.no_grad():  # keys have no gradient
            if keys is None:
                keys = self.G.maps(images, self.layers)
            places = self.H.draw(keys)
            wanted = self.H(keys, places)
        pairs = zip(self.H(queries, places), wanted, strict=True)
        return torch.stack([patch_nce(q, k, self.temperature) for q, k in pairs]).mean()

    def generate(self, images: Tensor, target: str) -> Tensor:
        result: Tensor = self.G(images)
        return result
