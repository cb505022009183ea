"""Fits what only inference needs to training images, once the networks are trained."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn


class Calibration(pl.Callback):
    """Fits a module to the trained networks at every validation and at the end of training, before checkpoints.

    A method adds it in ``configure_callbacks``, like the counter of its batches, hence its place in this package. It
    works without validations. What is not ready when a test, a prediction or a sanity check begins is fitted then.

    Args:
        learned: the module that is fitted. Rank 0 fits it for all ranks.
        fit: fits the module on images of the running trainer's data; called in evaluation mode and without gradients.
        ready: whether the module has been fitted; by default it counts as fitted.
    """

    def __init__(self, learned: nn.Module, fit: Callable[[], None], ready: Callable[[], bool] = lambda: True) -> None:
        self._learned, self._fit, self._ready = learned, fit, ready
        self._fitted_at = -1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._calibrate(trainer, pl_module)
        else:
            self._complete(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._fitted_at != trainer.global_step:
            self._calibrate(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._complete(trainer, pl_module)

    on_predict_start = on_test_start

    def _complete(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self._ready():
            self._calibrate(trainer, module)

    def _calibrate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            training = module.training
            module.eval()
            with torch.no_grad():
                self._fit()
            module.train(training)
        state: dict[str, Any] = {name: value.cpu() for name, value in self._learned.state_dict().items()}
        self._learned.load_state_dict(trainer.strategy.broadcast(state))
        self._fitted_at = trainer.global_step
