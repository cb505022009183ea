"""Parameters on the command line: from images into a file, and from the file into pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands.test_translate import SPEC, save
from tests.methods.test_tos import tos
from xdomain.batch import to_float, to_uint8
from xdomain.commands.main import main
from xdomain.data.images import read_image, write_image
from xdomain.engines import Polygons
from xdomain.methods import DTN

SIZE = 16


def network(name, **options):
    return {"class_path": f"xdomain.networks.{name}", "init_args": options}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained TOS from photos to polygons, and its run folder."""
    run = tmp_path_factory.mktemp("runs") / "0001"
    method = tos(engine=Polygons(), channels=(3, 3), domains=("photo", "polygons")).eval()
    for parameter in method.c.parameters():  # no two images are read alike
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    save(
        method,
        run / "checkpoints" / "best.ckpt",
        engine={"class_path": "xdomain.engines.Polygons"},
        g=network("UpConvDecoder", width=8),
        D=network("ConvDiscriminator", width=4, batch_norm=False),
        c=network("ParameterEncoder", width=4, hidden=16),
        imitator=network("ParameterDecoder", width=16, hidden=16),
    )
    return method, run


@pytest.fixture
def photos(tmp_path):
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
        write_image(torch.from_numpy(pixels), tmp_path / "photos" / ("sub/4.png" if i == 4 else f"{i}.png"))
    return tmp_path / "photos"


def translate(run, photos, output, *more):
    return main(["translate", "--ckpt_path", str(run), "--input", str(photos), "--output", str(output), *more])


def render(*words):
    return main(["render", *map(str, words)])


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_from_photos_to_parameters_to_the_same_pictures(trained, photos, tmp_path, capsys, ending):
    method, run = trained
    file, out, again = tmp_path / f"u.{ending}", tmp_path / "out", tmp_path / "again"
    assert translate(run, photos, out, "--parameters", str(file), "--batch_size", "2") == 0
    assert render("--engine", "polygons", "--parameters", file, "--output", again, "--size", SIZE) == 0
    assert capsys.readouterr().out == "translated 5 images\ndrew 5 images\n"
    for name in ("0.png", "1.png", "2.png", "3.png", "sub/4.png"):
        image = to_float(read_image(photos / name, 3))[None]
        expected = to_uint8(method.translate(image, "photo", "polygons"))[0]
        assert torch.equal(read_image(out / name, 3), expected)
        assert (read_image(again / name, 3).int() - expected.int()).abs().max() <= 2  # six digits
    assert translate(run, photos, tmp_path / "plain") == 0
    assert all((out / p.relative_to(photos)).exists() for p in photos.rglob("*.png"))


def test_other_outputs_are_tasks(trained, photos, tmp_path):
    method, run = trained
    image = to_float(read_image(photos / "0.png", 3))[None]
    for task, wanted in (("free", method.tied(image).free), ("imitated", method.tied(image).imitated)):
        assert translate(run, photos / "0.png", tmp_path / task, "--task", task) == 0
        assert torch.equal(read_image(tmp_path / task / "0.png", 3), to_uint8(wanted)[0])


def refused(capsys, status):
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("xdomain: error: ").rstrip()


def test_what_cannot_be_translated_with_parameters(trained, photos, tmp_path, capsys):
    _, run = trained
    u = ["--parameters", str(tmp_path / "u.txt")]
    assert "u.txt ends in neither .json nor .csv" in refused(capsys, translate(run, photos, tmp_path / "o", *u))
    u = ["--parameters", str(tmp_path / "u.json")]
    told = refused(capsys, translate(run, photos, tmp_path / "o", *u, "--task", "free"))
    assert told.endswith("they belong to transfer, not to free: leave it out.")
    (tmp_path / "u.json").write_text("mine")
    assert "u.json exists already" in refused(capsys, translate(run, photos, tmp_path / "o", *u))
    assert not (tmp_path / "o").exists()
    assert translate(run, photos, tmp_path / "o", *u, "--overwrite") == 0


def test_a_method_without_an_engine_refuses_parameters(photos, tmp_path, capsys):
    method = DTN(f=SPEC, domains=("colour", "grey"), channels=(3, 1), image_size=SIZE)
    save(method, tmp_path / "dtn.ckpt", g={"class_path": "xdomain.networks.UpConvDecoder"})
    told = refused(capsys, translate(tmp_path / "dtn.ckpt", photos, tmp_path / "o", "--parameters", "u.json"))
    assert told == "--parameters is u.json, but a DTN reads no parameters of an engine: leave it out."


def test_what_cannot_be_drawn(tmp_path, capsys):
    file = Path("u.json")
    good = Polygons.schema.named(Polygons().sample(torch.arange(1), 0)[0])
    file.write_text(json.dumps({"a.png": {**good, "radius": 9}}))
    words = ["--parameters", file, "--output", "out"]
    told = refused(capsys, render("--engine", "polygons", *words))
    assert told == "u.json, a.png: radius is 9: give a number from 0.35 to 0.7."
    assert "--engine is stars, which is no engine" in refused(capsys, render("--engine", "stars", *words))
    assert "--size is 0" in refused(capsys, render("--engine", "polygons", *words, "--size", "0"))
    file.write_text(json.dumps({"a.png": Polygons.schema.named(Polygons().sample(torch.arange(1), 0)[0])}))
    assert "is no parameter" in refused(capsys, render("--engine", "glyphs", *words))
    assert not Path("out").exists()
