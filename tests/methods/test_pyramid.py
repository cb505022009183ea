"""What all methods of a single sample inherit: scales as phases, constants of a scale, the end of training."""

import pytest
import torch
from torch import nn

from tests.methods.single import OneImage, assert_resumes_exactly, facts, train
from xdomain.errors import UserError
from xdomain.methods import PyramidMethod
from xdomain.optim import GANAdam
from xdomain.running.metrics_file import read_metrics

SCALES = 3


class Toy(PyramidMethod):
    """Three scales of one number each, which count what happens to them."""

    def __init__(self, **options):
        super().__init__(**{"iterations": 4, **facts(OneImage()), **options})
        self.G = nn.ParameterList(torch.zeros(()) for _ in range(SCALES))
        self.D = nn.ParameterList(torch.zeros(()) for _ in range(SCALES))
        self.begins, self.made, self.rates = [], [], []

    @property
    def scales(self):
        return SCALES

    def build_optimizers(self):
        d = {f"d{i}": self.d_optimizer([D]) for i, D in enumerate(self.D)}
        return d | {f"g{i}": self.optimizer([G]) for i, G in enumerate(self.G)}

    def begin_scale(self, scale, batch):
        self.begins.append((self.trainer.global_step, scale))
        if scale:
            self.G[scale].data.copy_(self.G[scale - 1])

    def training_step(self, batch, batch_idx):
        n = self.scale

        def make():
            self.made.append(n)
            return batch["a"].image.mean()

        target = self.constant("target", make)
        self.rates.append([self.named_optimizer(f"{net}{n}").param_groups[0]["lr"] for net in "dg"])
        self.log("l_g", self.step(f"g{n}", lambda: (self.G[n] - target + 0.1 * torch.randn(())).square()))
        self.log("l_d", self.step(f"d{n}", lambda: (self.D[n] - 1).square()))


def test_scales_are_phases_and_training_ends_after_the_last(tmp_path):
    model = Toy()
    checkpoint = train(model, OneImage(), tmp_path)
    assert checkpoint["global_step"] == 12
    assert model.begins == [(0, 0), (4, 1), (8, 2)]
    assert model.made == [0, 1, 2]
    assert [phase.name for phase in model.build_phases()] == ["scale 0", "scale 1", "scale 2"]
    assert [model.place(step) for step in (0, 3, 4, 11, 12, 20)] == [(0, 0), (0, 3), (1, 0), (2, 3), (2, 4), (2, 12)]
    assert model.finest == 2
    steps = [int(state["state"][0]["step"]) for state in checkpoint["optimizer_states"]]
    assert steps == [4] * 6  # each optimiser in its own scale only


def test_max_steps_can_end_earlier_and_the_finest_scale_is_known(tmp_path):
    model = Toy()
    with pytest.raises(UserError, match="Toy is not trained"):
        _ = model.finest
    train(model, OneImage(), tmp_path, max_steps=5)
    assert (model.finest, model.begins) == (1, [(0, 0), (4, 1)])


def test_rates_fall_in_the_last_fifth_of_every_scale(tmp_path):
    model = Toy(
        iterations=10,
        decay=0.1,
        optimizer=lambda p: GANAdam(p, lr=1.0),
        d_optimizer=lambda p: GANAdam(p, lr=0.5),
    )
    train(model, OneImage(), tmp_path)
    assert [rate for rates in model.rates for rate in rates] == pytest.approx(
        ([0.5, 1.0] * 8 + [0.05, 0.1] * 2) * SCALES
    )


def test_resumes_in_the_middle_of_every_scale(tmp_path):
    assert_resumes_exactly(lambda: Toy(decay=0.1), OneImage, tmp_path, (2, 4, 7, 8, 11))
    assert len(read_metrics(tmp_path / "straight" / "metrics.csv")) >= 12


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"iterations": 0}, "iterations is 0: give"),
        ({"accumulate": 2}, "accumulate is 2"),
        ({"scheduler": lambda o: None}, "scheduler does not know where scales begin"),
    ],
)
def test_options_without_a_meaning_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Toy(**options)
