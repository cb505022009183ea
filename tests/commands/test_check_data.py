import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fakes.damage import KINDS, bomb, compare, plant, plant_junk, write_good
from tests.fakes.folders import write_facades, write_flat, write_layout, write_picture
from xdomain.commands import check_data as check
from xdomain.commands.check_data import check_data, check_files, check_folder, inspect_file
from xdomain.commands.main import main
from xdomain.data.facades import Facades
from xdomain.data.folders import LabelledFolders, UnpairedFolders
from xdomain.data.images import image_files


def cases(report):
    """From kind to the sets of names that it was found in."""
    return {kind: {frozenset(files) for files, _ in found} for kind, found in report.problems.items()}


def checked(path, aspect=None):
    """The problems of one file, with their remarks."""
    report = check_files({("x", "train"): [path]}, aspect, path.parent)
    return {kind: remark for kind, [(_, remark)] in report.problems.items()}


# ---------------------------------------------------------------- twelve kinds of damage


def test_good_files_are_clean(tmp_path, capsys):
    write_good(tmp_path, 20)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "no problems found" in capsys.readouterr().out


def test_all_damage_is_found_and_none_invented(tmp_path, capsys):
    names = write_good(tmp_path, 150)
    junk = plant_junk(tmp_path)
    planted = plant(tmp_path, names, each=3)
    assert sorted(planted) == sorted(KINDS)
    report = check_folder(tmp_path)
    assert cases(report) == planted
    assert compare(planted, cases(report)) == (36, 0)
    assert sum(facts["files"] for facts in report.groups.values()) == 150
    assert set().union(*report.ignored.values()) == junk

    assert main(["data", "check", str(tmp_path), "--json", "deep/report.json"]) == 1
    shown = capsys.readouterr().out
    assert "36 problems found" in shown
    content = json.loads(Path("deep/report.json").read_text())
    written = {kind: {frozenset(case["files"]) for case in found} for kind, found in content["problems"].items()}
    assert written == planted
    for kind, found in planted.items():
        assert f"{kind} (3): " in shown
        assert all(name in shown for files in found for name in files)
    usable = {(g["domain"], g["split"]): g["usable"] for g in content["groups"]}
    assert sum(usable.values()) == 150 - 3 * len(KINDS[:4]) - 3 * len(KINDS[5:8])  # the other kinds can be read


def test_comparison_sees_what_is_missed_and_what_is_invented():
    a, b, c = (frozenset([name]) for name in "abc")
    assert compare({"x": {a, b}}, {"x": {a}, "y": {c}}) == (1, 1)
    assert compare({"x": {a}}, {"y": {a}}) == (0, 1)


# ---------------------------------------------------------------- single files


@pytest.mark.parametrize(("side", "limit"), [(60_000, None), (100, 6_000), (100, 4_000)])
def test_decompression_bombs(tmp_path, monkeypatch, side, limit):
    if limit is not None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # PIL only warns up to twice its limit
    (tmp_path / "x.png").write_bytes(bomb(side))
    assert checked(tmp_path / "x.png").keys() == {"too large"}


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm"])
@pytest.mark.parametrize("share", [0.55, 0.9])
def test_cut_off_files_are_found_in_every_format(tmp_path, ending, share):
    path = tmp_path / f"x.{ending}"
    write_picture(path, 0, 64, 64)
    assert checked(path) == {}
    os.truncate(path, int(path.stat().st_size * share))
    assert checked(path).keys() <= {"truncated", "damaged"}
    assert checked(path)


def test_mislabelled_files(tmp_path):
    write_picture(tmp_path / "x.png", 0)
    for name, expected in {"x.jpg": "it is PNG", "y.png": None, "x.JPEG": "it is PNG"}.items():
        (tmp_path / name).write_bytes((tmp_path / "x.png").read_bytes())
        assert checked(tmp_path / name).get("mislabelled") == expected
    write_picture(tmp_path / "good.JPG", 0)
    write_picture(tmp_path / "good.tiff", 0)
    assert checked(tmp_path / "good.JPG") == checked(tmp_path / "good.tiff") == {}


