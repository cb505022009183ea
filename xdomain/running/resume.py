"""What a checkpoint needs beside weights, so that a resumed run does what the straight run would have done."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


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
    """Saves what every rank has of its own and brings it back before the first batch after a resume.

    These are the random states, and the buffers that are not those of the first rank, such as BatchNorm statistics.
    Weights that stand in a checkpoint as averages come back as they were trained, also where nothing is averaged now.
    """

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] = []
        self._buffers: list[dict[str, Tensor]] = []

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["random_states"] = _of_all_ranks(trainer, random_states())
        if trainer.world_size > 1:
            own = {name: buffer.cpu() for name, buffer in pl_module.named_buffers()}
            first = trainer.strategy.broadcast(own)
            different = {name: buffer for name, buffer in own.items() if not torch.equal(buffer, first[name])}
            checkpoint["rank_buffers"] = _of_all_ranks(trainer, different)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._states, self._buffers = checkpoint.get("random_states", []), checkpoint.get("rank_buffers", [])
            pl_module.load_state_dict(checkpoint.get("ema", {}).get("raw", {}), strict=False)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        states, buffers, self._states, self._buffers = self._states, self._buffers, [], []
        if len(states) == trainer.world_size:  # another number of ranks is another run
            set_random_states(states[trainer.global_rank])
        if len(buffers) == trainer.world_size:
            own = dict(pl_module.named_buffers())
            with torch.no_grad():
                for name, value in buffers[trainer.global_rank].items():
                    own[name].copy_(value)
            if isinstance(model := trainer.strategy.model, DistributedDataParallel):
                model.require_forward_param_sync = False  # its first forward would give all ranks the first one's


def _of_all_ranks(trainer: pl.Trainer, value: Any) -> list[Any]:
    values: list[Any] = [value]
    if trainer.world_size > 1:
        values = [None] * trainer.world_size
        torch.distributed.all_gather_object(values, value)
    return values


def take_weights(module: pl.LightningModule, state: dict[str, Tensor]) -> list[str]:
    """Give a module the weights and buffers of another training.

    Those of helper networks are left out: they have a source of their own, which the config names.

    Args:
        module: a method.
        state: the other's ``state_dict``.

    Returns:
        what does not fit, in words; if there is anything, nothing is taken.
    """
    helpers = tuple(f"{name}." for name in getattr(module, "helpers", ()))
    given, own = ({k: v for k, v in s.items() if not k.startswith(helpers)} for s in (state, module.state_dict()))
    shapes = {k: (list(given[k].shape), list(own[k].shape)) for k in own if k in given}
    misfits = [
        *(f"{k} is {theirs} there and {ours} here" for k, (theirs, ours) in shapes.items() if theirs != ours),
        *(f"{k} is not there" for k in own if k not in given),
        *(f"{k} is not here" for k in given if k not in own),
    ]
    if not misfits:
        module.load_state_dict(given, strict=False)
    return misfits
