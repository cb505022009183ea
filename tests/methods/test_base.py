"""The update machinery that every method shares, held against straight PyTorch."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import MixedPrecision
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.errors import UserError
from xdomain.methods import Method
from xdomain.methods.base import Phase


def sgd(parameters):
    return SGD(parameters, lr=0.1)


class OneWeight(Method):
    """One weight vector, loss = mean over the batch of w . x."""

    def __init__(self, gain=1.0, **options):
        super().__init__(
            **{"domains": ("red", "grey"), "channels": (3, 1), "image_size": 8, "optimizer": sgd, **options}
        )
        self.w = nn.Linear(192, 1, bias=False)
        self.gain = gain
        self.seen, self.norms = [], []

    def build_optimizers(self):
        return {"w": self.optimizer(self.w.parameters())}

    def training_step(self, batch, batch_idx):
        x = batch["a"].image.flatten(1)
        self.seen.append(x.clone())
        self.step("w", lambda: self.gain * self.w(x).mean())

    def on_before_optimizer_step(self, optimizer):
        super().on_before_optimizer_step(optimizer)
        self.norms.append(self.w.weight.grad.norm().item())


def scaled_precision(scale=1024.0, **options):
    """Loss scaling on the CPU, computing in float32, so that only the scaling is at work."""
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, **options))
    plugin.autocast_context_manager = lambda: torch.autocast("cpu", enabled=False)
    return plugin


def test_global_step_counts_batches_not_optimizer_steps():
    seen = []

    class Counting(ToyGAN):
        def training_step(self, batch, batch_idx):
            seen.append(self.trainer.global_step)
            super().training_step(batch, batch_idx)

    run = trainer(max_steps=7)
    run.fit(Counting(), datamodule=ToyPair())
    assert seen == list(range(7))
    assert run.global_step == 7


def test_callbacks_find_the_finished_batch_counted():
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(trainer.global_step)

    trainer(max_steps=3, limit_val_batches=0, callbacks=[Watch()]).fit(ToyGAN(), datamodule=ToyPair())
    assert seen == [1, 2, 3]


def test_step_equals_straight_pytorch():
    torch.manual_seed(0)
    model = ToyGAN(dropout=0.0, optimizer=sgd)
    torch.manual_seed(0)
    straight = ToyGAN(dropout=0.0)
    data = ToyPair()
    trainer(max_steps=5, limit_val_batches=0).fit(model, datamodule=data)

    d, g = sgd(straight.D.parameters()), sgd(straight.g.parameters())
    done = 0
    for epoch in range(2):
        loader = data.train_dataloader()
        for one in loader.flattened:
            one.batch_sampler.set_epoch(epoch)
        for batch, _, _ in loader:
            if done == 5:
                break
            done += 1
            batch = data.on_after_batch_transfer(batch, 0)
            y = straight.g(batch["a"].image)
            d.zero_grad()
            (straight.D(y.detach()) - straight.D(batch["b"].image)).mean().backward()
            d.step()
            g.zero_grad()
            (-straight.D(y).mean() + y.square().mean()).backward()
            g.step()
    for name, value in straight.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_rivals_are_frozen_while_a_loss_is_built_and_free_afterwards():
    class Watching(ToyGAN):
        def training_step(self, batch, batch_idx):
            y = self.g(batch["a"].image)

            def loss():
                assert not any(p.requires_grad for p in self.D.parameters())
                assert all(p.requires_grad for p in self.g.parameters())
                return self.D(y).mean()

            self.step("g", loss)
            assert all(p.grad is None for p in self.D.parameters())
            assert all(p.requires_grad for p in self.parameters())

    before = Watching()
    start = weights(before)
    trainer(max_steps=2, limit_val_batches=0).fit(before, datamodule=ToyPair())
    assert torch.equal(start["D.2.weight"], before.state_dict()["D.2.weight"])
    assert not torch.equal(start["g.1.weight"], before.state_dict()["g.1.weight"])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("plugins", [None, "scaled"])
def test_clip_applies_to_unscaled_gradients(plugins, fused):
    model = OneWeight(gain=100.0, clip=0.5, optimizer=partial(SGD, lr=0.1, fused=fused))
    start = model.w.weight.detach().clone()
    trainer(max_steps=1, limit_val_batches=0, plugins=[scaled_precision()] if plugins else None).fit(
        model, datamodule=ToyPair()
    )
    assert model.norms == [pytest.approx(0.5, rel=1e-4)]
    gradient = 100.0 * model.seen[0].mean(0)
    expected = start - 0.1 * 0.5 * gradient / gradient.norm()
    torch.testing.assert_close(model.w.weight.detach()[0], expected[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("plugins", [None, "constant", "changing"])
def test_accumulated_batches_equal_one_large_batch(plugins):
    plugin = None if plugins is None else [scaled_precision(growth_interval=1 if plugins == "changing" else 2000)]

    class Changing(OneWeight):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            if plugins == "changing" and batch_idx % 2 == 0:  # as another optimiser's step would do
                scaler = self.trainer.precision_plugin.scaler
                scaler._scale.fill_(256.0)

    model = Changing(accumulate=2)
    start = model.w.weight.detach().clone()
    trainer(max_steps=4, limit_val_batches=0, plugins=plugin).fit(model, datamodule=ToyPair())
    gradient = torch.cat(model.seen[:2]).mean(0) + torch.cat(model.seen[2:]).mean(0)
    assert len(model.norms) == 2
    torch.testing.assert_close(model.w.weight.detach()[0], (start - 0.1 * gradient)[0], rtol=1e-5, atol=1e-6)


def test_accumulation_survives_a_validation_between_its_batches():
    model = OneWeight(accumulate=2)
    start = model.w.weight.detach().clone()
    trainer(max_steps=4, val_check_interval=1).fit(model, datamodule=ToyPair())
    gradient = torch.cat(model.seen[:2]).mean(0) + torch.cat(model.seen[2:]).mean(0)
    torch.testing.assert_close(model.w.weight.detach()[0], (start - 0.1 * gradient)[0], rtol=1e-5, atol=1e-6)


def test_accumulation_with_two_steps_of_one_optimizer_is_refused():
    class Twice(OneWeight):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)
            super().training_step(batch, batch_idx)

    with pytest.raises(UserError, match="steps more than once"):
        trainer(max_steps=1, limit_val_batches=0).fit(Twice(accumulate=2), datamodule=ToyPair())


def test_schedule_steps_once_per_update():
    model = ToyGAN(optimizer=sgd, scheduler=lambda o: StepLR(o, step_size=2, gamma=0.5))
    run = trainer(max_steps=5, limit_val_batches=0)
    run.fit(model, datamodule=ToyPair())
    assert [o.param_groups[0]["lr"] for o in run.optimizers] == [pytest.approx(0.1 * 0.5**2)] * 2


class Phased(ToyGAN):
    def build_phases(self):
        return (Phase("pretrain", 2, ("g",)), Phase("adversarial", 3), Phase("rest", None, ("d",)))

    def training_step(self, batch, batch_idx):
        for name in self.phase.optimizers or ("d", "g"):
            self.step(name, lambda: self.D(self.g(batch["a"].image)).mean())


def test_phase_is_a_function_of_the_step():
    names = [Phased().phase_at(step).name for step in range(7)]
    assert names == ["pretrain"] * 2 + ["adversarial"] * 3 + ["rest"] * 2


def test_phase_decides_which_weights_move():
    model = Phased()
    start = weights(model)
    trainer(max_steps=2, limit_val_batches=0).fit(model, datamodule=ToyPair())
    assert torch.equal(start["D.2.weight"], model.state_dict()["D.2.weight"])
    trainer(max_steps=3, limit_val_batches=0).fit(model := Phased(), datamodule=ToyPair())
    assert not torch.equal(start["D.2.weight"], model.state_dict()["D.2.weight"])


class Rates(pl.Callback):
    def __init__(self):
        self.seen = {"d": [], "g": []}

    def on_train_batch_end(self, trainer, pl_module, *_):
        for name, rates in self.seen.items():
            rates.append(pl_module.named_optimizer(name).param_groups[0]["lr"])


def phased(folder, steps=8, ckpt_path=None, gamma=0.9, **options):
    torch.manual_seed(1)
    rates = Rates()
    model = Phased(**{"optimizer": sgd, "scheduler": lambda o: StepLR(o, 1, gamma), **options})
    run = trainer(max_steps=steps, limit_val_batches=0, run_dir=str(folder), callbacks=[rates])
    run.fit(model, datamodule=ToyPair(), ckpt_path=ckpt_path, weights_only=True)
    return rates.seen


def test_a_schedule_counts_the_updates_of_the_phases_of_its_optimizer(tmp_path):
    seen = phased(tmp_path / "run")
    assert seen["g"] == pytest.approx([0.1 * 0.9 ** min(i, 5) for i in range(1, 9)])  # in the first 5 of 8 batches
    assert seen["d"] == pytest.approx([0.1 * 0.9 ** max(0, i - 2) for i in range(1, 9)])  # in all but the first 2


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
@pytest.mark.parametrize("gamma", [0.9, 0.5])
def test_schedules_of_phases_go_on_after_a_resume_with_the_same_or_other_settings(stop, gamma, tmp_path):
    straight = phased(tmp_path / "straight", gamma=0.9)
    phased(tmp_path / "run", steps=stop, gamma=gamma)
    last = tmp_path / "run/checkpoints/last.ckpt"
    resumed = phased(tmp_path / "run", ckpt_path=str(last), gamma=0.9)
    assert {name: rates[stop:] for name, rates in straight.items()} == {n: pytest.approx(r) for n, r in resumed.items()}


def test_a_schedule_need_only_last_for_the_phases_of_its_optimizer(tmp_path):
    phased(tmp_path / "run", scheduler=lambda o: OneCycleLR(o, 0.1, 6, cycle_momentum=False))
    with pytest.raises(UserError, match="OneCycleLR with 5 steps, but there are 6 updates of the weights"):
        phased(tmp_path / "another", scheduler=lambda o: OneCycleLR(o, 0.1, 5, cycle_momentum=False))


def test_a_plateau_follows_the_metric_in_the_phases_of_its_optimizer_only():
    class Flat(Phased):
        def on_validation_epoch_end(self):
            self.log("val/loss", 1.0)

    plateau = type("Own", (ReduceLROnPlateau,), {"monitor": "val/loss"})
    rates = Rates()
    model = Flat(optimizer=sgd, scheduler=lambda o: plateau(o, factor=0.5, patience=0))
    run = trainer(max_steps=8, val_check_interval=1, limit_val_batches=1, callbacks=[rates])
    run.fit(model, datamodule=ToyPair())
    assert rates.seen["g"] == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.0125, *[0.1 / 16] * 3])
    assert rates.seen["d"] == pytest.approx([0.1] * 4 + [0.05, 0.025, 0.0125, 0.1 / 16])


def test_optimizer_outside_its_phase_is_refused():
    class Wrong(Phased):
        def training_step(self, batch, batch_idx):
            self.step("d", lambda: self.D(batch["b"].image).mean())

    with pytest.raises(RuntimeError, match="'d' must not step in the phase 'pretrain'"):
        trainer(max_steps=1, limit_val_batches=0).fit(Wrong(), datamodule=ToyPair())


def test_checkpoint_of_a_method_made_in_python_loads_safely(tmp_path):
    model = ToyGAN(optimizer=sgd, scheduler=lambda o: StepLR(o, 2))
    run = trainer(max_steps=1, limit_val_batches=0, run_dir=str(tmp_path / "run"))
    run.fit(model, datamodule=ToyPair())
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"] == {"dropout": 0.5, "clip": None, "accumulate": 1} | {
        k: v
        for k, v in checkpoint["hyper_parameters"].items()
        if k in ("domains", "channels", "image_size", "shapes", "options")
    }


def test_phases_that_all_have_a_length_end_the_training():
    class Short(Phased):
        def build_phases(self):
            return (Phase("pretrain", 3, ("g",)), Phase("adversarial", 4))

    for max_steps, end in ((-1, 7), (5, 5)):
        run = trainer(max_steps=max_steps, max_epochs=-1, limit_val_batches=0)
        run.fit(Short(), datamodule=ToyPair())
        assert run.global_step == end


def test_needs_one_of_our_data_modules():
    model = ToyGAN()
    model.trainer = trainer(max_steps=1)
    with pytest.raises(UserError, match="data modules"):
        _ = model.data


class Recorder(Logger):
    """Keeps what is written, by step."""

    name = version = "recorder"

    def __init__(self):
        super().__init__()
        self.rows = {}

    def log_metrics(self, metrics, step=None):
        self.rows.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, *args, **kwargs):
        pass


def test_values_are_logged_only_in_the_batches_that_are_written():
    rows, batches = {}, {}
    for every in (1, 3):
        seen = batches[every] = []

        class Counting(ToyGAN):
            def training_step(self, batch, batch_idx, seen=seen):
                seen.append(self.logs_now)
                super().training_step(batch, batch_idx)

        torch.manual_seed(0)
        recorder = Recorder()
        run = trainer(max_steps=12, limit_val_batches=0, log_every_n_steps=every, logger=recorder)
        run.fit(Counting(), datamodule=ToyPair())
        rows[every] = {step: values for step, values in recorder.rows.items() if "l_g" in values}
    assert batches == {1: [True] * 12, 3: [False, False, True] * 4}
    assert len(rows[1]) == 12
    assert rows[3] == {step: values for i, (step, values) in enumerate(sorted(rows[1].items())) if i % 3 == 2}
    assert len(rows[3]) == 4
