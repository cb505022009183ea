"""A run that is stopped anywhere and resumed equals the straight run: weights bit for bit, metrics row for row."""

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import GeneratorEMA
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


def run(folder, stop_at=None, ckpt_path=None, steps=27, every=3, **options):
    torch.manual_seed(1)
    averaging = options.pop("ema", False)
    model = StopAt(stop_at, **options)
    job = trainer(
        max_steps=steps,
        val_check_interval=every,
        log_every_n_steps=2,
        run_dir=str(folder),
        callbacks=[GeneratorEMA(["g"], decay=0.9)] if averaging else None,
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


@pytest.mark.parametrize(
    "options",
    [{"ema": True}, {"accumulate": 2}, {"scheduler": lambda o: StepLR(o, 4)}],
    ids=["ema", "accumulate", "scheduler"],
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
