"""Read-outs: changes to the codes and images of a trained method of content transfer, at inference only.

They are not part of the papers. A method gets them by its option ``readouts``, a list of these classes; it refuses
those that it does not support.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from xdomain.batch import to_float
from xdomain.errors import SettingError, refuse
from xdomain.methods.content import Codes, ContentMethod, Decode, Readout, Recombine, Task
from xdomain.networks import ContentRegions, LinearErasure

SEEN = 5000
"""Largest number of training images per domain that a read-out is fitted to."""

GUIDES, FACES = 16, 100
"""Number of guides per domain whose contents are compared, and of images per domain that they are drawn on."""


TONE = 1.0
"""Standard deviation of the blur that leaves the tone of an image, in 64ths of its height."""


class Erasure(Readout):
    """Removes from every common code what a linear probe could read the domain from.

    See :class:`xdomain.networks.LinearErasure`. It is fitted to the common codes of training images.
    """

    def build(self, method: ContentMethod, common: int, separate: int) -> None:
        self.statistics = LinearErasure(common)

    def fit(self, method: ContentMethod, common: Callable[[Tensor], Tensor]) -> None:
        a, b = (
            torch.cat([common(x).float() for x in training_images(method, domain, sample_size(method, domain))])
            for domain in method.domains
        )
        self.statistics.fit(a, b)

    def common(self, code: Tensor) -> Tensor:
        erased: Tensor = self.statistics(code)
        return erased


class Strength(Readout):
    """Exaggerates content: extrapolates from the decoding without content to the one with it.

    The output is n + factor (y - n), with the decodings y with content and n without; the formula of classifier-free
    guidance (Ho and Salimans 2022). It compensates for content that is too weak after a short training. For methods
    that have guides, no masks, and a decoder that has learned to draw without content.

    Args:
        factor: strength of the content; 1 changes nothing.
    """

    order = 1
    learns = False

    def __init__(self, factor: float) -> None:
        super().__init__()
        if factor <= 0:
            refuse(self, "factor", factor, "give a number above 0; 1 draws what was learned.")
        self.factor = factor

    def build(self, method: ContentMethod, common: int, separate: int) -> None:
        _check_draws_content(self, method)
        _check_empty(self, method)

    def decode(self, decode: Decode, codes: Codes, images: Tensor) -> Tensor:
        y = decode(codes, images)
        if len(codes) == 1 or self.factor == 1:
            return y
        return decode({"common": codes["common"]}, images).lerp(y, self.factor).clamp(-1, 1)


class Change(Readout):
    """Adds to an image what translation changes in its decoding, instead of showing the decoding.

    The output is x + factor (y - n), with the decodings y of the recombined codes and n of the image's own codes:
    whatever the decoder does not draw, such as the sharpness of a face, stays that of the image. So does what it draws
    too faintly of the content to remove, such as a thin rim. Where content is removed, known by :class:`Regions`, the
    output is therefore y + b(x - n), with a Gaussian blur b: of what the decoder does not draw only the tone stays.
    Interpolations show decodings. For methods with separate codes and without masks.

    Args:
        factor: strength of the change; 1 adds what was learned.
    """

    learns = False

    def __init__(self, factor: float) -> None:
        super().__init__()
        if factor <= 0:
            refuse(self, "factor", factor, "give a number above 0; 1 adds what was learned.")
        self.factor = factor

    def build(self, method: ContentMethod, common: int, separate: int) -> None:
        _check_draws_content(self, method)

    def onto(self, method: ContentMethod, images: Tensor, drawn: Tensor, source: str, removed: Tensor | None) -> Tensor:
        codes = {"common": method.read_common(images)}
        if source in method.contents:
            codes[source] = method.read_separate(images, source)
        y, own = drawn.to(images), method.draw(codes, images).to(images)
        changed = (images + self.factor * (y - own)).clamp(-1, 1)
        if removed is None:
            return changed
        sigma = TONE * images.shape[-2] / 64
        size = 2 * math.ceil(3 * sigma) + 1
        toned = (y + gaussian_blur(images - own, [size, size], [sigma, sigma])).clamp(-1, 1)
        return changed.lerp(toned, removed.to(images))


class Regions(Readout):
    """Learns where the contents of both domains are in aligned images, and changes only these regions.

    The regions are where the mean change of training images by translation exceeds a share of the largest change; see
    :class:`xdomain.networks.ContentRegions`. Translations change the image only there. The separate code of a domain is
    read from images with the region of the other's content hidden. Two contents are drawn each in its own region. For
    methods that take content from guides in both domains, and whose decoder has learned to draw without content.

    Args:
        share: share of the largest change above which a pixel counts as content.
    """

    order = 2

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 < share < 1:
            refuse(self, "share", share, "give a number between 0 and 1.")
        self.share = share

    def build(self, method: ContentMethod, common: int, separate: int) -> None:
        if not method.guided or len(method.contents) < 2:
            _refuse(self, method, "does not have two contents that come from guides")
        _check_empty(self, method)
        self.domains = method.domains
        self.statistics = ContentRegions(method.channels[0], method.image_size, separate, self.share)

    # Fitting

    def fit(self, method: ContentMethod, common: Callable[[Tensor], Tensor]) -> None:
        changes, deviations, means = [], [], []
        for domain, other in (method.domains, method.domains[::-1]):
            change, mean = self._changed(method, common, domain, other)
            changes.append(change)
            means.append(mean)
            deviations.append(self._deviation(method, common, domain))
        self.statistics.fit(changes[0] - changes[1], torch.stack(deviations), torch.stack(means).mean(0))
        for i, domain in enumerate(method.domains):  # with the regions in place
            images = training_images(method, domain, sample_size(method, domain))
            codes = [method.separate(self.shown(x, i), domain) for x in images]
            self.statistics.typical[i].copy_(torch.cat(codes).mean(0))

    def _changed(
        self, method: ContentMethod, common: Callable[[Tensor], Tensor], domain: str, other: str
    ) -> tuple[Tensor, Tensor]:
        """Mean [C, H, W] of what translation to the other domain removes from training images, and of these images."""
        count = sample_size(method, domain)
        changes, images = [], []
        pairs = zip(training_images(method, domain, count), training_images(method, other, count), strict=True)
        for x, guide in pairs:
            y = method.decode({"common": common(x), other: method.separate(guide, other)}, x)
            changes.append((x - y).sum(0))
            images.append(x.sum(0))
        return torch.stack(changes).sum(0) / count, torch.stack(images).sum(0) / count

    def _deviation(self, method: ContentMethod, common: Callable[[Tensor], Tensor], domain: str) -> Tensor:
        """Standard deviation [H, W] of decodings over guides of a domain, averaged over common codes and channels."""
        guides = torch.cat([method.separate(x, domain) for x in training_images(method, domain, GUIDES)])
        deviations = []
        for x in (x for role in method.domains for x in training_images(method, role, FACES)):
            code = common(x)
            drawn = [method.decode({"common": code, domain: guide.expand(len(x), -1)}, x) for guide in guides]
            deviations.append(torch.stack(drawn).std(0).mean(1).sum(0))
        return torch.stack(deviations).sum(0) / (2 * FACES)

    # Use

    def shown(self, images: Tensor, domain: int) -> Tensor:
        return self.statistics.seen_by(domain, images)

    def decode(self, decode: Decode, codes: Codes, images: Tensor) -> Tensor:
        if len(codes) < 3:
            return decode(codes, images)
        common = {"common": codes["common"]}
        y = n = decode(common, images)
        for i, domain in enumerate(self.domains):
            y = y + self.statistics.owned_by(i) * (decode(common | {domain: codes[domain]}, images) - n)
        return y.clamp(-1, 1)

    def recombine(
        self,
        method: ContentMethod,
        recombine: Recombine,
        images: Tensor,
        source: str,
        given: str | None,
        guide: Tensor | None,
        task: Task,
    ) -> Tensor:
        places, old = self.statistics, method.domains.index(source)
        with method.evaluating():
            common = {"common": method.read_common(images)}
            if given is None or guide is None:
                # a typical code of the other domain implies that this content is absent; its own content is elsewhere
                other = places.typical[1 - old].expand(images.shape[0], -1)
                typical = method.draw(common | {method.domains[1 - old]: other}, images)
                drawn = typical.lerp(method.draw(common, images), places.overlap().to(typical))
                where = places.within(old)
            else:
                new = method.domains.index(given)
                drawn = method.draw(common | {given: method.read_separate(guide, given)}, images)
                drawn = method.onto(images, drawn, source, None if task == "add" else places.owned_by(old))
                where = places.owned_by(new) if task == "add" else places.within(old, new)
            return images.lerp(drawn.to(images), where.to(images))

    def placed(self, grid: Tensor, images: Tensor, fixed: str) -> Tensor:
        if fixed != "common":
            return grid
        where = self.statistics.within(0, 1).to(grid)
        return images[:, None, None].to(grid).lerp(grid, where)  # elsewhere all cells show the image itself


def sample_size(method: ContentMethod, domain: str) -> int:
    """Number of training images of a domain to fit to."""
    return min(len(method.data.data(method.data.role_of(domain), "train")), SEEN)


def training_images(method: ContentMethod, domain: str, count: int) -> Iterator[Tensor]:
    """Batches [n, C, H, W] of ``count`` training images of a domain, repeated if there are fewer."""
    data = method.data
    images = data.data(data.role_of(domain), "train")
    rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
    for part in np.array_split(rows, -(-count // data.eval_batch_size)):
        yield to_float(images.__getitems__(part.tolist()).image.to(method.device))


def _refuse(readout: Readout, method: ContentMethod, reason: str) -> None:
    name = type(readout).__name__
    raise SettingError(
        method, "readouts", f"holds {name}, but {type(method).__name__} {reason}: leave {name} out of the list."
    )


def _check_draws_content(readout: Readout, method: ContentMethod) -> None:
    if method.masked:
        _refuse(readout, method, "draws content by a mask over the image itself, and nothing without content")
    if not method.guided:
        _refuse(readout, method, "has no separate codes, and an amount of its own")


def _check_empty(readout: Readout, method: ContentMethod) -> None:
    if not method.knows_empty:
        name = type(readout).__name__
        raise SettingError(
            method,
            "readouts",
            f"holds {name}, for which the decoder must have learned to draw without content: set "
            "slot_dropout as well, such as to 0.125.",
        )
