import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.test_translate import save
from tests.methods import faces
from tests.methods.editors import make
from xdomain.batch import to_float, to_uint8
from xdomain.commands.main import main
from xdomain.data import Avatars
from xdomain.data.images import write_image
from xdomain.inference.strip import GAP, Row, change_of, strip
from xdomain.methods import AttGAN, FaderNetwork, MaskedTransfer, StarGAN

SIZE, SIDE = 16, 96
NAMES = ["Eyeglasses", "Smiling"]
FEW = {"identities": 3, "images_per_identity": 2, "val_identities": 2, "test_identities": 6, "image_size": SIZE}
NETWORKS = {
    "AttGAN": {
        "generator": {"class_path": "xdomain.networks.AttGANGenerator", "init_args": {"width": 4}},
        "discriminator": {"class_path": "xdomain.networks.AttGANDiscriminator", "init_args": {"width": 4, "hidden": 8}},
    },
    "StarGAN": {
        "generator": {"class_path": "xdomain.networks.StarGANGenerator", "init_args": {"width": 4, "blocks": 1}},
        "discriminator": {"class_path": "xdomain.networks.StarGANDiscriminator", "init_args": {"width": 4}},
    },
}


def editor(kind, attributes=NAMES):
    method = make(kind, attributes=attributes)
    with torch.no_grad():  # edits are to be seen
        for parameter in method.G.parameters():
            parameter.mul_(3)
    return method.eval()


def fader(domains=("glasses", "plain")):
    return faces.make(FaderNetwork, domains=domains, depth=2).eval()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of two editors, the second of which knows smiles alone, and of a Fader Network for glasses."""
    folder, methods = tmp_path_factory.mktemp("runs"), {}
    for name, method, domains in (
        ("attgan/0001", editor(AttGAN), {"photo": "*"}),
        ("stargan/0001", editor(StarGAN, ["Smiling"]), {"photo": "*"}),
        ("fader/0001", fader(), "glasses"),
    ):
        save(method, folder / name / "checkpoints" / "last.ckpt", **NETWORKS.get(type(method).__name__, {}))
        config = {"data": {"class_path": "Avatars", "init_args": {**FEW, "domains": domains}}}
        (folder / name / "config.yaml").write_text(str(config))
        methods[type(method).__name__] = method
    return folder, methods


def cell(picture, row, column, person=0, columns=3):
    """The pixels of a cell, shrunk to the size of the methods; every fourth pixel is one of theirs."""
    pixels = np.array(picture)
    right = pixels.shape[1] - (1 - person) * (columns * (SIDE + GAP) + 4 * GAP)
    start = right - (columns - column) * (SIDE + GAP) + GAP
    top = pixels.shape[0] - (3 - row) * (SIDE + GAP) + GAP
    factor = SIDE // SIZE
    return torch.from_numpy(pixels[top : top + SIDE, start : start + SIDE][::factor, ::factor].copy()).permute(2, 0, 1)


def test_a_row_per_method_with_what_it_makes_of_the_same_test_people(runs, tmp_path, capsys):
    folder, methods = runs
    words = [str(folder / name) for name in ("attgan/0001", "stargan/0001", "fader/0001")]
    assert main(["strip", *words, "--output", str(tmp_path / "strip.png"), "--people", "2", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/strip.png: 3 methods, 2 people, 2 edits\n"
    picture = Image.open(tmp_path / "strip.png")
    data = Avatars(**FEW, domains={"photo": "*"})
    part, names = data.part("test"), Avatars.attribute_names
    for person, at in enumerate((0, len(part) - 1)):
        x = to_float(part.__getitems__([at]).image)
        glasses, smile = (bool(part.attributes[at, names.index(name)]) for name in NAMES)
        edits = [f"{'-' if glasses else '+'}Eyeglasses", f"{'-' if smile else '+'}Smiling"]
        ends = ("glasses", "plain") if glasses else ("plain", "glasses")
        with torch.no_grad():
            expected = {
                (0, 1): methods["AttGAN"].edit(x, edits[0]),
                (0, 2): methods["AttGAN"].edit(x, edits[1]),
                (1, 2): methods["StarGAN"].edit(x, edits[1]),
                (2, 1): methods["FaderNetwork"].translate(x, *ends),
            }
        for (row, column), made in expected.items():
            assert torch.equal(cell(picture, row, column, person), to_uint8(made)[0])
        for row in range(3):
            assert torch.equal(cell(picture, row, 0, person), part.__getitems__([at]).image[0])
        for row, column in ((1, 1), (2, 2)):  # what they were not trained for is a word on white
            assert (cell(picture, row, column, person) == 255).float().mean() > 0.8
    assert not np.array_equal(np.array(picture)[:18], np.full_like(np.array(picture)[:18], 255))  # titles


def test_people_of_a_folder_with_edits_of_ones_own(runs, tmp_path):
    folder, methods = runs
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 40, 30), dtype=np.uint8)
    for i, image in enumerate(pixels):
        write_image(torch.from_numpy(image), tmp_path / "in" / f"{i}.png")
    output = ["--output", str(tmp_path / "strip.png"), "--device", "cpu", "--people", "5"]
    words = [str(folder / "attgan/0001"), "--input", str(tmp_path / "in"), "--attributes", "-Smiling,+Smiling"]
    assert main(["strip", *words, *output]) == 0
    picture = Image.open(tmp_path / "strip.png")
    shown = torch.nn.functional.interpolate(
        to_float(torch.from_numpy(pixels[1:])), (SIZE, SIZE), mode="bicubic", antialias=True
    ).clamp(-1, 1)
    with torch.no_grad():
        made = to_uint8(methods["AttGAN"].edit(shown, "-Smiling"))[0]
    assert torch.equal(cell(picture, 2, 1, person=1), made)


def test_a_guided_method_removes_and_says_that_it_needs_a_guide_to_add():
    method = faces.make(MaskedTransfer, domains=("glasses", "plain")).eval()
    row = Row("masked", method, {"glasses": "Eyeglasses", "plain": "not Eyeglasses"})
    assert change_of(row, "+Eyeglasses", "Eyeglasses") == "needs a guide"
    x = faces.pictures(3)
    with torch.no_grad():
        assert torch.equal(change_of(row, "-Eyeglasses", "Eyeglasses")(x), method.translate(x, "glasses", "plain"))


def test_methods_of_other_sizes_share_a_picture():
    """Cells are as large as the smallest multiple, from 96 pixels on, of the largest method's size."""
    small, person = editor(AttGAN), torch.zeros(3, 20, 20, dtype=torch.uint8)
    large = make(AttGAN, attributes=NAMES, image_size=32).eval()
    rows = [Row("small", small, {}), Row("large", large, {})]
    picture = strip(rows, [person], [["+Smiling"]])
    assert picture.height == 2 * SIDE + GAP + 14 + 2 * GAP