def test_a_wrong_shape(tmp_path):
    write_picture(tmp_path / "x.png", 0, 20, 10)
    assert checked(tmp_path / "x.png", 2.0) == {}
    write_picture(tmp_path / "x.png", 0, 21, 10)
    assert checked(tmp_path / "x.png", 2.0) == {"wrong shape": "it has 21x10 pixels"}


@pytest.mark.parametrize(("side", "problems"), [(8, set()), (7, {"tiny"})])
def test_tiny(tmp_path, side, problems):
    for width, height in ((side, 20), (20, side)):
        write_picture(tmp_path / "x.png", 0, width, height)
        assert checked(tmp_path / "x.png").keys() == problems


def test_one_colour(tmp_path):
    write_flat(tmp_path / "x.png", 7)
    assert checked(tmp_path / "x.png") == {"one colour": ""}
    pixels = np.full((8, 8, 3), 7, dtype=np.uint8)
    pixels[7, 7, 2] = 8
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert checked(tmp_path / "x.png") == {}


def test_no_permission(tmp_path, monkeypatch):
    write_picture(tmp_path / "x.png", 0)
    if os.geteuid() == 0:  # nothing is forbidden to root
        monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    else:
        (tmp_path / "x.png").chmod(0)
    assert checked(tmp_path / "x.png") == {"no permission": ""}


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_modes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    rgb = Image.fromarray(noise[:, :, :3])
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(tmp_path / "turned.png", exif=exif)
    exif[0x0112] = 1
    rgb.save(tmp_path / "upright.png", exif=exif)
    rgb.save(tmp_path / "rgb.bmp")
    Image.fromarray(noise[:, :, 0]).save(tmp_path / "grey.jpg")
    Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    (tmp_path / "grey16.pgm").write_bytes(b"P5 8 8 65535\n" + noise.tobytes()[:128])
    Image.fromarray(noise).save(tmp_path / "rgba.png")
    Image.fromarray(noise, "CMYK").save(tmp_path / "cmyk.jpg")
    rgb.quantize(16).save(tmp_path / "palette.png")
    rgb.save(tmp_path / "moving.gif", save_all=True, append_images=[rgb.transpose(Image.Transpose.ROTATE_90)])
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(row.tobytes()) + bytes(16) for row in noise))
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    (tmp_path / "rgb16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    expected = {
        "turned.png": ("RGB", "EXIF-rotated"),
        "upright.png": ("RGB",),
        "rgb.bmp": ("RGB",),
        "grey.jpg": ("grey",),
        "grey16.png": ("16-bit grey",),
        "grey16.pgm": ("16-bit grey",),
        "rgba.png": ("RGBA",),
        "cmyk.jpg": ("CMYK",),
        "palette.png": ("palette",),
        "moving.gif": ("palette", "animated"),
        "rgb16.png": ("16-bit RGB",),
    }
    facts = {path.name: inspect_file(path) for path in tmp_path.iterdir()}
    assert {name: fact.modes for name, fact in facts.items()} == expected
    assert {fact.problem for fact in facts.values()} == {""}
    report = check_folder(tmp_path)
    assert not report.problems
    assert report.groups["", ""]["modes"]["16-bit grey"] == 2
    assert "2 16-bit grey" in str(report)


# ---------------------------------------------------------------- whole folders


def test_sizes(tmp_path):
    for number, size in enumerate([(10, 10), (30, 10), (8, 9), (20, 20), (10, 10)]):
        write_picture(tmp_path / "cats" / f"{number}.png", number, *size)
    (tmp_path / "cats" / "empty.png").write_bytes(b"")
    facts = check_folder(tmp_path).groups["cats", ""]
    assert (facts["files"], facts["usable"], facts["sizes"]) == (6, 5, 4)
    assert (facts["smallest"], facts["median"], facts["largest"]) == ((8, 9), (10, 10), (20, 20))


