from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.fakes.folders import write_facades, write_picture
from xdomain.data.augment import ResizeCropFlip
from xdomain.data.facades import Facades, FacadeWorld
from xdomain.engines import facades as engine
from xdomain.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def facades(root, **options):
    return Facades(**{"root": str(root), "image_size": 8, **options})


def values(module, role, split):
    """Flat halves tell by their value which file and half they come from; JPEG may move it by one."""
    images = module.data(role, split).images
    assert images.shape[1:] == (3, 8, 8)
    means = images.reshape(len(images), -1).mean(1)
    offset = {"a": 10, "b": 130}[role]
    numbers = np.round((means - offset) / 4).astype(int)
    np.testing.assert_allclose(means, offset + 4 * numbers, atol=1.0)
    return numbers.tolist()


def test_photo_is_left_and_labels_are_right(tmp_path):
    write_facades(tmp_path, train=4, val=3, test=2)
    module = facades(tmp_path)
    assert (module.domains, module.channels, module.paired) == (("photo", "labels"), (3, 3), True)
    expected = {"train": [0, 1, 2, 3], "val": [4, 5, 6], "test": [7, 8]}
    assert {split: values(module, "a", split) for split in expected} == expected
    assert {split: values(module, "b", split) for split in expected} == expected
    assert values(facades(tmp_path, limit=2), "b", "train") == [0, 1]


def test_halves_are_cut_to_the_pixel(tmp_path):
    write_facades(tmp_path, train=1, val=2)
    pixels = write_picture(tmp_path / "facades" / "train" / "x.png", 0, 16, 8)
    module = facades(tmp_path)
    for role, half in (("a", pixels[:, :8]), ("b", pixels[:, 8:])):
        np.testing.assert_array_equal(module.data(role, "train").images[1], half.transpose(2, 0, 1))


def test_validation_pairs_stay_together_and_training_pairs_do_not(tmp_path):
    write_facades(tmp_path, train=20, val=6, test=4)
    module = facades(tmp_path, batch_size=4, eval_batch_size=4, jitter=False)
    together = 0
    for batch, _, _ in module.train_dataloader():
        together += (batch["a"].position == batch["b"].position).sum().item()
    assert together < 8  # of 20; one is expected by chance
    for loader in (module.val_dataloader(), module.test_dataloader()):
        for batch, _, _ in loader:
            assert torch.equal(batch["a"].position, batch["b"].position)


def test_without_test_one_half_of_val_tests(tmp_path):
    write_facades(tmp_path, train=2, val=9)
    found = [{split: values(facades(tmp_path), role, split) for split in ("val", "test")} for role in "ab"]
    assert found[0] == found[1]
    assert sorted(found[0]["val"] + found[0]["test"]) == list(range(2, 11))
    assert (len(found[0]["val"]), len(found[0]["test"])) == (5, 4)


def test_files(tmp_path):
    write_facades(tmp_path, train=3, val=2, test=2)
    files = facades(tmp_path, limit=1).files()
    assert {key: [path.name for path in paths] for key, paths in files.items()} == {
        ("photo+labels", "train"): ["1.jpg"],
        ("photo+labels", "val"): ["1.jpg", "2.jpg"],
        ("photo+labels", "test"): ["1.jpg", "2.jpg"],
    }
    assert all(path.is_file() for paths in files.values() for path in paths)


@pytest.mark.parametrize("width", [15, 17, 8])
def test_a_file_that_is_not_twice_as_wide_as_high(tmp_path, width):
    write_facades(tmp_path, train=3, val=2, test=2)
    write_picture(tmp_path / "facades" / "train" / "2.jpg", 0, width, 8)
    for role in "ab":
        with pytest.raises(UserError, match=rf"train/2\.jpg has {width}x8 pixels, but its width must be 2 times"):
            facades(tmp_path).data(role, "train")
        with pytest.warns(UserWarning, match="1 of the 3"):
            assert values(facades(tmp_path, on_bad_file="skip"), role, "train") == [0, 2]