def refused(capsys, *words):
    assert main(["strip", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("xdomain: error: ")


def test_what_cannot_be_drawn_is_refused_in_one_sentence(runs, tmp_path, capsys):
    folder, _ = runs
    attgan, stargan, faded = (folder / name for name in ("attgan/0001", "stargan/0001", "fader/0001"))
    output = ("--output", tmp_path / "x.png")
    loose = folder / "loose.ckpt"
    loose.write_bytes((attgan / "checkpoints/last.ckpt").read_bytes())
    for words, sentence in (
        ([attgan, "--output", tmp_path / "x.jpg"], "--output is .*x.jpg: give a file that ends in .png"),
        ([attgan, *output, "--input", tmp_path], "--input needs --attributes: say what to change"),
        ([attgan, *output, "--people", "0"], "--people is 0: give a whole number of at least 1"),
        ([attgan, *output, "--attributes", "Smiling"], "--attributes is Smiling, but 'Smiling' lacks its [+] or -"),
        ([attgan, *output, "--attributes", "+Smilling"], "no editor changes Smilling: did you mean Smiling"),
        ([loose, *output], "no run has data with attributes: give images by --input, and --attributes"),
        ([faded, *output], "no run holds an attribute editor: say what to change by --attributes"),
        ([attgan, stargan, *output, "--attributes", "+Eyeglasses"], r"StarGAN makes none of the edits \+Eyeglasses"),
        ([attgan, faded, *output, "--attributes", "-Smiling"], r"FaderNetwork makes none of .* \(not trained\): leave"),
    ):
        assert re.search(sentence, refused(capsys, *words))
        assert not (tmp_path / "x.png").exists()
    save(other := editor(StarGAN, {"Smiling": "Smiling and Male"}), folder / "other.ckpt", **NETWORKS["StarGAN"])
    assert other.names == ("Smiling",)
    said = refused(capsys, attgan, folder / "other.ckpt", *output)
    assert said.startswith("Smiling is 'Smiling' to AttGAN and 'Smiling and Male' to StarGAN: give methods that mean")
    (tmp_path / "x.png").write_text("")
    assert "already: give another output, or overwrite" in refused(capsys, attgan, *output)
