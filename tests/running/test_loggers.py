"""TensorBoard and Weights & Biases: in the run's folder, first for callbacks, and without doubles after a resume."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.running.test_resume import Loss, StopAt, Stopped
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.errors import UserError
from xdomain.running.metrics_file import MetricsFile


def fit(folder, logger, stop_at=None, ckpt_path=None, **options):
    torch.manual_seed(1)
    job = trainer(
        max_steps=9,
        log_every_n_steps=1,
        limit_val_batches=1,
        run_dir=str(folder),
        logger=logger,
        callbacks=[Loss()],
        **options,
    )
    try:
        job.fit(StopAt(stop_at), datamodule=ToyPair(), ckpt_path=ckpt_path, weights_only=True)
    except Stopped:
        return None
    return job


def resumed(folder, logger):
    return fit(folder, logger, ckpt_path=str(folder / "checkpoints/last.ckpt"))


def test_tensorboard_goes_on_in_the_runs_folder(tmp_path):
    def scalars(folder):
        events = EventAccumulator(str(folder / "tensorboard")).Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    fit(tmp_path / "straight", TensorBoardLogger("elsewhere"))
    fit(tmp_path / "stopped", TensorBoardLogger("elsewhere"), stop_at=5)
    assert [step for step, _ in scalars(tmp_path / "stopped")["l_g"]] == [0, 1, 2, 3, 4]  # behind the checkpoint of 3
    resumed(tmp_path / "stopped", TensorBoardLogger("elsewhere"))
    expected = scalars(tmp_path / "straight")
    assert [step for step, _ in expected["l_g"]] == list(range(9))
    assert scalars(tmp_path / "stopped") == expected
    assert not (tmp_path / "elsewhere").exists()


class Service:
    """Stands for Weights & Biases: keeps what it is sent, by the id of the run, and makes its folders."""

    def __init__(self):
        self.rows, self.begun = {}, 0

    def init(self, id, dir, **options):
        self.begun += 1
        name, rows = id or f"run{self.begun}", self.rows
        (Path(dir) / "wandb" / f"offline-run-20260101_00000{self.begun}-{name}").mkdir(parents=True)

        class Run:
            config = type("Config", (), {"update": lambda *args, **options: None})()

            def log(self, row):
                rows.setdefault(name, []).append(row)

        return Run()


@pytest.fixture
def service(monkeypatch):
    fake = Service()
    monkeypatch.setattr(wandb, "init", fake.init)
    return fake


@pytest.mark.parametrize("stop_at", [4, 5, 7, 8])
def test_the_same_run_of_wandb_goes_on(tmp_path, service, stop_at):
    fit(tmp_path / "straight", WandbLogger())
    fit(tmp_path / "stopped", WandbLogger(save_dir="elsewhere"), stop_at=stop_at)
    resumed(tmp_path / "stopped", WandbLogger(save_dir="elsewhere"))
    assert list(service.rows) == ["run1", "run2"]
    assert service.rows["run2"] == service.rows["run1"]
    fit(tmp_path / "another", WandbLogger())
    assert list(service.rows) == ["run1", "run2", "run4"]
    assert not (tmp_path / "elsewhere").exists()


def test_callbacks_find_the_logger_of_the_config_first(tmp_path):
    found = []

    class Look(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            found.append([type(logger) for logger in (trainer.logger, *trainer.loggers)])

    for logger in (TensorBoardLogger("x"), None):
        run = trainer(max_steps=1, limit_val_batches=0, logger=logger, callbacks=[Look()])
        run.fit(ToyGAN(), datamodule=ToyPair())
        run.test(ToyGAN(), datamodule=ToyPair(), verbose=False)
        assert len(run.loggers) == (2 if logger else 1)
    assert found == [[TensorBoardLogger, TensorBoardLogger, MetricsFile], [MetricsFile, MetricsFile]]


def test_wandb_without_a_login_is_one_sentence(tmp_path, monkeypatch):
    def init(**options):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(UserError, match=r"does not begin \(No API key .*\): log in .*, or set WANDB_MODE=offline\."):
        fit(tmp_path / "run", WandbLogger())
    assert not (tmp_path / "run/checkpoints").exists()
