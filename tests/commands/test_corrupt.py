"""``xdomain corrupt`` on folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xdomain.commands.main import main
from xdomain.data.corruptions import CORRUPTIONS, corrupt
from xdomain.data.images import read_image, write_image


@pytest.fixture
def photos(tmp_path):
    for name, channels in (("a.png", 3), ("sub/b.png", 3), ("sub/grey.png", 1)):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (channels, 20, 24), dtype=np.uint8)
        write_image(torch.from_numpy(pixels), tmp_path / "photos" / name)
    return tmp_path / "photos"


def run(*words):
    return main(["corrupt", *map(str, words)])


def refused(capsys, *words):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("xdomain: error: ").rstrip()


def test_copies_of_a_folder(photos, capsys):
    words = ("--input", photos, "--output", "out", "--corruption", "fog", "gaussian_noise", "--severity", 2, 5)
    assert run(*words, "--seed", 3) == 0
    assert capsys.readouterr().out == "corrupted 3 images into 12 files\n"
    for number, (name, channels) in enumerate((("a.png", 3), ("sub/b.png", 3), ("sub/grey.png", 1))):
        image = read_image(photos / name, channels)
        for corruption in ("fog", "gaussian_noise"):
            for severity in (2, 5):
                expected = corrupt(image[None], corruption, severity, seed=3, indices=[number])[0]
                copy = Path("out", corruption, str(severity), name)
                assert Image.open(copy).mode == ("RGB" if channels == 3 else "L")
                assert torch.equal(read_image(copy, channels), expected)
    assert "out/fog/2/a.png and 11 more of the output files exist already" in refused(capsys, *words)
    assert run(*words, "--overwrite") == 0


def test_all_by_default_with_a_starred_frost(photos, capsys):
    assert run("--input", photos / "a.png", "--output", "out") == 0  # 20x24 pixels
    assert capsys.readouterr().out == "corrupted 1 image into 75 files\n"
    kinds = {f"{name}*" if name == "frost" else name for name in CORRUPTIONS}
    assert {path.name for path in Path("out").iterdir()} == kinds
    assert all({path.name for path in Path("out", kind).iterdir()} == {*"12345"} for kind in kinds)


def test_official_frost(photos, tmp_path, capsys):
    for i in range(1, 6):
        write_image(torch.full((3, 200, 200), 200, dtype=torch.uint8), tmp_path / f"ice/frost{i}.png")
    words = ("--input", photos / "a.png", "--output", "out", "--corruption", "frost", "--severity", 1)
    assert run(*words, "--frost", tmp_path / "ice") == 0
    expected = (read_image(photos / "a.png", 3) + 40.0).clamp(max=255)  # all of the image and a fifth of the frost
    assert torch.equal(read_image(Path("out/frost/1/a.png"), 3), expected.to(torch.uint8))


def test_a_bad_file_is_named_and_keeps_its_number(photos, capsys):
    (photos / "aa.png").write_text("no image")
    words = ("--output", "out", "--corruption", "shot_noise", "--severity", 1)
    assert run("--input", photos, *words) == 1
    out, err = capsys.readouterr()
    assert out == "corrupted 3 images into 3 files, skipped 1\n"
    assert "skipped: " in err
    assert "aa.png cannot be read as an image" in err
    image = read_image(photos / "sub/b.png", 3)
    assert torch.equal(
        read_image(Path("out/shot_noise/1/sub/b.png"), 3), corrupt(image[None], "shot_noise", 1, indices=[2])[0]
    )


def test_what_is_refused(photos, tmp_path, capsys):
    words = ("--input", photos, "--output", "out")
    assert refused(capsys, *words, "--corruption", "rain").startswith("--corruption is rain: give gaussian_noise, ")
    assert refused(capsys, *words, "--severity", 0) == "--severity is 0: give 1, 2, 3, 4 or 5."
    assert "--seed is -1" in refused(capsys, *words, "--seed", -1)
    told = refused(capsys, *words, "--corruption", "fog", "--frost", tmp_path)
    assert told.endswith("but no corruption is frost: leave it out.")
    assert "holds no frost1.png" in refused(capsys, *words, "--frost", tmp_path)
    assert "does not exist" in refused(capsys, "--input", "nowhere", "--output", "out")
    assert "lies in the folder of the input" in refused(capsys, "--input", photos, "--output", photos / "out")
    write_image(torch.zeros(3, 8, 8, dtype=torch.uint8), photos / "a.jpg")
    assert "a.jpg and a.png would both have the copy a.png" in refused(capsys, *words)
    assert not Path("out").exists()
