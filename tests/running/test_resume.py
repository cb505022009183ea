"""A run that is stopped anywhere and resumed equals the straight run: weights bit for bit, metrics row for row."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD, Adagrad, Adam, AdamW
from torch.optim import lr_scheduler as schedules
from torch.optim.lr_scheduler import StepLR

from tests.methods.faces import Faces, make
from tests.methods.test_base import scaled_precision
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import GeneratorEMA
from xdomain.errors import UserError
from xdomain.methods import DIDD
from xdomain.optim import GANAdam
from xdomain.running.metrics_file import read_metrics


class Stopped(Exception):
    """Stands for the end of the process."""


class StopAt(ToyGAN):
    """Dies in the middle of the update of one batch."""

    def __init__(self, stop_at=None, **options):
        super().__init__(**options)
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.trainer.global_step == self.stop_at:
            raise Stopped


class Loss(pl.Callback):
    """Logs a metric of the validation that goes up and down."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/loss", float(trainer.global_step % 7))


def run(folder, stop_at=None, ckpt_path=None, steps=27, every=3, ema=(), training=None, **options):
    torch.manual_seed(1)
    model = StopAt(stop_at, **options)
    averaging = [GeneratorEMA(list(ema), decay=0.9)] if ema else []
    job = trainer(
        max_steps=steps,
        val_check_interval=every,
        log_every_n_steps=2,
        run_dir=str(folder),
        callbacks=[*averaging, Loss()],
        **(training or {}),
    )
    try:
        job.fit(model, datamodule=ToyPair(jitter=True), ckpt_path=ckpt_path, weights_only=True)
    except Stopped:
        return None
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def differences(straight, resumed, path=""):
    """Names of everything that differs between two checkpoints, but for the time that was spent."""
    if isinstance(straight, dict):
        assert straight.keys() == resumed.keys(), path
        return [d for k in straight if k != "wall_seconds" for d in differences(straight[k], resumed[k], f"{path}/{k}")]
    if isinstance(straight, (list, tuple)):
        return [
            d for i, (s, r) in enumerate(zip(straight, resumed, strict=True)) for d in differences(s, r, f"{path}/{i}")
        ]
    equal = torch.equal(straight, resumed) if isinstance(straight, torch.Tensor) else straight == resumed
    return [] if equal else [path]


# An epoch has ten batches. 3: validations fall into the middle of epochs; 5: on their ends, too; 10: only there.
@pytest.mark.parametrize("every", [3, 5, 10])
@pytest.mark.parametrize("stop_at", [4, 10, 11, 15, 20, 21, 26])
def test_resumed_run_equals_straight_run(tmp_path, every, stop_at):
    straight = run(tmp_path / "straight", every=every)
    assert run(tmp_path / "stopped", stop_at=stop_at, every=every) is None
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    resumed = run(tmp_path / "stopped", ckpt_path=str(last) if last.exists() else None, every=every)
    for part in ("state_dict", "optimizer_states", "random_states", "global_step"):
        assert differences(straight[part], resumed[part], part) == []
    assert read_metrics(tmp_path / "straight/metrics.csv") == read_metrics(tmp_path / "stopped/metrics.csv")


@pytest.mark.parametrize("validating", [True, False])
@pytest.mark.parametrize("limits", [("max_steps", 13, 27), ("max_steps", 20, 27), ("max_epochs", 2, 3)], ids=str)
def test_a_training_that_ended_can_be_made_longer(tmp_path, limits, validating):
    limit, first, second = limits
    training = {} if validating else {"limit_val_batches": 0}

    def until(number, folder, ckpt_path=None):
        given = {"steps": number} if limit == "max_steps" else {"steps": -1, "training": {limit: number}}
        return run(folder, ckpt_path=ckpt_path, **{**given, "training": {**given.get("training", {}), **training}})

    straight = until(second, tmp_path / "straight")
    until(first, tmp_path / "ended")
    resumed = until(second, tmp_path / "ended", str(tmp_path / "ended/checkpoints/last.ckpt"))
    for part in ("state_dict", "optimizer_states", "random_states", "global_step"):
        assert differences(straight[part], resumed[part], part) == []
    assert read_metrics(tmp_path / "straight/metrics.csv") == read_metrics(tmp_path / "ended/metrics.csv")


@pytest.mark.parametrize(
    "options",
    [{"ema": ["g"]}, {"scheduler": lambda o: StepLR(o, 4)}],
    ids=["ema", "scheduler"],
)
def test_every_state_is_resumed(tmp_path, options):
    straight = run(tmp_path / "straight", **options)
    run(tmp_path / "stopped", stop_at=13, **options)
    resumed = run(tmp_path / "stopped", ckpt_path=str(tmp_path / "stopped/checkpoints/last.ckpt"), **options)
    for part in (
        "state_dict",
        "optimizer_states",
        "random_states",
        "lr_schedulers",
        *(["ema"] if "ema" in straight else []),
    ):
        assert differences(straight[part], resumed[part], part) == []


