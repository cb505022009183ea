"""Lightning's trainer with run folders, a metrics file and checkpoints that resume exactly."""

import contextlib
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn

from xdomain.errors import UserError, refuse
from xdomain.files import remove_partial, whole_file
from xdomain.running.checkpoints import read_checkpoint
from xdomain.running.curves import LearningCurves
from xdomain.running.folder import (
    CHECKPOINTS,
    checked_name,
    new_run_dir,
    resolve_checkpoint,
    run_dir_of,
)
from xdomain.running.loggers import RunLoggers
from xdomain.running.loop import Checkpoints, EpochLoop, Signals
from xdomain.running.metrics_file import MetricsFile
from xdomain.running.outputs import check_folder
from xdomain.running.precision import emulates_bf16
from xdomain.running.record import RunCheckpoint, RunFolder
from xdomain.running.results import Results
from xdomain.running.resume import ExactResume, take_weights
from xdomain.running.slurm import job

PRECISIONS = (None, "32", 32, "32-true", "16", 16, "16-mixed", "bf16", "bf16-mixed")

USUAL = (LearningCurves, Results)
"""Callbacks of every run, unless the config gives them with other settings."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically and reads only undamaged ones."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        with whole_file(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's writer hides the system's message
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path: str | os.PathLike[str], *_: Any, **__: Any) -> dict[str, Any]:
        return read_checkpoint(path)


class Trainer(pl.Trainer):
    """Lightning's trainer with run folders and exact resume.

    Every run has a folder of its own, ``<default_root_dir>/<recipe>/<number>``, with the config, ``metrics.csv``, the
    checkpoints ``last`` and ``best``, pictures and curves. A fit that is given a checkpoint from a run folder continues
    in that folder.

    Args:
        run_dir: folder of this run; None creates a new one.
        weights: checkpoint, or run folder, whose weights a new training starts from; optimisers, schedules and steps
            start anew. A resumed training has its own weights and does not read these again.
        recipe: name of the run, for its folder and its results; None takes ``run``, on the command line the names of
            the configs.
        monitor: metric that chooses the checkpoint ``best``; None keeps only ``last``.
        monitor_mode: whether the monitored metric should be ``max`` or ``min``.
        changed_data: whether a training may be resumed on other data than those of its checkpoint.
        save_minutes: minutes between two checkpoints besides those after every validation; None writes none.
        callbacks: callbacks besides learning curves and test results, which every run has: a mapping from any names to
            callbacks, so that a further config can change a setting of one, or remove it by null; or a list.
        kwargs: all other arguments of Lightning's trainer.
    """

    def __init__(
        self,
        *,
        run_dir: str | None = None,
        weights: str | None = None,
        recipe: str | None = None,
        monitor: str | None = None,
        monitor_mode: str = "max",
        changed_data: bool = False,
        save_minutes: float | None = 10.0,
        callbacks: dict[str, pl.Callback | None] | list[pl.Callback] | None = None,
        **kwargs: Any,
    ) -> None:
        self.recipe = checked_name(self, "run" if recipe is None else recipe)
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self._run_dir = Path(run_dir) if run_dir else None
        self.weights, self.changed_data = weights, changed_data
        self.seed: int | None = None
        self.overrides: dict[str, Any] = {}
        if kwargs.get("precision") not in PRECISIONS:
            way = ", but images reach the networks in 32 bits: give 32-true, bf16-mixed or 16-mixed."
            refuse(self, "precision", kwargs["precision"], way)
        if save_minutes is not None and save_minutes < 0:
            refuse(self, "save_minutes", save_minutes, "give a number of at least 0, or null.")
        self._checkpoint = RunCheckpoint(monitor, monitor_mode, save_minutes)
        self._lock: FileLock | None = None
        self._resumes = False
        listed = callbacks.values() if isinstance(callbacks, dict) else _as_list(callbacks)
        kwargs["callbacks"] = [callback for callback in listed if callback is not None]
        _complete(kwargs, self._checkpoint)
        super().__init__(**kwargs)
        if str(kwargs.get("precision")).startswith("bf16") and emulates_bf16():
            rank_zero_warn("bf16 is emulated on this processor and very slow: add --trainer.precision 32-true.")
        self.signals = self._signal_connector = Signals(self)
        self._checkpoint_connector = Checkpoints(self)
        limits = self.fit_loop.epoch_loop
        self.fit_loop.epoch_loop = EpochLoop(self, limits.min_steps, limits.max_steps)

    @property
    def runs_dir(self) -> Path:
        """Folder of all runs of this recipe."""
        return Path(self.default_root_dir) / self.recipe

    @property
    def run_dir(self) -> Path | None:
        """Folder of this run; None before a run starts and with ``fast_dev_run``."""
        return self._run_dir if any(isinstance(c, RunFolder) for c in self.callbacks) else None  # type: ignore[attr-defined]

    def continue_from(self, checkpoint: Path) -> str:
        """Use the run folder that contains a checkpoint, unless a folder was given; returns the path as text."""
        self._run_dir = self._run_dir or run_dir_of(checkpoint)
        return str(checkpoint)

    def settle_run_dir(self) -> Path:
        """Choose the run folder, the same on every rank: the given one, or a new one.

        Raises:
            UserError: if it cannot be written, if another run is in it, or if another process trains in it.
        """
        chosen: str | UserError = ""
        if self.is_global_zero:
            try:
                chosen = str(self._choose_run_dir())
            except UserError as error:  # the other ranks must be told, or they wait forever
                chosen = error
        chosen = self.strategy.broadcast(chosen)
        if isinstance(chosen, UserError):
            raise chosen if self.is_global_zero else SystemExit(2)  # reported by one process
        self._run_dir = Path(chosen)
        return self._run_dir

    def _choose_run_dir(self) -> Path:
        check_folder(self._run_dir or self.runs_dir)
        folder = self._run_dir or new_run_dir(self.runs_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            remove_partial(place)
        if self.state.fn != TrainerFn.FITTING:
            return folder
        if not self._resumes and any((folder / CHECKPOINTS).glob("*.ckpt")):
            way = f"give another, or go on with --ckpt_path {folder}."
            raise UserError(f"the run folder {folder} holds a run with its checkpoints already: {way}")
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            self._lock = None
            raise UserError(
                f"another process trains in {folder}: wait for it, or train in a folder of its own."
            ) from error
        return folder

    def leave_run_dir(self) -> None:
        """Release the run folder for other processes; remove it if nothing was written."""
        if self._lock is not None:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
        if self._run_dir is not None and self.is_global_zero:
            with contextlib.suppress(OSError):  # not empty
                self._run_dir.rmdir()

    def saving_is_due(self) -> bool:
        """Whether a checkpoint between two batches is due."""
        return self._checkpoint in self.callbacks and self._checkpoint.due()  # type: ignore[attr-defined]

    def save_last(self) -> bool:
        """Write the checkpoint ``last`` now, between two batches; returns whether this run keeps checkpoints."""
        if self._checkpoint not in self.callbacks:  # type: ignore[attr-defined]
            return False
        self._checkpoint.save_last(self)
        return True

    def _run(self, model: pl.LightningModule, ckpt_path: Any = None, weights_only: bool | None = None) -> Any:
        if self.state.fn == TrainerFn.FITTING:
            ckpt_path = ckpt_path or self._requeued()
            self._resumes = ckpt_path is not None
            if self.weights is not None and not self._resumes:
                self._begin_with_weights(model, self.weights)
        return super()._run(model, ckpt_path=ckpt_path, weights_only=weights_only)

    def _begin_with_weights(self, model: pl.LightningModule, weights: str) -> None:
        if not getattr(model, "begins_with_weights", True):
            reason = f", but {type(model).__name__} learns its scales one after the other"
            refuse(self, "weights", weights, f"{reason}, each beginning with the one before: leave it out.")
        file = resolve_checkpoint(weights, "best", self.runs_dir)
        checkpoint = self.strategy.checkpoint_io.load_checkpoint(file, weights_only=True)
        kind = str(checkpoint.get("hyper_parameters", {}).get("_class_path", "")).rpartition(".")[2]
        if kind and kind != type(model).__name__:
            reason = f", a checkpoint of {kind} and not of {type(model).__name__}"
            refuse(self, "weights", file, f"{reason}: give one of the same method.")
        if misfits := take_weights(model, checkpoint["state_dict"]):
            more = f", and {len(misfits) - 1} more do not fit" if misfits[1:] else ""
            refuse(self, "weights", file, f", but {misfits[0]}{more}: make the settings of both runs equal.")
        self.weights = str(file)

    def _requeued(self) -> str | None:
        """The checkpoint from which a requeued SLURM job continues."""
        number, runs = job(), [self._run_dir] if self._run_dir else sorted(self.runs_dir.glob("[0-9]*"))
        for run in runs:
            note, last = run / "requeued", run / CHECKPOINTS / "last.ckpt"
            if number and last.is_file() and note.is_file() and note.read_text() == number:
                return self.continue_from(last)
        return None


def _complete(options: dict[str, Any], checkpoint: RunCheckpoint) -> None:
    """Add the options of every run to Lightning's; a separate function keeps the signature readable for the CLI."""
    options.setdefault("default_root_dir", None)
    options["default_root_dir"] = options["default_root_dir"] or "runs"
    options.setdefault("num_sanity_val_steps", 0)
    options["use_distributed_sampler"] = False  # data modules distribute their images as a pure function of the seed
    if options.get("fast_dev_run") or options.get("barebones"):
        return
    saving = options.get("enable_checkpointing") is not False
    given, plugins = options["callbacks"], _as_list(options.get("plugins"))
    usual = [kind() for kind in USUAL if not any(isinstance(callback, kind) for callback in given)]
    loggers = RunLoggers([x for x in _as_list(options.get("logger")) if not isinstance(x, bool)])
    options["callbacks"] = [RunFolder(), loggers, *given, *usual, ExactResume(), *([checkpoint] if saving else [])]
    options["logger"] = [MetricsFile()]  # last: `trainer.logger` is the first
    options["plugins"] = [*plugins, AtomicCheckpointIO()]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
