"""Measures of content transfer: one small object per question, accumulated over batches of translated pairs."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.data.attributes import holds
from xdomain.features import Extractor
from xdomain.features.helpers import Helper
from xdomain.methods import ContentMethod, Method
from xdomain.metrics.attributes import AttributeHitRate, BalancedAccuracy
from xdomain.metrics.colour import ColourCorrelation
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.distribution import FID, KID
from xdomain.metrics.verification import IdentificationRate, IdentitySimilarity


class Transfers(NamedTuple):
    """A batch of translations, images float [N, C, H, W] in [-1, 1].

    Attributes:
        images: the images that were translated.
        guides: images that provide the new content, or None without guides.
        outputs: the translations.
        rows: positions of the images in their data, int64 [N].
        others: images of the target domain, the guides among them; None where nobody asks for them.
        truth: the true results, or None if the data does not know them.
        mask: where the true results may differ from the images, ``uint8`` [N, 1, H, W], or None likewise.
    """

    images: Tensor
    guides: Tensor | None
    outputs: Tensor
    rows: Tensor
    others: Tensor | None = None
    truth: Tensor | None = None
    mask: Tensor | None = None


class Measure(Protocol):
    """Accumulates batches of translations; ``compute`` reduces over all processes, some of which may have none."""

    def update(self, batch: Transfers) -> None:
        """Add a batch."""

    def compute(self) -> dict[str, Tensor]:
        """The values by metric name; undefined ones, such as 0 / 0, are left out."""


class HitRate:
    """Share of translations that a classifier of the two domains assigns to the target domain.

    Args:
        direction: such as ``smile_to_glasses``; part of the names of all metrics.
        judge: classifier with one logit.
        wanted: whether the logit is positive for the target domain.
    """

    def __init__(self, direction: str, judge: Helper, wanted: bool, device: torch.device) -> None:
        self.judge, self.wanted = judge, wanted
        self.hits = AttributeHitRate([direction]).to(device)

    def update(self, batch: Transfers) -> None:
        self.hits.update(self.judge(batch.outputs), batch.images.new_full((len(batch.images),), self.wanted))

    def compute(self) -> dict[str, Tensor]:
        return self.hits.compute()


class ContentChange:
    """Whether the source's content is removed and the target's is added, by a classifier of attributes.

    Args:
        direction: see :class:`HitRate`.
        judge: the classifier.
        asked: maps ``removed`` and ``added`` to the logit of that content and whether it should be positive.
    """

    def __init__(self, direction: str, judge: Helper, asked: dict[str, tuple[int, bool]], device: torch.device) -> None:
        self.direction, self.judge, self.asked = direction, judge, asked
        self.hits = AttributeHitRate([*asked]).to(device)

    def update(self, batch: Transfers) -> None:
        self.hits.update(*self.answers(batch.outputs))

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of images and what they should be, a column for each content that is asked for."""
        logits = self.judge(images)[:, [column for column, _ in self.asked.values()]]
        wanted = logits.new_tensor([value for _, value in self.asked.values()])
        return logits, wanted.expand_as(logits)

    def compute(self) -> dict[str, Tensor]:
        found = self.hits.compute()
        return {f"{key}/{self.direction}": found[f"hit_rate/{key}"] for key in self.asked}


class ContentPresence:
    """Share of images in which a classifier of attributes sees all of some contents, or none.

    Args:
        name: name of the metric.
        judge: the classifier.
        columns: indices of the logits of these contents.
        present: whether the contents should be there.
    """

    def __init__(self, name: str, judge: Helper, columns: list[int], present: bool, device: torch.device) -> None:
        self.name, self.judge, self.columns, self.present = name, judge, columns, present
        self.share = MeanMetric().to(device)

    def update(self, batch: Transfers) -> None:
        seen = self.judge(batch.outputs)[:, self.columns] > 0
        self.share.update((seen == self.present).all(1).float())

    def compute(self) -> dict[str, Tensor]:
        return {self.name: self.share.compute()}


