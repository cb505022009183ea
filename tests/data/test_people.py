"""Clips of two people: poses that are known, parts that do not overlap, videos of one's own."""

import numpy as np
import pytest
import torch

from tests.fakes.videos import moving_square, write_stream
from xdomain.data import AvatarClips, TwoVideos
from xdomain.data.images import write_image
from xdomain.data.people import square
from xdomain.engines.avatars import SCHEMA, render
from xdomain.engines.performance import MOVED, perform
from xdomain.errors import UserError

SMALL = {"image_size": 16, "train_frames": 30, "val_frames": 10, "test_frames": 20}


def test_a_person_stays_the_same_and_moves():
    u = perform(7, 200)
    moved = {SCHEMA.names[i] for i in (u.max(0).values > u.min(0).values).nonzero()[:, 0]}
    assert moved == set(MOVED)
    for name, low, high in (("yaw", -0.11, 0.11), ("mouth_open", 0, 1), ("gaze", -0.6, 0.6)):
        values = u[:, SCHEMA.index(name)]
        assert low <= values.min() < values.max() <= high
        assert values.std() > 0.2 * high
    eyes = u[:, SCHEMA.index("eye_opening")]
    assert (eyes == eyes.max()).float().mean() > 0.7  # blinks are short
    assert eyes.min() < 0.5 * eyes.max()
    steps = (u[1:, SCHEMA.index("yaw")] - u[:-1, SCHEMA.index("yaw")]).abs()
    assert steps.max() < 0.03  # no jumps


def test_motion_does_not_depend_on_the_person_and_a_longer_clip_begins_with_the_shorter():
    moved = [SCHEMA.index(name) for name in MOVED if name != "eye_opening"]
    one, other, long, take = perform(7, 20), perform(15, 20), perform(7, 40), perform(7, 20, take=1)
    assert torch.equal(one[:, moved], other[:, moved])
    assert not torch.equal(one, other)
    assert torch.equal(long[:20], one)
    assert not torch.equal(one[:, moved], take[:, moved])


def test_frames_are_those_of_the_engine_and_no_two_takes_move_alike():
    data = AvatarClips(**SMALL)
    takes = []
    for role, person in (("a", 7), ("b", 15)):
        for split, count in (("train", 30), ("val", 10), ("test", 20)):
            u = data.parameters(role, split)
            frames = data.data(role, split)
            assert len(frames) == count
            assert np.array_equal(frames.images, render(u, 16).numpy())
            assert frames.labels.tolist() == list(range(count))
            assert torch.equal(u[:, 0], perform(person, 1)[:, 0].expand(count))
            takes.append(tuple(u[:5, SCHEMA.index("yaw")].tolist()))
    assert len(set(takes)) == 6


def test_the_true_swap_is_the_other_person_in_the_same_pose():
    data = AvatarClips(**SMALL)
    swap = data.swapped("a", "test", [3, 5], "b")
    u = data.parameters("a", "test", "b")
    assert np.array_equal(swap.numpy(), render(u[[3, 5]], 16).numpy())
    yaw = SCHEMA.index("yaw")
    assert torch.equal(u[:, yaw], data.parameters("a", "test")[:, yaw])
    assert torch.equal(u[:, 0], data.parameters("b", "test")[:, 0])


def test_fingerprints_of_clips():
    prints = {
        AvatarClips(**{**SMALL, **change}).fingerprint()
        for change in ({}, {"people": (7, 16)}, {"train_frames": 31}, {"world_seed": 1}, {"image_size": 32})
    }
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"people": (3, 3)}, "the people are .3, 3."),
        ({"names": ("x", "x")}, "give two different ones"),
        ({"val_frames": 0}, "val_frames is 0: give a number of at least 1"),
    ],
    ids=str,
)
def test_bad_clips_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        AvatarClips(**{**SMALL, **options})


def test_squares():
    frames = torch.randint(0, 256, (2, 3, 8, 12), dtype=torch.uint8)
    assert torch.equal(square(frames, 8), frames[..., 2:10])
    flat = torch.full((2, 3, 9, 30), 77, dtype=torch.uint8)
    assert torch.equal(square(flat, 5), flat[..., :5, :5])


def write_clips(folder):
    """A video of 40 frames, and a folder of 50."""
    write_stream(folder / "me.mp4", moving_square(40))
    (folder / "you").mkdir()
    for number in range(50):
        image = torch.full((3, 20, 16), 5 * number, dtype=torch.uint8)
        write_image(image, folder / "you" / f"{number}.png")
    return {"a": str(folder / "me.mp4"), "b": str(folder / "you")}


def test_two_videos_of_ones_own(tmp_path):
    data = TwoVideos(**write_clips(tmp_path), image_size=16, val_share=0.1, test_share=0.2)
    assert data.domains == ("me", "you")
    assert [len(data.data("a", split)) for split in ("train", "val", "test")] == [28, 4, 8]
    seen = [data.data("b", split).images[:, 0, 0, 0].tolist() for split in ("train", "val", "test")]
    assert seen == [list(range(0, 175, 5)), list(range(175, 200, 5)), list(range(200, 250, 5))]  # in order
    assert data.data("a", "train").images.shape == (28, 3, 16, 16)
    batch, _, _ = next(iter(data.train_dataloader()))
    assert {*batch} == {"a", "b"}
    assert data.fingerprint() == TwoVideos(**write_clips_again(tmp_path), image_size=16, test_share=0.2).fingerprint()
    assert (
        data.fingerprint() != TwoVideos(**write_clips_again(tmp_path), image_size=16, stride=1, start=1).fingerprint()
    )


def write_clips_again(folder):
    return {"a": str(folder / "me.mp4"), "b": str(folder / "you")}


def test_videos_that_are_too_short_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"the 4 frames of .*me.mp4 are too few for training, validation and test"):
        TwoVideos(**write_clips(tmp_path), image_size=16, stride=10)


def test_a_missing_video_is_refused(tmp_path):
    clips = write_clips(tmp_path)
    with pytest.raises(UserError, match="does not exist: give a video file or a folder of frames"):
        TwoVideos(clips["a"], str(tmp_path / "nobody.mp4"))
