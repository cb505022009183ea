"""How a training ends before its last step, and that nothing is lost by it."""

import os
import signal
import threading

import pytest
import torch

from tests.running.test_resume import Stopped as Killed
from tests.running.test_resume import differences
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.errors import UserError
from xdomain.running.metrics_file import read_metrics
from xdomain.running.signals import Stopped

PARTS = ("state_dict", "optimizer_states", "random_states", "global_step")


class Signalled(ToyGAN):
    """Gets a signal in the middle of a batch or of a validation."""

    def __init__(self, at=None, during="training", signum=signal.SIGTERM, dies=False, **options):
        super().__init__(**options)
        self.at, self.during, self.signum, self.dies = at, during, signum, dies

    def _send(self, place):
        if place == self.during and self.trainer.global_step == self.at:
            if self.dies:
                raise Killed
            self.at = None
            os.kill(os.getpid(), self.signum)

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        self._send("training")

    def validation_step(self, batch, batch_idx):
        torch.rand(3)  # a validation may draw random numbers
        self._send("validation")


def run(folder, resume=False, every=5, steps=23, minutes=None, **options):
    torch.manual_seed(1)
    model = Signalled(**options)
    job = trainer(
        max_steps=steps, val_check_interval=every, log_every_n_steps=2, run_dir=str(folder), save_minutes=minutes
    )
    last = folder / "checkpoints" / "last.ckpt"
    job.fit(model, datamodule=ToyPair(jitter=True), ckpt_path=str(last) if resume else None, weights_only=True)
    return torch.load(last, weights_only=True)


def equal(straight, other, folder):
    assert [d for part in PARTS for d in differences(straight[part], other[part], part)] == []
    metrics = [read_metrics(place / "metrics.csv") for place in (folder / "straight", folder / "stopped")]
    assert metrics[0] == metrics[1]
    assert [path.name for path in (folder / "stopped").rglob(".*")] == []


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return run(folder / "straight"), folder


# An epoch has ten batches, a validation every five.
@pytest.mark.parametrize(
    ("at", "during", "signum"),
    [(at, "training", signal.SIGTERM) for at in (0, 3, 4, 8, 9, 10, 13, 19, 21)]
    + [(10, "validation", signal.SIGTERM), (15, "validation", signal.SIGINT), (7, "training", signal.SIGINT)],
)
def test_a_signal_saves_and_the_resumed_run_equals_the_straight_run(straight, tmp_path, at, during, signum):
    state, folder = straight
    (tmp_path / "straight").symlink_to(folder / "straight")
    with pytest.raises(Stopped) as stopped:
        run(tmp_path / "stopped", at=at, during=during, signum=signum)
    assert stopped.value.code == 128 + signum
    saved = at + 1 if during == "training" else at
    assert f"after step {saved}: --ckpt_path {tmp_path / 'stopped'}" in stopped.value.sentence
    last = torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == saved  # nothing is lost
    assert f'"steps": {saved}' in (tmp_path / "stopped" / "run.json").read_text()
    equal(state, run(tmp_path / "stopped", resume=True), tmp_path)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("at", [1, 5, 9, 10, 11, 20])
