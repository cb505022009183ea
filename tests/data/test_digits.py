"""The embedded digits: made once, the same everywhere, split without overlap."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from xdomain.data import Handwritten, Street
from xdomain.data import digits as module

SIZES = {"train_size": 30, "val_size": 12, "test_size": 10}
SPLITS = ("train", "val", "test")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def street(split, **options):
    return Street(**{**SIZES, **options}).data("a", split)


def test_street_parts():
    parts = {split: street(split) for split in SPLITS}
    assert {split: len(data) for split, data in parts.items()} == {"train": 30, "val": 12, "test": 10}
    for data in parts.values():
        assert data.images.dtype == np.uint8
        assert data.images.shape[1:] == (3, 32, 32)
        assert data.labels.dtype == np.int64
        assert set(data.labels) <= set(range(10))
    every = np.concatenate([data.images for data in parts.values()])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == 52  # no image twice, within parts or between


def test_street_is_the_same_in_every_cache(cache, monkeypatch):
    first = street("train")
    monkeypatch.setenv("XDOMAIN_CACHE", str(cache / "another"))
    again = street("train")
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.labels, again.labels)


def test_another_world_has_other_images():
    here, there = street("train"), street("train", world_seed=1)
    assert not (here.images == there.images).all((1, 2, 3)).any()
    every = np.concatenate([street(split, world_seed=w).images for w in (0, 1) for split in SPLITS])
    assert len(np.unique(every.reshape(len(every), -1), axis=0)) == 104


def test_a_longer_part_begins_with_the_shorter():
    assert np.array_equal(street("val", val_size=20).images[:12], street("val").images)


def test_street_is_drawn_once(cache, monkeypatch):
    first = street("test")
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.name != "lock"}
    assert len(files) >= 3
    monkeypatch.setattr(module.engine, "render_street", None)  # drawing again would fail
    assert np.array_equal(street("test").images, first.images)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.name != "lock"} == files
    with pytest.raises(TypeError):
        street("test", test_size=11)


def test_handwritten_parts_hold_every_scan_once():
    data = Handwritten()
    parts = {split: data.data("a", split) for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == {"train": 1197, "val": 100, "test": 500}
    assert parts["train"].images.shape[1:] == (1, 32, 32)
    labels = np.concatenate([part.labels for part in parts.values()])
    assert np.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()
    assert len(labels) == 1797
    every = np.concatenate([part.images for part in parts.values()]).reshape(1797, -1)
    assert len(np.unique(every, axis=0)) == 1797


def bicubic(inputs, outputs):
    """The matrix [outputs, inputs] of cubic convolution (Keys 1981, a = -0.75) with repeated borders."""
    a, matrix = -0.75, np.zeros((outputs, inputs))
    for row in range(outputs):
        place = (row + 0.5) * inputs / outputs - 0.5
        for column in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            t = abs(place - column)
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            weight = near if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[row, min(max(column, 0), inputs - 1)] += weight
    return matrix


def test_handwritten_is_the_enlarged_scan():
    scans, labels = load_digits(return_X_y=True)
    data = Handwritten()
    part, margin = data.data("a", "val"), data.margin
    enlarge = bicubic(8, 32 - 2 * margin)
    large = enlarge @ (scans.reshape(-1, 8, 8) / 16) @ enlarge.T
    expected = np.pad(np.clip(large, 0, 1), ((0, 0), (margin, margin), (margin, margin))).reshape(1797, -1)
    ours = part.images.reshape(100, -1) / 255
    distance = np.array([np.abs(expected - image).max(1) for image in ours])
    assert (distance.min(1) < 0.51 / 255).all()  # every image is one of the scans, but for rounding
    assert np.array_equal(labels[distance.argmin(1)], part.labels)
    assert len(set(distance.argmin(1))) == 100


def test_handwritten_is_the_same_every_time_and_at_any_size():
    one, two = Handwritten(), Handwritten(image_size=16)
    assert np.array_equal(one.data("a", "test").images, Handwritten().data("a", "test").images)
    assert np.array_equal(one.data("a", "test").labels, two.data("a", "test").labels)
    assert two.data("a", "test").images.shape == (500, 1, 16, 16)