def test_longer_training_from_the_end_equals_straight_run(tmp_path):
    straight = run(tmp_path / "straight", steps=27)
    run(tmp_path / "short", steps=14)
    resumed = run(tmp_path / "short", steps=27, ckpt_path=str(tmp_path / "short/checkpoints/last.ckpt"))
    assert differences(straight["state_dict"], resumed["state_dict"]) == []
    assert read_metrics(tmp_path / "straight/metrics.csv") == read_metrics(tmp_path / "short/metrics.csv")


def test_checkpoint_is_never_half_written(tmp_path, monkeypatch):
    run(tmp_path / "run", steps=3)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def dying_save(checkpoint, file):
        file.write(b"half")
        raise Stopped

    monkeypatch.setattr(torch, "save", dying_save)
    with pytest.raises(Stopped):
        run_or_raise(tmp_path / "run", last)
    assert last.read_bytes() == before


def run_or_raise(folder, last):
    model = ToyGAN()
    trainer(max_steps=6, run_dir=str(folder)).fit(model, datamodule=ToyPair(), ckpt_path=str(last), weights_only=True)


def last(folder):
    return str(folder / "checkpoints" / "last.ckpt")


def resumed(folder, **options):
    return run(folder, ckpt_path=last(folder), **options)


# ---------------------------------------------------------------- gradients that wait


@pytest.mark.parametrize("scale", [None, "constant", "changing"])
@pytest.mark.parametrize("stop_at", [3, 4, 5])  # after 3, 4 and 5 batches: none, one and two of three wait
def test_waiting_gradients_are_resumed(tmp_path, stop_at, scale):
    def options():
        precision = scaled_precision(growth_interval=1 if scale == "changing" else 2000)
        return {"accumulate": 3, "every": 1, "steps": 9, "training": {"plugins": [precision]} if scale else None}

    straight = run(tmp_path / "straight", **options())
    run(tmp_path / "stopped", stop_at=stop_at, **options())
    saved = torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)
    assert (saved["global_step"], "accumulated" in saved) == (stop_at, stop_at % 3 != 0)
    again = resumed(tmp_path / "stopped", **options())
    for part in ("state_dict", "optimizer_states", "random_states", "updates"):
        assert differences(straight[part], again[part], part) == []


@pytest.mark.parametrize("stop_at", [3, 4, 5])
def test_waiting_gradients_of_a_real_method_are_resumed(tmp_path, stop_at):
    def fit(name, steps, ckpt_path=None):
        method = make(DIDD, accumulate=3, optimizer=GANAdam)
        folder = tmp_path / name
        job = trainer(max_steps=steps, val_check_interval=1, limit_val_batches=1, run_dir=str(folder))
        job.fit(method, datamodule=Faces(), ckpt_path=ckpt_path, weights_only=True)
        return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)

    straight = fit("straight", 7)
    fit("stopped", stop_at)
    again = fit("stopped", 7, last(tmp_path / "stopped"))
    for part in ("state_dict", "optimizer_states", "accumulated"):
        assert differences(straight[part], again[part], part) == []


def test_waiting_gradients_of_another_accumulation_are_left_out_with_a_word(tmp_path, caplog):
    run(tmp_path / "run", accumulate=3, every=1, steps=4)
    with caplog.at_level("INFO", "pytorch_lightning"):
        assert resumed(tmp_path / "run", accumulate=2, every=1, steps=6)["updates"]["count"] == 2
    assert "accumulate has changed: the gradients that waited for more batches are left out." in caplog.text


# ---------------------------------------------------------------- what was asked for


def rates(checkpoint):
    return [group["lr"] for state in checkpoint["optimizer_states"] for group in state["param_groups"]]


def moments(checkpoint):
    return {i: s["state"] for i, s in enumerate(checkpoint["optimizer_states"])}


