"""The generator's average against one kept by hand."""

import copy

import pytest
import torch

from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.callbacks import GeneratorEMA
from xdomain.errors import UserError
from xdomain.methods.calibration import Calibration

DECAY = 0.7


class Recorded(ToyGAN):
    """Keeps its generator as it was after every batch, and as it was while validating."""

    def __init__(self, **options):
        super().__init__(**options)
        self.after, self.validated = [], []

    def on_train_batch_end(self, *_):
        self.after.append(weights(self.g))

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.validated.append(weights(self))


@pytest.fixture
def fitted(tmp_path):
    model = Recorded()
    run = trainer(
        max_steps=7, val_check_interval=3, run_dir=str(tmp_path / "run"), callbacks=[GeneratorEMA(["g"], decay=DECAY)]
    )
    run.fit(model, datamodule=ToyPair())
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    return model, checkpoint


def by_hand(states):
    """w <- decay * w + (1 - decay) * new from the first state on; buffers are those of the last state."""
    average = {name: value.clone() for name, value in states[0].items()}
    for state in states[1:]:
        for name, value in state.items():
            trained = name.endswith(("weight", "bias"))
            average[name] = DECAY * average[name] + (1 - DECAY) * value if trained else value
    return average


def test_checkpoint_holds_the_average_and_beside_it_the_raw_weights(fitted):
    model, checkpoint = fitted
    assert len(model.after) == 7
    average = by_hand(model.after)
    for name, value in average.items():
        torch.testing.assert_close(checkpoint["state_dict"][f"g.{name}"], value)
        assert torch.equal(checkpoint["ema"]["raw"][f"g.{name}"], model.after[-1][name])
    assert not torch.equal(checkpoint["state_dict"]["g.1.weight"], model.after[-1]["1.weight"])
    assert checkpoint["ema"]["count"] == {"g": 7}


def test_discriminator_is_never_averaged(fitted):
    model, checkpoint = fitted
    assert torch.equal(checkpoint["state_dict"]["D.2.weight"], model.state_dict()["D.2.weight"])
    assert not any(name.startswith("D") for name in checkpoint["ema"]["raw"])


def test_validation_sees_the_average_and_training_goes_on_with_raw_weights(fitted):
    model, _ = fitted
    assert len(model.validated) == 2
    for seen, step in zip(model.validated, (3, 6), strict=True):
        for name, value in by_hand(model.after[:step]).items():
            torch.testing.assert_close(seen[f"g.{name}"], value)
    for name, value in model.after[-1].items():
        assert torch.equal(model.g.state_dict()[name], value)


def test_averaging_does_not_change_the_training(fitted):
    model, _ = fitted
    torch.manual_seed(0)
    plain = Recorded()
    trainer(max_steps=7, val_check_interval=3).fit(plain, datamodule=ToyPair())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_unknown_network_is_named():
    with pytest.raises(UserError, match="names 'G', but ToyGAN has: g, D"):
        trainer(max_steps=1, callbacks=[GeneratorEMA(["G"])]).fit(ToyGAN(), datamodule=ToyPair())


def test_what_is_fitted_at_the_end_sees_the_averages_that_are_saved(tmp_path):
    seen = []

    class Fitted(ToyGAN):
        def configure_callbacks(self):
            look = Calibration(torch.nn.Module(), lambda: seen.append(copy.deepcopy(self.g.state_dict())))
            return [*super().configure_callbacks(), look]

    model = Fitted()
    trainer(max_steps=3, limit_val_batches=0, run_dir=str(tmp_path), callbacks=[GeneratorEMA(["g"], 0.9)]).fit(
        model, datamodule=ToyPair()
    )
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert len(seen) == 1
    for name, average in seen[0].items():
        assert torch.equal(average, saved["state_dict"][f"g.{name}"])
        assert torch.equal(saved["ema"]["raw"][f"g.{name}"], model.g.state_dict()[name])
    assert not torch.equal(saved["ema"]["raw"]["g.1.weight"], saved["state_dict"]["g.1.weight"])
