"""What all evaluating callbacks share: the hooks of Lightning as three, and helper networks that judge."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import Batch
from xdomain.features.helpers import Helper
from xdomain.methods.base import Method


class Evaluation(pl.Callback):
    """Turns the validation and test hooks of Lightning into three: begin, add a batch, report."""

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        """Get ready for all batches of a validation or test."""
        raise NotImplementedError

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        """Evaluate one batch."""
        raise NotImplementedError

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        """The metrics by name, reduced over all processes; a validation puts ``val/`` in front of the names."""
        raise NotImplementedError

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin(trainer, method_of(pl_module))

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.add(method_of(pl_module), batch, testing=False)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.add(method_of(pl_module), batch, testing=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The values are reduced already; sync_dist keeps Lightning's copies equal on all ranks.
        pl_module.log_dict({f"val/{k}": v for k, v in self.report(trainer, False).items()}, sync_dist=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.log_dict(self.report(trainer, True), sync_dist=True)


def method_of(module: pl.LightningModule) -> Method:
    """The module, known to be a method."""
    assert isinstance(module, Method)
    return module


def ends(module: Method) -> tuple[str, str]:
    """The domains that a method translates between by default: from its first to its last."""
    return module.domains[0], module.domains[-1]


def judge_name(source: str) -> str:
    """How a helper network is called in the names of metrics."""
    return source.replace("_", "-") if "/" not in source else "own-classifier"


def make_judge(source: str, trainer: pl.Trainer, module: Method) -> Helper:
    """A helper network with its weights, trained first if no one has; making it draws no random numbers."""
    with torch.random.fork_rng():  # its initial weights must not shift what training draws after a resume
        judge = Helper(source)
    judge.fetch(trainer.strategy, module.data.root)
    return judge.to(module.device)
