"""Evaluation of translations between pictures and label maps whose truth is known."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.batch import Batch
from xdomain.callbacks.evaluation import BatchEvaluation, build_judge, fetch_judge, judge_name
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.features.helpers import Helper
from xdomain.methods import Method, Segmenter
from xdomain.metrics.segmentation import SegmentationScores, nearest_classes


class LabelMapScores(BatchEvaluation):
    """Are translations into label maps right, and can the labels be seen in pictures made from them?

    For data whose validation and test parts hold pairs. A translation into label maps is read by the nearest colour of
    the palette; a picture made from a label map is labelled by ``segmenter``, a network that has learned from real
    pictures (the "FCN score" of Isola et al. 2017). D is a direction, such as ``photo_to_labels``; into pictures, all
    but ``l1`` stand with ``@`` and the name of the judge.

    ==============================  ==================================================================================
    ``pixel_accuracy/D``            share of pixels with the right class
    ``class_accuracy/D``            the same for every class of the truth, mean
    ``miou/D``                      intersection over union of every class of the truth, mean
    ``relabelled/D``                pixel accuracy under the best one-to-one renaming of the classes
    ``l1/D``                        mean absolute difference from the true pair, on [-1, 1]
    ``..._largest/D``               the first three for the largest class everywhere
    ``..._random/D``                for the true image of another pair; with ``l1_random/D``
    ``..._untranslated/D``          for the image as it is; with ``l1_untranslated/D``
    ``..._real@J``                  what the judge makes of real pictures: the ceiling of pictures made from label maps
    ==============================  ==================================================================================

    Args:
        segmenter: zoo recipe or checkpoint of a :class:`xdomain.methods.Segmenter`; without it pictures made from
            label maps have ``l1`` alone.
    """

    def __init__(self, segmenter: str | None = None) -> None:
        self.segmenter = segmenter
        self._judge: Helper | None = None

    def check(self, module: Method, split: Split) -> None:
        data, name = module.data, type(module.data).__name__
        if not data.paired:
            raise UserError(f"LabelMapScores compares with true pairs, but {name} knows none: remove it.")
        if not set(data.palettes) & set(module.domains):
            raise UserError(f"LabelMapScores needs a domain of label maps, but {name} has none: remove it.")
        if self.segmenter is not None:
            self._judge = self._judge or build_judge(self.segmenter)

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        self.judge = fetch_judge(self._judge, trainer, module) if self._judge is not None else None
        self.scores: dict[str, SegmentationScores] = {}
        self.distances: dict[str, MeanMetric] = {}

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        images = {domain: batch[role].image for domain, role in zip(module.domains, module.data.roles, strict=True)}
        if isinstance(module, Segmenter):
            self._score(module, "", "real", module(images[module.domains[0]]).argmax(1), module.domains[1], images)
            return
        for source, target in module.directions:
            if source == target:
                continue
            direction = f"{source}_to_{target}"
            shown = {"": module.translate(images[source], source, target).float().clamp(-1, 1)}
            if testing:
                shown |= {"random": images[target].roll(1, 0), "untranslated": images[source]}
            for name, image in shown.items():
                key = f"l1{f'_{name}' if name else ''}/{direction}"
                self.distances.setdefault(key, MeanMetric().to(module.device))
                self.distances[key].update((image - images[target]).abs().flatten(1).mean(1))
                if (found := self._classes(module, image, target)) is not None:
                    self._score(module, direction, name, found, target, images)
            if testing and target not in module.data.palettes and self.judge is not None:
                self._score(module, direction, "real", self.judge(images[target]).argmax(1), target, images)

    def _classes(self, module: Method, image: Tensor, domain: str) -> Tensor | None:
        """The classes that are seen in images of a domain, int64 [N, H, W]."""
        if (palette := module.data.palettes.get(domain)) is not None:
            return nearest_classes(image, palette)
        return None if self.judge is None else self.judge(image).argmax(1)

    def _score(
        self, module: Method, direction: str, name: str, found: Tensor, target: str, images: dict[str, Tensor]
    ) -> None:
        """Compare with the label map of the same pair."""
        labels = next(domain for domain in module.domains if domain in module.data.palettes)
        palette = module.data.palettes[labels]
        judged = target != labels and self.segmenter is not None
        key = "|".join((name, direction, f"@{judge_name(self.segmenter)}" if judged and self.segmenter else ""))
        if key not in self.scores:
            self.scores[key] = SegmentationScores(len(palette)).to(found.device)
        self.scores[key].update(found, nearest_classes(images[labels], palette))

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values = {key: metric.compute() for key, metric in self.distances.items()}
        for key, metric in self.scores.items():
            name, direction, judge = key.split("|")
            place = f"{f'/{direction}' if direction else ''}{judge}"
            values |= {f"{score}{f'_{name}' if name else ''}{place}": v for score, v in metric.compute().items()}
            if testing and not name:
                largest = SegmentationScores(metric.classes)
                truth = metric.confusion.sum(1).cpu()
                largest.confusion[:, truth.argmax()] = truth
                found = {k: v for k, v in largest.compute().items() if k != "relabelled"}
                values |= {f"{score}_largest{place}": value for score, value in found.items()}
        return {name: value.to(torch.float32) for name, value in values.items()}