class TrueDistance:
    """Distance from the true result, for data that knows it: overall, where the content is, and elsewhere.

    Args:
        direction: see :class:`HitRate`.
        prefix: name of the overall distance, if only this is reported.
    """

    def __init__(self, direction: str, device: torch.device, prefix: str | None = None) -> None:
        self.direction, self.prefix = direction, prefix
        self.error = CounterfactualError().to(device)

    def update(self, batch: Transfers) -> None:
        assert batch.truth is not None
        self.error.update(batch.outputs, batch.truth, batch.mask)

    def compute(self) -> dict[str, Tensor]:
        found = self.error.compute()
        if self.prefix is not None:
            return {f"{self.prefix}/{self.direction}": found["l1"]}
        keys = ("l1", "l1_inside", "l1_outside")
        return {f"{key}/{self.direction}": found[key] for key in keys if key in found}


class Embedder(Protocol):
    """A network whose features encode identity."""

    def features(self, images: Tensor) -> Tensor:
        """Features [N, d] of images [N, C, H, W] in [-1, 1]."""


class Identity:
    """Whether a translation still shows the same person, by features of an embedder.

    Cosine similarity to the source, and whether the source is nearer than all other sources of the direction; the
    latter also together with the content being removed or added: a face of fog has lost its smile, too.

    Args:
        direction: see :class:`HitRate`.
        embedder: computes the features.
        truth: also measure the true result, which is the upper bound for a translation.
        change: what is asked of the content, if it is judged.
        at: end of the names of all metrics.
        limit: the largest number of translations that this process looks at, its first ones; None for all.
    """

    def __init__(
        self,
        direction: str,
        embedder: Embedder,
        truth: bool,
        change: ContentChange | None,
        device: torch.device,
        at: str = "",
        limit: int | None = None,
    ) -> None:
        self.direction, self.embedder, self.change, self.at, self.left = direction, embedder, change, at, limit
        suffixes = ("", *(["_truth"] if truth else []))
        asked = change.asked if change is not None else {}
        self.kept = {suffix: IdentitySimilarity().to(device) for suffix in suffixes}
        self.found = {suffix: IdentificationRate([*asked]).to(device) for suffix in suffixes}

    def update(self, batch: Transfers) -> None:
        if self.left is not None:
            given = {name: part for name, part in batch._asdict().items() if part is not None}
            batch = batch._replace(**{name: part[: self.left] for name, part in given.items()})
            self.left -= len(batch.images)
        if len(batch.images) == 0:
            return
        source = self.embedder.features(batch.images)
        for suffix, images in (("", batch.outputs), ("_truth", batch.truth)):
            if suffix in self.kept and images is not None:
                features, right = self.embedder.features(images), source.new_zeros((len(source), 0), dtype=torch.bool)
                if self.change is not None:
                    logits, wanted = self.change.answers(images)
                    right = torch.where(wanted > 0, logits > 0, logits < 0)
                self.kept[suffix].update(features, source)
                self.found[suffix].update(features, source, batch.rows, right)

    def compute(self) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for suffix, kept in self.kept.items():
            values[f"identity{suffix}/{self.direction}{self.at}"] = kept.compute()["source"]
            found = self.found[suffix].compute()
            rates = {key: value for key, value in found.items() if key.endswith("identified")}
            values |= {f"{key}{suffix}/{self.direction}{self.at}": value for key, value in rates.items()}
        return values


class Colours:
    """Whose mean colours translations have: those of their guides, or those of their sources.

    Args:
        direction: see :class:`HitRate`.
        channels: image channels.
    """

    def __init__(self, direction: str, channels: int, device: torch.device) -> None:
        self.direction = direction
        self.of = {name: ColourCorrelation(channels).to(device) for name in ("guide", "source")}

    def update(self, batch: Transfers) -> None:
        assert batch.others is not None
        self.of["guide"].update(batch.outputs, batch.others)
        self.of["source"].update(batch.outputs, batch.images)

    def compute(self) -> dict[str, Tensor]:
        values = {f"colour_of_{name}/{self.direction}": metric.compute() for name, metric in self.of.items()}
        return {key: value for key, value in values.items() if value.isfinite()}


