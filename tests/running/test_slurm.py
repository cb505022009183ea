"""Jobs of SLURM that are announced their end, on a stand-in for scontrol."""

import json
import os
import signal

import pytest

from tests.running.test_record import step_of
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.running.signals import Stopped, stoppable
from xdomain.running.slurm import announced

SCONTROL = """#!/bin/sh
echo "$@" >> {folder}/asked
kill -TERM $PPID  # as SLURM does to a job that is to start again
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A job of SLURM, and a scontrol that notes what it is asked for."""
    (tmp_path / "scontrol").write_text(SCONTROL.format(folder=tmp_path))
    (tmp_path / "scontrol").chmod(0o755)
    job = {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_ID": 4711, "JOB_NAME": "x"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_requeued_job_goes_on_in_its_run_and_no_other_does(slurm, monkeypatch):
    class Announced(ToyGAN):
        at = 4

        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            if self.trainer.global_step == self.at:
                os.kill(os.getpid(), signal.SIGUSR1)

    def start(model, **options):
        job = trainer(default_root_dir=str(slurm / "runs"), max_steps=9, **options)
        job.fit(model, datamodule=ToyPair(), weights_only=True)
        return job

    with pytest.raises(Stopped, match="138") as stopped:
        start(Announced())
    assert stopped.value.sentence.endswith("SLURM starts job 4711 again.")
    assert (slurm / "asked").read_text() == "requeue 4711\n"
    assert list((slurm / "runs").glob("*.ckpt")) == []
    first = slurm / "runs" / "run" / "0001"
    assert step_of(first, "last") == 5

    monkeypatch.setenv("SLURM_JOB_ID", "4712")  # another job has nothing to do with it
    assert start(ToyGAN()).run_dir.name == "0002"
    (slurm / "runs" / "hpc_ckpt_1.ckpt").write_bytes(b"left by somebody else")
    assert start(ToyGAN()).run_dir.name == "0003"
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    again = start(ToyGAN())
    assert (again.run_dir, again.global_step) == (first, 9)
    assert json.loads((first / "run.json").read_text())["steps"] == 9
    assert start(ToyGAN()).run_dir.name == "0004"  # the next training of the same job is a run of its own
    (slurm / "scontrol").unlink()
    with pytest.raises(Stopped) as stopped:
        start(Announced())
    assert stopped.value.sentence.endswith("scontrol could not requeue job 4711.")


def test_before_the_first_batch_the_job_is_started_again(slurm):
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(Stopped, match="138") as stopped, stoppable(), announced():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stopped.value.sentence == "stopped by SIGUSR1 before the first batch; SLURM starts job 4711 again."
    assert (slurm / "asked").read_text() == "requeue 4711\n"
    assert signal.getsignal(signal.SIGUSR1) == before


def test_one_process_of_a_job_asks(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(Stopped, match="138") as stopped, announced():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stopped.value.sentence is None
    assert not (slurm / "asked").exists()


@pytest.mark.parametrize(("name", "value"), [("JOB_NAME", "bash"), ("NTASKS", None), ("JOB_ID", None)])
def test_elsewhere_the_signal_is_left_alone(slurm, monkeypatch, name, value):
    monkeypatch.setenv(f"SLURM_{name}", value) if value else monkeypatch.delenv(f"SLURM_{name}")
    with announced():
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_after_the_training_there_is_nothing_to_start_again(slurm):
    with stoppable(), announced():
        job = trainer(run_dir=str(slurm / "run"), max_steps=3)
        job.fit(ToyGAN(), datamodule=ToyPair())
        os.kill(os.getpid(), signal.SIGUSR1)
    assert job.global_step == 3
    assert not (slurm / "asked").exists()
