"""Evaluation of translations between pictures and label maps whose truth is known."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch
from xdomain.callbacks.evaluation import build_judge, fetch_judge, judge_name
from xdomain.callbacks.pairs import PairScores
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.features.helpers import Helper
from xdomain.methods import Method, Segmenter
from xdomain.metrics.segmentation import SegmentationScores, nearest_classes


class LabelMapScores(PairScores):
    """Are translations into label maps right, and can the labels be seen in pictures made from them?

    For data whose validation and test parts hold pairs. A translation into label maps is read by the nearest colour of
    the palette; a picture made from a label map is labelled by ``segmenter``, a network that has learned from real
    pictures (the "FCN score" of Isola et al. 2017). D is a direction, such as ``photo_to_labels``; into pictures, the
    values stand with ``@`` and the name of the judge. The distances of :class:`PairScores` stand beside them.

    ==============================  ==================================================================================
    ``pixel_accuracy/D``            share of pixels with the right class
    ``class_accuracy/D``            the same for every class of the truth, mean
    ``miou/D``                      intersection over union of every class of the truth, mean
    ``relabelled/D``                pixel accuracy under the best one-to-one renaming of the classes
    ``..._largest/D``               the first three for the largest class everywhere
    ``..._random/D``                for the true image of another pair
    ``..._untranslated/D``          for the image as it is
    ``..._real@J``                  what the judge makes of real pictures: the ceiling of pictures made from label maps
    ==============================  ==================================================================================

    Args:
        segmenter: zoo recipe or checkpoint of a :class:`xdomain.methods.Segmenter`; without it pictures made from
            label maps have the distances of :class:`PairScores` alone.
        features: see :class:`PairScores`.
    """

    def __init__(self, segmenter: str | None = None, features: str = "random-conv") -> None:
        super().__init__(features)
        self.segmenter = segmenter
        self._judge: Helper | None = None

    def check(self, module: Method, split: Split) -> None:
        super().check(module, split)
        if not set(module.data.palettes) & set(module.domains):
            known = type(module.data).__name__
            raise UserError(f"LabelMapScores needs a domain of label maps, but {known} has none: remove it.")
        if self.segmenter is not None:
            self._judge = self._judge or build_judge(self.segmenter)

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        super().begin(trainer, module)
        self.segmentation = fetch_judge(self._judge, trainer, module) if self._judge is not None else None
        self.scores: dict[str, SegmentationScores] = {}

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        if isinstance(module, Segmenter):
            images = {domain: batch[role].image for domain, role in zip(module.domains, module.data.roles, strict=True)}
            self._score(module, "", "real", module(images[module.domains[0]]).argmax(1), module.domains[1], images)
        super().add(module, batch, testing)

    def judge(
        self,
        module: Method,
        direction: tuple[str, str],
        shown: dict[str, Tensor],
        images: dict[str, Tensor],
        testing: bool,
    ) -> None:
        """Read the labels off translations, and off what stands in their place; the mean image shows none."""
        target, name = direction[1], "_to_".join(direction)
        for suffix, image in shown.items():
            if suffix != "_mean" and (found := self._classes(module, image, target)) is not None:
                self._score(module, name, suffix.removeprefix("_"), found, target, images)
        if testing and target not in module.data.palettes and self.segmentation is not None:
            self._score(module, name, "real", self.segmentation(images[target]).argmax(1), target, images)

    def _classes(self, module: Method, image: Tensor, domain: str) -> Tensor | None:
        """The classes that are seen in images of a domain, int64 [N, H, W]."""
        if (palette := module.data.palettes.get(domain)) is not None:
            return nearest_classes(image, palette)
        return None if self.segmentation is None else self.segmentation(image).argmax(1)

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
        values = super().report(trainer, testing)
        for key, metric in self.scores.items():
            name, direction, judge = key.split("|")
            place = f"{f'/{direction}' if direction else ''}{judge}"
            values |= {f"{score}{f'_{name}' if name else ''}{place}": v for score, v in metric.compute().items()}
            if testing and not name:
                found = {k: v for k, v in metric.largest().items() if k != "relabelled"}
                values |= {f"{score}_largest{place}": value for score, value in found.items()}
        return {name: value.to(torch.float32) for name, value in values.items()}