class Distribution:
    """KID and FID between the translations and the real images of the target domain.

    Args:
        direction: see :class:`HitRate`.
        extractor: the feature network.
        real: the features of this process's share of the real images, in batches.
    """

    def __init__(self, direction: str, extractor: Extractor, real: Iterable[Tensor], device: torch.device) -> None:
        self.direction, self.extractor = direction, extractor
        self.kid, self.fid = KID(extractor).to(device), FID(extractor).to(device)
        for features in real:
            self._add(features, real=True)

    def _add(self, features: Tensor, real: bool) -> None:
        self.kid.update(features, real=real)
        self.fid.update(features, real=real)

    def update(self, batch: Transfers) -> None:
        self._add(self.extractor.features(batch.outputs), real=False)

    def compute(self) -> dict[str, Tensor]:
        at = f"{self.direction}@{self.extractor.name}"
        mean, deviation = self.kid.compute()
        values = {f"kid/{at}": mean, f"kid_std/{at}": deviation, f"fid/{at}": self.fid.compute()}
        real, fake = self.kid.n
        return values | {f"n_real/{at}": torch.tensor(real), f"n_fake/{at}": torch.tensor(fake)}


class UnmaskedChange:
    """Change where the method's own mask is below 0.5; left out if all masks cover everything."""

    def __init__(self, direction: str, method: ContentMethod) -> None:
        self.direction, self.method = direction, method
        self.mean = MeanMetric().to(method.device)

    def update(self, batch: Transfers) -> None:
        outside = (self.method.mask(batch.images, batch.guides) < 0.5).expand_as(batch.images)
        self.mean.update((batch.outputs - batch.images)[outside].abs())

    def compute(self) -> dict[str, Tensor]:
        value = self.mean.compute()  # on every process: it waits for the others
        return {f"l1_unmasked/{self.direction}": value} if value.isfinite() else {}


class Reconstruction:
    """Distance, in [0, 2], between images and their translations from their domain to itself."""

    def __init__(self, domain: str, method: Method) -> None:
        self.domain, self.method = domain, method
        self.mean = MeanMetric().to(method.device)

    def update(self, batch: Transfers) -> None:
        again = self.method.translate(batch.images, self.domain, self.domain).float().clamp(-1, 1)
        self.mean.update((again - batch.images).abs().mean((1, 2, 3)))

    def compute(self) -> dict[str, Tensor]:
        return {f"l1_reconstruction/{self.domain}": self.mean.compute()}


class Trust:
    """Reliability of the classifiers: their balanced accuracies on real images of both domains.

    Args:
        domain: metric name of the domain classifier, and the classifier, if there is one.
        attributes: the classifier of attributes, if there is one.
        rules: maps the targets to measure to their rules over the data's attributes.
        targets: all targets of the attribute classifier, in the order of its logits.
        names: names of the data's attributes.
    """

    def __init__(
        self,
        domain: tuple[str, Helper] | None,
        attributes: Helper | None,
        rules: dict[str, str],
        targets: Sequence[str],
        names: Sequence[str],
        device: torch.device,
    ) -> None:
        self.domain, self.attributes, self.rules, self.names = domain, attributes, rules, names
        self.columns = [targets.index(target) for target in rules]
        self.of_domain = BalancedAccuracy(["domain"]).to(device)
        self.of_attributes = BalancedAccuracy([*rules]).to(device)

    def update(self, images: Tensor, attributes: Tensor | None, positive: bool) -> None:
        """Add real images; ``positive`` says whether they are from the domain with positive logits."""
        if self.domain is not None:
            self.of_domain.update(self.domain[1](images), images.new_full((len(images),), positive))
        if self.rules and attributes is not None:
            assert self.attributes is not None
            table = attributes.numpy()
            truth = np.stack([holds(rule, self.names, table) for rule in self.rules.values()], 1)
            self.of_attributes.update(
                self.attributes(images)[:, self.columns], torch.from_numpy(truth).to(images.device)
            )

    def compute(self) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        if self.domain is not None:
            values[self.domain[0]] = self.of_domain.compute()["balanced_accuracy/domain"]
        if self.rules:
            found = self.of_attributes.compute()
            values |= {f"judge_accuracy/{t}": found[f"balanced_accuracy/{t}"] for t in self.rules}
        return {key: value for key, value in values.items() if value.isfinite()}
