"""Face swaps that are perfect, that do nothing, and that show another frame, on clips of avatars."""

import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import FaceSwapScores
from xdomain.callbacks import face_swap as room
from xdomain.data import AvatarClips
from xdomain.errors import UserError
from xdomain.methods import Method

FRAMES = {"image_size": 32, "train_frames": 200, "val_frames": 10, "test_frames": 60}


class Swapper(Method):
    """Knows the true swap of every frame of the test; ``how`` says what it does with it."""

    def __init__(self, how, data):
        super().__init__(data.domains, data.channels, data.image_size)
        self.how, self.clips = how, data
        self.weight = nn.Parameter(torch.zeros(1))

    directions = (("anna", "boris"), ("boris", "anna"))

    def build_optimizers(self):
        return {"g": self.optimizer(self.parameters())}

    def translate(self, images, source, target):
        a, b = self.clips.role_of(source), self.clips.role_of(target)
        known = to_float(torch.from_numpy(self.clips.data(a, "test").images.copy()))
        at = torch.cdist(images.flatten(1), known.flatten(1)).argmin(1)
        if self.how == "nothing":
            return images
        if self.how == "still":
            at = torch.zeros_like(at)
        return to_float(self.clips.swapped(a, "test", at.tolist(), b))


class Hue(nn.Module):
    """An embedder: the mean colours of the four quarters."""

    def features(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


@pytest.fixture(autouse=True)
def _judge(monkeypatch):
    monkeypatch.setattr(room, "build_judge", lambda _: Held(Hue()))
    monkeypatch.setattr(room, "fetch_judge", lambda judge, *_: judge)


def measured(how, **options):
    data = AvatarClips(**FRAMES, eval_batch_size=25)
    run = trainer(callbacks=[FaceSwapScores(**{"embedder": "hue", **options})])
    run.test(Swapper(how, data), datamodule=data, verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def test_a_perfect_swap():
    found = measured("perfectly")
    for at in ("anna_to_boris", "boris_to_anna"):
        for name, least in (("yaw", 0.95), ("mouth_open", 0.8), ("gaze", 0.3)):
            assert found[f"correlation/{name}/{at}"] > least
            assert found[f"correlation/{name}/{at}"] == found[f"correlation_truth/{name}/{at}"]
            assert abs(found[f"correlation_random/{name}/{at}"]) < 0.4
        assert found[f"nearer/{at}@hue"] == 1
        assert found[f"nearer_random/{at}@hue"] == 1
        assert found[f"nearer_untranslated/{at}@hue"] == 0
        assert found[f"l1/{at}"] == 0
        assert 0 < found[f"l1_random/{at}"] < found[f"l1_untranslated/{at}"]
        assert found[f"ssim/{at}"] > 0.999
        assert found[f"n/{at}"] == 60


def test_doing_nothing_keeps_the_motion_and_the_person():
    found = measured("nothing")
    assert found["nearer/anna_to_boris@hue"] == 0
    assert found["l1/anna_to_boris"] == pytest.approx(found["l1_untranslated/anna_to_boris"], rel=1e-5)


def test_a_still_picture_has_no_correlation():
    found = measured("still")
    assert found["nearer/boris_to_anna@hue"] == 1
    assert "correlation/yaw/boris_to_anna" not in found  # undefined
    assert "correlation_truth/yaw/boris_to_anna" in found


def test_without_an_embedder_and_with_fewer_frames():
    found = measured("perfectly", embedder=None, count=20)
    assert found["n/anna_to_boris"] == 20
    assert not [name for name in found if "nearer" in name]


def test_other_data_are_refused():
    with pytest.raises(UserError, match="needs clips whose poses are known, but the data is ToyPair: remove it"):
        trainer(callbacks=[FaceSwapScores()]).test(ToyGAN(), datamodule=ToyPair(), verbose=False)


@pytest.mark.parametrize("name", ["count", "val_count"])
def test_counts_must_be_larger_than_one(name):
    with pytest.raises(UserError, match=f"{name} is 1: give a number of frames of at least 2"):
        FaceSwapScores(**{name: 1})