def copies(root, *names):
    for name in names:
        write_picture(root / name, 99)
    for number, name in enumerate(["trainA", "trainB", "testA", "x"]):
        write_picture(root / name / "other.png", number)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["trainA/0.png", "trainA/1.png"], "duplicate"),
        (["trainA/0.png", "trainB/0.png"], "shared by domains"),
        (["trainA/0.png", "testA/0.png"], "leak"),
        (["trainA/0.png", "testB/0.png", "trainB/0.png"], "leak"),
    ],
)
def test_copies(tmp_path, names, kind):
    copies(tmp_path, *names)
    assert cases(check_folder(tmp_path)) == {kind: {frozenset(names)}}


def test_equally_broken_files_are_no_copies(tmp_path):
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(b"same")
    assert cases(check_folder(tmp_path)) == {"no image": {frozenset(["0.png"]), frozenset(["1.png"])}}


def test_links(tmp_path):
    copies(tmp_path / "data")
    write_picture(tmp_path / "elsewhere" / "0.png", 50)
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "x" / "round").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "x" / "gone.png").symlink_to("absent.png")
    report = check_folder(tmp_path / "data")
    assert cases(report) == {"broken link": {frozenset(["x/gone.png"])}}
    assert report.problems["broken link"][0][1] == "points to absent.png"
    assert report.groups["linked", ""]["files"] == 1
    assert report.ignored == {"links back to a folder that they lie in": ["x/round"]}


def test_the_same_files_are_checked_trained_on_and_translated(tmp_path):
    for number in range(8):
        write_picture(tmp_path / "outside" / ("x" if number % 2 else "") / f"{number}.png", number)
    for side in "AB":
        write_picture(tmp_path / "photos" / f"train{side}" / "own.png", 10)
        (tmp_path / "photos" / f"train{side}" / "linked").symlink_to(tmp_path / "outside")
    report = check_folder(tmp_path / "photos")
    assert {facts["files"] for facts in report.groups.values()} == {9}
    data = UnpairedFolders(path=str(tmp_path / "photos"))
    for role, side in zip("ab", "AB", strict=True):
        assert sum(len(data.data(role, split)) for split in ("train", "val", "test")) == 9
        assert len(image_files(tmp_path / "photos" / f"train{side}")[1]) == 9


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, kind):
    write_picture(tmp_path / "a.png", 0)
    path = tmp_path / "b.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert check_folder(tmp_path).ignored == {"no regular files": ["b.png"]}
    assert cases(check_files({("", ""): [path]})) == {"no image": {frozenset([str(path)])}}


def test_names_that_are_no_text(tmp_path, capsys):
    write_picture(tmp_path / "a.png", 0)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"")
    assert main(["data", "check", str(tmp_path), "--json", "report.json"]) == 1
    assert "\\udcff.png" in capsys.readouterr().out
    assert json.loads(Path("report.json").read_text())["problems"]["empty"]


def test_many_problems_are_shortened(tmp_path, monkeypatch):
    write_layout(tmp_path, trainA=5)
    monkeypatch.setattr(check, "SHOWN", 2)
    text = str(check_folder(tmp_path))
    assert "trainA/001.png" in text
    assert "trainA/002.png" not in text
    assert "and 3 more" in text
    assert "5 problems found" in text


# ---------------------------------------------------------------- data modules


