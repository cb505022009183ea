"""Evaluation of translations between domains that differ in an attribute: is it changed, are the others kept?"""

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.callbacks.content_checks import rule_of
from xdomain.callbacks.evaluation import (
    DrawnEvaluation,
    build_judge,
    check_translates_alone,
    fetch_judge,
)
from xdomain.callbacks.reading import draw_pairs, limited, part_of, pieces, read, share
from xdomain.data.attributes import AttributeDomains, attributes_of, holds, truth
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, refuse
from xdomain.features.helpers import Helper, helper_targets
from xdomain.methods import Method, TwoStep
from xdomain.metrics.attributes import AttributeHitRate, BalancedAccuracy


class AttributeTransfer(DrawnEvaluation):
    """Shares of translations that a classifier assigns to the target domain, and that keep each other attribute.

    The classifier learns from real images alone. D is a direction, such as ``male_to_female``, T a target of the
    classifier that is not in the rules of the domains, and that some images of the target domain have and others lack:
    the beards of men should not be kept by women.

    ========================  ======================================================================================
    ``target_rate/D``         share of translations that match the rule of the target domain, by the classifier
    ``kept/T/D``              share of translations in which it sees T where the image has T, and none where not
    ``kept_balanced/T/D``     mean of this share over images with and without T: 0.5 if T is never, always or randomly
                              there; left out if all images have T, or none
    ========================  ======================================================================================

    In the test the first two also stand with ``_untranslated``, for the images as they are: what the classifier's own
    errors leave; with ``_random``, for real images of the target domain in their place; and with ``_drawn``, for images
    that :class:`xdomain.methods.TwoStep` draws from random vectors; ``n/D`` is the number of images.

    Args:
        attributes: recipe or checkpoint of a classifier of attributes; it must know those of the domains' rules.
        count: images per direction in the test.
        val_count: images per direction in a validation.
        seed: seed of the choice of images.
    """

    def __init__(self, attributes: str, count: int = 1000, val_count: int = 200, seed: int = 0) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value < 1:
                refuse(self, name, value, "give a number of images of at least 1.")
        self.attributes, self.count, self.val_count, self.seed = attributes, count, val_count, seed
        self.judge: Helper | None = None
        self.targets: tuple[str, ...] = ()

    def check(self, module: Method, split: Split) -> None:
        data = module.data
        if not isinstance(data, AttributeDomains):
            known = type(data).__name__
            raise UserError(f"AttributeTransfer needs data with attributes, but {known} has none: remove it.")
        for direction in self._directions(module):
            check_translates_alone(self, module, direction)
        self.targets = helper_targets(self.attributes)
        needed = {name for rule in data.rules.values() for name in attributes_of(rule)}
        if missing := sorted(needed - {*self.targets}):
            reason = f", which knows {', '.join(self.targets)}, but the domains differ in {', '.join(missing)}"
            refuse(self, "attributes", self.attributes, f"{reason}: give another.")
        self.rules = {t: rule for t in self.targets if t not in needed and (rule := rule_of(t, data.attribute_names))}
        self.judge = self.judge or build_judge(self.attributes)

    @staticmethod
    def _directions(module: Method) -> list[tuple[str, str]]:
        return [(source, target) for source, target in module.directions if source != target]

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        self.judge = fetch_judge(self.judge or build_judge(self.attributes), trainer, module)
        values: dict[str, Tensor] = {}
        for source, target in self._directions(module):
            values |= self._measured(trainer, module, source, target)
        return {name: value.float() for name, value in values.items()}

    def _measured(self, trainer: pl.Trainer, module: Method, source: str, target: str) -> dict[str, Tensor]:
        data, testing = module.data, trainer.testing
        assert isinstance(data, AttributeDomains)
        images, others = (data.data(data.role_of(domain), part_of(trainer)) for domain in (source, target))
        count = min(len(images), self.count if testing else self.val_count)
        count = limited(trainer, count, data.eval_batch_size)
        pairs = draw_pairs(len(images), len(others), count, self.seed)[share(trainer, count)]
        drawn = isinstance(module, TwoStep) and testing
        rules = self._rules(others, data.attribute_names)
        suffixes = ["", *(["_untranslated", "_random"] if testing else []), *(["_drawn"] if drawn else [])]
        hits = {suffix: AttributeHitRate(["target"]).to(module.device) for suffix in suffixes}
        kept = {suffix: AttributeHitRate([*rules]).to(module.device) for suffix in suffixes}
        balanced = BalancedAccuracy([*rules]).to(module.device)
        noise = torch.Generator().manual_seed(self.seed + trainer.global_rank)
        for piece in pieces(pairs, data.eval_batch_size):
            x, table = read(images, piece[:, 0], module), images.attributes
            assert table is not None
            wanted = truth(rules.values(), data.attribute_names, table[piece[:, 0]]).to(module.device)
            shown = {"": module.translate(x, source, target).float().clamp(-1, 1), "_untranslated": x}
            if testing:
                shown["_random"] = read(others, piece[:, 1], module)
            if drawn:
                assert isinstance(module, TwoStep)
                z = torch.randn(len(x), module.latent, generator=noise)
                shown["_drawn"] = module.draw(z.to(module.device), target).float().clamp(-1, 1)
            for suffix in suffixes:
                matches, logits = self._seen(shown[suffix], data.rules[target])
                hits[suffix].update(matches, torch.ones_like(matches))
                logits = logits[:, [self.targets.index(name) for name in rules]]
                kept[suffix].update(logits, wanted)
                if not suffix:
                    balanced.update(logits, wanted)
        at = f"{source}_to_{target}"
        values: dict[str, Tensor] = {}
        for suffix in suffixes:
            found = hits[suffix].compute() | kept[suffix].compute()
            values[f"target_rate{suffix}/{at}"] = found["hit_rate/target"]
            values |= {f"kept{suffix}/{name}/{at}": found[f"hit_rate/{name}"] for name in rules}
            if testing and not suffix:
                values[f"n/{at}"] = found["n/target"]
        evenly = balanced.compute()
        known = {name: evenly[f"balanced_accuracy/{name}"] for name in rules}
        return values | {f"kept_balanced/{name}/{at}": value for name, value in known.items() if value.isfinite()}

    def _rules(self, images: ImageData, names: tuple[str, ...]) -> dict[str, str]:
        """The rules of the other targets that some images have and others lack."""
        assert images.attributes is not None
        share = truth(self.rules.values(), names, images.attributes).double().mean(0).tolist()
        return {name: rule for (name, rule), part in zip(self.rules.items(), share, strict=True) if 0 < part < 1}

    def _seen(self, images: Tensor, rule: str) -> tuple[Tensor, Tensor]:
        """Whether the classifier sees a rule in images, as 1 and -1 [N], and its logits [N, K]."""
        assert self.judge is not None
        logits = self.judge(images).float()
        matches = holds(rule, self.targets, (logits > 0).long().cpu().numpy())
        return torch.from_numpy(matches).to(logits) * 2 - 1, logits
