"""What a run writes, where, and who else may write there."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from filelock import FileLock
from pytorch_lightning.callbacks import ModelCheckpoint

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain import files
from xdomain.callbacks import LearningCurves, PredictionWriter, Results, SampleGrid
from xdomain.errors import UserError
from xdomain.running.folder import newest_config, run_dir
from xdomain.running.record import RunCheckpoint


class Measured(ToyGAN):
    """Logs one value after another at its validations."""

    def __init__(self, values=(), name="val/m", **options):
        super().__init__(**options)
        self.values, self.name = list(values), name

    def on_validation_epoch_end(self):
        if self.values:
            self.log(self.name, torch.tensor(self.values.pop(0)))


def fit(folder, model=None, resume=False, **options):
    job = trainer(**{"max_steps": 9, "run_dir": str(folder), **options})
    last = folder / "checkpoints" / "last.ckpt"
    job.fit(model or ToyGAN(), datamodule=ToyPair(), ckpt_path=str(last) if resume else None, weights_only=True)
    return job


def step_of(folder, name):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]


NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ((NAN, 1.0, 0.5), "max", 6),
        ((NAN, NAN, NAN), "max", None),
        ((2.0, NAN, 1.0), "min", 9),
        ((1.0, 2.0, 1.5), "max", 6),
    ],
)
def test_best_is_chosen_among_numbers(tmp_path, values, mode, best):
    fit(tmp_path, Measured(values), monitor="val/m", monitor_mode=mode)
    assert (tmp_path / "checkpoints" / "best.ckpt").exists() == (best is not None)
    assert best is None or step_of(tmp_path, "best") == best


def test_a_value_is_compared_with_those_of_its_own_monitor(tmp_path):
    fit(tmp_path, Measured([5.0, 7.0, 6.0]), monitor="val/m")
    assert step_of(tmp_path, "best") == 6
    fit(tmp_path, Measured([6.5]), resume=True, monitor="val/m", max_steps=12)
    assert step_of(tmp_path, "best") == 6
    fit(tmp_path, Measured([0.1], name="val/k"), resume=True, monitor="val/k", max_steps=15)
    assert step_of(tmp_path, "best") == 15
    old = RunCheckpoint("val/m")
    old.load_state_dict({"best": NAN})
    assert old.best is None


def test_a_monitor_that_is_not_there_is_told_at_the_first_validation(tmp_path):
    with pytest.raises(UserError, match=r"metric val/x is not there after a validation, which measured .*val/m"):
        fit(tmp_path, Measured([1.0, 2.0]), monitor="val/x")
    assert step_of(tmp_path, "last") == 3


def test_a_run_is_not_begun_again_in_its_folder(tmp_path):
    fit(tmp_path, log_every_n_steps=1)
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(UserError, match=f"{tmp_path} holds a run with its checkpoints already: give another, or go on"):
        fit(tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    fit(tmp_path, resume=True, max_steps=12)


def test_a_training_is_not_resumed_on_other_data(tmp_path):
    class Changed(ToyPair):
        def contents(self):
            return {"files": "other"}

    fit(tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["data"] == ToyPair().fingerprint()
    options = {"ckpt_path": str(tmp_path / "checkpoints" / "last.ckpt"), "weights_only": True}
    with pytest.raises(UserError, match=r"the data are not those .* or --trainer.changed_data true"):
        trainer(max_steps=12, run_dir=str(tmp_path)).fit(ToyGAN(), datamodule=Changed(), **options)
    assert json.loads((tmp_path / "run.json").read_text()) == facts
    fit(tmp_path, resume=True, max_steps=12)
    trainer(max_steps=15, run_dir=str(tmp_path), changed_data=True).fit(ToyGAN(), datamodule=Changed(), **options)
    assert json.loads((tmp_path / "run.json").read_text())["data"] == Changed().fingerprint()
    assert step_of(tmp_path, "last") == 15


def test_two_processes_never_train_in_one_folder(tmp_path):
    fit(tmp_path)

    def contents():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}

    before = contents()
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match=f"another process trains in {tmp_path}"):
        fit(tmp_path, resume=True, max_steps=12)
    assert {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"
    } == before


def test_what_a_killed_process_left_blocks_nobody(tmp_path):
    code = "import filelock, os, sys; filelock.FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / ".lock"]).returncode == -9
    (tmp_path / "checkpoints").mkdir()
    for name in (f".{77:016x}.part", f"checkpoints/.{78:016x}.part"):
        (tmp_path / name).write_bytes(b"half")
    fit(tmp_path)
    assert list(tmp_path.rglob(".*")) == []


def test_a_training_that_never_begins_leaves_nothing(tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    torch.save({"epoch": 3}, tmp_path / "foreign.ckpt")
    for name, reason in (("bad", "is no checkpoint"), ("foreign", "cannot be read as a checkpoint")):
        with pytest.raises(UserError, match=rf"{name}\.ckpt {reason}"):
            trainer(default_root_dir=str(tmp_path / "runs")).fit(
                ToyGAN(), datamodule=ToyPair(), ckpt_path=str(tmp_path / f"{name}.ckpt"), weights_only=True
            )

    class Refused(pl.Callback):
        def setup(self, trainer, pl_module, stage):
            raise UserError("not like this")

    class Missing(ToyPair):
        def data(self, role, split):
            raise UserError("not there")

    for data, callbacks in ((ToyPair(), [Refused()]), (Missing(), [])):
        with pytest.raises(UserError, match="not"):
            trainer(default_root_dir=str(tmp_path / "runs"), callbacks=callbacks).fit(ToyGAN(), datamodule=data)
    assert list((tmp_path / "runs" / "run").iterdir()) == []


def test_the_record_keeps_what_every_command_changed(tmp_path):
    for resume, changed in ((False, {"model.lr": 1, "x": 2}), (True, {"x": 3})):
        job = trainer(max_steps=9 + 3 * resume, run_dir=str(tmp_path))
        job.overrides = changed
        path = str(tmp_path / "checkpoints" / "last.ckpt") if resume else None
        job.fit(ToyGAN(), datamodule=ToyPair(), ckpt_path=path, weights_only=True)
    assert json.loads((tmp_path / "run.json").read_text())["overrides"] == {"model.lr": 1, "x": 3}


def test_the_newest_config_is_that_of_the_last_continuation(tmp_path):
    assert newest_config(tmp_path) == tmp_path / "config.yaml"
    for number in (1, 2, 10):
        (tmp_path / f"config_resumed_{number}.yaml").touch()
    assert newest_config(tmp_path) == tmp_path / "config_resumed_10.yaml"


def test_checkpoints_of_lightnings_callback_lie_in_the_run(tmp_path):
    fit(tmp_path, callbacks=[ModelCheckpoint(every_n_train_steps=4, save_top_k=-1)], max_steps=8)
    assert len(list((tmp_path / "checkpoints").glob("epoch*.ckpt"))) == 2
    elsewhere = ModelCheckpoint(tmp_path / "mine", every_n_train_steps=4)
    fit(tmp_path / "second", callbacks=[elsewhere], max_steps=4)
    assert len(list((tmp_path / "mine").iterdir())) == 1


CALLBACKS = (SampleGrid, LearningCurves, Results, PredictionWriter)


@pytest.mark.parametrize("plain", [True, False])
def test_nothing_is_written_where_no_run_has_a_folder(tmp_path, plain):
    callbacks = [callback() for callback in CALLBACKS]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    if plain:
        options = {"max_steps": 2, "limit_val_batches": 1, "enable_checkpointing": False}
        job = pl.Trainer(**quiet, callbacks=callbacks[:2], use_distributed_sampler=False, **options)
    else:
        job = trainer(fast_dev_run=True, callbacks=callbacks)
    model = ToyGAN()
    job.fit(model, datamodule=ToyPair())
    if not plain:
        job.test(model, datamodule=ToyPair(), verbose=False)
    job.predict(model, datamodule=ToyPair())
    assert run_dir(job) is None
    assert list(tmp_path.iterdir()) == []


class Watching(ToyGAN):
    def training_step(self, batch, batch_idx):
        self.seen = [*getattr(self, "seen", []), batch["a"].position.tolist()]
        super().training_step(batch, batch_idx)


def test_the_batches_to_overfit_are_the_same_in_every_epoch(tmp_path):
    model = Watching()
    fit(tmp_path, model, overfit_batches=2, max_steps=6, check_val_every_n_epoch=1, val_check_interval=1.0)
    assert model.seen[:2] == model.seen[2:4] == model.seen[4:]
    assert model.seen[0] != model.seen[1]


def fail_to_write(monkeypatch, matching):
    """Make the disk full for files whose name holds a text."""
    fdopen, append = files.os.fdopen, Path.open
    written = []
    beside = files._beside

    def full(file, name):
        if matching in name:
            file.write(b"half" if "b" in file.mode else "half")
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return file

    monkeypatch.setattr(files, "_beside", lambda path: written.append(path.name) or beside(path))
    monkeypatch.setattr(files.os, "fdopen", lambda *args: full(fdopen(*args), written[-1]))
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *args, **options: full(
            append(self, *args, **options), self.name if args and set(args[0]) & set("xwa") else ""
        ),
    )


@pytest.mark.parametrize("matching", ["last.ckpt", "metrics.csv", "run.json", "curves.png"])
def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half(tmp_path, monkeypatch, matching):
    fit(tmp_path, callbacks=[LearningCurves()])
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    fail_to_write(monkeypatch, matching)
    with pytest.raises((UserError, OSError), match="No space left") as error:
        fit(tmp_path, resume=True, max_steps=12, log_every_n_steps=1, callbacks=[LearningCurves()])
    assert matching in str(getattr(error.value, "filename", error.value))
    monkeypatch.undo()
    assert matching == "curves.png" or (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before
    assert list(tmp_path.rglob(".*")) == []
    fit(tmp_path, resume=True, max_steps=15)


def test_torchs_writer_does_not_hide_a_full_disk(tmp_path, monkeypatch):
    fit(tmp_path)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()

    def save(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 46 vs 0")  # noqa: B904 - as torch does it

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match=r"last\.ckpt cannot be written: No space left on device\.$"):
        fit(tmp_path, resume=True, max_steps=12)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before
