"""The trainer: Lightning's, with a run folder of its own, metrics in a file and checkpoints that resume exactly."""

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from xdomain.running.folder import checked_name, new_run_dir, run_dir_of
from xdomain.running.metrics_file import MetricsFile
from xdomain.running.outputs import check_folder
from xdomain.running.record import RunCheckpoint, RunFolder
from xdomain.running.resume import ExactResume


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is complete."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)


class Trainer(pl.Trainer):
    """Lightning's trainer with the habits of this package.

    Every run has a folder of its own, ``<default_root_dir>/<recipe>/<number>``, with the config, ``metrics.csv``, the
    checkpoints ``last`` and ``best``, pictures and curves. A fit that is given a checkpoint out of a run folder goes
    on in that folder.

    Args:
        run_dir: folder of this run; None makes a new one.
        recipe: name of the run, for its folder and its results; None takes ``run``, on the command line the names of
            the configs.
        monitor: metric that chooses the checkpoint ``best``; None keeps only ``last``.
        monitor_mode: whether the monitored metric should be ``max`` or ``min``.
        kwargs: everything that Lightning's trainer takes.
    """

    def __init__(
        self,
        *,
        run_dir: str | None = None,
        recipe: str | None = None,
        monitor: str | None = None,
        monitor_mode: str = "max",
        **kwargs: Any,
    ) -> None:
        self.recipe = checked_name(self, "run" if recipe is None else recipe)
        self.monitor, self.monitor_mode = monitor, monitor_mode
        self._run_dir = Path(run_dir) if run_dir else None
        self.seed: int | None = None
        self.overrides: dict[str, Any] = {}
        _complete(kwargs, RunCheckpoint(monitor, monitor_mode))
        super().__init__(**kwargs)

    @property
    def runs_dir(self) -> Path:
        """Folder of all runs of this recipe."""
        return Path(self.default_root_dir) / self.recipe

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        if self._run_dir is None:
            raise RuntimeError("the run folder is made when a run starts")
        return self._run_dir

    def continue_from(self, checkpoint: Path) -> str:
        """Work in the run folder that a checkpoint lies in, unless a folder was given; returns the path as text."""
        self._run_dir = self._run_dir or run_dir_of(checkpoint)
        return str(checkpoint)

    def settle_run_dir(self) -> None:
        """Choose the run folder, the same on every rank: the given one, or a new one."""
        chosen = self._run_dir
        check_folder(chosen or self.runs_dir)
        if chosen is None and self.is_global_zero:
            chosen = new_run_dir(self.runs_dir)
        self._run_dir = Path(self.strategy.broadcast(str(chosen)))
        self._run_dir.mkdir(parents=True, exist_ok=True)


def _complete(options: dict[str, Any], checkpoint: RunCheckpoint) -> None:
    """Add to Lightning's options what every run has; a separate function keeps the signature readable for the CLI."""
    options.setdefault("default_root_dir", None)
    options["default_root_dir"] = options["default_root_dir"] or "runs"
    options.setdefault("num_sanity_val_steps", 0)
    options["use_distributed_sampler"] = False  # data modules share out their images as a pure function of the seed
    if options.get("fast_dev_run") or options.get("barebones"):
        return
    saving = options.get("enable_checkpointing") is not False
    callbacks, plugins = _as_list(options.get("callbacks")), _as_list(options.get("plugins"))
    options["callbacks"] = [RunFolder(), *callbacks, ExactResume(), *([checkpoint] if saving else [])]
    options["logger"] = [MetricsFile(), *(x for x in _as_list(options.get("logger")) if not isinstance(x, bool))]
    options["plugins"] = [*plugins, AtomicCheckpointIO()]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
