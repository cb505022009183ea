import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.test_translate import names, refused, save, translate
from xdomain.data.images import read_image, write_image
from xdomain.methods import ContentMethod, FaderNetwork, Method

SIZE = 8
TOP, LEFT, RIGHT = np.s_[..., :4, :], np.s_[..., 4:, :4], np.s_[..., 4:, 4:]  # common, content of "with", of "other"
OPTIONS = {"domains": ("with", "other"), "channels": (3, 3), "image_size": SIZE}


class Quarters(ContentMethod):
    """The codes are parts of the image: the common one its top, that of either domain a quarter; black is empty."""

    def __init__(self, contents: tuple[str, ...] = ("with", "other"), masked: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.contents, self.masked = contents, masked

    def common(self, images):
        return images[TOP].flatten(1)

    def separate(self, images, domain):
        return images[LEFT if domain == self.domains[0] else RIGHT].flatten(1)

    def decode(self, codes, images):
        result = torch.full_like(images, -1)
        for name, part in {"common": TOP, self.domains[0]: LEFT, self.domains[1]: RIGHT}.items():
            if name in codes:
                result[part] = codes[name].view_as(result[part])
        return result

    def mask(self, images):
        return images.mean(1, keepdim=True).add(1).div(2)


class Plain(Method):
    directions = (("with", "other"),)

    def translate(self, images, source, target):
        return -images


class Fader(FaderNetwork):
    """Its translations are grey: black in the first domain, white in the second."""

    def slide(self, images, amount):
        return torch.full_like(images, 2 * amount - 1)


def saved(path, kind=Quarters, **options):
    save(kind(**{**OPTIONS, **options}), path, _class_path=f"{__name__}.{kind.__name__}")
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A checkpoint whose domains both have content."""
    return saved(tmp_path_factory.mktemp("both") / "x.ckpt")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A checkpoint whose second domain is plain, with masks."""
    return saved(tmp_path_factory.mktemp("one") / "x.ckpt", contents=("with",), masked=True)


@pytest.fixture
def pixels(tmp_path):
    """Five images in the folder ``in`` and three in ``guides``, by name; the third guide lies in a subfolder."""
    rng = np.random.default_rng(0)
    found = {f"in/{i}.png": None for i in range(5)} | {f"guides/{name}.png": None for name in ("a", "b", "sub/c")}
    for name in found:
        found[name] = rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
        write_image(torch.from_numpy(found[name]), tmp_path / name)
    return found


def result(name, channels=3):
    return read_image(Path(f"out/{name}"), channels).numpy()


def made(image, left=None, right=None):
    """The top of an image and quarters of others."""
    expected = np.zeros_like(image)
    expected[TOP] = image[TOP]
    for part, other in ((LEFT, left), (RIGHT, right)):
        if other is not None:
            expected[part] = other[part]
    return expected


# For every task what stands in the left and the right quarter: of the image i, of its guide g, or nothing.
@pytest.mark.parametrize(
    ("which", "more", "left", "right"),
    [
        ("both", ["--guide", "guides"], "", "g"),
        ("both", ["--guide", "guides", "--source", "other", "--target", "with"], "g", ""),
        ("both", ["--guide", "guides", "--task", "add"], "i", "g"),
        ("both", ["--guide", "guides", "--task", "swap"], "g", ""),
        ("both", ["--guide", "guides", "--task", "swap", "--source", "other"], "", "g"),
        ("both", ["--task", "remove"], "", ""),
        ("one", [], "", ""),
        ("one", ["--guide", "guides"], "g", ""),
        ("one", ["--guide", "guides", "--task", "add"], "g", ""),
        ("one", ["--guide", "guides", "--target", "with"], "g", ""),
        ("one", ["--guide", "guides", "--task", "add", "--source", "other", "--target", "with"], "g", ""),
        ("one", ["--task", "add"], "i", ""),
    ],
)
def test_tasks_recombine_images_and_guides(request, pixels, tmp_path, capsys, which, more, left, right):
    assert translate(request.getfixturevalue(which), "in", "out", "--batch_size", "2", *more) == 0
    assert capsys.readouterr().out == "translated 5 images\n"
    assert names(tmp_path / "out") == [f"{i}.png" for i in range(5)]
    for i in range(5):
        image = pixels[f"in/{i}.png"]
        origin = {"": None, "i": image, "g": pixels[("guides/a.png", "guides/b.png", "guides/sub/c.png")[i % 3]]}
        assert np.array_equal(result(f"{i}.png"), made(image, origin[left], origin[right]))


def test_without_a_domain_remove_and_swap_begin_where_there_is_content(tmp_path, pixels):
    """The method has content in its second domain only."""
    path = saved(tmp_path / "x.ckpt", contents=("other",))
    assert translate(path, "in", "out", "--task", "swap", "--guide", "guides") == 0
    assert np.array_equal(result("1.png"), made(pixels["in/1.png"], right=pixels["guides/b.png"]))


def test_one_guide_for_all_is_resized_like_an_image(both, pixels, tmp_path):
    write_image(torch.full((1, 31, 17), 77, dtype=torch.uint8), tmp_path / "grey.jpg")
    assert translate(both, "in", "out", "--guide", "grey.jpg", "--batch_size", "3") == 0
    for i in range(5):
        assert np.array_equal(result(f"{i}.png")[RIGHT], np.full((3, 4, 4), 77))


def test_bad_images_and_guides_are_named_and_skipped(both, pixels, tmp_path, capsys):
    """The guides that can be read are counted, the images by their place among all."""
    (tmp_path / "guides" / "b.png").write_bytes(b"hello")
    (tmp_path / "in" / "1.png").write_bytes(b"hello")
    assert translate(both, "in", "out", "--guide", "guides", "--batch_size", "4") == 1
    out, err = capsys.readouterr()
    assert out == "translated 4 images, skipped 1, skipped 1 of the guides\n"
    lines = [line for line in err.splitlines() if line.startswith("xdomain: skipped: ")]
    assert [name in line for name, line in zip(("guides/b.png ", "in/1.png "), lines, strict=True)] == [True, True]
    for i, guide in {0: "a", 2: "a", 3: "sub/c", 4: "a"}.items():
        assert np.array_equal(result(f"{i}.png")[RIGHT], pixels[f"guides/{guide}.png"][RIGHT])


def test_without_a_readable_guide_nothing_is_written(both, pixels, tmp_path, capsys):
    for name in ("a", "b", "sub/c"):
        (tmp_path / "guides" / f"{name}.png").write_bytes(b"")
    assert translate(both, "in", "out", "--guide", "guides") == 2
    *skipped, last = capsys.readouterr().err.splitlines()
    assert len(skipped) == 3
    assert last == "xdomain: error: --guide is guides, which holds no image that can be read: give another."
    assert not (tmp_path / "out").exists()


def test_masks_are_grey_png_files(one, pixels, tmp_path, capsys):
    write_image(torch.full((3, SIZE, SIZE), 200, dtype=torch.uint8), tmp_path / "in" / "sub" / "x.JPG")
    assert translate(one, "in", "out", "--task", "mask", "--batch_size", "4") == 0
    assert names(tmp_path / "out") == [*(f"{i}.png" for i in range(5)), "sub/x.png"]
    for name in ("0.png", "4.png"):
        with Image.open(tmp_path / "out" / name) as file:
            assert (file.mode, file.format, file.size) == ("L", "PNG", (SIZE, SIZE))
        mean = pixels[f"in/{name}"].astype(float).mean(0, keepdims=True)
        assert np.abs(result(name, 1) - mean).max() <= 0.51
    assert np.array_equal(result("sub/x.png", 1), np.full((1, SIZE, SIZE), 200))


def test_two_images_with_one_mask_are_refused(one, pixels, tmp_path, capsys):
    write_image(torch.zeros(3, SIZE, SIZE, dtype=torch.uint8), tmp_path / "in" / "3.bmp")
    sentence = refused(capsys, one, "in", "out", "--task", "mask")
    assert sentence == "3.bmp and 3.png would both become out/3.png: rename one of them."


@pytest.mark.parametrize(
    ("which", "more", "varied", "steps"),
    [
        ("both", [], (LEFT, RIGHT), 7),  # down, across
        ("both", ["--fixed", "other", "--steps", "2"], (TOP, LEFT), 2),
        ("one", ["--fixed", "with", "--steps", "3"], (TOP,), 3),
    ],
)
def test_interpolations_are_grids_of_tiles(request, pixels, which, more, varied, steps):
    args = ("--task", "interpolate", "--guide", "guides", *more)
    assert translate(request.getfixturevalue(which), "in", "out", "--batch_size", "2", *args) == 0
    rows = steps if len(varied) == 2 else 1
    for i in (0, 3, 4):
        image, guide = pixels[f"in/{i}.png"] / 1.0, pixels[("guides/a.png", "guides/b.png")[i % 3]] / 1.0
        expected = np.zeros((3, rows * (SIZE + 1) + 1, steps * (SIZE + 1) + 1))
        for row in range(rows):
            for column in range(steps):
                tile = image.copy()
                if which == "one":
                    tile[RIGHT] = 0
                weights = (row, column) if rows > 1 else (column,)
                for part, weight in zip(varied, weights, strict=True):
                    tile[part] += weight / (steps - 1) * (guide - image)[part]
                y, x = 1 + row * (SIZE + 1), 1 + column * (SIZE + 1)
                expected[:, y : y + SIZE, x : x + SIZE] = tile
        assert np.abs(result(f"{i}.png") - expected).max() <= 0.51


def test_a_method_without_guides(tmp_path, capsys):
    path = saved(tmp_path / "x.ckpt", Fader, image_size=16)
    write_image(torch.zeros(3, 16, 16, dtype=torch.uint8), tmp_path / "in.png")
    for more, value in {(): 255, ("--source", "other", "--task", "remove"): 0, ("--target", "with"): 0}.items():
        assert translate(path, "in.png", "out", "--overwrite", *more) == 0
        assert np.array_equal(result("in.png"), np.full((3, 16, 16), value))
    assert translate(path, "in.png", "out", "--overwrite", "--task", "interpolate", "--steps", "3") == 0
    assert result("in.png")[0, 8, [8, 25, 42]].tolist() == [0, 128, 255]
    assert result("in.png").shape == (3, 18, 52)
    capsys.readouterr()
    for more, sentence in {
        ("--guide", "in.png"): "--guide is given, but a Fader takes none: leave it out.",
        ("--task", "swap"): "--task is swap, which is nothing that this Fader can do: give transfer, remove, add "
        "or interpolate.",
        ("--task", "interpolate", "--fixed", "with"): "--fixed is with, which is no code: give common.",
        (
            "--task",
            "mask",
        ): "--task is mask, which is nothing that this Fader can do: give transfer, remove, add or interpolate.",
    }.items():
        assert refused(capsys, path, "in.png", "new", *more) == sentence


def test_grey_interpolations_stay_grey(tmp_path):
    path = saved(tmp_path / "x.ckpt", channels=(1, 1))
    write_image(torch.zeros(1, SIZE, SIZE, dtype=torch.uint8), tmp_path / "x.png")
    assert translate(path, "x.png", "out", "--task", "interpolate", "--guide", "x.png", "--steps", "2") == 0
    with Image.open(tmp_path / "out" / "x.png") as file:
        assert (file.mode, file.size) == ("L", (19, 19))


def test_a_method_without_content_only_translates(tmp_path, pixels, capsys):
    path = saved(tmp_path / "x.ckpt", Plain)
    for more, sentence in {
        ("--task", "swap"): "--task is swap, which is nothing that this Plain can do: give transfer.",
        ("--task", "interpolate"): "--task is interpolate, which is nothing that this Plain can do: give transfer.",
        (
            "--guide",
            "guides",
        ): "--guide is no option of transfer by this Plain, which takes source and target: leave it out.",
    }.items():
        assert refused(capsys, path, "in", "out", *more) == sentence
    assert translate(path, "in", "out", "--task", "transfer") == 0
    assert np.array_equal(result("2.png"), 255 - pixels["in/2.png"])


@pytest.mark.parametrize(
    ("which", "more", "sentence"),
    [
        ("both", "", "--guide is needed by transfer from with to other: give images of other"),
        ("both", "--task add --source other --target with", "--guide is needed by add from other to with: give images"),
        ("both", "--task swap", "--guide is needed by swap: give images of with."),
        ("both", "--task interpolate", "--guide is needed by interpolate: give images."),
        ("both", "--task remove --guide guides", "--guide is for transfer, add, swap or interpolate, not for remove:"),
        ("one", "--task mask --guide guides", "--guide is for transfer, add, swap or interpolate, not for mask"),
        ("one", "--source with --guide guides", "--guide is given, but images of other have no content to take from i"),
        ("one", "--target other --guide guides --task add", "--guide is given, but images of other have no content to"),
        ("one", "--task swap --source other --guide guides", "--source is other, which has no content to swap: give w"),
        ("both", "--task mask", "--task is mask, which is nothing that this Quarters can do: give trans"),
        ("one", "--task interpolate --guide guides --fixed other", "--fixed is other, which is no code: give common o"),
        ("one", "--task interpolate --guide guides --fixed comon", "--fixed is comon, which is no code: did you mean"),
        ("both", "--task interpolate --guide guides --steps 1", "--steps is 1: give a number of tiles from 2 to 100."),
        ("both", "--task swap --guide guides --steps 3", "--steps is for interpolate, not for swap:"),
        ("both", "--fixed common", "--fixed is for interpolate, not for transfer:"),
        ("both", "--task blend", "--task is blend, which is nothing that this Quarters can do: give tran"),
        ("both", "--guide absent", "--guide is absent, which does not exist: give an image file or a folde"),
        ("both", "--guide empty", "the folder empty holds no image"),
        ("both", "--guide guides --target wit", "--target is wit, which is no domain of this Quarters: did you mean w"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_sentence(request, pixels, tmp_path, capsys, which, more, sentence):
    (tmp_path / "empty").mkdir()
    path = request.getfixturevalue(which)
    assert refused(capsys, path, "in", "out", *more.split()).replace(str(path), "CKPT").startswith(sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["guides", "guides/sub/new"])
def test_guides_are_not_overwritten(both, pixels, capsys, output):
    sentence = refused(capsys, both, "in", output, "--guide", "guides", "--overwrite")
    assert sentence == f"the output {output} lies in the folder of the guides: give one outside of it."


def test_ctrl_c_keeps_what_is_written_and_says_one_line(tmp_path, pixels, capsys, monkeypatch):
    path, seen = saved(tmp_path / "x.ckpt", Plain), []

    def stopped(self, images, source, target):
        seen.append(1)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return -images

    monkeypatch.setattr(Plain, "translate", stopped)
    assert translate(path, "in", "out", "--batch_size", "1") == 130
    assert names(tmp_path / "out") == ["0.png", "1.png"]
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line.startswith("xdomain: ")] != []
    assert "Traceback" not in err
