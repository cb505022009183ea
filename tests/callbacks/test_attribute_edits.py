"""Edits by name, measured and drawn, of an editor whose images' quarters are their attributes."""

import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.callbacks.test_attribute_transfer import NAMES, QUARTERS, Quarters, Reads
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import AttributeEdits, EditPictures
from xdomain.callbacks import attribute_edits as room
from xdomain.data.images import read_image
from xdomain.errors import UserError
from xdomain.methods.editor import CriticEditor


class Paint(nn.Module):
    """Paints the quarters by the label; without glasses it takes smiles away, too."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil, self.weight = spoil, nn.Parameter(torch.zeros(1))

    def forward(self, images, label):
        images = images.clone()
        for i, (top, left) in enumerate(QUARTERS[: label.shape[1]]):
            images[..., top : top + 4, left : left + 4] = (2 * label[:, i] - 1)[:, None, None, None]
        if self.spoil:
            images[label[:, 2] < 0.5, :, :4, 4:] = -1
        return images


class Looks(nn.Module):
    """D: reads the quarters."""

    def __init__(self, count):
        super().__init__()
        self.count, self.weight = count, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return images.mean((1, 2, 3)), Reads()(images)[:, : self.count]


class Painter(CriticEditor):
    """Edits without training."""

    def __init__(self, spoil=False, attributes=NAMES[:3], **options):
        super().__init__(
            generator=lambda *_: Paint(spoil),
            discriminator=lambda channels, size, count: Looks(count),
            attributes=list(attributes),
            **{"domains": ("face",), "channels": (3,), "image_size": 8, **options},
        )

    def label(self, own, target):
        return target


class Upper(nn.Module):
    """An embedder that sees smiles, and the sex half as much."""

    def features(self, images):
        seen = Reads()(images)
        return torch.stack([seen[:, 1], seen[:, 0] / 2, torch.ones(len(images))], 1)


@pytest.fixture(autouse=True)
def _judge(monkeypatch):
    monkeypatch.setattr(room, "helper_targets", lambda _: NAMES)
    monkeypatch.setattr(room, "build_judge", lambda name: Held(Reads() if name == "reads" else Upper()))
    monkeypatch.setattr(room, "fetch_judge", lambda judge, *_: judge)


def faces(**options):
    return Quarters({"face": "*"}, eval_batch_size=4, **options)


def measured(method, validate=False, **options):
    run = trainer(callbacks=[AttributeEdits("reads", **options)])
    (run.validate if validate else run.test)(method, datamodule=faces(), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_a_perfect_editor():
    found = measured(Painter(), embedder="upper")
    for name in ("Male", "Smiling", "Eyeglasses"):
        for edit in (f"+{name}", f"-{name}"):
            assert found[f"n/{edit}"] == 20
            assert found[f"reached/{edit}"] == found[f"kept/{edit}"] == 1
            assert found[f"reached_untouched/{edit}"] == 0
            assert found[f"kept_untouched/{edit}"] == found[f"reached_random/{edit}"] == 1
            assert 0.2 < found[f"kept_random/{edit}"] < 0.8
    assert found["reached"] == found["kept"] == found["ssim"] == 1
    assert found["psnr"] > 100
    assert found["identity/+Eyeglasses"] == pytest.approx(1)
    assert found["identity/-Smiling"] == pytest.approx((0.25 + 1 - 1) / 2.25)  # of (1, ±1/2, 1) and (-1, ±1/2, 1)
    assert found["identity_untouched"] == pytest.approx(1)
    changes = {"Male": (1 + 1 - 0.25) / 2.25, "Smiling": 0.25 / 2.25, "Eyeglasses": 1}
    assert found["identity"] == pytest.approx(sum(changes.values()) / 3)


def test_what_is_lost_is_counted():
    found = measured(Painter(spoil=True))
    assert found["reached/+Smiling"] == pytest.approx(0.5, abs=0.15)  # of images with glasses
    assert found["kept/-Eyeglasses"] == pytest.approx(1 - 0.5 / 3)  # sex and hat always, half of the smiles
    assert found["kept/+Eyeglasses"] == 1
    assert found["reached"] < 1
    assert not [name for name in found if "identity" in name]
    assert found["psnr"] < 20


def test_strength_and_length_of_a_validation():
    found = measured(Painter(), validate=True, strength=0.0, val_count=6, embedder="upper")
    assert found["val/reached"] == 0
    assert found["val/kept"] == 1
    assert not [name for name in found if "untouched" in name or "random" in name or "identity" in name]


def test_what_excludes_the_attribute_is_not_counted():
    method = Painter(exclusive=[["Male", "Eyeglasses"]], spoil=True)
    found = measured(method)
    assert found["kept/-Eyeglasses"] == pytest.approx(1 - 0.5 / 2)  # without sex


def test_pictures(tmp_path):
    run = trainer(callbacks=[EditPictures(count=3, strengths=[0.0, 1.0])], run_dir=str(tmp_path))
    method = Painter()
    run.test(method, datamodule=faces(), verbose=False)
    edits, slider = (read_image(tmp_path / f"samples/{name}_test.png", 3) for name in ("edits", "slider"))
    assert (edits.shape, slider.shape) == ((3, 28, 46), (3, 28, 28))  # 3 rows of 5 and of 3 tiles of 8 pixels

    def tile(picture, row, column):
        return picture[:, 1 + 9 * row :, 1 + 9 * column :][:, :8, :8]

    for row in range(3):
        image = tile(edits, row, 0)
        assert torch.equal(tile(edits, row, 1), image)
        assert torch.equal(tile(slider, row, 0), image)
        assert torch.equal(tile(slider, row, 1), image)
        for number, (top, left) in enumerate(QUARTERS[:3]):
            expected = image.clone()
            expected[:, top : top + 4, left : left + 4] = 255 - expected[:, top : top + 4, left : left + 4]
            assert torch.equal(tile(edits, row, 2 + number), expected)
            if number == row:
                assert torch.equal(tile(slider, row, 2), expected)


@pytest.mark.parametrize("callback", [lambda: AttributeEdits("reads"), lambda: EditPictures()], ids=["scores", "grids"])
def test_other_methods_are_refused(callback):
    with pytest.raises(UserError, match="is for methods that change attributes by name, not for ToyGAN: remove it"):
        trainer(callbacks=[callback()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)


def test_a_judge_must_know_what_is_edited():
    assert "reached/+Wearing_Hat" not in measured(Painter())
    with pytest.raises(UserError, match="which knows Male, Smiling, Eyeglasses, Wearing_Hat, but the method changes"):
        measured(Painter(attributes=["Young"]))


@pytest.mark.parametrize(
    ("callback", "name"), [(AttributeEdits, "count"), (AttributeEdits, "val_count"), (EditPictures, "count")]
)
def test_counts_must_be_positive(callback, name):
    judge = ["reads"] if callback is AttributeEdits else []
    with pytest.raises(UserError, match=f"{name} is 0: give a number"):
        callback(*judge, **{name: 0})
