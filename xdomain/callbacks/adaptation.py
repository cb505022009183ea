"""Evaluation of classifiers that adapt to another domain."""

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from xdomain.batch import Batch, to_channels
from xdomain.callbacks.accuracy import accuracies, save_confusion
from xdomain.callbacks.evaluation import BatchEvaluation, check_labels
from xdomain.callbacks.reading import has_training_part, limited, pieces, read, spread
from xdomain.data.base import Split
from xdomain.errors import UserError
from xdomain.methods import Classifier, Method
from xdomain.methods.adaptation import AdaptationMethod
from xdomain.metrics.probes import ROWS, proxy_a_distance
from xdomain.running.folder import run_dir

SIDES = {"a": "source", "b": "target"}
PARTS: tuple[Split, Split] = ("train", "test")
"""Parts that the probe of the domains is fitted to and tested on."""


class AdaptationScores(BatchEvaluation):
    """How well a classifier of one domain does in another; the only reader of that domain's labels.

    =========================  ====================================================================================
    ``accuracy_target``        accuracy on the target domain; in the test also per class, ``accuracy_target/<class>``
    ``accuracy_source``        accuracy on the source domain
    ``accuracy_unadapted``     accuracy of the source's network on the target domain, of methods that keep it (ADDA)
    ``class_shift``            half the sum of differences between the shares of predicted and of true classes of the
                               target domain: 0 if they are equal, towards 1 if all answers are a class that is rare
    ``class_shift_domains``    the same between the true classes of both domains: features that cannot be told apart
                               have at least this error
    ``proxy_a_distance``       see :func:`xdomain.metrics.proxy_a_distance`, of what the method wants to be alike in
                               both domains; the probe is fitted to at most 1,000 training images of each
    ``n_target, n_source``     numbers of images
    =========================  ====================================================================================

    A validation reports the first two. The test also draws the confusion matrix of the target domain. A plain
    classifier on two domains, which learns from the first alone, is what adaptation begins with.
    """

    def check(self, module: Method, split: Split) -> None:
        if not isinstance(module, Classifier):
            raise UserError(f"AdaptationScores is for classifiers, not for {type(module).__name__}: remove it.")
        if len(module.domains) != 2:
            raise UserError(
                f"AdaptationScores compares two domains, but the data has {len(module.domains)}: use a pair."
            )
        for role in SIDES:
            check_labels(self, module, role, split, module.classes)
        self.probes = split == "test" and has_training_part(module.data, "proxy_a_distance of AdaptationScores")

    @torch.no_grad()
    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        assert isinstance(module, Classifier)
        self.networks = {role: _network(module, role) for role in SIDES}
        names = [*SIDES.values(), *(["unadapted"] if self.networks["a"] is not self.networks["b"] else [])]
        self.confusions = {name: MulticlassConfusionMatrix(module.classes).to(module.device) for name in names}
        self.distance: dict[str, Tensor] = {}
        if trainer.testing and self.probes:
            fitted, tested = ([_judged(trainer, module, role, part) for role in SIDES] for part in PARTS)
            self.distance = {"proxy_a_distance": proxy_a_distance(fitted[0], fitted[1], tested[0], tested[1])}

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        assert isinstance(module, Classifier)
        for role, name in SIDES.items():
            if (sample := batch.get(role)) is not None:
                assert sample.label is not None
                images = to_channels(sample.image, module.in_channels)
                self.confusions[name].update(self.networks[role](images), sample.label)
                if role == "b" and "unadapted" in self.confusions:
                    self.confusions["unadapted"].update(self.networks["a"](images), sample.label)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        counts = {name: metric.compute() for name, metric in self.confusions.items()}
        values: dict[str, Tensor] = {}
        for name, matrix in counts.items():
            if testing or name in SIDES.values():
                values |= accuracies(matrix, f"accuracy_{name}", per_class=testing and name == "target")
        if not testing:
            return values
        predicted, true, source = (
            matrix.sum(side) / matrix.sum()
            for matrix, side in ((counts["target"], 0), (counts["target"], 1), (counts["source"], 1))
        )
        values["class_shift"] = (predicted - true).abs().sum() / 2
        values["class_shift_domains"] = (source - true).abs().sum() / 2
        values |= {f"n_{name}": counts[name].sum().float() for name in SIDES.values()}
        if trainer.is_global_zero and (folder := run_dir(trainer)):
            save_confusion(counts["target"], folder / "samples" / "confusion.png", "target domain")
        return values | self.distance


def _network(module: Classifier, role: str) -> nn.Module:
    return module.network_of(role) if isinstance(module, AdaptationMethod) else module.network


def _judged(trainer: pl.Trainer, module: Classifier, role: str, part: Split) -> Tensor:
    """What d sees, [N, length], of images that are spread over a part; the same on every process."""
    data, size = module.data.data(role, part), module.data.eval_batch_size
    rows = spread(len(data), min(ROWS // 2, limited(trainer, len(data), size)))
    images = (read(data, piece, module) for piece in pieces(rows, size))
    judged = module.judged if isinstance(module, AdaptationMethod) else lambda x, _: module.features(x)
    return torch.cat([judged(x, role).float().cpu() for x in images])