SCHEDULES = {
    "CosineAnnealingLR": lambda n: lambda o: schedules.CosineAnnealingLR(o, n),
    "OneCycleLR": lambda n: lambda o: schedules.OneCycleLR(o, 1e-3, n),
    "StepLR": lambda n: lambda o: schedules.StepLR(o, n // 2),
    "MultiStepLR": lambda n: lambda o: schedules.MultiStepLR(o, [n // 4, n // 2]),
    "ExponentialLR": lambda n: lambda o: schedules.ExponentialLR(o, 0.1 ** (1 / n)),
    "LambdaLR": lambda n: lambda o: schedules.LambdaLR(o, lambda i: 1 - i / n),
    "LinearLR": lambda n: lambda o: schedules.LinearLR(o, total_iters=n),
    "PolynomialLR": lambda n: lambda o: schedules.PolynomialLR(o, n, power=2),
    "CyclicLR": lambda n: lambda o: schedules.CyclicLR(o, 1e-4, 1e-3, n // 4),
    "WarmRestarts": lambda n: lambda o: schedules.CosineAnnealingWarmRestarts(o, n // 4),
    "SequentialLR": lambda n: (
        lambda o: schedules.SequentialLR(
            o, [schedules.LinearLR(o, total_iters=3), schedules.CosineAnnealingLR(o, n - 3)], [3]
        )
    ),
    "ChainedScheduler": lambda n: (
        lambda o: schedules.ChainedScheduler([schedules.LinearLR(o, total_iters=n), schedules.ExponentialLR(o, 0.9)])
    ),
}


def quick(folder, **options):
    return run(folder, **{"every": 4, "training": {"limit_val_batches": 1}, **options})


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_can_be_longer_than_planned(tmp_path, name):
    short, long = (SCHEDULES[name](length) for length in (8, 16))
    straight = quick(tmp_path / "straight", steps=16, scheduler=long)
    quick(tmp_path / "short", steps=8, scheduler=short)
    again = quick(tmp_path / "short", steps=16, scheduler=long, ckpt_path=last(tmp_path / "short"))
    assert rates(again) == rates(straight)
    assert differences(straight["lr_schedulers"], again["lr_schedulers"]) == []


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "LambdaLR", "SequentialLR", "ChainedScheduler"])
def test_a_schedule_that_stays_is_resumed_exactly(tmp_path, name):
    schedule = SCHEDULES[name](16)
    straight = quick(tmp_path / "straight", steps=16, scheduler=schedule)
    quick(tmp_path / "stopped", steps=16, scheduler=schedule, stop_at=10)
    again = quick(tmp_path / "stopped", steps=16, scheduler=schedule, ckpt_path=last(tmp_path / "stopped"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert differences(straight[part], again[part], part) == []


def test_a_schedule_of_fixed_length_in_epochs_does_not_lose_the_position_in_the_data(tmp_path):
    def fit(name, steps=-1, ckpt_path=None):
        torch.manual_seed(1)
        model = ToyGAN(scheduler=SCHEDULES["OneCycleLR"](20))
        job = trainer(max_epochs=2, max_steps=steps, limit_val_batches=0, run_dir=str(tmp_path / name))
        job.fit(model, datamodule=ToyPair(), ckpt_path=ckpt_path, weights_only=True)
        return torch.load(last(tmp_path / name), weights_only=True)

    straight = fit("straight")
    fit("stopped", 13)
    again = fit("stopped", ckpt_path=last(tmp_path / "stopped"))
    assert straight["global_step"] == again["global_step"] == 20
    assert differences(straight["state_dict"], again["state_dict"]) == []


def test_a_new_rate_and_new_betas_are_used_with_the_moments_of_before(tmp_path):
    before = quick(tmp_path / "run", steps=8)
    optimizer = partial(GANAdam, lr=0.0, betas=(0.9, 0.99))
    after = quick(tmp_path / "run", steps=9, optimizer=optimizer, ckpt_path=last(tmp_path / "run"))
    groups = [group for state in after["optimizer_states"] for group in state["param_groups"]]
    assert [(group["lr"], group["betas"]) for group in groups] == [(0.0, (0.9, 0.99))] * 2
    for i, kept in moments(before).items():
        for number, state in kept.items():
            assert moments(after)[i][number]["step"] == state["step"] + 1


def test_a_new_rate_is_used_under_a_schedule(tmp_path):
    options = {"steps": 8, "scheduler": lambda o: StepLR(o, 2, gamma=0.5)}
    quick(tmp_path / "run", **options, optimizer=partial(GANAdam, lr=1e-3))
    quick(
        tmp_path / "run",
        **options | {"steps": 9},
        optimizer=partial(GANAdam, lr=1e-2),
        ckpt_path=last(tmp_path / "run"),
    )
    after = torch.load(last(tmp_path / "run"), weights_only=True)
    assert rates(after) == [1e-2 * 0.5**4] * 2
    assert after["updates"]["count"] == 9


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (GANAdam, partial(SGD, lr=0.1), False),
        (GANAdam, partial(SGD, lr=0.1, momentum=0.9), False),
        (partial(SGD, lr=0.1, momentum=0.9), GANAdam, False),
        (GANAdam, partial(Adam, amsgrad=True), False),
        (GANAdam, AdamW, True),
        (partial(SGD, lr=0.1), GANAdam, True),
    ],
)
def test_states_of_another_optimizer_are_used_or_named(tmp_path, caplog, first, second, kept):
    before = quick(tmp_path / "run", steps=4, optimizer=first)
    with caplog.at_level("INFO", "pytorch_lightning"):
        after = quick(tmp_path / "run", steps=5, optimizer=second, ckpt_path=last(tmp_path / "run"))
    assert ("begins anew: the checkpoint holds no state that fits it" in caplog.text) == (not kept)
    if kept and moments(before)[0]:
        assert moments(after)[0][0]["step"] == 5


def test_a_schedule_that_is_over_too_soon_is_refused_before_the_first_batch(tmp_path):
    one_cycle = SCHEDULES["OneCycleLR"](8)
    with pytest.raises(UserError, match="OneCycleLR with 8 steps, but there are 9 updates of the weights: give it"):
        quick(tmp_path / "run", steps=9, scheduler=one_cycle)
    assert not (tmp_path / "run/checkpoints").exists()
    quick(tmp_path / "run", steps=16, scheduler=one_cycle, accumulate=2)


def test_a_schedule_that_does_not_fit_its_optimizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="scheduler does not fit Adagrad: optimizer must support momentum"):
        quick(tmp_path / "run", optimizer=Adagrad, scheduler=SCHEDULES["OneCycleLR"](27))


# ---------------------------------------------------------------- a schedule that follows a metric

PLATEAU = partial(schedules.ReduceLROnPlateau, patience=1, factor=0.5)


def plateau(folder, scheduler=PLATEAU, monitor="val/loss", every=2, **options):
    training = {"limit_val_batches": 1, "monitor": monitor, "monitor_mode": "min"}
    return run(folder, every=every, scheduler=scheduler, training=training, **options)


def test_a_plateau_reduces_the_rate_and_is_resumed_exactly(tmp_path):
    straight = plateau(tmp_path / "straight")
    assert max(rates(straight)) < 2e-4
    plateau(tmp_path / "stopped", stop_at=17)
    again = plateau(tmp_path / "stopped", ckpt_path=last(tmp_path / "stopped"))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert differences(straight[part], again[part], part) == []


def test_a_plateau_keeps_what_it_has_seen_under_new_settings(tmp_path):
    before = plateau(tmp_path / "run", steps=16)
    reduced = rates(before)[0] / 2e-4
    assert reduced < 1
    options = {"scheduler": partial(PLATEAU, patience=50), "optimizer": partial(GANAdam, lr=1e-2)}
    after = plateau(tmp_path / "run", steps=17, ckpt_path=last(tmp_path / "run"), **options)
    assert rates(after) == [pytest.approx(1e-2 * reduced)] * 2
    assert after["lr_schedulers"][0]["best"] == before["lr_schedulers"][0]["best"]


def test_a_plateau_without_its_metric_is_refused(tmp_path):
    with pytest.raises(UserError, match="which needs a metric: set"):
        plateau(tmp_path / "run", monitor=None)
    with pytest.raises(UserError, match=r"with the mode max, but trainer\.monitor_mode is min: make them equal"):
        plateau(tmp_path / "run", scheduler=partial(PLATEAU, mode="max"))
    own = type("Own", (schedules.ReduceLROnPlateau,), {"monitor": "val/absent"})
    with pytest.raises(UserError, match=r"follows val/absent, but the validation gives .*val/loss"):
        plateau(tmp_path / "run", scheduler=own)
    assert torch.load(last(tmp_path / "run"), weights_only=True)["global_step"] == 2  # what was trained is not lost
    with pytest.raises(UserError, match="a metric of the validation, but there is none"):
        run(
            tmp_path / "another",
            scheduler=PLATEAU,
            training={"monitor": "val/loss", "monitor_mode": "min", "limit_val_batches": 0},
        )


# ---------------------------------------------------------------- averages that come and go


def test_training_goes_on_with_raw_weights_whatever_is_averaged_now(tmp_path):
    straight = run(tmp_path / "straight", steps=9)
    for first, second in ((["g"], []), (["g"], ["g", "D"]), (["g", "D"], ["g"]), ([], ["g"])):
        folder = tmp_path / f"{first}{second}"
        run(folder, steps=6, ema=first)
        after = resumed(folder, steps=9, ema=second)
        raw = {**after["state_dict"], **after.get("ema", {}).get("raw", {})}
        assert differences(straight["state_dict"], raw) == []
