"""Translating a folder from Python."""

import errno
import os

import numpy as np
import pytest
import torch

import xdomain
from tests.commands.test_translate import names
from tests.inference.test_tasks import OPTIONS, SIZE, Plain, Quarters, saved
from xdomain.data.images import read_image, write_image
from xdomain.errors import SettingError, UserError

GREY = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder with one image."""
    write_image(GREY, tmp_path / "in/sub/x.png")
    return tmp_path


def test_five_lines_of_python(folder):
    saved(folder / "runs/0001/checkpoints/last.ckpt", Plain)
    method = xdomain.load("runs/0001", allow=["tests"])
    assert xdomain.translate_folder(method, "in", "out") == (1, 0, 0, 0)
    assert torch.equal(read_image(folder / "out/sub/x.png", 3), 255 - GREY)


def test_what_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        xdomain.laod  # noqa: B018


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"stepps": 3}, "Plain: stepps is no option of transfer by this Plain, which takes source and target"),
        (
            {"task": "translate"},
            "Plain: task is translate, which is nothing that this Plain can do: did you mean",
        ),
        ({"source": "other"}, "Plain: source is other, but this Plain translates from with to other"),
        ({"size": "large"}, "size is large: give keep or model"),
        ({"guide": "in"}, "Plain: guide is no option of transfer"),
        ({"batch_size": 0}, "batch_size is 0: give"),
    ],
)
def test_bad_options_are_refused_in_the_words_of_python(folder, options, sentence):
    with pytest.raises(SettingError, match=sentence):
        xdomain.translate_folder(Plain(**OPTIONS), "in", "out", **options)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("size", "shape"), [("keep", (3, 30, 50)), ("model", (3, SIZE, SIZE))])
def test_a_translation_has_the_size_of_its_image(folder, size, shape):
    write_image(torch.from_numpy(np.full((3, 30, 50), 7, np.uint8)), folder / "in/wide.png")
    xdomain.translate_folder(Plain(**OPTIONS), "in/wide.png", "out", size=size)
    found = read_image(folder / "out/wide.png", 3)
    assert found.shape == shape
    assert (found == 248).all()


def test_grids_stay_as_they_are(folder):
    write_image(GREY.repeat(1, 2, 3), folder / "in/wide.png")
    options = {"task": "interpolate", "guide": "in/wide.png", "steps": 2}
    xdomain.translate_folder(Quarters(**OPTIONS), "in/wide.png", "out", **options)
    assert read_image(folder / "out/wide.png", 3).shape == (3, 2 * (SIZE + 1) + 1, 2 * (SIZE + 1) + 1)


def test_the_longest_name_is_translated(folder):
    name = "x" * 251 + ".png"
    (folder / "in/sub/x.png").rename(folder / "in" / name)
    assert xdomain.translate_folder(Plain(**OPTIONS), "in", "out") == (1, 0, 0, 0)
    assert names(folder / "out") == [name]


@pytest.mark.parametrize("code", [errno.ENAMETOOLONG, errno.EILSEQ])
def test_a_name_that_cannot_be_written_is_skipped(folder, capsys, monkeypatch, code):
    write_image(GREY, folder / "in/y.png")
    replace = os.replace

    def picky(path, target):
        if "y.png" in str(target):
            raise OSError(code, os.strerror(code))
        return replace(path, target)

    monkeypatch.setattr("pathlib.Path.replace", picky)
    assert xdomain.translate_folder(Plain(**OPTIONS), "in", "out") == (1, 1, 0, 0)
    assert names(folder / "out") == ["sub/x.png"]
    assert f"xdomain: skipped: out/y.png cannot be written: {os.strerror(code)}." in capsys.readouterr().err


def test_a_full_disk_ends_it_and_leaves_no_half_file(folder, monkeypatch):
    write_image(GREY, folder / "in/a.png")
    replace = os.replace

    def full(path, target):
        if "sub" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UserError, match=r"^out/sub/x\.png cannot be written: No space left on device\.$"):
        xdomain.translate_folder(Plain(**OPTIONS), "in", "out")
    assert names(folder / "out") == ["a.png"]


def test_links_do_not_lead_out_of_the_output(folder):
    (folder / "elsewhere").mkdir()
    (folder / "out").mkdir()
    (folder / "out/sub").symlink_to(folder / "elsewhere")
    with pytest.raises(UserError, match=r"^out/sub is a link that leads out of the output folder"):
        xdomain.translate_folder(Plain(**OPTIONS), "in", "out", overwrite=True)
    assert names(folder / "elsewhere") == []


def test_a_link_in_the_place_of_a_translation_is_there_already(folder):
    (folder / "out/sub").mkdir(parents=True)
    (folder / "out/sub/x.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(UserError, match=r"out/sub/x\.png exists already"):
        xdomain.translate_folder(Plain(**OPTIONS), "in", "out")
    xdomain.translate_folder(Plain(**OPTIONS), "in", "out", overwrite=True)
    assert not (folder / "nowhere.png").exists()
    assert not (folder / "out/sub/x.png").is_symlink()


def test_what_a_killed_call_left_is_removed(folder):
    left = folder / f"out/sub/.{0:016x}.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    xdomain.translate_folder(Plain(**OPTIONS), "in", "out")
    assert names(folder / "out") == ["sub/x.png"]


class Brighter(Quarters):
    """Makes the left half brighter, by 51 of 255."""

    def translate(self, images, source=None, target=None, guide=None):
        made = images.clone()
        made[..., : SIZE // 2] += 0.4
        return made


def noise(height, width, channels=3):
    return torch.randint(
        20, 180, (channels, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("shape", [(8 * SIZE, 12 * SIZE), (1100, SIZE)])
def test_a_large_image_keeps_its_pixels_and_gets_the_change(folder, shape, capsys):
    image = noise(*shape)
    write_image(image, folder / "in/large.png")
    done = xdomain.translate_folder(Brighter(**OPTIONS), "in/large.png", "out", guide="in/large.png")
    assert done == (1, 0, 0, 1)
    found, width = read_image(folder / "out/large.png", 3), shape[1]
    edge = 2 * width // SIZE  # cubic interpolation reaches two pixels of the small image far
    assert torch.equal(found[..., width // 2 + edge :], image[..., width // 2 + edge :])
    assert torch.equal(found[..., : width // 2 - edge], image[..., : width // 2 - edge] + 51)


@pytest.mark.parametrize(("size", "shape"), [("model", (SIZE, SIZE)), ("keep", (SIZE // 2, SIZE))])
def test_the_change_is_enlarged_never_shrunk(folder, size, shape):
    """With the method's size, or of an image that is not larger, a translation is the method's own picture."""
    write_image(noise(*(shape if size == "keep" else (5 * SIZE, 5 * SIZE))), folder / "in/x.png")
    done = xdomain.translate_folder(Brighter(**OPTIONS), "in/x.png", "out", guide="in/x.png", size=size)
    assert done.enlarged == 0
    assert read_image(folder / "out/x.png", 3).shape == (3, *shape)


def test_a_mask_of_a_large_image_is_enlarged(folder):
    write_image(noise(5 * SIZE, 5 * SIZE), folder / "in/x.png")
    assert xdomain.translate_folder(Quarters(masked=True, **OPTIONS), "in/x.png", "out", task="mask").enlarged == 0
    assert read_image(folder / "out/x.png", 1).shape == (1, 5 * SIZE, 5 * SIZE)
