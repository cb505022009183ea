"""State that a checkpoint needs besides weights, so that a resumed run equals an uninterrupted one."""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def random_states() -> dict[str, Any]:
    """The random states of torch (CPU and CUDA), NumPy and Python, as tensors and plain types."""
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
    """Restore the result of :func:`random_states`."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, next_gauss = states["python"]
    random.setstate((version, tuple(internal), next_gauss))


class ExactResume(pl.Callback):
    """Saves the state that differs between ranks and restores it before the first batch after a resume.

    This is the random states, and the buffers that differ from rank 0, such as BatchNorm statistics. Weights that are
    saved as averages are restored to the trained ones, even if they are no longer averaged.
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
                model.require_forward_param_sync = False  # its first forward pass would broadcast the buffers of rank 0


def planned_batches(trainer: pl.Trainer) -> float:
    """How many batches a training will have had at its end; infinite without a limit.

    The trainer may need loaders to count them. They are made again when the training begins: only new loaders are put
    at the position of a checkpoint.
    """
    fit = trainer.fit_loop
    before = fit._combined_loader
    batches = float(trainer.estimated_stepping_batches)
    fit._combined_loader = before
    return batches


def begin_after(trainer: pl.Trainer, batches: int) -> None:
    """Let a new training begin after its first batches, as if it went on from a checkpoint that was written there.

    Steps, epochs and the order of the images are those of a training that had these batches. Weights, optimisers and
    random states are left to the caller.

    Args:
        trainer: a trainer that is about to train; call it in ``on_fit_start``.
        batches: number of batches to leave out, at least 1.
    """
    fit = trainer.fit_loop
    fit.setup_data()
    epoch, last = divmod(batches - 1, int(fit.max_batches))
    epochs = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
    total, current = (dict.fromkeys(("ready", "started", "processed", "completed"), n) for n in (batches, last + 1))
    steps = {"ready": batches, "completed": batches}
    state = fit.state_dict() | {
        "epoch_progress": {"total": epochs, "current": epochs},
        "epoch_loop.batch_progress": {
            "total": total,
            "current": current,
            "is_last_batch": last + 1 == int(fit.max_batches),
        },
        "epoch_loop.manual_optimization.optim_step_progress": {"total": steps, "current": steps},
    }
    fit.load_state_dict(state)
    assert fit._combined_loader is not None
    for loader in fit._combined_loader.flattened:
        loader.load_state_dict({"epoch": epoch, "batch": last + 1})


def _of_all_ranks(trainer: pl.Trainer, value: Any) -> list[Any]:
    values: list[Any] = [value]
    if trainer.world_size > 1:
        values = [None] * trainer.world_size
        torch.distributed.all_gather_object(values, value)
    return values


def take_weights(module: pl.LightningModule, state: dict[str, Tensor]) -> list[str]:
    """Load the weights and buffers of another training into a module.

    Those of helper networks are skipped: the config names their own source.

    Args:
        module: a method.
        state: ``state_dict`` of the other training.

    Returns:
        descriptions of what does not fit; if there are any, nothing is loaded.
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
