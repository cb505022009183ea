"""Evaluation of content transfer: what was removed, added and kept, and what the codes know."""

from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.batch import Batch, to_float
from xdomain.callbacks.evaluation import Evaluation, judge_name, make_judge
from xdomain.callbacks.reading import draw_pairs, pieces, read, share, spread
from xdomain.data.attributes import AttributeDomains, holds
from xdomain.data.avatars import CONTENT
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, choice
from xdomain.features import build_extractor
from xdomain.features.helpers import Helper, helper_targets
from xdomain.methods import ContentMethod, Method
from xdomain.methods.content import Task
from xdomain.metrics.attributes import AttributeHitRate, BalancedAccuracy
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.distribution import FID, KID
from xdomain.metrics.probes import ROWS, probe_balanced_accuracy
from xdomain.metrics.verification import IdentitySimilarity

FACIAL_HAIR = "Mustache or Goatee or not No_Beard"  # which is no attribute of CelebA
SPLITS: tuple[Split, Split] = ("train", "test")  # what probes are fitted to, and tested on
QUICK = ("hit_rate", "removed", "added", "l1")  # what a validation reports


@runtime_checkable
class TransferTruth(Protocol):
    """Data that knows what its images would be with other content."""

    def counterfactual(
        self,
        source_role: str,
        target_role: str,
        positions: list[int],
        donors: list[int],
        split: Split,
        task: Task = "transfer",
    ) -> tuple[Tensor, Tensor]:
        """True results ``uint8`` [N, C, H, W] and where they may differ from the sources, ``uint8`` [N, 1, H, W]."""


