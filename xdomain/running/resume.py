"""Random states in the checkpoint, so that a resumed run draws what the straight run would have drawn."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


def random_states() -> dict[str, Any]:
    """The states of torch (CPU and CUDA), NumPy and Python as tensors and plain types."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - the global state is what is saved
    assert isinstance(keys, np.ndarray)
    version, internal, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(internal), next_gauss],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Bring back what :func:`random_states` gave."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, next_gauss = states["python"]
    random.setstate((version, tuple(internal), next_gauss))


class ExactResume(pl.Callback):
    """Saves the random states of every rank and brings them back before the first batch after a resume."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states: list[Any] = [random_states()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint["random_states"] = states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._waiting = checkpoint.get("random_states")

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._waiting is not None:
            if len(self._waiting) == trainer.world_size:  # another number of ranks is another run
                set_random_states(self._waiting[trainer.global_rank])
            self._waiting = None
