"""TensorBoard and Weights & Biases within a run's own folder; after a resume the same run goes on in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from xdomain.errors import UserError
from xdomain.running.folder import run_dir
from xdomain.running.metrics_file import read_metrics

if TYPE_CHECKING:
    from xdomain.running.trainer import Trainer


class RunLoggers(pl.Callback):
    """Gives the trainer the loggers of the config, before the metrics file, as soon as there is a run folder.

    Lightning would have them begin before, each in a folder of its own choice. Whatever their ``save_dir``, TensorBoard
    writes into ``tensorboard`` and Weights & Biases into ``wandb`` below the run folder.

    Args:
        loggers: the loggers of the config.
    """

    def __init__(self, loggers: list[Logger]) -> None:
        self.loggers = loggers
        self._known: set[Logger] = set()  # loggers with a run of Weights & Biases that goes on

    def setup(self, trainer: "Trainer", pl_module: pl.LightningModule, stage: str) -> None:  # type: ignore[override]
        folder = run_dir(trainer)
        assert folder is not None
        trainer.loggers = [*self.loggers, *(x for x in trainer.loggers if x not in self.loggers)]
        folder = run_dir(trainer)
        for logger in self.loggers:
            if folder is None or getattr(logger, "_experiment", None) is not None:
                continue  # it was begun in Python, or by a fit before this test
            if isinstance(logger, TensorBoardLogger):
                logger._root_dir, logger._name, logger._version = str(folder), "tensorboard", ""
            elif isinstance(logger, WandbLogger):
                self._place(logger, folder)
        if stage != "fit":
            self._begin(trainer)

    def _place(self, logger: WandbLogger, folder: Path) -> None:
        parts = sorted((folder / "wandb").glob("*run-*-*"), key=lambda part: part.stat().st_mtime)
        if parts:
            self._known.add(logger)
            logger._id = logger._wandb_init["id"] = logger._id or parts[-1].name.rpartition("-")[2]
        logger._save_dir = logger._wandb_init["dir"] = str(folder)

    def on_load_checkpoint(  # type: ignore[override]
        self, trainer: "Trainer", pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have nothing stand twice of what was logged behind the checkpoint."""
        folder = run_dir(trainer)
        if trainer.state.fn != "fit" or folder is None:
            return
        file = folder / "metrics.csv"
        rows = read_metrics(file) if file.exists() else []
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger._kwargs["purge_step"] = checkpoint["global_step"]
                logger._default_hp_metric = False  # a placeholder, which is there
            elif isinstance(logger, WandbLogger) and logger in self._known:
                _leave_out(logger, rows)

    def on_fit_start(self, trainer: "Trainer", pl_module: pl.LightningModule) -> None:  # type: ignore[override]
        self._begin(trainer)

    def _begin(self, trainer: pl.Trainer) -> None:
        """Begin the runs of Weights & Biases now: the first of what it may refuse is that nobody has logged in."""
        refused = None
        for logger in self.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                import wandb

                try:
                    _ = logger.experiment
                except wandb.errors.Error as error:
                    reason = str(error).strip().split(". ")[0]
                    way = "log in with `wandb login`, or set WANDB_MODE=offline"
                    refused = f"Weights & Biases does not begin ({reason}): {way}."
        if refused := trainer.strategy.broadcast(refused):  # the others must hear of it, or they wait for ever
            raise UserError(refused)


def _leave_out(logger: WandbLogger, rows: list[dict[str, str]]) -> None:
    """Keep from a logger what it was sent before: its service cannot take anything back.

    Args:
        logger: continues a run.
        rows: of the metrics file, as they were before the resume; the batches behind the checkpoint give them again.
    """
    last = int(rows[-1]["step"]) if rows else -1
    there = {name for row in rows if int(row["step"]) == last for name, value in row.items() if value}
    send = logger.log_metrics

    def send_new(metrics: Mapping[str, Any], step: int | None = None) -> None:
        if step is None or step > last or (step == last and not set(metrics) <= there):
            send(metrics, step)

    logger.log_metrics = send_new  # type: ignore[method-assign]
