"""Evaluation of the translation of the one image that a method has learned from."""

from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import to_channels
from xdomain.callbacks.evaluation import (
    DrawnEvaluation,
    build_features,
    build_judge,
    check_labels,
    fetch_features,
    fetch_judge,
    judge_name,
)
from xdomain.callbacks.pairs import PairDistances
from xdomain.callbacks.reading import pieces, read, spread
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, refuse
from xdomain.features import Extractor
from xdomain.features.helpers import Helper
from xdomain.methods import Method
from xdomain.metrics.perceptual import ContentDistance, gram

RANDOM = 20
"""Random target images in the place of a translation, over which ``_random`` is the mean."""


class Target(NamedTuple):
    """What is known of the target domain, from its training images.

    Attributes:
        images: the images that it was made from.
        grams: their mean Gram matrices [C, C], of every layer.
        random: some of them, float [N, C, H, W] in [-1, 1].
        answers: classes that the judge sees in them, int64 [M]; None without a judge.
    """

    images: ImageData
    grams: list[Tensor]
    random: Tensor
    answers: Tensor | None


class OneShotScores(DrawnEvaluation):
    """The translation y of one image x: is it still x, and does it look like the target domain?

    For data with one image of the first domain, such as :class:`xdomain.data.OneShot`; Benaim and Wolf 2018, section 4.
    F is a feature network, LAYER one of its layers, J a classifier of the target domain.

    =========================  =====================================================================================
    ``content@F/LAYER``        mean squared difference of the feature maps of x and y
    ``style@F``                mean squared difference between the Gram matrices of y and the mean ones of training
                               images of the target domain, mean over the layers
    ``accuracy@J``             1 if J sees the label of x in y, else 0; with ``classifiers``
    ``l1``, ``ssim``           mean absolute difference from the true pair on [-1, 1], and structural similarity; where
                               the data knows pairs
    ``lpips-uniform@F``        likewise, see :class:`xdomain.metrics.PerceptualDistance`
    ``lpips@squeeze``          likewise, where its weights are: see :class:`xdomain.metrics.LPIPS`
    =========================  =====================================================================================

    In the test each also stands with ``_untranslated``, for x itself in the place of y, and with ``_random``, the mean
    over training images of the target domain in the place of y: 20 of them, for the accuracy all that are looked at.

    Args:
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
        layer: layer of F for the content; by default the second of its named layers.
        images: largest number of training images of the target domain that are looked at, evenly spaced.
        classifiers: maps a domain to the recipe or checkpoint of its classifier; for labelled data.
    """

    def __init__(
        self,
        features: str = "random-conv",
        layer: str | None = None,
        images: int = 500,
        classifiers: dict[str, str] | None = None,
    ) -> None:
        if images < RANDOM:
            refuse(self, "images", images, f"give a number of at least {RANDOM}.")
        self.features, self.layer, self.images, self.classifiers = features, layer, images, classifiers or {}
        self._extractor: Extractor | None = None
        self._judges: dict[str, Helper] = {}
        self._target: Target | None = None

    def check(self, module: Method, split: Split) -> None:
        data = module.data
        source, target = data.domains[0], data.domains[-1]
        if (count := len(data.data("a", split))) != 1:
            raise UserError(f"OneShotScores judges one image of {source}, but there are {count}: use OneShot data.")
        if (source, target) not in module.directions:
            raise UserError(
                f"OneShotScores judges {source} to {target}, which this {type(module).__name__} does not do: remove it."
            )
        for domain in self.classifiers:
            data.role_of(domain)
        if target in self.classifiers:
            self._judges[target] = self._judges.get(target) or build_judge(self.classifiers[target])
            check_labels(self, module, "a", split, self._judges[target].classes)
        self._extractor = self._extractor or build_features(self.features)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        """All metrics; every process finds the same, of the same image."""
        assert self._extractor is not None
        data, network = module.data, fetch_features(self._extractor, trainer, module)
        source, target = data.domains[0], data.domains[-1]
        if (judge := self._judges.get(target)) is not None:
            fetch_judge(judge, trainer, module)
        known = self._look_at(module, network, judge)
        split: Split = "test" if trainer.testing else "val"
        one = data.data("a", split)
        x = read(one, spread(1, 1), module)
        shown = {"": module.translate(x, source, target).float().clamp(-1, 1)}
        if trainer.testing:
            shown |= {"_untranslated": x, "_random": known.random}
        truth = read(data.data("b", split), spread(1, 1), module) if data.paired else None

        values: dict[str, Tensor] = {}
        for suffix, images in shown.items():
            found = self._scores(network, known, x, images) | self._distances(network, truth, images)
            if judge is not None and known.answers is not None and one.labels is not None:
                answers = known.answers if suffix == "_random" else judge(images).argmax(1)
                found[f"accuracy@{judge_name(self.classifiers[target])}"] = (answers == int(one.labels[0])).float()
            for name, value in found.items():
                metric, at, place = name.partition("@")
                values[f"{metric}{suffix}{at}{place}"] = value.float().mean()
        return values

    def _look_at(self, module: Method, network: Extractor, judge: Helper | None) -> Target:
        """What is known of the target domain; looked at once for the same images."""
        images = module.data.data(module.data.roles[-1], "train")
        if self._target is None or self._target.images is not images:
            rows = spread(len(images), self.images)
            sums: list[Tensor] = []
            answers = []
            for piece in pieces(rows, module.data.eval_batch_size):
                batch = read(images, piece, module)
                grams = [gram(maps).sum(0) for maps in network.pyramid(batch, network.layers)]
                sums = [a + b for a, b in zip(sums, grams, strict=True)] if sums else grams
                if judge is not None:
                    answers.append(judge(batch).argmax(1))
            chosen = read(images, rows[spread(len(rows), RANDOM)], module)
            grams = [total / len(rows) for total in sums]
            self._target = Target(images, grams, chosen, torch.cat(answers) if answers else None)
        return self._target

    def _scores(self, network: Extractor, known: Target, x: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Content and style of images in the place of the translation, one value each."""
        content = ContentDistance(network, self.layer or network.layers[min(1, len(network.layers) - 1)])
        pairs = zip(network.pyramid(images, network.layers), known.grams, strict=True)
        style = torch.stack([(gram(maps) - mean).square().mean((1, 2)) for maps, mean in pairs]).mean(0)
        return {content.name: content.distances(x, images), f"style@{network.name}": style}

    def _distances(self, network: Extractor, truth: Tensor | None, images: Tensor) -> dict[str, Tensor]:
        """Distances from the true pair, if there is one."""
        if truth is None:
            return {}
        images = to_channels(images, truth.shape[1])
        distances = PairDistances(network, images.device)
        distances.update(images, truth.expand_as(images))
        return distances.compute()
