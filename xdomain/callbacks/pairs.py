"""Evaluation of translations by their true pairs."""

from contextlib import suppress

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch, to_channels
from xdomain.callbacks.evaluation import BatchEvaluation, build_features, check_translates_alone, fetch_features
from xdomain.callbacks.reading import has_training_part, pieces, read
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.features import Extractor
from xdomain.methods import Method
from xdomain.metrics.base import PairMetric
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.perceptual import LPIPS, PerceptualDistance


class PairDistances:
    """How far images are from the truth: L1, SSIM and perceptual distances, mean over all processes.

    Args:
        extractor: feature network of the perceptual distance.
        device: where the images are.
    """

    def __init__(self, extractor: Extractor, device: torch.device) -> None:
        self.pixels = CounterfactualError().to(device)
        self.perceptual: list[PairMetric] = [PerceptualDistance(extractor).to(device)]
        with suppress(UserError):  # where its weights are
            self.perceptual.append(LPIPS("squeeze").to(device))

    def update(self, images: Tensor, truth: Tensor) -> None:
        """Add images and their true pairs, float [N, C, H, W] in [-1, 1]."""
        self.pixels.update(images, truth)
        for metric in self.perceptual:
            metric.update(truth, images)

    def compute(self) -> dict[str, Tensor]:
        """The values by name, such as ``l1`` and ``lpips-uniform@random-conv``."""
        pixels = self.pixels.compute()
        return {name: pixels[name] for name in ("l1", "ssim")} | {m.name: m.compute() for m in self.perceptual}


class PairScores(BatchEvaluation):
    """How far is a translation from the true pair of its source?

    For data whose validation and test parts hold pairs, such as :class:`xdomain.data.SeasonWorld`. D is a direction of
    the method, such as ``summer_to_winter``; F is a feature network.

    =============================  =================================================================================
    ``l1/D``                       mean absolute difference from the true pair, on [-1, 1]
    ``ssim/D``                     structural similarity to it, at most 1
    ``lpips-uniform/D@F``          perceptual distance from it, see :class:`xdomain.metrics.PerceptualDistance`
    ``lpips/D@squeeze``            likewise, where its weights are: see :class:`xdomain.metrics.LPIPS`
    =============================  =================================================================================

    In the test each also stands with ``_untranslated``, for the source image as it is; with ``_random``, for the true
    image of another pair; and with ``_mean``, for the mean of the training images of the target domain, which never
    looks at its source and is hard to beat in L1.

    Args:
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
    """

    def __init__(self, features: str = "random-conv") -> None:
        self.features = features
        self._extractor: Extractor | None = None

    def check(self, module: Method, split: Split) -> None:
        if not module.data.paired:
            known = type(module.data).__name__
            raise UserError(f"{type(self).__name__} compares with true pairs, but {known} knows none: remove it.")
        for direction in _directions(module):
            check_translates_alone(self, module, direction)
        self._extractor = self._extractor or build_features(self.features)

    @torch.no_grad()
    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        data = module.data
        extractor = fetch_features(self._extractor or build_features(self.features), trainer, module)
        names = ["", "_untranslated"] if trainer.testing else [""]
        if trainer.testing and len(data.data("a", "test")) > 1:
            names.append("_random")
        self._means: dict[str, Tensor] = {}
        if trainer.testing and has_training_part(data, "the mean training image of PairScores"):
            names.append("_mean")
            self._means = {target: _mean(module, target) for _, target in _directions(module)}
        self._distances = {
            (name, direction): PairDistances(extractor, module.device)
            for direction in _directions(module)
            for name in names
        }

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        images = {domain: batch[role].image for domain, role in zip(module.domains, module.data.roles, strict=True)}
        for source, target in _directions(module):
            truth = images[target]
            shown = {"": module.translate(images[source], source, target).float().clamp(-1, 1)}
            if testing:
                shown["_untranslated"] = to_channels(images[source], truth.shape[1])
            if ("_random", (source, target)) in self._distances:
                shown["_random"] = _others(module, batch, target)
            if target in self._means:
                shown["_mean"] = self._means[target].expand_as(truth)
            for name, image in shown.items():
                self._distances[name, (source, target)].update(image, truth)
            self.judge(module, (source, target), shown, images, testing)

    def judge(
        self,
        module: Method,
        direction: tuple[str, str],
        shown: dict[str, Tensor],
        images: dict[str, Tensor],
        testing: bool,
    ) -> None:
        """What else a successor makes of a batch.

        Args:
            module: the method.
            direction: source and target.
            shown: the translations, with the name "", and what stands in their place, by its suffix.
            images: the batch, by domain.
            testing: whether this is a test, or else a validation.
        """

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for (suffix, (source, target)), distances in self._distances.items():
            for name, value in distances.compute().items():
                what, at, network = name.partition("@")
                values[f"{what}{suffix}/{source}_to_{target}{at}{network}"] = value.float()
        return values


def _directions(module: Method) -> list[tuple[str, str]]:
    """The directions that lead to another domain."""
    return [(source, target) for source, target in module.directions if source != target]


def _mean(module: Method, domain: str) -> Tensor:
    """Mean of all training images of a domain, float [1, C, H, W] in [-1, 1]."""
    data = module.data.data(module.data.role_of(domain), "train")
    batches = (read(data, rows, module) for rows in pieces(np.arange(len(data)), module.data.eval_batch_size))
    total = torch.stack([batch.sum(0, keepdim=True) for batch in batches]).sum(0)
    return total / len(data)


def _others(module: Method, batch: Batch, domain: str) -> Tensor:
    """The images of a domain that belong to other pairs: those of the batch, or the next one where it has one alone."""
    role = module.data.role_of(domain)
    sample = batch[role]
    if len(sample.image) > 1:
        return sample.image.roll(1, 0)
    data = module.data.data(role, "test")
    return read(data, (sample.position.cpu().numpy() + 1) % len(data), module)
