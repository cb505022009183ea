"""Evaluation of content transfer: what was removed, added and kept, and what the codes reveal."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from xdomain.batch import to_float
from xdomain.callbacks.content_checks import GuidedMethod, check_judge_fits, guided_method, has_attributes, rule_of
from xdomain.callbacks.content_probes import probe_contents, probe_domains
from xdomain.callbacks.evaluation import (
    DrawnEvaluation,
    build_features,
    build_judge,
    fetch_features,
    fetch_judge,
    judge_name,
)
from xdomain.callbacks.measures import (
    Colours,
    ContentChange,
    ContentPresence,
    Distribution,
    HitRate,
    Identity,
    Measure,
    Reconstruction,
    Transfers,
    TrueDistance,
    Trust,
    UnmaskedChange,
)
from xdomain.callbacks.nulls import NullRows
from xdomain.callbacks.reading import draw_pairs, has_training_part, limited, part_of, pieces, read, share, thorough
from xdomain.data.avatars import CONTENT
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, choice, refuse
from xdomain.features import Extractor
from xdomain.features.dlib_faces import DlibEmbedder
from xdomain.features.helpers import Helper, helper_targets
from xdomain.methods import ContentMethod, Method
from xdomain.methods.content import Task

MEAN_OF = 1000  # images of the target domain, for the null row of their mean
OUTSIDE = 200  # pairs of a direction that a judge from outside looks at: it takes long
QUICK = ("hit_rate", "removed", "added", "l1", "l1_reconstruction")  # metrics of a validation


@runtime_checkable
class TransferTruth(Protocol):
    """Data that can draw its images with other content."""

    def counterfactual(
        self,
        source_role: str,
        target_role: str,
        positions: list[int],
        donors: list[int],
        split: Split,
        task: Task = "transfer",
    ) -> tuple[Tensor, Tensor]:
        """True results ``uint8`` [N, C, H, W], and masks ``uint8`` [N, 1, H, W] of where they may differ."""


class Direction(NamedTuple):
    """Pairs of a source image and a guide for one direction of translation.

    Attributes:
        source: domain of the images.
        target: domain to translate into.
        roles: roles of both domains.
        split: the part of the data that both images are from.
        images: all images of the source in that part.
        guides: all images of the target.
        guided: whether the content comes from the guides.
        pairs: this process' pairs of positions, int64 [N, 2].
        total: the number of pairs over all processes.
    """

    source: str
    target: str
    roles: tuple[str, str]
    split: Split
    images: ImageData
    guides: ImageData
    guided: bool
    pairs: np.ndarray
    total: int

    @property
    def name(self) -> str:
        """Name of the direction in the names of metrics."""
        return f"{self.source}_to_{self.target}"


class ContentTransfer(DrawnEvaluation):
    """How well content is removed and added, and how well everything else is kept.

    Random pairs of a source image and a guide, the same at every call, are translated: by methods of content transfer,
    and by those that take a style from the guide, without their tasks and probes. Metrics are reported per direction D,
    such as ``hit_rate/smile_to_glasses``. Metrics without a judge are left out. A validation during a
    training reports only ``hit_rate``, ``removed``, ``added``, ``l1`` and ``l1_reconstruction``; the command
    ``validate`` reports all that a test does, on the validation part.

    ===================================  ===========================================================================
    ``hit_rate/D``                       share classified as the target domain by ``domain_classifier`` (Benaim et
                                         al. 2019, table 1)
    ``removed/D``, ``added/D``           shares without the source's content and with the target's, by ``attributes``
    ``hit_rate_low/D``, ``_high``, ``n`` 95 % interval, and number of pairs
    ``l1/D``                             distance from the true result, if the data can draw it; see
                                         :class:`xdomain.metrics.CounterfactualError`
    ``l1_inside/D``, ``l1_outside/D``    the same where the content is, and elsewhere
    ``l1_reconstruction/DOMAIN``         distance between source images and their translations from their domain to
                                         itself, on images without attributes
    ``l1_unmasked/D``                    distance from the source image where the method's mask is below 0.5: methods
                                         with masks and directions into a domain with content
    ``identity/D``, ``identified/D``     cosine similarity to the source by ``embedder``, and share whose source is
                                         nearer than all other sources of the direction
    ``removed_identified/D``,            shares that are both: the content removed, or added, and still the same person
    ``added_identified/D``
    ``identity_truth/D`` and so on       the same of the true result
    ``colour_of_guide/D``, ``_source``   correlation of the mean colours of translations with those of their guides, and
                                         of their sources; directions with guides
    ``identity/D@dlib`` and so on        ``identity`` to ``added_identified`` by ``outside`` on the first 200 pairs
    ``removed_untranslated/D``,          the same metrics of answers without a model, on the same pairs: the source as
    ``_blurred``, ``_random``, ``_mean`` it is; blurred (``blur/D``: by how many 64ths of its height, the best of four);
                                         a random image of the target domain; the mean image of that domain
    ``stripped/D``, ``united/D``         tasks ``remove`` and ``add`` with the same pairs, for methods with guides and
                                         two domains of known content: shares with the content of neither and of both
    ``l1_stripped/D``, ``l1_united/D``   their distances from the true results
    ``kid/D@F``, ``kid_std/D@F``,        distances from the real images of the target domain, on features F, with
    ``fid/D@F``                          ``n_real/D@F`` and ``n_fake/D@F`` images; from two images on
    ``domain_accuracy@J``,               balanced accuracy of the classifiers on the real images of both domains
    ``judge_accuracy/ATTRIBUTE``
    ``probe/common``                     balanced accuracy of a linear probe that reads the domain from the common
                                         code; the aim is 0.5
    ``probe/DOMAIN/OTHER``               the same for the other domain's content and the separate code, on all
                                         images that match a domain's rule for some value of the contents
    ===================================  ===========================================================================

    Args:
        domain_classifier: recipe of a classifier with one logit, whose target has the name of the domain for which it
            is positive.
        attributes: recipe of a classifier of attributes.
        embedder: recipe of a network whose features encode identity.
        outside: a judge of identity from outside of the project, for faces aligned as in CelebA; left out with a
            warning where it is not installed. See :class:`xdomain.features.dlib_faces.DlibEmbedder`.
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
        pairs: number of pairs per direction; without guides, at most the number of source images.
        val_pairs: number of pairs in a validation during a training.
        seed: seed of the choice of pairs.
        directions: pairs [source, target] of domain names; both by default.
        content: maps a domain to the target of ``attributes`` that is its content; smile, glasses, beard and hat are
            known.
    """

    def __init__(
        self,
        domain_classifier: str | None = None,
        attributes: str | None = None,
        embedder: str | None = None,
        outside: Literal["dlib"] | None = None,
        features: str = "random-conv",
        pairs: int = 1000,
        val_pairs: int = 200,
        seed: int = 0,
        directions: list[list[str]] | None = None,
        content: dict[str, str] | None = None,
    ) -> None:
        for name, value in (("pairs", pairs), ("val_pairs", val_pairs)):
            if value < 2:
                refuse(self, name, value, "give a number of at least 2.")
        sources = {"domain_classifier": domain_classifier, "attributes": attributes, "embedder": embedder}
        self.sources = {name: source for name, source in sources.items() if source is not None}
        self.features, self.pairs, self.val_pairs, self.seed = features, pairs, val_pairs, seed
        self.directions, self.content = directions, {**CONTENT, **(content or {})}
        self.judges: dict[str, Helper] = {}
        self.targets: tuple[str, ...] = ()
        self.extractor: Extractor | None = None
        self.outside = outside
        self.faces: DlibEmbedder | None = None

    def check(self, module: Method, split: Split) -> None:
        method = guided_method(module)
        for source, target in self._directions(method):
            for domain in (source, target):
                method.data.role_of(domain)
            if source == target:
                raise UserError(f"ContentTransfer has the direction {source} to {target}: give two domains.")
        for name, source in [*self.sources.items()]:
            if not check_judge_fits(self, name, source, method.data):
                del self.sources[name]
            elif name not in self.judges:
                self.judges[name] = build_judge(source)
        if (judge := self.sources.get("domain_classifier")) is not None:
            self.positive, *more = helper_targets(judge)
            if more or self.positive not in method.domains:
                known = ", ".join([self.positive, *more])
                refuse(
                    self,
                    "domain_classifier",
                    judge,
                    f", which knows {known}: give one with a single target, {choice(method.domains)}.",
                )
        if (judge := self.sources.get("attributes")) is not None:
            self.targets = helper_targets(judge)
            if not any(self._shown(domain) for domain in method.domains):
                refuse(
                    self,
                    "attributes",
                    judge,
                    f", which knows {', '.join(self.targets)}, none of them said to be the content of "
                    f"{choice(method.domains)}: say so by content, such as {{{method.domains[0]}: {self.targets[0]}}}, "
                    "or leave it out.",
                )
        if self.extractor is None:
            self.extractor = build_features(self.features)
        if self.outside is not None and self.faces is None:
            try:
                self.faces = DlibEmbedder()
            except UserError as error:
                rank_zero_warn(f"ContentTransfer leaves out {self.outside}: {error}")
        self.probing = split == "val" or has_training_part(method.data, "probe/... of ContentTransfer")

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        method = guided_method(module)
        self._fetch(trainer, method)
        values: dict[str, Tensor] = {}
        for source, target in self._directions(method):
            direction = self._draw(trainer, method, source, target)
            measures = self._measures(trainer, method, direction)
            values |= self._measured(method, direction, "transfer", measures)
            known = {source, target} <= {*method.contents} & {*self.content}
            if thorough(trainer) and method.guided and known and isinstance(method, ContentMethod):
                for task, measures in self._measures_of_tasks(method, direction).items():
                    values |= self._measured(method, direction, task, measures)
        if thorough(trainer):
            values |= self._trust(trainer, method)
            if self.probing and isinstance(method, ContentMethod):
                values |= self._probes(trainer, method)
        return {key: value.float() for key, value in values.items()}

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        return {k: v for k, v in self.values.items() if thorough(trainer) or k.split("/")[0] in QUICK}

    def _directions(self, module: GuidedMethod) -> Sequence[Sequence[str]]:
        return self.directions or [module.domains, module.domains[::-1]]

    def _fetch(self, trainer: pl.Trainer, module: GuidedMethod) -> None:
        """Load the weights of the networks that are used now."""
        for name, judge in self.judges.items():
            if name == "embedder" and not thorough(trainer):
                continue  # training it may take long
            fetch_judge(judge, trainer, module)
        if thorough(trainer) and self.extractor is not None:
            fetch_features(self.extractor, trainer, module)

    def _shown(self, domain: str) -> str | None:
        """The attribute classifier's target that is the content of a domain."""
        target = self.content.get(domain)
        return target if target in self.targets else None

    def _draw(self, trainer: pl.Trainer, module: GuidedMethod, source: str, target: str) -> Direction:
        """The pairs of a direction: the same at every call."""
        data, split = module.data, part_of(trainer)
        roles = data.role_of(source), data.role_of(target)
        images, guides = (data.data(role, split) for role in roles)
        guided = target in module.contents and module.guided
        count = self.pairs if thorough(trainer) else self.val_pairs
        count = limited(trainer, count if guided else min(count, len(images)), data.eval_batch_size)
        pairs = draw_pairs(len(images), len(guides), count, self.seed)[trainer.global_rank :: trainer.world_size]
        return Direction(source, target, roles, split, images, guides, guided, pairs, count)

    def _measures(self, trainer: pl.Trainer, module: GuidedMethod, direction: Direction) -> list[Measure]:
        """The measures of transfers; in the test also of answers that no model has given."""
        real = self._real(trainer, module, direction) if thorough(trainer) else None
        measures = self._measures_of_any(trainer, module, direction, real)
        if not isinstance(module.data, TransferTruth) and not has_attributes(module.data):
            measures.append(Reconstruction(direction.source, module))
        if not thorough(trainer):
            return measures
        if isinstance(module, ContentMethod) and module.masked and direction.guided:
            measures.append(UnmaskedChange(direction.name, module))
        rows = np.arange(min(len(direction.guides), MEAN_OF))
        total = sum(read(direction.guides, piece, module).sum(0) for piece in pieces(rows, module.data.eval_batch_size))
        mean = torch.as_tensor(total) / len(rows)
        build = partial(self._measures_of_any, trainer, module, direction, real)
        return [*measures, NullRows(direction.name, build, mean)]

    def _real(self, trainer: pl.Trainer, module: GuidedMethod, direction: Direction) -> list[Tensor] | None:
        """Features of this process's share of the real images, or None for a single image: it has no distribution."""
        size = module.data.eval_batch_size
        real = limited(trainer, len(direction.guides), size)
        if min(real, len(direction.images), direction.total) < 2:
            return None
        assert self.extractor is not None
        mine = pieces(share(trainer, real), size)
        return [self.extractor.features(read(direction.guides, rows, module)) for rows in mine]

    def _measures_of_any(
        self, trainer: pl.Trainer, module: GuidedMethod, direction: Direction, real: list[Tensor] | None
    ) -> list[Measure]:
        """Those that look at the pictures alone, whoever has made them."""
        device, name, truth = module.device, direction.name, isinstance(module.data, TransferTruth)
        measures: list[Measure] = []
        if (judge := self.judges.get("domain_classifier")) is not None:
            measures.append(HitRate(name, judge, direction.target == self.positive, device))
        wanted = {"removed": (self._shown(direction.source), False), "added": (self._shown(direction.target), True)}
        asked = {key: (self.targets.index(t), value) for key, (t, value) in wanted.items() if t is not None}
        change = ContentChange(name, self.judges["attributes"], asked, device) if asked else None
        if change is not None:
            measures.append(change)
        if truth:
            measures.append(TrueDistance(name, device))
        if thorough(trainer) and (judge := self.judges.get("embedder")) is not None:
            measures.append(Identity(name, judge, truth, change, device))
        if thorough(trainer) and self.faces is not None:
            at, limit = f"@{self.faces.name}", -(-OUTSIDE // trainer.world_size)
            measures.append(Identity(name, self.faces, False, change, device, at, limit))
        if thorough(trainer) and direction.guided:
            measures.append(Colours(name, module.channels[module.domains.index(direction.target)], device))
        if real is not None:
            assert self.extractor is not None
            measures.append(Distribution(name, self.extractor, real, device))
        return measures

    def _measures_of_tasks(self, module: ContentMethod, direction: Direction) -> dict[Task, list[Measure]]:
        """The measures of images with the content of neither domain (``remove``) or of both (``add``)."""
        columns = [self.targets.index(t) for d in (direction.source, direction.target) if (t := self._shown(d))]
        tasks: dict[Task, tuple[str, bool]] = {"remove": ("stripped", False), "add": ("united", True)}
        found: dict[Task, list[Measure]] = {}
        for task, (key, present) in tasks.items():
            found[task] = []
            if len(columns) == 2:
                name = f"{key}/{direction.name}"
                found[task].append(ContentPresence(name, self.judges["attributes"], columns, present, module.device))
            if isinstance(module.data, TransferTruth):
                found[task].append(TrueDistance(direction.name, module.device, prefix=f"l1_{key}"))
        return {task: measures for task, measures in found.items() if measures}

    def _measured(
        self, module: GuidedMethod, direction: Direction, task: Task, measures: list[Measure]
    ) -> dict[str, Tensor]:
        """Values of all measures, over all processes."""
        for batch in _translated(module, direction, task):
            for measure in measures:
                measure.update(batch)
        return {key: value for measure in measures for key, value in measure.compute().items()}

    def _rules(self, module: GuidedMethod, targets: Sequence[str | None]) -> dict[str, str]:
        """Maps contents to their rules over the attributes of the data, if there are such rules."""
        names = getattr(module.data, "attribute_names", ())
        return {target: rule for target in targets if target and (rule := rule_of(target, names))}

    def _trust(self, trainer: pl.Trainer, module: GuidedMethod) -> dict[str, Tensor]:
        """Balanced accuracies of the classifiers on the real images of both domains in the evaluated part."""
        data, judge = module.data, self.judges.get("domain_classifier")
        trust = Trust(
            (f"domain_accuracy@{judge_name(self.sources['domain_classifier'])}", judge) if judge is not None else None,
            self.judges.get("attributes"),
            self._rules(module, [self._shown(domain) for domain in module.domains]),
            self.targets,
            getattr(data, "attribute_names", ()),
            module.device,
        )
        for role in data.roles:
            images = data.data(role, part_of(trainer))
            count = limited(trainer, len(images), data.eval_batch_size)
            for rows in pieces(share(trainer, count), data.eval_batch_size):
                sample = images.__getitems__(rows.tolist())
                positive = judge is not None and data.role_of(self.positive) == role
                trust.update(to_float(sample.image.to(module.device)), sample.attributes, positive)
        return trust.compute()

    def _probes(self, trainer: pl.Trainer, module: ContentMethod) -> dict[str, Tensor]:
        """Linear probes of the codes; every process computes the same."""
        rules = self._rules(module, [self.content.get(domain) for domain in module.domains])
        by_domain = {d: rules[target] for d in module.domains if (target := self.content.get(d)) in rules}
        values = probe_domains(trainer, module, self.seed) | probe_contents(trainer, module, by_domain, self.seed)
        return {key: value for key, value in values.items() if value.isfinite()}


def _translated(module: GuidedMethod, direction: Direction, task: Task) -> Iterator[Transfers]:
    """The pairs of a direction, translated in batches."""
    data = module.data
    for piece in pieces(direction.pairs, data.eval_batch_size):
        rows, others = piece[:, 0], piece[:, 1]
        x = read(direction.images, rows, module)
        other = read(direction.guides, others, module)
        guide = other if direction.guided else None
        if isinstance(module, ContentMethod):
            made = module.translate(x, direction.source, direction.target, guide, task)
        else:
            made = module.translate(x, direction.source, direction.target, guide)
        output = made.float().clamp(-1, 1)
        truth = mask = None
        if isinstance(data, TransferTruth):
            at = rows.tolist(), others.tolist()
            truth, mask = (t.to(x.device) for t in data.counterfactual(*direction.roles, *at, direction.split, task))
            truth = to_float(truth)
        yield Transfers(x, guide, output, torch.from_numpy(rows), other, truth, mask)
