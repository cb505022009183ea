"""Adaptive augmentation in a training: how p moves, checkpoints, resuming."""

import pytest
import torch
from torch import nn

from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.callbacks import AdaptiveAugmentation
from xdomain.errors import UserError


class Stopped(Exception):
    """Stands for the end of the process."""


class Sure(nn.Module):
    """A discriminator that always gives the same score."""

    def __init__(self, score):
        super().__init__()
        self.score = nn.Parameter(torch.tensor(score))

    def forward(self, images):
        return self.score.expand(len(images), 1) + 0 * images.sum()


class Watching(ToyGAN):
    """Dies in the middle of one batch; may have a discriminator of its own."""

    def __init__(self, D=None, stop_at=None):
        super().__init__(dropout=0.0)
        self.D = D or self.D
        self.stop_at = stop_at

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.trainer.global_step == self.stop_at:
            raise Stopped


def fit(folder, ada=None, steps=8, ckpt_path=None, data=None, **options):
    torch.manual_seed(0)
    method = Watching(**options)
    callbacks = [ada] if ada else []
    run = trainer(max_steps=steps, run_dir=str(folder), callbacks=callbacks, log_every_n_steps=1, limit_val_batches=1)
    try:
        run.fit(method, datamodule=data or ToyPair(), ckpt_path=ckpt_path, weights_only=True)
    except Stopped:
        return None
    return weights(method), run


def ada(images=1000, transforms=("shift", "contrast"), **options):
    return AdaptiveAugmentation(["D"], transforms, images, **options)


@pytest.mark.parametrize(
    ("score", "undecided", "p"), [(3.0, 0.0, 0.032), (-3.0, 0.0, 0.0), (0.4, 0.5, 0.0), (0.6, 0.5, 0.032)]
)
def test_p_follows_the_signs_of_the_scores_of_real_images(score, undecided, p, tmp_path):
    """Four real images of domain b in each of eight batches: 16 images for each of two steps of 16 / 1000."""
    made = ada(undecided=undecided)
    _, run = fit(tmp_path, made, D=Sure(score))
    assert made.augments["D"].p.item() == pytest.approx(p)
    assert run.callback_metrics["ada_p/D"] == pytest.approx(p)
    assert run.callback_metrics["ada_r/D"] == (1 if score > undecided else -1)


def test_epochs_may_be_shorter_than_the_time_between_two_changes(tmp_path):
    made = ada()
    fit(tmp_path, made, D=Sure(1.0), data=ToyPair((8, 8)))  # epochs of two batches
    assert made.augments["D"].p.item() == pytest.approx(0.032)


def test_p_stays_below_its_limit(tmp_path):
    made = ada(images=20, limit=0.5)
    fit(tmp_path, made, D=Sure(1.0))
    assert made.augments["D"].p == 0.5


def test_images_are_transformed_for_the_discriminator_only_when_p_is_above_0(tmp_path):
    plain, _ = fit(tmp_path / "plain")
    never, _ = fit(tmp_path / "never", ada(images=10**9, target=1.0))
    often, _ = fit(tmp_path / "often", ada(images=20, target=-1.0))
    assert all(torch.equal(value, never[name]) for name, value in plain.items())
    assert not torch.equal(plain["D.2.weight"], often["D.2.weight"])
    assert plain.keys() == often.keys()


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path):
    straight, _ = fit(tmp_path / "straight", ada(images=50, target=-1.0), steps=12)
    fit(tmp_path / "killed", ada(images=50, target=-1.0), steps=12, stop_at=8)
    resumed = ada(images=50, target=-1.0)
    checkpoint = tmp_path / "killed/checkpoints/last.ckpt"
    again, _ = fit(tmp_path / "killed", resumed, steps=12, ckpt_path=checkpoint)
    assert resumed.augments["D"].p > 0.3
    assert all(torch.equal(value, again[name]) for name, value in straight.items())


def test_a_discriminator_that_never_sees_an_image_of_the_data(tmp_path):
    blind = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))

    class Shifted(Watching):
        def training_step(self, batch, batch_idx):
            moved = {role: sample._replace(image=sample.image + 1) for role, sample in batch.items()}
            super().training_step(moved, batch_idx)

    torch.manual_seed(0)
    run = trainer(max_steps=8, run_dir=str(tmp_path), callbacks=[ada()], limit_val_batches=0)
    with pytest.raises(UserError, match="D of Shifted never sees an image of the data alone"):
        run.fit(Shifted(D=blind), datamodule=ToyPair())


def test_a_discriminator_of_classes(tmp_path):
    with pytest.raises(UserError, match="D gives 3 scores for an image, not one"):
        fit(tmp_path, ada(), D=nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


def test_a_network_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="names 'D_X', but Watching has: g, D"):
        fit(tmp_path, AdaptiveAugmentation(["D_X"]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"images": 0}, "images"), ({"target": 2.0}, "target"), ({"limit": 1.0}, "limit")],
)
def test_settings_out_of_range(options, sentence):
    with pytest.raises(UserError, match=sentence):
        ada(**options)
