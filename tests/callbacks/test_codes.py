"""Scores of codes that hold exactly what they should, or not, of images that spell out their parameters."""

import numpy as np
import pytest
import torch

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import CodeScores
from xdomain.data import BaseDataModule, ImageData
from xdomain.engines.drawing import Draws
from xdomain.engines.interventions import Interventions
from xdomain.engines.schema import Parameter, Schema
from xdomain.errors import UserError
from xdomain.methods import ContentMethod

SCHEMA = Schema(
    [
        Parameter("kind", "choice", values=("none", "round", "square", "long", "flat")),
        Parameter("shade", "continuous", 0.0, 1.0),
        Parameter("tone", "choice", values=("low", "middle", "high")),
    ]
)


def drawn(u):
    """A column of pixels for every parameter: bars of a choice, a brightness of a number."""
    images = torch.zeros(len(u), 3, 8, 8, dtype=torch.uint8)
    for column, high in ((0, 4), (2, 2)):
        for value in range(1, high + 1):
            images[:, column, value] = 200 * (u[:, column].round() == value).byte()[:, None]
    images[:, 1] = (255 * u[:, 1]).round().byte()[:, None, None]
    return images


class Spelt(BaseDataModule):
    domains, channels, image_size, root = ("kind", "none"), (3, 3), 8, None
    known = True

    def parameters(self, role, split):
        u = SCHEMA.draw(Draws(torch.arange(200), len(split)))
        u[:, 0] = u[:, 0].clamp(min=1) if role == "a" else 0
        return u

    def data(self, role, split):
        return ImageData(drawn(self.parameters(role, split)).numpy())

    def interventions(self, role, split):
        if role == "b" or not self.known:
            return None
        changes = {"content": ("kind",), "person": ("shade", "tone"), "tone": ("tone",)}

        def removed(u):
            return torch.cat([torch.zeros_like(u[:, :1]), u[:, 1:]], 1)

        u = self.parameters(role, split)
        return Interventions(SCHEMA, u, ("kind",), ("shade", "tone"), changes, drawn, removed)


class Reading(ContentMethod):
    """Reads the parameters: as it should, or with the blocks exchanged, or all of them into both, or none."""

    def __init__(self, way="right", **options):
        super().__init__(**{"domains": ("kind", "none"), "channels": (3, 3), "image_size": 8, **options})
        self.contents, self.way = ("kind",), way

    def blocks(self, images):
        content, rest = images[:, 0, :, 0], images[:, 1:, :, 0].flatten(1)
        both = torch.cat([content, rest], 1)
        return {"right": (rest, content), "swapped": (content, rest), "both": (both, both)}[self.way]

    def common(self, images):
        return self.blocks(images)[0]

    def separate(self, images, domain):
        return self.blocks(images)[1]


class Alone(Reading):
    guided = False

    def codes(self, images):
        return {"common": self.common(images)}


def measured(method, validate=False, data=Spelt):
    run = trainer(callbacks=[CodeScores(images=400, pairs=100, trees=5)])
    (run.validate if validate else run.test)(method, datamodule=data(eval_batch_size=64), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_blocks_that_hold_what_they_should():
    found = measured(Reading())
    expected = {"separate/content": 1, "common/content": 0, "separate/person": 0, "common/person": 1}
    assert {name: found[f"moved/kind/{name}"] for name in expected} == expected
    assert found["moved/kind/common/removed"] == found["variance_ratio/kind"] == 0
    assert found["moved/kind/separate/removed"] > 0.5
    assert 0 < found["moved/kind/common/tone"] < 1
    assert found["moved/kind/pixels/content"] + found["moved/kind/pixels/person"] == pytest.approx(1, abs=1e-4)
    assert found["moved/kind/random/content"] == pytest.approx(1, abs=0.1)
    assert found["readable/kind/separate/kind"] == found["readable/kind/common/tone"] == 1
    assert found["readable/kind/common/kind"] == pytest.approx(0, abs=0.2)
    assert found["readable/kind/pixels/kind"] == 1
    assert found["gap/kind"] == pytest.approx(1, abs=0.15)  # a third of 400 images tests the probes
    assert found["block_disentanglement/kind"] == pytest.approx(1, abs=0.1)
    assert found["block_completeness/kind"] == pytest.approx(1, abs=0.1)
    assert found["n/kind"] == 100
    for score in ("mig", "disentanglement", "completeness", "informativeness", "modularity", "irs", "beta_vae"):
        assert found[f"{score}/kind/factors"] == pytest.approx(1, abs=0.05)
        assert found[f"{score}/kind/random"] < 0.7


def test_exchanged_blocks():
    found = measured(Reading("swapped"))
    assert found["moved/kind/common/content"] == found["moved/kind/separate/person"] == 1
    assert found["moved/kind/separate/content"] == found["moved/kind/common/person"] == 0
    assert found["gap/kind"] == pytest.approx(-1, abs=0.15)
    assert found["variance_ratio/kind"] == pytest.approx(1, abs=0.2)


def test_everything_in_both_blocks():
    found = measured(Reading("both"))
    assert found["gap/kind"] == 0
    assert found["moved/kind/common/content"] == found["moved/kind/separate/content"]
    assert found["moved/kind/common/content"] + found["moved/kind/common/person"] == pytest.approx(1, abs=1e-4)
    assert found["block_completeness/kind"] == pytest.approx(0, abs=0.1)


def test_a_method_with_a_common_code_alone():
    found = measured(Alone())
    assert found["moved/kind/common/content"] == 0
    assert "readable/kind/common/kind" in found
    assert not [name for name in found if "separate" in name or "gap" in name or "ratio" in name]


def test_nothing_in_a_validation():
    assert not measured(Reading(), validate=True)


def test_independent_factors():
    known = Spelt().interventions("a", "test")
    u, factors = known.independent(3000, seed=1)
    assert [*factors] == ["kind", "shade", "tone"]
    assert {name: len(np.unique(v)) for name, v in factors.items()} == {"kind": 4, "shade": 5, "tone": 3}
    table = np.stack([*factors.values()], 1)
    assert np.abs(np.corrcoef(table, rowvar=False) - np.eye(3)).max() < 0.06
    for v in table.T:
        assert np.bincount(v) / len(v) == pytest.approx(1 / len(np.unique(v)), abs=0.03)
    shades = [u[table[:, 1] == value, 1].unique() for value in range(5)]
    assert all(len(shade) == 1 for shade in shades)  # exact, not a bin
    wanted = np.quantile(known.u[:, 1], [0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(torch.cat(shades), wanted, rtol=1e-5)
    assert torch.equal(known.independent(50, seed=1)[0], known.independent(50, seed=1)[0])
    assert not torch.equal(known.independent(50, seed=1)[0], known.independent(50, seed=2)[0])


def test_other_data_and_unknown_contents_are_refused():
    class Unknown(Spelt):
        known = False

    with pytest.raises(UserError, match="none of kind is"):
        measured(Reading(), data=Unknown)
    with pytest.raises(UserError, match="which ToyPair cannot: use Avatars, or remove it"):
        trainer(callbacks=[CodeScores()]).test(Reading(domains=ToyPair.domains), datamodule=ToyPair(), verbose=False)
    with pytest.raises(UserError, match="ToyGAN transfers no content"):
        trainer(callbacks=[CodeScores()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)


@pytest.mark.parametrize(("name", "value", "least"), [("images", 29, 30), ("pairs", 1, 2), ("trees", 0, 1)])
def test_numbers_that_are_too_small(name, value, least):
    with pytest.raises(UserError, match=f"{name} is {value}: give a number of at least {least}"):
        CodeScores(**{name: value})
