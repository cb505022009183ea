"""Errors of a classifier on corrupted test images."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import to_float
from xdomain.callbacks.evaluation import DrawnEvaluation, check_labels
from xdomain.callbacks.reading import limited, pieces, share, spread
from xdomain.data.base import Split
from xdomain.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from xdomain.errors import UserError, refuse
from xdomain.methods import Classifier, Method
from xdomain.metrics.corruption import CorruptionErrors


class CorruptionRobustness(DrawnEvaluation):
    """Errors of a classifier under the 15 common corruptions, see :class:`xdomain.metrics.corruption.CorruptionErrors`.

    In the test alone: 75 corrupted copies of every image, made by :func:`xdomain.data.corruptions.corrupt`.

    Args:
        count: test images, evenly spaced; None takes all.
        seed: of the corruptions.
    """

    def __init__(self, count: int | None = None, seed: int = 0) -> None:
        if count is not None and count < 1:
            refuse(self, "count", count, "give a number of images of at least 1.")
        self.count, self.seed = count, seed

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, Classifier):
            raise UserError(f"CorruptionRobustness is for classifiers, not for {type(module).__name__}: remove it.")
        if split == "test":
            check_labels(self, module, "a", split, module.classes)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        if not trainer.testing:
            return {}
        assert isinstance(module, Classifier)
        data, size = module.data.data("a", "test"), module.data.eval_batch_size
        rows = spread(len(data), limited(trainer, min(self.count or len(data), len(data)), size))
        errors = CorruptionErrors().to(module.device)
        for mine in pieces(rows[share(trainer, len(rows))], size):
            sample = data.__getitems__(mine.tolist())
            assert sample.label is not None
            labels = sample.label.to(module.device)
            errors.update(module(to_float(sample.image.to(module.device))), labels)
            for corruption in CORRUPTIONS:
                for severity in SEVERITIES:
                    images = corrupt(sample.image, corruption, severity, seed=self.seed, indices=mine.tolist())
                    errors.update(module(to_float(images.to(module.device))), labels, corruption, severity)
        return errors.compute() | {"n_corrupted": torch.tensor(float(len(rows)))}