@pytest.fixture
def noisy(tmp_path):
    """A folder trainA/trainB/valA/... with one leak, one broken link and junk."""
    root = tmp_path / "noisy"
    for number in range(18):
        split, side = ("train", "val", "test")[number % 3], "AB"[number // 3 % 2]
        write_picture(root / f"{split}{side}" / f"{number}.png", number)
    write_picture(root / "testB" / "copy.png", 0)
    (root / "trainA" / "gone.png").symlink_to("absent.png")
    (root / "trainA" / ".DS_Store").write_bytes(b"")
    (root / "trainA" / "notes.txt").write_bytes(b"")
    return root


def test_data_of_two_folders(noisy):
    report = check_data(UnpairedFolders(path=str(noisy)))
    names = {
        kind: {frozenset(Path(name).name for name in files) for files in found} for kind, found in cases(report).items()
    }
    assert names == {"leak": {frozenset(["0.png", "copy.png"])}, "broken link": {frozenset(["gone.png"])}}
    assert {group: facts["files"] for group, facts in report.groups.items()} == {
        ("A", "train"): 4,
        ("A", "val"): 3,
        ("A", "test"): 3,
        ("B", "train"): 3,
        ("B", "val"): 3,
        ("B", "test"): 4,
    }
    assert sorted(Path(name).name for files in report.ignored.values() for name in files) == [".DS_Store", "notes.txt"]
    report = check_data(UnpairedFolders(path=str(noisy), limit=1))
    assert report.groups["A", "train"]["files"] == 1
    assert sum(map(len, report.ignored.values())) == 6


def test_data_of_classes_and_facades(tmp_path):
    write_layout(tmp_path / "pets", cat=3, dog=3)
    report = check_data(LabelledFolders(str(tmp_path / "pets")))
    assert {group: facts["files"] for group, facts in report.groups.items()} == {
        ("pets", "train"): 2,
        ("pets", "val"): 2,
        ("pets", "test"): 2,
    }
    write_facades(tmp_path, train=3, val=2, test=1)
    data = Facades(root=str(tmp_path))
    assert not check_data(data).problems
    write_picture(tmp_path / "facades" / "val" / "7.jpg", 0, 15, 8)
    del data._names
    assert list(check_data(data).problems) == ["wrong shape"]


RECIPE = """\
data:
  class_path: xdomain.data.folders.UnpairedFolders
  init_args: {path: absent, image_size: 16}
model: {class_path: Absent}
"""


def test_recipes(noisy, capsys):
    Path("recipe.yaml").write_text(RECIPE)
    Path("overlay.yaml").write_text(f"data: {{init_args: {{path: {noisy}}}}}\n")
    assert main(["data", "check", "--config", "recipe.yaml", "--config", "overlay.yaml"]) == 1
    assert "leak (1)" in capsys.readouterr().out
    assert main(["data", "check", "--config", "recipe.yaml"]) == 2
    assert "the folder absent does not exist" in capsys.readouterr().err
    assert main(["data", "check", "--config", "dtn"]) == 0
    assert "has no image files to check" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "needs either a folder, or a recipe"),
        (["x", "--config", "dtn"], "needs either a folder, or a recipe"),
        (["absent"], "the folder absent does not exist"),
        (["empty"], "the folder empty holds no image"),
        (["--config", "absent"], "no config named 'absent'"),
        (["--config", "no_data.yaml"], "no_data.yaml names no data"),
        (["--config", "wrong.yaml"], "data.init_args.image_sizes is no setting: did you mean image_size?"),
        (["--config", "unknown.yaml"], "UnpairedFolder"),
        (["x", "--jsn", "y"], "jsn"),
    ],
)
def test_bad_input(args, text, capsys):
    Path("empty").mkdir()
    Path("no_data.yaml").write_text("trainer: {max_steps: 1}\n")
    Path("wrong.yaml").write_text(RECIPE.replace("image_size:", "image_sizes:"))
    Path("unknown.yaml").write_text(RECIPE.replace("UnpairedFolders", "UnpairedFolder"))
    assert main(["data", "check", *args]) == 2
    message = capsys.readouterr().err
    assert text in message
    assert message.count("\n") == 1


def test_other_words_after_data(capsys):
    for args in (["data"], ["data", "chek"]):
        assert main(args) == 2
        assert "xdomain data has one command" in capsys.readouterr().err
