"""Evaluation by classifiers: of translations, and of the classifiers themselves."""

from typing import Any

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from xdomain.batch import Batch, to_float
from xdomain.callbacks.evaluation import Evaluation, ends, judge_name, make_judge
from xdomain.errors import UserError
from xdomain.methods import Classifier, Method
from xdomain.metrics import NearestNeighbourAccuracy
from xdomain.zoo import Helper


def _accuracies(confusion: Tensor, name: str, per_class: bool) -> dict[str, Tensor]:
    """Accuracy over all images and, where a class has images, per class, from counts [true, predicted]."""
    counts = confusion.double()
    values = {name: counts.trace() / counts.sum()}
    if per_class:
        for label, row in enumerate(counts):
            if row.sum() > 0:
                values[f"{name}/{label}"] = row[label] / row.sum()
    return {key: value.float() for key, value in values.items()}


def save_confusion(confusion: Tensor, path: Any, title: str) -> None:
    """Write a confusion matrix [true, predicted] as a PNG with the counts in it."""
    counts = confusion.cpu()
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(counts.tolist()):
        for predicted, count in enumerate(row):
            if count:
                axes.text(predicted, true, str(count), ha="center", va="center", fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=title, xticks=range(len(counts)), yticks=range(len(counts)))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _run_dir(trainer: pl.Trainer) -> Any:
    return getattr(trainer, "run_dir", None)


class TransferAccuracy(Evaluation):
    """Does a classifier of the target domain see in the translation what the label says of the source image?

    Taigman et al. 2017, section 5.1. ``accuracy@C`` is the share of correct translations, ``accuracy@C/<class>`` the
    same per class; ``accuracy_untranslated@C`` is what the classifier C makes of the source images as they are, and
    ``accuracy_real@C`` of real target images. The test adds the domain-adaptation protocol: ``accuracy@1nn-train`` and
    ``accuracy@1nn-test`` classify real target test images by their nearest translated source image of that part.

    Args:
        classifier: zoo recipe or checkpoint of the target domain's classifier.
        nearest_neighbour: run the 1-nearest-neighbour protocol in the test.
    """

    def __init__(self, classifier: str, nearest_neighbour: bool = True) -> None:
        self.classifier, self.nearest_neighbour = classifier, nearest_neighbour
        self.name = judge_name(classifier)
        self.helper: Helper | None = None

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        self.helper = (self.helper or make_judge(self.classifier, trainer, module)).to(module.device)
        classes = self.helper.classes
        self.confusions = {
            name: MulticlassConfusionMatrix(classes).to(module.device) for name in ("", "_untranslated", "_real")
        }
        self.neighbours = {split: NearestNeighbourAccuracy().to(module.device) for split in ("train", "test")}
        if trainer.testing and self.nearest_neighbour:
            self._translate_training_images(trainer, module)

    @torch.no_grad()
    def _translate_training_images(self, trainer: pl.Trainer, module: Method) -> None:
        datamodule = module.data
        data = datamodule.data("a", "train")
        mine = list(range(trainer.global_rank, len(data), trainer.world_size))
        for begin in range(0, len(mine), datamodule.eval_batch_size):
            sample = data.__getitems__(mine[begin : begin + datamodule.eval_batch_size])
            images = module.translate(to_float(sample.image.to(module.device)), *ends(module))
            self._add_neighbours("train", images, sample.label, gallery=True)

    def _add_neighbours(self, split: str, images: Tensor, labels: Tensor | None, gallery: bool) -> None:
        assert labels is not None
        self.neighbours[split].update(images.clamp(-1, 1), labels.to(images.device), gallery=gallery)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert self.helper is not None
        if (a := batch.get("a")) is not None:
            if a.label is None:
                raise UserError(f"TransferAccuracy needs labels, but {module.domains[0]} has none: remove it.")
            translated = module.translate(a.image, *ends(module)).clamp(-1, 1)
            self.confusions[""].update(self.helper(translated), a.label)
            self.confusions["_untranslated"].update(self.helper(a.image), a.label)
            if testing and self.nearest_neighbour:
                self._add_neighbours("test", translated, a.label, gallery=True)
        if (b := batch.get("b")) is not None and b.label is not None:
            self.confusions["_real"].update(self.helper(b.image), b.label)
            if testing and self.nearest_neighbour:
                for split in self.neighbours:
                    self._add_neighbours(split, b.image, b.label, gallery=False)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for suffix, metric in self.confusions.items():
            counts = metric.compute()
            values |= _accuracies(counts, f"accuracy{suffix}@{self.name}", per_class=testing and not suffix)
            if testing:
                values[f"n{suffix}@{self.name}"] = counts.sum().float()
            if testing and not suffix and trainer.is_global_zero and (folder := _run_dir(trainer)):
                save_confusion(counts, folder / "samples" / "confusion.png", f"translations, {self.name}")
        if testing and self.nearest_neighbour:
            values |= {f"accuracy@1nn-{split}": metric.compute() for split, metric in self.neighbours.items()}
        return values


class ClassificationAccuracy(Evaluation):
    """Accuracy of a classifier on its own domain: ``accuracy`` and, in the test, ``accuracy/<class>``."""

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, Classifier)
        self.confusion = MulticlassConfusionMatrix(module.classes).to(module.device)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        labels = batch["a"].label
        assert labels is not None
        self.confusion.update(module(batch["a"].image), labels)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        counts = self.confusion.compute()
        values = _accuracies(counts, "accuracy", per_class=testing)
        return values | {"n": counts.sum().float()} if testing else values