@pytest.mark.parametrize(
    ("counts", "options", "text"),
    [
        ({"val": 2}, {}, r"facades/train is missing: unpack facades\.tar\.gz"),
        ({"train": 2}, {}, "facades/val is missing"),
        ({"train": 2, "val": 1}, {}, "holds one file, which cannot both validate and test"),
        ({}, {"image_size": 0}, "image_size is 0"),
        ({}, {"limit": 0}, "limit is 0"),
    ],
)
def test_what_is_missing(tmp_path, counts, options, text):
    write_facades(tmp_path, **counts)
    with pytest.raises(UserError, match=text):
        facades(tmp_path, **options).data("a", "train")


def test_an_empty_folder(tmp_path):
    write_facades(tmp_path, train=1, val=2)
    (tmp_path / "facades" / "test").mkdir()
    with pytest.raises(UserError, match="facades/test holds no image"):
        facades(tmp_path).data("a", "test")
    for path in (tmp_path / "facades" / "train").iterdir():
        path.write_bytes(b"")
    (tmp_path / "facades" / "test").rmdir()
    with pytest.raises(UserError, match="none of the 1 files"), pytest.warns(UserWarning, match="1 of the 1"):
        facades(tmp_path, on_bad_file="skip").data("a", "train")


# ---------------------------------------------------------------- jitter


def test_jitter_cuts_a_window_out_of_the_enlarged_image():
    torch.manual_seed(0)
    size, large = 64, 72  # 64 * 286 / 256 = 71.5
    images = torch.rand(40, 3, size, size) * 2 - 1
    result = ResizeCropFlip()(images)
    assert result.shape == images.shape
    enlarged = F.interpolate(images, (large, large), mode="bicubic", align_corners=False).clamp(-1, 1)
    seen = set()
    for image, cut in zip(enlarged, result, strict=True):
        windows = image.unfold(1, size, 1).unfold(2, size, 1).permute(1, 2, 0, 3, 4)  # [9, 9, 3, S, S]
        for mirrored in (False, True):
            same = (windows == (cut.flip(-1) if mirrored else cut)).all(-1).all(-1).all(-1)
            seen |= {(y, x, mirrored) for y, x in same.nonzero().tolist()}
    assert len({(y, x) for y, x, _ in seen}) > 20
    assert {mirrored for *_, mirrored in seen} == {False, True}
    assert {0, 8} <= {y for y, *_ in seen} | {x for _, x, _ in seen}


def test_every_jittered_image_is_a_window():
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 3, 16, 16) / 10
    torch.testing.assert_close(ResizeCropFlip()(images), images)  # no image takes pixels of another
    assert facades(Path(), jitter=False).augmentation("a") is None
    assert isinstance(facades(Path()).augmentation("b"), ResizeCropFlip)


# ---------------------------------------------------------------- the drawn world


def world(**options):
    return FacadeWorld(**{"image_size": 16, "train_size": 6, "val_size": 3, "test_size": 4, **options})


def test_drawn_pairs_show_the_same_front():
    module = world()
    assert (module.domains, module.channels, module.paired) == (("photo", "labels"), (3, 3), True)
    for split, count in (("val", 3), ("test", 4)):
        u = module.parameters("a", split)
        assert torch.equal(u, module.parameters("b", split))
        assert len(u) == count
        np.testing.assert_array_equal(module.data("a", split).images, engine.render(u, 16))
        labels = engine.rgb_to_labels(torch.from_numpy(np.array(module.data("b", split).images)))
        assert torch.equal(labels, engine.render_labels(u, 16))


def test_drawn_training_images_have_no_pairs_and_no_front_is_in_two_parts():
    module = world()
    fronts = [module.parameters("a", split) for split in ("train", "val", "test")] + [module.parameters("b", "train")]
    assert len(torch.cat(fronts).unique(dim=0)) == 6 + 3 + 4 + 6
    np.testing.assert_array_equal(module.data("a", "train").images, engine.render(fronts[0], 16))
    other = world(world_seed=1)
    assert (other.data("a", "val").images != module.data("a", "val").images).any()


def test_wrong_sizes_of_the_drawn_world():
    with pytest.raises(UserError, match="val_size is 0"):
        world(val_size=0)
