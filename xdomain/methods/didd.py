"""Domain Intersection and Domain Difference."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer

from xdomain.batch import Batch, to_float
from xdomain.errors import refuse
from xdomain.methods.confusion import ConfusionMethod
from xdomain.methods.content import Codes, Task
from xdomain.networks import ContentDecoder, ContentEncoder, ContentRegions, LinearErasure
from xdomain.networks.codes import Norm, trunk

SEEN = 5000
"""Training images of each domain, at most, that the erasure and the regions are learned from."""

GUIDES, FACES = 16, 100
"""Guides of each domain whose contents are compared, and images of each domain that they are drawn on."""


class DIDD(ConfusionMethod):
    """Domain Intersection and Domain Difference: one common and two separate codes, one decoder.

    Benaim, Khaitov, Galanti, Wolf, "Domain Intersection and Domain Difference", ICCV 2019. E_c is the common encoder,
    E_a and E_b are the separate ones, G the decoder of [common, slot a, slot b], d the discriminator of common codes.
    The defaults are the architecture and weights of the paper's code; what that code does by accident is a setting.

    Args:
        sep: channels of each separate code.
        common: channels of the common code; None is what the separate codes leave of the trunk's last layer, as in the
            paper. A short one has less room for what d does not see.
        width: channels after the first layer; 32 in the paper.
        depth: number of layers that halve the image; None goes down to 2x2 like the paper's networks.
        norm: ``instance`` as in the paper, or ``batch``, with statistics of both domains together: colours, which
            InstanceNorm hides from the codes, are learned many times sooner.
        separate_norm: that of the separate encoders; None is ``norm``, as in the paper. ``instance`` beside ``batch``
            hides skin and light from the separate codes: content is a shape that looks the same on every face.
        reconstruction: weight of the reconstruction losses.
        zero: weight of the loss that empties E_a on domain b and E_b on domain a.
        confusion: weight of the domain confusion; see :class:`xdomain.methods.confusion.ConfusionMethod` for it and for
            ``ramp``, ``confusion_target``, ``d_steps``, ``discriminant`` and ``stale_codes``.
        slots: ``zero`` gives every domain a slot of its own and leaves the other's empty; two ablations of the paper's
            code are ``ones``, where both domains share the first slot and ones in the second mark those of b, and
            ``copy``, which puts an image's own code into both slots.
        last_norm: put a norm behind the last layer of the encoders. It fixes the scale of the codes: without it the
            separate codes of a short run shrink to nothing and guides have no effect.
        second_norm: put one behind E_c's second layer, which the paper's code forgets.
        spectral: divide weights by their largest singular values.
        spectral_axis: see :class:`xdomain.networks.ContentDecoder`; the paper's code has 0.
        content_start: batches before there is content: the separate codes are empty, so that the common code carries
            what it can, and they are filled by what is left. 0 as in the paper: they learn from the first batch on.
        slot_dropout: share of the training images that are decoded with both slots empty, and whose common code gets no
            gradient from that. It teaches G what to draw without content, as removal does; 0 as in the paper, where
            G meets empty slots only after training.
        erasure: at inference, take out of every common code what a linear probe would read the domain from; see
            :class:`xdomain.networks.LinearErasure`. It is learned from training images before every validation.
        strength: how far content is drawn away from what G draws without any: n + strength (y - n) with the decodings y
            with it and n with both slots empty; the formula of classifier-free guidance (Ho and Salimans 2022). Above 1
            it makes up for contents that a short training draws too weakly; 1 as in the paper. It needs
            ``slot_dropout``.
        regions: at inference, know where contents are: where translations change training images in the mean by more
            than this share of the largest change; see :class:`xdomain.networks.ContentRegions`.
            Translations are drawn there and keep the image elsewhere; the separate code of a domain is read without
            looking where only the other's content is; and two contents are drawn each in its place. For aligned
            images, learned from training images before every validation. None as in the paper. It needs
            ``slot_dropout``.
        clip: largest gradient norm, of d too; the paper's code means to clip d but does not.
        options: see :class:`xdomain.methods.base.Method`.
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
        slots: Literal["zero", "ones", "copy"] = "zero",
        last_norm: bool = True,
        second_norm: bool = True,
        spectral: bool = True,
        spectral_axis: int = 1,
        content_start: int = 0,
        slot_dropout: float = 0.0,
        erasure: bool = False,
        strength: float = 1.0,
        regions: float | None = None,
        clip: float | None = 5.0,
        **options: Any,
    ) -> None:
        super().__init__(confusion, clip=clip, **options)
        self.contents = self.domains
        self.weights = {"l_reconstruction": reconstruction, "l_zero": zero, **self.weights}
        if not 0 <= slot_dropout < 1:
            refuse(self, "slot_dropout", slot_dropout, "give a share of at least 0 and below 1.")
        if strength <= 0:
            refuse(self, "strength", strength, "give a number above 0; 1 draws what was learned.")
        if regions is not None and not 0 < regions < 1:
            refuse(self, "regions", regions, "give a share between 0 and 1, or null.")
        for name, value, usual in (("strength", strength, 1), ("regions", regions, None)):
            if value != usual and not slot_dropout:
                reason = ", for which G must have learned to draw without content"
                refuse(self, name, value, f"{reason}: set slot_dropout as well, such as to 0.125.")
        self.slots, self.content_start = slots, content_start
        self.slot_dropout, self.strength = slot_dropout, strength
        channels, size = self.channels[0], self.image_size
        *hidden, last = trunk(size, width, depth)
        shared: dict[str, Any] = {"image_size": size, "norm": norm, "spectral": spectral}
        bare = [] if last_norm else [-1]
        common = last - 2 * sep if common is None else common
        self.E_c = ContentEncoder(
            channels,
            [*(min(c, last - sep) for c in hidden), common],
            without_norm=bare if second_norm else [1, *bare],
            **shared,
        )
        separate = shared | {"norm": separate_norm or norm}
        self.E_a = ContentEncoder(channels, [*hidden, sep], without_norm=bare, **separate)
        self.E_b = ContentEncoder(channels, [*hidden, sep], without_norm=bare, **separate)
        self.G = ContentDecoder(
            channels, width=width, depth=depth, spectral_axis=spectral_axis, inputs=common + 2 * sep, **shared
        )
        self.erasure = LinearErasure(self.E_c.dim) if erasure else None
        dim = self.E_a.dim
        self.regions = ContentRegions(channels, size, dim, regions) if regions is not None else None
        self.build_adversaries(self.E_c.dim, last)

    def build_optimizers(self) -> dict[str, Optimizer]:
        autoencoder = [p for net in (self.E_c, self.E_a, self.E_b, self.G) for p in net.parameters()]
        return {"g": self.optimizer(autoencoder), "d": self.optimizer(self.d.parameters())}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what was learned for an option of inference that is switched off now."""
        off = tuple(f"{name}." for name in ("erasure", "regions") if getattr(self, name) is None)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if not k.startswith(off)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x = torch.cat([batch["a"].image, batch["b"].image])  # InstanceNorm treats every image by itself
        waiting = self.trainer.global_step < self.content_start
        codes: list[Tensor] = []

        def autoencoder_loss() -> Tensor:
            c = self.E_c(x)
            s_a, s_b = (c.new_zeros(len(x), E.dim) if waiting else E(x) for E in (self.E_a, self.E_b))
            codes.extend(c.detach().chunk(2))
            (own_a, other_a), (other_b, own_b) = s_a.chunk(2), s_b.chunk(2)
            y = self.G(self._dropped(c, self._filled(own_a, own_b))).tanh()
            losses = {
                "l_reconstruction": 2 * (y - x).abs().mean(),  # the sum of the means of two equal batches
                "l_zero": other_a.abs().mean() + other_b.abs().mean(),
                **self.confusion_losses(*c.chunk(2)),
            }
            return self.weighted(losses)

        self.log("l_g", self.step("g", autoencoder_loss), prog_bar=True)
        self.train_discriminator(codes, lambda: self.E_c(x).chunk(2))

    def _dropped(self, c: Tensor, slots: Tensor) -> Tensor:
        """What G decodes in training, [N, D], of common codes and both slots."""
        if self.slot_dropout:
            kept = torch.rand(len(c), 1, device=c.device) >= self.slot_dropout
            c, slots = torch.where(kept, c, c.detach()), slots * kept
        return torch.cat([c, slots], 1)

    def on_validation_start(self) -> None:
        """Learn what to erase and where contents are from training images by now; rank 0 does it for all."""
        if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        if self.trainer.is_global_zero:
            with torch.no_grad(), self.evaluating():
                if self.erasure is not None:
                    self.erasure.fit(*(self._raw_codes(domain) for domain in self.domains))
                if self.regions is not None:  # codes are erased already
                    self._learn_regions(self.regions)
        for learned in (self.erasure, self.regions):
            if learned is not None:
                state = self.trainer.strategy.broadcast({k: v.cpu() for k, v in learned.state_dict().items()})
                learned.load_state_dict(state)

    def _training_images(self, domain: str, count: int) -> Iterator[Tensor]:
        """Batches [n, C, H, W] of so many training images of a domain, some repeated where there are fewer."""
        images = self.data.data(self.data.role_of(domain), "train")
        rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        for part in np.array_split(rows, -(-count // self.data.eval_batch_size)):
            yield to_float(images.__getitems__(part.tolist()).image.to(self.device))

    def _seen(self, domain: str) -> int:
        """Number of training images of a domain to learn from."""
        return min(len(self.data.data(self.data.role_of(domain), "train")), SEEN)

    def _raw_codes(self, domain: str) -> Tensor:
        """Codes [N, dim] of training images of a domain by E_c, with all that they know of it."""
        return torch.cat([self.E_c(x).float() for x in self._training_images(domain, self._seen(domain))])

    def _learn_regions(self, regions: ContentRegions) -> None:
        encoders = dict(zip(self.domains, (self.E_a, self.E_b), strict=True))
        changes, deviations, means = [], [], []
        for domain, other in (self.domains, self.domains[::-1]):
            change, mean = self._changed(domain, other, encoders[other])
            changes.append(change)
            means.append(mean)
            deviations.append(self._deviation(domain, encoders[domain]))
        regions.fit(changes[0] - changes[1], torch.stack(deviations), torch.stack(means).mean(0))
        for i, domain in enumerate(self.domains):  # as they are read now
            codes = [self.content(x, domain) for x in self._training_images(domain, self._seen(domain))]
            regions.typical[i].copy_(torch.cat(codes).mean(0))

    def _changed(self, domain: str, other: str, encoder: nn.Module) -> tuple[Tensor, Tensor]:
        """Means [C, H, W] of what translations to the other domain take from training images, and of these images."""
        count = self._seen(domain)
        changes, images = [], []
        for x, guide in zip(self._training_images(domain, count), self._training_images(other, count), strict=True):
            y = self._decoded({"common": self.common(x), other: encoder(guide)})
            changes.append((x - y).sum(0))
            images.append(x.sum(0))
        return torch.stack(changes).sum(0) / count, torch.stack(images).sum(0) / count

    def _deviation(self, domain: str, encoder: nn.Module) -> Tensor:
        """Standard deviation [H, W] of decodings over guides of a domain, averaged over common codes and channels."""
        guides = torch.cat([encoder(x) for x in self._training_images(domain, GUIDES)])
        deviations = []
        for x in (x for role in self.domains for x in self._training_images(role, FACES)):
            common = self.common(x)
            drawn = [self._decoded({"common": common, domain: guide.expand(len(x), -1)}) for guide in guides]
            deviations.append(torch.stack(drawn).std(0).mean(1).sum(0))
        return torch.stack(deviations).sum(0) / (2 * FACES)

    def _filled(self, a: Tensor, b: Tensor) -> Tensor:
        """Both slots of images of a and of b, [2N, D], from their own separate codes."""
        codes = dict(zip(self.domains, (a, b), strict=True))
        return torch.cat([self._slots({domain: code}, a) for domain, code in codes.items()])

    def _slots(self, codes: Codes, like: Tensor) -> Tensor:
        """Both slots [N, D] of the separate codes that there are."""
        a, b = (codes.get(domain) for domain in self.domains)
        empty = torch.zeros_like(like)
        if self.slots == "ones" and b is not None:
            return torch.cat([b, torch.ones_like(like)], 1)  # a slot for both: there is no union
        if self.slots == "copy":
            a, b = (a if a is not None else b), (b if b is not None else a)
        return torch.cat([empty if code is None else code for code in (a, b)], 1)

    def common(self, images: Tensor) -> Tensor:
        code: Tensor = self.E_c(images)
        return code if self.erasure is None else self.erasure(code)

    @property
    def _places(self) -> ContentRegions | None:
        """The regions, once they are learned."""
        return self.regions if self.regions is not None and self.regions.learned else None

    def content(self, images: Tensor, domain: str) -> Tensor:
        if (places := self._places) is not None:
            images = places.seen_by(self.domains.index(domain), images)
        code: Tensor = (self.E_a if domain == self.domains[0] else self.E_b)(images)
        return code

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        if (places := self._places) is None:
            return super().recombine(images, source, given, guide, task)
        old = self.domains.index(source)
        with self.evaluating():
            common = {"common": self.common(images)}
            if given is None or guide is None:
                # a typical content of the other domain says that this one is absent; it is drawn in another place
                other = places.typical[1 - old].expand(len(images), -1)
                typical = self.decode(common | {self.domains[1 - old]: other}, images)
                drawn = typical.lerp(self._decoded(common), places.overlap().to(typical))
                where = places.within(old)
            else:
                new = self.domains.index(given)
                drawn = self.decode(common | {given: self.content(guide, given)}, images)
                where = places.owned_by(new) if task == "add" else places.within(old, new)
            return images.lerp(drawn.to(images), where.to(images))

    def interpolate(self, images: Tensor, guide: Tensor | None = None, fixed: str = "common", steps: int = 7) -> Tensor:
        grid = super().interpolate(images, guide, fixed, steps)
        if (places := self._places) is None or fixed != "common":
            return grid
        return (
            images[:, None, None].to(grid).lerp(grid, places.within(0, 1).to(grid))
        )  # the image itself is in all cells

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        neither = {"common": codes["common"]}
        present = [domain for domain in self.domains if domain in codes]
        if (places := self._places) is not None and len(present) == 2:
            y = n = self._decoded(neither)
            for i, domain in enumerate(present):
                y = y + places.owned_by(i) * (self.decode(neither | {domain: codes[domain]}, images) - n)
            return y.clamp(-1, 1)
        y = self._decoded(codes)
        if self.strength == 1 or not present:
            return y
        return self._decoded(neither).lerp(y, self.strength).clamp(-1, 1)

    def _decoded(self, codes: Codes) -> Tensor:
        """What G draws of codes."""
        common = codes["common"]
        slots = self._slots(codes, common.new_zeros(len(common), self.E_a.dim))
        result: Tensor = self.G(torch.cat([common, slots], 1)).tanh()
        return result