class ContentTransfer(Evaluation):
    """How well is content removed and added, and is everything else kept?

    Random pairs of a source image and a guide, the same at every call, are translated; numbers are per direction, such
    as ``hit_rate/smile_to_glasses``. What has no judge is left out; all but the first, the second and the fourth line
    are for the test.

    ===================================  ===========================================================================
    ``hit_rate/D``                       share classified as the target domain by ``domain_classifier`` (Benaim et
                                         al. 2019, table 1)
    ``removed/D``, ``added/D``           share without the source's content and with the target's, by ``attributes``
    ``hit_rate_low/D``, ``_high``, and   95 % interval, number of pairs, and the rate of the source images as they
    ``n``, ``hit_rate_untranslated``     are
    ``l1/D``                             distance from the true result, where the data knows it; see
                                         :class:`xdomain.metrics.CounterfactualError`
    ``l1_inside/D``, ``l1_outside/D``,   where the content is and elsewhere; the same for doing nothing
    ``l1_untranslated/D`` and so on
    ``l1_unmasked/D``                    distance from the source image where the method's mask is below 0.5, of methods
                                         that have masks and in directions into their content
    ``identity/D``                       cosine similarity to the source by ``embedder``; ``identity_truth/D`` is that
                                         of the true result
    ``stripped/D``, ``united/D``         of the tasks ``remove`` and ``add`` with the same pairs, of methods with guides
                                         for two domains of known content: shares with that of neither and of both
    ``l1_stripped/D``, ``l1_united/D``   their distances from the true results
    ``kid/D@F``, ``kid_std/D@F``,        distances from the real images of the target domain, on features F; with
    ``fid/D@F``                          ``n_real/D@F`` and ``n_fake/D@F`` images; of two images at least
    ``domain_accuracy@J``,               balanced accuracy of the classifiers on the real images of both domains
    ``judge_accuracy/ATTRIBUTE``
    ``probe/common``                     balanced accuracy of a linear probe that reads the domain from the common
                                         code: 0.5 is the aim
    ``probe/DOMAIN/OTHER``               of one that reads the other domain's content from the separate code, over all
                                         contents of what the domains are drawn from, such as men
    ===================================  ===========================================================================

    Args:
        domain_classifier: zoo recipe of a classifier with one logit, whose target is named like the domain for which
            it is positive.
        attributes: zoo recipe of a classifier of attributes.
        embedder: zoo recipe of a network whose features show identity.
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
        pairs: pairs per direction in the test; where nothing comes from a guide, no more than there are source images.
        val_pairs: the same in a validation.
        seed: of the pairs.
        directions: pairs [source, target] of domain names; both by default.
        content: from domain to the target of ``attributes`` that is its content; smile, glasses, beard and hat are
            known.
    """

    def __init__(
        self,
        domain_classifier: str | None = None,
        attributes: str | None = None,
        embedder: str | None = None,
        features: str = "random-conv",
        pairs: int = 1000,
        val_pairs: int = 200,
        seed: int = 0,
        directions: list[list[str]] | None = None,
        content: dict[str, str] | None = None,
    ) -> None:
        for name, value in (("pairs", pairs), ("val_pairs", val_pairs)):
            if value < 2:
                raise UserError(f"{name} of ContentTransfer is {value}: give a number of at least 2.")
        sources = {"domain": domain_classifier, "attributes": attributes, "embedder": embedder}
        self.sources = {name: source for name, source in sources.items() if source is not None}
        self.features, self.pairs, self.val_pairs, self.seed = features, pairs, val_pairs, seed
        self.directions, self.content = directions, {**CONTENT, **(content or {})}
        self.judges: dict[str, Helper] = {}
        self.targets: tuple[str, ...] = ()

    @torch.no_grad()
    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        method = content_method(module)
        self._fetch(trainer, method)
        self.values: dict[str, Tensor] = {}
        for source, target in self.directions or [[*method.domains], [*method.domains[::-1]]]:
            if source == target:
                raise UserError(f"ContentTransfer has the direction {source} to {target}: give two domains.")
            self.values |= self._transfer(trainer, method, source, target)
            known = {source, target} <= {*method.contents} & {*self.content}
            if trainer.testing and method.guided and known:
                self.values |= self._remove_and_add(trainer, method, source, target)
        if trainer.testing:
            self.values |= self._trust(trainer, method) | self._probes(method)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        """Nothing: pairs are drawn from the whole part."""

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        return {k: v for k, v in self.values.items() if testing or k.split("/")[0] in QUICK}

    def _fetch(self, trainer: pl.Trainer, module: ContentMethod) -> None:
        """The judges that are asked now, with their weights, and what their logits stand for."""
        for name, source in self.sources.items():
            if name == "embedder" and not trainer.testing:
                continue  # it may take long to train
            self.judges[name] = (self.judges.get(name) or make_judge(source, trainer, module)).to(module.device)
        if "domain" in self.judges:
            self.positive, *more = helper_targets(self.sources["domain"])
            if more or self.positive not in module.domains:
                known = ", ".join([self.positive, *more])
                raise UserError(
                    f"the domain_classifier {self.sources['domain']} knows {known}: give one with a single target, "
                    f"{choice(module.domains)}."
                )
        if "attributes" in self.judges and not self.targets:
            self.targets = helper_targets(self.sources["attributes"])
        if trainer.testing:
            with torch.random.fork_rng():
                extractor = build_extractor(self.features)
            extractor.fetch(trainer.strategy, module.data.root)
            self.extractor = extractor.to(module.device)

    def _shown(self, domain: str) -> str | None:
        """The target of the classifier of attributes that is the content of a domain."""
        target = self.content.get(domain)
        return target if target in self.targets else None

    def _transfer(self, trainer: pl.Trainer, module: ContentMethod, source: str, target: str) -> dict[str, Tensor]:
        """All values of one direction, over all processes."""
        data, testing, device, name = module.data, trainer.testing, module.device, f"{source}_to_{target}"
        split: Split = "test" if testing else "val"
        roles = data.role_of(source), data.role_of(target)
        images, guides = (data.data(role, split) for role in roles)
        guided = target in module.contents and module.guided
        count = self.pairs if testing else self.val_pairs
        pairs = self._pairs(trainer, images, guides, count if guided else min(count, len(images)))

        wanted = {"removed": (self._shown(source), 0), "added": (self._shown(target), 1)}
        asked = {key: (self.targets.index(t), value) for key, (t, value) in wanted.items() if t is not None}
        attributes = AttributeHitRate([*asked]).to(device)
        suffixes = ("", "_untranslated") if testing else ("",)
        hits = {suffix: AttributeHitRate([name]).to(device) for suffix in suffixes}
        errors = {suffix: CounterfactualError().to(device) for suffix in suffixes}
        kept = {suffix: IdentitySimilarity().to(device) for suffix in ("", "_truth")}
        truth = data if isinstance(data, TransferTruth) else None
        unmasked = MeanMetric().to(device) if testing and module.masked and guided else None

        enough = min(len(guides), len(images)) > 1  # for a distribution
        distances = {"kid": KID(self.extractor), "fid": FID(self.extractor)} if testing and enough else {}
        distances = {key: metric.to(device) for key, metric in distances.items()}

        def compare(x: Tensor, real: bool) -> None:
            features = self.extractor.features(x)
            for metric in distances.values():
                metric.update(features, real=real)

        if distances:
            for rows in pieces(share(trainer, len(guides)), data.eval_batch_size):
                compare(read(guides, rows, module), real=True)

        for piece in pieces(pairs, data.eval_batch_size):
            rows, others = piece[:, 0], piece[:, 1]
            x = read(images, rows, module)
            guide = read(guides, others, module) if guided else None
            output = module.translate(x, source, target, guide=guide).float().clamp(-1, 1)
            shown = {"": output, "_untranslated": x}
            if (judge := self.judges.get("domain")) is not None:
                for suffix, metric in hits.items():
                    metric.update(judge(shown[suffix]), x.new_full((len(x),), target == self.positive))
            if asked:
                logits = self.judges["attributes"](output)[:, [column for column, _ in asked.values()]]
                attributes.update(logits, logits.new_tensor([value for _, value in asked.values()]).expand_as(logits))
            if truth is not None:
                wished, mask = (
                    t.to(device) for t in truth.counterfactual(*roles, rows.tolist(), others.tolist(), split)
                )
                for suffix, error in errors.items():
                    error.update(shown[suffix], to_float(wished), mask)
            if testing and (judge := self.judges.get("embedder")) is not None:
                embedded = judge.features(x)
                kept[""].update(judge.features(output), embedded)
                if truth is not None:
                    kept["_truth"].update(judge.features(to_float(wished)), embedded)
            if unmasked is not None:
                outside = (module.mask(x, guide) < 0.5).expand_as(x)
                unmasked.update((output - x)[outside].abs())
            if distances:
                compare(output, real=False)

        values: dict[str, Tensor] = {}
        if "domain" in self.judges:
            values |= hits[""].compute()
            if testing:
                values[f"hit_rate_untranslated/{name}"] = hits["_untranslated"].compute()[f"hit_rate/{name}"]
        if asked:
            found = attributes.compute()
            values |= {f"{key}/{name}": found[f"hit_rate/{key}"] for key in asked}
        if truth is not None:
            for suffix, error in errors.items():
                found = error.compute()
                values |= {f"{k}{suffix}/{name}": found[k] for k in ("l1", "l1_inside", "l1_outside") if k in found}
        if unmasked is not None and unmasked.weight > 0:  # a mask may cover everything
            values[f"l1_unmasked/{name}"] = unmasked.compute()
        if testing and "embedder" in self.judges:
            suffixes = ("", "_truth") if truth is not None else ("",)
            values |= {f"identity{suffix}/{name}": kept[suffix].compute()["source"] for suffix in suffixes}
        if distances:
            at = f"{name}@{self.extractor.name}"
            values[f"kid/{at}"], values[f"kid_std/{at}"] = distances["kid"].compute()
            values[f"fid/{at}"] = distances["fid"].compute()
            real, fake = distances["kid"].n
            values |= {f"n_real/{at}": torch.tensor(real), f"n_fake/{at}": torch.tensor(fake)}
        return {key: value.float() for key, value in values.items()}

    def _pairs(self, trainer: pl.Trainer, images: ImageData, guides: ImageData, count: int) -> np.ndarray:
        """This process' share of so many pairs [N, 2] of positions."""
        return draw_pairs(len(images), len(guides), count, self.seed)[trainer.global_rank :: trainer.world_size]

    def _remove_and_add(
        self, trainer: pl.Trainer, module: ContentMethod, source: str, target: str
    ) -> dict[str, Tensor]:
        """Whether images can be left with the content of neither domain, and given that of both."""
        data, name = module.data, f"{source}_to_{target}"
        roles = data.role_of(source), data.role_of(target)
        images, guides = (data.data(role, "test") for role in roles)
        contents = [self._shown(domain) for domain in (source, target)]
        columns = [self.targets.index(t) for t in contents if t is not None]
        truth = data if isinstance(data, TransferTruth) else None
        tasks: dict[str, tuple[Task, bool]] = {"stripped": ("remove", False), "united": ("add", True)}
        shares = {key: MeanMetric().to(module.device) for key in tasks}
        errors = {key: CounterfactualError().to(module.device) for key in tasks}

        for piece in pieces(self._pairs(trainer, images, guides, self.pairs), data.eval_batch_size):
            rows, others = piece[:, 0], piece[:, 1]
            x, guide = read(images, rows, module), read(guides, others, module)
            for key, (task, content) in tasks.items():
                output = module.translate(x, source, target, guide=guide, task=task).float().clamp(-1, 1)
                if len(columns) == 2:
                    present = self.judges["attributes"](output)[:, columns] > 0
                    shares[key].update((present == content).all(1).float())
                if truth is not None:
                    wished, mask = truth.counterfactual(*roles, rows.tolist(), others.tolist(), "test", task)
                    errors[key].update(output, to_float(wished.to(output.device)), mask.to(output.device))

        values = {f"{key}/{name}": metric.compute() for key, metric in shares.items() if len(columns) == 2}
        if truth is not None:
            values |= {f"l1_{key}/{name}": error.compute()["l1"] for key, error in errors.items()}
        return values

    def _trust(self, trainer: pl.Trainer, module: ContentMethod) -> dict[str, Tensor]:
        """Balanced accuracies of the classifiers on the real test images of both domains."""
        data, names = module.data, getattr(module.data, "attribute_names", ())
        rules = {t: rule for d in module.domains if (t := self._shown(d)) and (rule := rule_of(t, names))}
        domain = BalancedAccuracy(["domain"]).to(module.device)
        attributes = BalancedAccuracy([*rules]).to(module.device)
        for role in data.roles:
            images = data.data(role, "test")
            for rows in pieces(share(trainer, len(images)), data.eval_batch_size):
                sample = images.__getitems__(rows.tolist())
                x = to_float(sample.image.to(module.device))
                if (judge := self.judges.get("domain")) is not None:
                    domain.update(judge(x), x.new_full((len(x),), data.role_of(self.positive) == role))
                if rules and sample.attributes is not None:
                    table = sample.attributes.numpy()
                    truth = np.stack([holds(rule, names, table) for rule in rules.values()], 1)
                    logits = self.judges["attributes"](x)[:, [self.targets.index(t) for t in rules]]
                    attributes.update(logits, torch.from_numpy(truth).to(x.device))
        values: dict[str, Tensor] = {}
        if "domain" in self.judges:
            key = f"domain_accuracy@{judge_name(self.sources['domain'])}"
            values[key] = domain.compute()["balanced_accuracy/domain"]
        if rules:
            found = attributes.compute()
            values |= {f"judge_accuracy/{t}": found[f"balanced_accuracy/{t}"] for t in rules}
        return {key: value for key, value in values.items() if value.isfinite()}

    def _probes(self, module: ContentMethod) -> dict[str, Tensor]:
        """What the codes know; every process computes the same."""
        data = module.data
        codes, truth = {}, {}
        for split in SPLITS:
            sides = [_codes(module, data.data(role, split), ROWS // 2)[0]["common"] for role in data.roles]
            codes[split] = torch.cat(sides)
            truth[split] = torch.arange(2).repeat_interleave(torch.tensor([len(side) for side in sides]))
        fits = codes["train"], truth["train"], codes["test"], truth["test"]
        values = {"probe/common": probe_balanced_accuracy(*fits, seed=self.seed)}

        names = getattr(data, "attribute_names", ())
        rules = {d: rule for d in module.domains if (rule := rule_of(self.content.get(d), names))}
        if isinstance(data, AttributeDomains) and rules:
            (x, fit), (y, tested) = (_population_codes(module, data, split, list(rules.values())) for split in SPLITS)
            tables = data.table("train")[fit], data.table("test")[tested]
            for domain in module.contents:
                for other, rule in rules.items():
                    if other != domain and domain in x:
                        seen, unseen = (torch.from_numpy(holds(rule, names, table)) for table in tables)
                        score = probe_balanced_accuracy(x[domain], seen, y[domain], unseen, seed=self.seed)
                        values[f"probe/{domain}/{other}"] = score
        return {key: value for key, value in values.items() if value.isfinite()}


def rule_of(target: str | None, names: tuple[str, ...]) -> str | None:
    """The rule of a content over attributes of these names, or None where they do not say."""
    if target in names:
        return target
    return FACIAL_HAIR if target == "Facial_Hair" and "No_Beard" in names else None


def content_method(module: pl.LightningModule) -> ContentMethod:
    """The module, if it transfers content.

    Raises:
        UserError: if it does not.
    """
    if not isinstance(module, ContentMethod):
        raise UserError(f"{type(module).__name__} transfers no content: remove the callbacks that evaluate that.")
    return module


def _codes(module: ContentMethod, data: ImageData, limit: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Codes [N, D] of some images, and their positions."""
    rows = spread(len(data), limit)
    parts = [module.codes(read(data, piece, module)) for piece in pieces(rows, module.data.eval_batch_size)]
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}, rows


def _population_codes(
    module: ContentMethod, data: AttributeDomains, split: Split, contents: list[str]
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Codes of some of those whom the domains are drawn from, and their positions in the whole part."""
    rows = data.population(split, contents)
    codes, positions = _codes(module, data.part(split).keep(rows), ROWS)
    return codes, rows[positions]
