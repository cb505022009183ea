"""Optimisers with defaults for adversarial training, and resuming optimisers and schedules."""

import warnings
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

HOW = ("fused", "foreach", "capturable", "differentiable")
"""Entries of a parameter group that affect how an update is computed, but not its result."""

PROGRESS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
"""Progress of ReduceLROnPlateau; the rest of its state are settings."""


class GANAdam(Adam):
    """Adam with the betas (0.5, 0.999) of DCGAN (Radford et al. 2016).

    Args:
        params: parameters to optimise.
        lr: learning rate.
        betas: decay of the running mean and of the running square of the gradient.
        fused: update all weights in one kernel, several times as fast on a CPU; None does so if all parameters are
            floating-point tensors on a CPU or a CUDA device.
        options: all other arguments of :class:`torch.optim.Adam`.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        fused: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, fused=fused, **options)
        usual = self.defaults["foreach"] is None and not self.defaults["differentiable"]
        parameters = [p for group in self.param_groups for p in group["params"]]
        if (
            fused is None
            and usual
            and all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        ):
            for group in (self.defaults, *self.param_groups):
                group["fused"] = True


def settings_of(optimizer: Optimizer) -> str:
    """The settings of a new optimiser as text: its class, and the settings of its groups that affect the updates."""
    hidden = ("params", "initial_lr", *HOW)
    groups = [{k: v for k, v in group.items() if k not in hidden} for group in optimizer.param_groups]
    return f"{type(optimizer).__qualname__} {groups}"


def settings_of_schedule(schedule: LRScheduler) -> str:
    """The settings of a new schedule as text: its class and its initial state, which contains all of them."""
    return f"{type(schedule).__qualname__} {schedule.state_dict()}"


def advance(schedule: LRScheduler, steps: int) -> None:
    """Advance a new schedule by ``steps`` updates, as in a training from the start."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)  # no update here
        for _ in range(steps):
            schedule.step()


def go_on(schedule: ReduceLROnPlateau, saved: dict[str, Any], saved_groups: list[dict[str, Any]]) -> None:
    """Give a new schedule with other settings the progress of a saved one, and keep its reductions of the rate.

    Args:
        schedule: the new schedule.
        saved: ``state_dict()`` of the saved schedule. Its progress is ignored if it followed another metric.
        saved_groups: parameter groups of the saved optimiser.
    """
    if all(saved.get(key) == getattr(schedule, key) for key in ("mode", "monitor")):
        schedule.__dict__.update({key: saved[key] for key in PROGRESS})
    for group, old in zip(schedule.optimizer.param_groups, saved_groups, strict=True):
        group["lr"] *= old["lr"] / old.get("initial_lr", old["lr"])


def carried_over(optimizer: Optimizer, saved: dict[str, Any], same_settings: bool) -> dict[str, Any] | None:
    """The state of a saved optimiser for a new one, which may have other settings.

    Args:
        optimizer: the new optimiser, with the current settings.
        saved: ``state_dict()`` of the saved optimiser.
        same_settings: whether it was created with the same settings; the saved groups are then kept, including all
            changes by schedules and callbacks.

    Returns:
        the argument of ``optimizer.load_state_dict``, or None if the optimiser cannot use the saved state.
    """
    own = optimizer.state_dict()["param_groups"]
    if not _same_sizes(own, saved["param_groups"]) or not (same_settings or _fits(optimizer, saved)):
        return None
    groups = [
        {**(old if same_settings else new), **{k: new[k] for k in HOW if k in new}, "params": new["params"]}
        for old, new in zip(saved["param_groups"], own, strict=True)
    ]
    return {"state": saved["state"], "param_groups": groups}


def _same_sizes(groups: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    return [len(group["params"]) for group in groups] == [len(group["params"]) for group in others]


def _fits(optimizer: Optimizer, saved: dict[str, Any]) -> bool:
    """Whether the states of a saved optimiser match those that an optimiser keeps for its parameters."""
    numbers = [i for group in saved["param_groups"] for i in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        values = saved["state"].get(number, {}).values()
        if any(isinstance(v, Tensor) and v.ndim and v.shape != parameter.shape for v in values):
            return False
    known = {key for kept in saved["state"].values() for key, value in kept.items() if value is not None}
    needed = _keys(optimizer) if known else known
    return needed <= known and bool(needed) == bool(known)


def _keys(optimizer: Optimizer) -> set[str]:
    """Names of the states that a new optimiser keeps per parameter, if necessary from a step of a similar one."""
    if not optimizer.state:
        weight = torch.zeros(1, requires_grad=True)
        weight.grad = torch.zeros(1)
        group = {**optimizer.param_groups[0], "params": [weight], **dict.fromkeys(HOW, False)}
        known, optimizer = vars(optimizer), object.__new__(type(optimizer))
        vars(optimizer).update(known, state=defaultdict(dict), param_groups=[group])
        vars(optimizer).pop("step", None)  # a schedule has wrapped that of the other
        optimizer.step()
    return {key for kept in optimizer.state.values() for key, value in kept.items() if value is not None}


class LinearDecay(LRScheduler):
    """Keeps the learning rate and then lets it fall linearly to 0: the schedule of CycleGAN, pix2pix and CUT.

    Args:
        optimizer: its optimiser.
        constant: steps of the schedule before the rate falls.
        decay: steps in which it falls.
    """

    def __init__(self, optimizer: Optimizer, constant: int, decay: int) -> None:
        self.constant, self.decay = constant, decay
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group: 1 - max(0, t + 1 - constant) / (decay + 1) of its first at step t, at least 0."""
        factor = max(0.0, 1 - max(0, self.last_epoch + 1 - self.constant) / (self.decay + 1))
        return [factor * base for base in self.base_lrs]


class PowerDecay(LRScheduler):
    """Divides the learning rate by (1 + 10 p)^0.75, where p is the share of its steps: the schedule of DANN.

    Ganin, Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.

    Args:
        optimizer: its optimiser.
        steps: steps until p is 1, where the rate has fallen to 17 %.
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self.steps = steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group after the steps so far."""
        factor = (1 + 10 * self.last_epoch / self.steps) ** -0.75
        return [factor * base for base in self.base_lrs]


class WarmUpMultiStep(LRScheduler):
    """Lets the learning rate rise linearly, then multiplies it by ``gamma`` at each of some steps.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.

    Args:
        optimizer: its optimiser.
        warm_up: steps in which the rate rises; the first has a share 1 / ``warm_up`` of it.
        milestones: steps from which the rate is smaller.
        gamma: factor of the rate.
    """

    def __init__(self, optimizer: Optimizer, warm_up: int, milestones: list[int], gamma: float = 0.1) -> None:
        self.warm_up, self.milestones, self.gamma = warm_up, milestones, gamma
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of every group: min(1, (t + 1) / warm_up) gamma^k of its first after k milestones, at step t."""
        passed = sum(milestone <= self.last_epoch for milestone in self.milestones)
        factor = min(1.0, (self.last_epoch + 1) / max(self.warm_up, 1)) * self.gamma**passed
        return [factor * base for base in self.base_lrs]
