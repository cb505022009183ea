"""What all evaluations share: Lightning's hooks, checks before the first batch, and networks that judge."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch
from xdomain.data.base import BaseDataModule, Split
from xdomain.errors import UserError
from xdomain.features import Extractor, build_extractor
from xdomain.features.helpers import Helper
from xdomain.methods import ContentMethod
from xdomain.methods.base import Method


class Evaluation(pl.Callback):
    """What evaluations share: three calls instead of Lightning's hooks.

    An evaluation is one of two kinds: a :class:`BatchEvaluation` is handed batches, a :class:`DrawnEvaluation` draws
    images itself. :meth:`check` runs before the first batch of any training, validation or test, so that what an
    evaluation lacks is found before hours have been spent.
    """

    def check(self, module: Method, split: Split) -> None:
        """Refuse what cannot be evaluated; build the judges, without their weights.

        Args:
            module: the method, with its data.
            split: what will be evaluated first: the part ``test``, or ``val`` before a training or a validation.

        Raises:
            UserError: that names what is missing and the way out.
        """

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        """Get ready for a validation or test."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin()")

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        """The metrics by name, reduced over all processes; a validation puts ``val/`` in front of the names."""
        raise NotImplementedError(f"{type(self).__name__} must implement report()")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if stage != "predict" and isinstance(data, BaseDataModule):  # with bare loaders there is nothing to look at
            self.check(method_of(pl_module), "test" if stage == "test" else "val")

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer, method_of(pl_module))

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The values are reduced already; sync_dist keeps Lightning's copies equal on all ranks.
        pl_module.log_dict({f"val/{k}": v for k, v in self.report(trainer, False).items()}, sync_dist=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.report(trainer, True), sync_dist=True)


class BatchEvaluation(Evaluation):
    """Base of evaluations that Lightning's loop hands every batch of a validation or test.

    A process may get no batch at all: :meth:`report` must still take part in every reduction.

    Attributes:
        watched: the parts whose batches it looks at. The data module loads those of other parts for nobody.
    """

    watched: tuple[Split, ...] = ("val", "test")

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        """Evaluate one batch."""
        raise NotImplementedError(f"{type(self).__name__} must implement add()")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if batch and "val" in self.watched:
            self.add(method_of(pl_module), batch, testing=False)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        if batch and "test" in self.watched:
            self.add(method_of(pl_module), batch, testing=True)


class DrawnEvaluation(Evaluation):
    """Base of evaluations that draw images, most of them in pairs, from the data module themselves.

    Lightning's batches pass them by: where a run has no other evaluations, the data module loads none. They keep to
    ``limit_val_batches`` and ``limit_test_batches`` by :func:`xdomain.callbacks.reading.limited`.
    """

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        """All metrics by name, reduced over all processes."""
        raise NotImplementedError(f"{type(self).__name__} must implement measure()")

    @torch.no_grad()
    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        self.values = self.measure(trainer, module)

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        return self.values


def method_of(module: pl.LightningModule) -> Method:
    """The module, known to be a method."""
    assert isinstance(module, Method)
    return module


def ends(module: Method) -> tuple[str, str]:
    """The domains that a method translates between by default: from its first to its last."""
    return module.domains[0], module.domains[-1]


def check_translates_alone(owner: object, module: Method, direction: tuple[str, str] | None = None) -> None:
    """Refuse a direction, by default that of :func:`ends`, in which a method needs guides."""
    source, target = direction or ends(module)
    guided = isinstance(module, ContentMethod) and module.guided and target in module.contents
    if guided and source != target:  # to its own domain, an image is its own guide
        raise UserError(
            f"{type(owner).__name__} translates without guides, but {type(module).__name__} needs them: remove it, or "
            "use ContentTransfer, GuidedAccuracy or TransferPictures."
        )


def check_labels(owner: object, module: Method, role: str, split: Split, classes: int | None = None) -> None:
    """Refuse data whose labels are missing, or do not fit a classifier of so many classes."""
    domain = module.domains[module.data.roles.index(role)]
    labels = module.data.data(role, split).labels
    if labels is None:
        raise UserError(
            f"{type(owner).__name__} needs labels, but {domain} has none: remove it. ContentTransfer and "
            "DistributionDistance need none."
        )
    if classes is not None and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(
            f"{type(owner).__name__} has a classifier of {classes} classes, but {domain} has labels from "
            f"{labels.min()} to {labels.max()}: give a classifier that knows them all."
        )


def judge_name(source: str) -> str:
    """How a helper network is called in the names of metrics."""
    return source.replace("_", "-") if "/" not in source else "own-classifier"


def build_judge(source: str) -> Helper:
    """A helper network without its weights; making it draws no random numbers.

    Raises:
        UserError: if no recipe and no checkpoint has that name.
    """
    with torch.random.fork_rng():  # its initial weights must not shift what training draws after a resume
        return Helper(source)


def fetch_judge(judge: Helper, trainer: pl.Trainer, module: Method) -> Helper:
    """The same with its weights, trained first if no one has, on the device of the module."""
    judge.fetch(trainer.strategy, module.data.root)
    return judge.to(module.device)


def build_features(spec: str) -> Extractor:
    """A feature network without its weights, see :func:`xdomain.features.build_extractor`; draws no random numbers."""
    with torch.random.fork_rng():
        return build_extractor(spec)


def fetch_features(extractor: Extractor, trainer: pl.Trainer, module: Method) -> Extractor:
    """The same with its weights, on the device of the module."""
    extractor.fetch(trainer.strategy, module.data.root)
    return extractor.to(module.device)