def test_checkpoints_between_validations_resume_exactly(straight, tmp_path, at):
    state, folder = straight
    (tmp_path / "straight").symlink_to(folder / "straight")
    with pytest.raises(Killed):
        run(tmp_path / "stopped", at=at, dies=True, minutes=0)
    last = torch.load(tmp_path / "stopped" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == at  # only the batch that died is lost
    equal(state, run(tmp_path / "stopped", resume=True), tmp_path)


def test_checkpoints_wait_for_their_time(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "stopped", at=4, dies=True, minutes=60)
    assert not (tmp_path / "stopped" / "checkpoints").exists()
    with pytest.raises(UserError, match="save_minutes is -1"):
        trainer(save_minutes=-1)


def test_another_validation_interval_leaves_the_steps_right(tmp_path):
    run(tmp_path / "straight", every=6)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", at=5, every=6)  # after the validation of step 6
    run(tmp_path / "stopped", resume=True, every=7)
    steps = [[row["step"] for row in read_metrics(tmp_path / n / "metrics.csv")] for n in ("straight", "stopped")]
    assert steps[0] == steps[1]


def test_a_second_signal_ends_at_once(tmp_path):
    class Twice(ToyGAN):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("still here")

    with pytest.raises(Stopped) as stopped:
        trainer(max_steps=5, run_dir=str(tmp_path / "run")).fit(Twice(), datamodule=ToyPair())
    assert stopped.value.code == 130
    assert "nothing was saved" in stopped.value.sentence
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_signal_at_the_last_step_lets_the_training_finish(tmp_path):
    assert run(tmp_path / "run", at=22)["global_step"] == 23


def test_without_checkpoints_a_signal_says_so(tmp_path):
    job = trainer(max_steps=5, enable_checkpointing=False, run_dir=str(tmp_path / "run"))
    with pytest.raises(Stopped) as stopped:
        job.fit(Signalled(at=1), datamodule=ToyPair())
    assert stopped.value.sentence == "stopped by SIGTERM after step 2."


def test_signals_are_left_alone_outside_of_the_main_thread(tmp_path):
    job = trainer(max_steps=2, run_dir=str(tmp_path / "run"))
    thread = threading.Thread(target=lambda: job.fit(ToyGAN(), datamodule=ToyPair()))
    thread.start()
    thread.join()
    assert job.global_step == 2


class NaNAt(ToyGAN):
    def __init__(self, at, what="loss", value=float("nan"), **options):
        super().__init__(**options)
        self.at, self.what, self.value = at, what, value

    def training_step(self, batch, batch_idx):
        bad = self.trainer.global_step == self.at
        y_a = self.g(batch["a"].image)
        self.step("d", lambda: (self.D(y_a.detach()) - self.D(batch["b"].image)).mean())
        self.step("g", lambda: y_a.square().mean() * (self.value if bad and self.what == "loss" else 1.0))
        if bad and self.what == "weight":
            next(self.g.parameters()).data[0, 0] = self.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("minutes", [0, None])
@pytest.mark.parametrize("at", [0, 4, 5])  # the validation comes after step 5
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, at, minutes, value):
    job = trainer(max_steps=20, val_check_interval=5, run_dir=str(tmp_path / "run"), save_minutes=minutes)
    with pytest.raises(UserError, match=f"the loss g of step {at} is {value}: train with a smaller"):
        job.fit(NaNAt(at, value=value), datamodule=ToyPair())
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert last.exists() == (at == 5 or (minutes == 0 and at > 0))
    if last.exists():
        state = torch.load(last, weights_only=True)
        assert state["global_step"] == at
        assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    job = trainer(max_steps=20, val_check_interval=5, run_dir=str(tmp_path / "run"), save_minutes=0)
    with pytest.raises(UserError, match=r"the weights g\.1\.weight are not finite after step 3"):
        job.fit(NaNAt(3, what="weight"), datamodule=ToyPair())
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3


def test_losses_on_an_accelerator_are_looked_at_in_bundles():
    from xdomain.running.loop import PENDING, LossWatch

    class Elsewhere:
        """A loss on a device that would have to be waited for."""

        def __init__(self, value):
            self.value, self.device = torch.tensor(value), torch.device("meta")

        def detach(self):
            return self

        def float(self):
            return self.value

    watch = LossWatch()
    watch.note("d", 0, Elsewhere(1.0))
    watch.note("g", 0, Elsewhere(float("inf")))
    assert watch.find(at_once=False) is None
    for step in range(1, PENDING):
        watch.note("d", step, Elsewhere(float("nan")))
    assert watch.find(at_once=False) == ("g", 0, float("inf"))
    assert watch.find() is None
