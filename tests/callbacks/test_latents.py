"""Scores of latent vectors, on a generator whose images are the vectors themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_uint8
from xdomain.callbacks import LatentScores
from xdomain.data import BaseDataModule, ImageData
from xdomain.errors import UserError
from xdomain.methods import TwoStep

SIZE, LATENT = 16, 16 * 15 * 3


class Written(nn.Module):
    """G: the first row of pixels is the class, the others are z."""

    def __init__(self, *_):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, z, y):
        first = (2.0 * y - 1).view(-1, 1, 1, 1).expand(-1, 3, 1, SIZE)
        return torch.cat([first, z.view(-1, 3, SIZE - 1, SIZE) / self.scale], 2)


class Read(nn.Module):
    """E: reads z; ``leak`` adds the class to its numbers, ``share`` keeps a part of z."""

    def __init__(self, leak=0.0, share=1.0):
        super().__init__()
        self.leak, self.share = leak, nn.Parameter(torch.tensor(share))

    def forward(self, images):
        z = (8 * self.share * images[:, :, 1:]).flatten(1)
        return z + self.leak * images[:, 0, 0, :1]


class Drawn(BaseDataModule):
    """Images of random vectors; their values are those of the vectors, shrunk by ``spread``."""

    domains, channels, image_size, root = ("no", "yes"), (3, 3), SIZE, None
    spread = 1.0

    def data(self, role, split):
        rng = np.random.default_rng([ord(role), *split.encode()])
        z = torch.from_numpy(rng.normal(0, self.spread, (40, LATENT))).float()
        images = Written()(z, torch.full((40,), int(role == "b")))
        return ImageData(to_uint8(images.detach()).numpy())


def scores(data=None, validate=False, **encoder):
    nothing = lambda *_: nn.Linear(1, 1)  # noqa: E731
    method = TwoStep(
        Written,
        nothing,
        lambda *_: Read(**encoder),
        latent=LATENT,
        domains=("no", "yes"),
        channels=(3, 3),
        image_size=SIZE,
    )
    run = trainer(callbacks=[LatentScores(count=40, val_count=8)])
    (run.validate if validate else run.test)(method, datamodule=data or Drawn(eval_batch_size=16), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_a_perfect_encoder():
    found = scores()
    for domain in ("no", "yes"):
        assert found[f"latent_error/{domain}"] == pytest.approx(0, abs=1e-6)
        assert found[f"latent_square/{domain}"] == pytest.approx(1, abs=0.02)
        assert found[f"psnr/{domain}"] > 80
        assert found[f"ssim/{domain}"] > 0.999
        assert found[f"ssim_random/{domain}"] < 0.5
        # The difference of two independent pixels has twice the variance; range 2.
        share = (SIZE - 1) / SIZE
        assert found[f"psnr_random/{domain}"] == pytest.approx(10 * np.log10(4 / (2 / 64 * share)), abs=0.1)


def test_an_encoder_that_says_zero_has_an_error_of_one_and_one_that_says_half_a_quarter():
    assert scores(share=0.0)["latent_error/no"] == pytest.approx(1, abs=0.02)
    assert scores(share=0.5)["latent_error/yes"] == pytest.approx(0.25, abs=0.01)


def test_the_leak_of_the_domain():
    assert scores(leak=1.0)["probe/latent"] == 1
    assert scores()["probe/latent"] == pytest.approx(0.5, abs=0.2)


def test_real_images_that_are_less_varied_than_drawn_ones():
    class Narrow(Drawn):
        spread = 0.5

    found = scores(Narrow())
    assert found["latent_square/no"] == pytest.approx(0.25, abs=0.02)
    assert found["latent_error/no"] == pytest.approx(0, abs=1e-6)


def test_a_validation_leaves_out_probe_and_null_rows():
    found = scores(validate=True)
    assert {"val/latent_error/no", "val/psnr/yes"} <= found.keys()
    assert not [name for name in found if "probe" in name or "random" in name]


def test_other_methods_are_refused():
    with pytest.raises(UserError, match="LatentScores is for TwoStep, not for ToyGAN: remove it"):
        trainer(callbacks=[LatentScores()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)


@pytest.mark.parametrize("name", ["count", "val_count"])
def test_counts_must_be_larger_than_one(name):
    with pytest.raises(UserError, match=f"{name} is 1: give a number of at least 2"):
        LatentScores(**{name: 1})
