"""Evaluation by classifiers, of translations and of the classifiers themselves."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from xdomain.batch import Batch, to_float
from xdomain.callbacks.evaluation import (
    BatchEvaluation,
    DrawnEvaluation,
    build_judge,
    check_labels,
    check_translates_alone,
    ends,
    fetch_judge,
    judge_name,
)
from xdomain.callbacks.reading import has_training_part, limited, part_of, pieces, read, share
from xdomain.data import CastDigits
from xdomain.data.base import ImageData, Split
from xdomain.errors import UserError, refuse
from xdomain.features.helpers import Helper
from xdomain.files import whole_file
from xdomain.methods import Classifier, ContentMethod, Method
from xdomain.metrics import NearestNeighbourAccuracy
from xdomain.running.folder import run_dir


def accuracies(confusion: Tensor, name: str, per_class: bool) -> dict[str, Tensor]:
    """Accuracy over all images and per class (for classes with images), from counts [true, predicted]."""
    counts = confusion.double()
    values = {name: counts.trace() / counts.sum()}
    if per_class:
        for label, row in enumerate(counts):
            if row.sum() > 0:
                values[f"{name}/{label}"] = row[label] / row.sum()
    return {key: value.float() for key, value in values.items()}


def save_confusion(confusion: Tensor, path: Any, title: str) -> None:
    """Write a confusion matrix [true, predicted] with its counts as a PNG."""
    counts = confusion.cpu()
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdim=True).clamp(min=1), cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(counts.tolist()):
        for predicted, count in enumerate(row):
            if count:
                axes.text(predicted, true, str(count), ha="center", va="center", fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=title, xticks=range(len(counts)), yticks=range(len(counts)))
    with whole_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


class TransferAccuracy(BatchEvaluation):
    """Share of translations in which a classifier of the target domain recognises the source image's label.

    Taigman et al. 2017, section 5.1. ``accuracy@C`` is the share of correct translations, ``accuracy@C/<class>`` the
    same per class; ``accuracy_untranslated@C`` is the accuracy of the classifier C on the source images themselves, and
    ``accuracy_real@C`` on real target images. The test adds the domain-adaptation protocol: ``accuracy@1nn-train`` and
    ``accuracy@1nn-test`` classify real target test images by the nearest translated source image of that part.

    Args:
        classifier: recipe or checkpoint of the target domain's classifier.
        nearest_neighbour: run the 1-nearest-neighbour protocol in the test.
        reverse: evaluate the translation from the last domain to the first instead of that from the first to the last.
    """

    def __init__(self, classifier: str, nearest_neighbour: bool = True, reverse: bool = False) -> None:
        self.classifier, self.nearest_neighbour, self.reverse = classifier, nearest_neighbour, reverse
        self.name = judge_name(classifier)
        self.helper: Helper | None = None
        self.compared = True  # with real target images
        self.galleries: tuple[Split, ...] = ()

    def check(self, module: Method, split: Split) -> None:
        check_translates_alone(self, module, self._direction(module))
        self.helper = self.helper or build_judge(self.classifier)
        source, target = self._roles(module)
        check_labels(self, module, source, split, self.helper.classes)
        self.compared = len(module.domains) == 2 and module.data.data(target, split).labels is not None
        if self.compared:
            check_labels(self, module, target, split, self.helper.classes)
        self.galleries = ()
        if split == "test" and self.nearest_neighbour and self.compared:
            trained = has_training_part(module.data, "accuracy@1nn-train of TransferAccuracy")
            self.galleries = ("train", "test") if trained else ("test",)

    def _direction(self, module: Method) -> tuple[str, str]:
        return ends(module)[::-1] if self.reverse else ends(module)

    def _roles(self, module: Method) -> tuple[str, str]:
        roles = module.data.roles[0], module.data.roles[-1]
        return roles[::-1] if self.reverse else roles

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        self.helper = fetch_judge(self.helper or build_judge(self.classifier), trainer, module)
        names = ("", "_untranslated", *(["_real"] if self.compared else []))
        classes = self.helper.classes
        self.confusions = {name: MulticlassConfusionMatrix(classes).to(module.device) for name in names}
        self.neighbours = {split: NearestNeighbourAccuracy().to(module.device) for split in self.galleries}
        if "train" in self.neighbours:
            self._translate_training_images(trainer, module)

    @torch.no_grad()
    def _translate_training_images(self, trainer: pl.Trainer, module: Method) -> None:
        data, size = module.data.data(self._roles(module)[0], "train"), module.data.eval_batch_size
        for rows in pieces(share(trainer, limited(trainer, len(data), size)), size):
            sample = data.__getitems__(rows.tolist())
            images = module.translate(to_float(sample.image.to(module.device)), *self._direction(module))
            self._add_neighbours("train", images, sample.label, gallery=True)

    def _add_neighbours(self, split: Split, images: Tensor, labels: Tensor | None, gallery: bool) -> None:
        assert labels is not None
        self.neighbours[split].update(images.clamp(-1, 1), labels.to(images.device), gallery=gallery)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert self.helper is not None
        source, target = self._roles(module)
        if (a := batch.get(source)) is not None:
            assert a.label is not None
            translated = module.translate(a.image, *self._direction(module)).clamp(-1, 1)
            self.confusions[""].update(self.helper(translated), a.label)
            self.confusions["_untranslated"].update(self.helper(a.image), a.label)
            if "test" in self.neighbours:
                self._add_neighbours("test", translated, a.label, gallery=True)
        if self.compared and (b := batch.get(target)) is not None and b.label is not None:
            self.confusions["_real"].update(self.helper(b.image), b.label)
            for split in self.neighbours:
                self._add_neighbours(split, b.image, b.label, gallery=False)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for suffix, metric in self.confusions.items():
            counts = metric.compute()
            values |= accuracies(counts, f"accuracy{suffix}@{self.name}", per_class=testing and not suffix)
            if testing:
                values[f"n{suffix}@{self.name}"] = counts.sum().float()
            if testing and not suffix and trainer.is_global_zero and (folder := run_dir(trainer)):
                save_confusion(
                    counts,
                    folder / "samples" / f"confusion{'_reverse' if self.reverse else ''}.png",
                    f"translations, {self.name}",
                )
        return values | {f"accuracy@1nn-{split}": metric.compute() for split, metric in self.neighbours.items()}


class GuidedAccuracy(DrawnEvaluation):
    """Share of translations with random guides in which a classifier recognises the source image's class.

    The protocol of Benaim et al. 2019 for MNIST and SVHN: an image a of one domain is translated to G(E_c(a), 0,
    E_b(b)) with a random image b of the other; the prediction of a classifier of that other domain is compared with the
    label of a. D is a direction, such as ``mnist_to_svhn``, J the classifier of its target.

    =============================  =================================================================================
    ``accuracy/D@J``               share of correct translations, one random guide per source image, as in the paper
    ``accuracy_10_guides/D@J``     share of source images that J gets right by the mean of its probabilities over 10
                                   (``guides``) random guides, the first being that above; an addition to the protocol
    ``accuracy_untranslated/D@J``  accuracy of J on these source images themselves
    ``accuracy_real/D@J``          accuracy of J on all real images of the target domain, if they have labels
    ``n/D@J``, ``n_real/D@J``      number of source images and of real images
    =============================  =================================================================================

    A validation reports only the first. The average over guides is left out if ``guides`` is 1 or content does not come
    from guides. Source images and guides are the same at every call; a larger number of guides extends the smaller one.

    Args:
        classifiers: maps a domain to the recipe or checkpoint of its classifier; directions into other domains are left
            out.
        guides: random guides per source image in the test.
        pairs: largest number of source images per direction in the test; None takes all.
        val_pairs: the same in a validation, with one guide each.
        seed: seed of the choice of source images and guides.
    """

    def __init__(
        self,
        classifiers: dict[str, str],
        guides: int = 10,
        pairs: int | None = 1000,
        val_pairs: int = 200,
        seed: int = 0,
    ) -> None:
        if not classifiers:
            refuse(self, "classifiers", "empty", "give a domain and its classifier.")
        for name, value in (("guides", guides), ("pairs", pairs), ("val_pairs", val_pairs)):
            if value is not None and value < 1:
                refuse(self, name, value, "give a number of at least 1.")
        self.classifiers, self.seed = classifiers, seed
        self.guides, self.pairs, self.val_pairs = guides, pairs, val_pairs
        self.judges: dict[str, Helper] = {}

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, ContentMethod):
            raise UserError(f"GuidedAccuracy needs guides, but {type(module).__name__} takes none: remove it.")
        for domain, recipe in self.classifiers.items():
            if domain not in module.domains:
                raise UserError(
                    f"classifiers of GuidedAccuracy has the unknown domain {domain!r}: this data has "
                    f"{' and '.join(module.domains)}."
                )
            self.judges[domain] = self.judges.get(domain) or build_judge(recipe)
        for source, target in self._directions(module):
            classes, role = self.judges[target].classes, module.data.role_of(target)
            check_labels(self, module, module.data.role_of(source), split, classes)
            if module.data.data(role, split).labels is not None:
                check_labels(self, module, role, split, classes)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        assert isinstance(module, ContentMethod)
        for judge in self.judges.values():
            fetch_judge(judge, trainer, module)
        values: dict[str, Tensor] = {}
        for source, target in self._directions(module):
            values |= self._direction(trainer, module, source, target)
        return values

    def _directions(self, module: Method) -> list[tuple[str, ...]]:
        return [d for d in (module.domains, module.domains[::-1]) if d[1] in self.classifiers]

    def _direction(self, trainer: pl.Trainer, module: ContentMethod, source: str, target: str) -> dict[str, Tensor]:
        """All metrics of one direction, over all processes."""
        judge, testing, size = self.judges[target], trainer.testing, module.data.eval_batch_size
        images, real = (_part(trainer, module, domain) for domain in (source, target))
        guided = module.guided and target in module.contents
        each = self.guides if testing and guided else 1
        count = min((self.pairs if testing else self.val_pairs) or len(images), len(images))
        rows, guides = draw_guides(len(images), len(real), limited(trainer, count, size), each, self.seed)

        averaged = f"_{each}_guides"
        suffixes = ["", *([averaged] if each > 1 else []), *(["_untranslated"] if testing else [])]
        if testing and real.labels is not None:
            suffixes.append("_real")
        confusions = {s: MulticlassConfusionMatrix(judge.classes).to(module.device) for s in suffixes}
        for mine in pieces(share(trainer, len(rows)), size):
            x, labels = read(images, rows[mine], module), _labels(images, rows[mine], module)
            outputs = (
                module.translate(x, source, target, guide=read(real, chosen, module) if guided else None)
                for chosen in guides[:, mine]
            )
            answers = torch.stack([judge(output.float().clamp(-1, 1)).softmax(1) for output in outputs])
            seen = {"": answers[0], averaged: answers.mean(0), "_untranslated": judge(x)}
            for suffix in confusions.keys() & seen.keys():
                confusions[suffix].update(seen[suffix], labels)
        if "_real" in confusions:
            for mine in pieces(share(trainer, limited(trainer, len(real), size)), size):
                confusions["_real"].update(judge(read(real, mine, module)), _labels(real, mine, module))

        at = f"{source}_to_{target}@{judge_name(self.classifiers[target])}"
        values: dict[str, Tensor] = {}
        for suffix, metric in confusions.items():
            counts = metric.compute()
            values |= accuracies(counts, f"accuracy{suffix}/{at}", per_class=False)
            if testing and suffix in ("", "_real"):
                values[f"n{suffix}/{at}"] = counts.sum().float()
        return values


def draw_guides(sources: int, guides: int, count: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random positions of distinct source images, and of guides for them.

    Returns:
        int64 [n], where n is the smaller of ``count`` and the number of sources, and int64 [each, n].
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(sources)[:count]
    return rows, rng.integers(guides, size=(each, len(rows)))


def _part(trainer: pl.Trainer, module: Method, domain: str) -> ImageData:
    return module.data.data(module.data.role_of(domain), "test" if trainer.testing else "val")


def _labels(data: ImageData, rows: np.ndarray, module: Method) -> Tensor:
    assert data.labels is not None
    return torch.from_numpy(data.labels[rows]).to(module.device)


class ClassificationAccuracy(BatchEvaluation):
    """Accuracy of a classifier on its own domain: ``accuracy`` and, in the test, ``accuracy/<class>``."""

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, Classifier):
            raise UserError(f"ClassificationAccuracy is for classifiers, not for {type(module).__name__}: remove it.")
        check_labels(self, module, "a", split, module.classes)

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, Classifier)
        self.confusion = MulticlassConfusionMatrix(module.classes).to(module.device)

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        labels = batch["a"].label
        assert labels is not None
        self.confusion.update(module(batch["a"].image), labels)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        counts = self.confusion.compute()
        values = accuracies(counts, "accuracy", per_class=testing)
        return values | {"n": counts.sum().float()} if testing else values


class ShuffledCastAccuracy(DrawnEvaluation):
    """Accuracy of a classifier on the photos of :class:`CastDigits` in light that does not give the class away.

    ``accuracy_shuffled`` and, in the test, ``n_shuffled``, beside the numbers of :class:`ClassificationAccuracy`.
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, Classifier) or not isinstance(module.data, CastDigits):
            kinds = f"{type(module).__name__} and {type(module.data).__name__}"
            raise UserError(f"ShuffledCastAccuracy is for Classifier and CastDigits, not for {kinds}: remove it.")

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        assert isinstance(module, Classifier)
        assert isinstance(module.data, CastDigits)
        data, size = module.data.shuffled(part_of(trainer)), module.data.eval_batch_size
        confusion = MulticlassConfusionMatrix(module.classes).to(module.device)
        for rows in pieces(share(trainer, limited(trainer, len(data), size)), size):
            confusion.update(module(read(data, rows, module)), _labels(data, rows, module))
        counts = confusion.compute()
        values = accuracies(counts, "accuracy_shuffled", per_class=False)
        return values | {"n_shuffled": counts.sum().float()} if trainer.testing else values
