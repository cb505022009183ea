"""Evaluation of attribute classifiers on real images."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.classification import BinaryAccuracy

from xdomain.batch import Batch
from xdomain.callbacks.evaluation import BatchEvaluation
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.methods import Method
from xdomain.methods.attributes import AttributeClassifier
from xdomain.metrics.attributes import BalancedAccuracy


class AttributeAccuracy(BatchEvaluation):
    """Accuracy of an attribute classifier: ``accuracy/<target>`` and ``balanced_accuracy/<target>``.

    ``balanced_accuracy`` is the mean over the targets that some images have and others lack, ``worst_accuracy`` the
    accuracy of the worst target. All are in [0, 1]; in the test ``n`` is the number of images.
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, AttributeClassifier):
            raise UserError(
                f"AttributeAccuracy is for classifiers of attributes, not for {type(module).__name__}: remove it."
            )
        module.truth(module.data.data("a", split).__getitems__([0]))

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, AttributeClassifier)
        self.names = tuple(module.targets)
        self.balanced = BalancedAccuracy(self.names).to(module.device)
        self.plain = [BinaryAccuracy().to(module.device) for _ in self.names]

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert isinstance(module, AttributeClassifier)
        logits, truth = module(batch["a"].image), module.truth(batch["a"])
        self.balanced.update(logits, truth)
        for metric, logit, wanted in zip(self.plain, logits.T, truth.T, strict=True):
            metric.update((logit > 0).long(), wanted.long())  # decisions: logits in [0, 1] look like probabilities

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        found, plain = self.balanced.compute(), torch.stack([metric.compute() for metric in self.plain])
        balanced = torch.stack([found[f"balanced_accuracy/{name}"] for name in self.names])
        values = {"balanced_accuracy": balanced.nanmean(), "worst_accuracy": plain.min()}
        if testing:
            both = balanced.isfinite().tolist()  # a target that all images have or lack has no balanced accuracy
            values |= {f"balanced_accuracy/{name}": balanced[i] for i, name in enumerate(self.names) if both[i]}
            values |= {f"accuracy/{name}": value for name, value in zip(self.names, plain, strict=True)}
            values["n"] = found[f"n/{self.names[0]}"].float()
        return values
