"""Base classes of evaluations: Lightning's hooks, checks before the first batch, and judges."""

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
    """Base class of evaluations: three methods instead of Lightning's hooks.

    An evaluation is one of two kinds: a :class:`BatchEvaluation` is handed batches, a :class:`DrawnEvaluation` draws
    images itself. :meth:`check` runs before the first batch of any training, validation or test, so that problems are
    found before hours of training.
    """

    def check(self, module: Method, split: Split) -> None:
        """Refuse what cannot be evaluated; build the judges (networks that evaluate), without their weights.

        Args:
            module: the method, with its data.
            split: the part of the data that is evaluated first: ``test``, or ``val`` before a training or a validation.

        Raises:
            UserError: naming what is missing and what to do.
        """

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        """Prepare for a validation or test."""
        raise NotImplementedError(f"{type(self).__name__} must implement begin()")

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        """The metrics by name, reduced over all processes; a validation adds the prefix ``val/`` to the names."""
        raise NotImplementedError(f"{type(self).__name__} must implement report()")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = getattr(trainer, "datamodule", None)
        if stage != "predict" and isinstance(data, BaseDataModule):  # bare loaders have no data module to check
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
    """Base class of evaluations that get every batch of a validation or test from Lightning's loop.

    A process may get no batch at all; its :meth:`report` must still take part in every reduction.

    Attributes:
        watched: the parts whose batches it uses. The data module does not load batches of parts that nobody uses.
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
    """Base class of evaluations that draw images themselves from the data module, mostly in pairs.

    They do not use Lightning's batches: in a run without other evaluations the data module loads none. They respect
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
    """The module, as a method."""
    assert isinstance(module, Method)
    return module


def ends(module: Method) -> tuple[str, str]:
    """The default direction of a method: from its first domain to its last."""
    return module.domains[0], module.domains[-1]


def check_translates_alone(owner: object, module: Method, direction: tuple[str, str] | None = None) -> None:
    """Refuse a direction (by default that of :func:`ends`) in which a method needs guides."""
    source, target = direction or ends(module)
    guided = isinstance(module, ContentMethod) and module.guided and target in module.contents
    if guided and source != target:  # if source equals target, each image is its own guide
        raise UserError(
            f"{type(owner).__name__} translates without guides, but {type(module).__name__} needs them: remove it, or "
            "use ContentTransfer, GuidedAccuracy or TransferPictures."
        )


def check_labels(owner: object, module: Method, role: str, split: Split, classes: int | None = None) -> None:
    """Refuse data whose labels are missing or do not fit a classifier with ``classes`` classes."""
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
    """Name of a helper network in the names of metrics."""
    return source.replace("_", "-") if "/" not in source else "own-classifier"


def build_judge(source: str) -> Helper:
    """Build a helper network without its weights, without drawing random numbers.

    Raises:
        UserError: if no recipe and no checkpoint has that name, or what it names is no classifier.
    """
    with torch.random.fork_rng():  # initial weights must not change the random numbers after a resume
        judge = Helper(source)
    if not judge.classes:
        raise UserError(f"{source} has features and no classes to judge by: give a classifier's recipe or checkpoint.")
    return judge


def fetch_judge(judge: Helper, trainer: pl.Trainer, module: Method) -> Helper:
    """Load the weights of a judge, on the device of the module; it is trained first if it does not exist yet."""
    judge.fetch(trainer.strategy, module.data.root)
    return judge.to(module.device)


def build_features(spec: str) -> Extractor:
    """Build a feature network without its weights and random numbers; see :func:`xdomain.features.build_extractor`."""
    with torch.random.fork_rng():
        return build_extractor(spec)


def fetch_features(extractor: Extractor, trainer: pl.Trainer, module: Method) -> Extractor:
    """Load the weights of a feature network, on the device of the module."""
    extractor.fetch(trainer.strategy, module.data.root)
    return extractor.to(module.device)
