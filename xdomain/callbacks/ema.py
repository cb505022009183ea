"""An exponential moving average of the generator's weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xdomain.callbacks.networks import named_network


class GeneratorEMA(pl.Callback):
    """Evaluates and saves averaged generators; training continues with the raw weights.

    Only the named networks are averaged, discriminators never. Buffers (BatchNorm statistics) are copied, not averaged.
    In a checkpoint ``state_dict`` holds the averages, so that every later use gets them; the raw weights are saved
    under ``ema`` and restored on resume.

    Args:
        networks: attributes of the method to average, e.g. ``[g]``; those that are None in this run are skipped.
        decay: weight of the old average in every step, in [0, 1).
    """

    def __init__(self, networks: list[str], decay: float = 0.999) -> None:
        self.networks, self.decay = networks, decay
        self._averages: dict[str, AveragedModel] = {}
        self._swapped = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            average = get_ema_multi_avg_fn(self.decay)  # type: ignore[no-untyped-call]
            self._averages = {
                name: AveragedModel(named_network(self, pl_module, name), multi_avg_fn=average, use_buffers=False)
                for name in self.networks
                if getattr(pl_module, name, self) is not None
            }

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, averaged in self._averages.items():
            if averaged.n_averaged == 0:  # the checkpoint of a resume may have changed the weights since setup
                averaged.module.load_state_dict(named_network(self, pl_module, name).state_dict())
            averaged.to(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for name, averaged in self._averages.items():
            averaged.update_parameters(named_network(self, pl_module, name))

    def _swap(self, module: pl.LightningModule) -> None:
        with torch.no_grad():
            for name, averaged in self._averages.items():
                ours = named_network(self, module, name).state_dict(keep_vars=True)
                for key, other in averaged.module.state_dict(keep_vars=True).items():
                    kept = ours[key].clone()
                    ours[key].copy_(other)
                    other.copy_(kept)
        self._swapped = not self._swapped

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._averages:
            self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._swapped:
            self._swap(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Use the averages for everything that is fitted to the trained networks, as inference will."""
        if self._averages:
            self._swap(pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._swapped:
            self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state, raw, counts = checkpoint["state_dict"], {}, {}
        for name, averaged in self._averages.items():
            counts[name] = averaged.n_averaged.cpu()
            for key, other in averaged.module.state_dict().items():
                own = state[f"{name}.{key}"]
                state[f"{name}.{key}"], raw[f"{name}.{key}"] = (own, other) if self._swapped else (other, own)
        if self._averages:
            checkpoint["ema"] = {"raw": raw, "count": counts}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self._averages or "ema" not in checkpoint:
            return
        counts, state = checkpoint["ema"]["count"], checkpoint["state_dict"]
        for name, averaged in self._averages.items():
            if name not in counts:
                continue  # not averaged before: the average starts with the next batch
            prefix = f"{name}."
            averaged.module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
            averaged.n_averaged.copy_(counts[name])
        pl_module.load_state_dict(checkpoint["ema"]["raw"], strict=False)
