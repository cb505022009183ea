"""Translating with an exported program for torch, against translating with the method."""

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.inference.test_program import SIZES, Slid, assert_alike, pictures
from tests.inference.test_tasks import OPTIONS
from xdomain.commands.main import main
from xdomain.commands.service import Service
from xdomain.inference.export import export
from xdomain.inference.folder import translate_folder

METHOD = Slid(**{**OPTIONS, "image_size": 16})
FILE = "model.pt2"
ALLOW = ("--allow", "pt2")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(METHOD, tmp_path_factory.mktemp("exported") / FILE, format="pt2").file


@pytest.fixture
def program(exported):
    Path(FILE).write_bytes(exported.read_bytes())
    return Path(FILE)


def translate(*more):
    return main(["translate", "--ckpt_path", FILE, "--input", "in", "--output", "out", *more])


def changed(file, matching, content):
    """Replace the content of entries of an archive."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert any(matching in name for name in entries)
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in entries.items():
            archive.writestr(name, content if matching in name else old)


@pytest.mark.parametrize("size", ["keep", "model"])
def test_translations_are_those_of_the_method(program, tmp_path, capsys, size):
    pictures(tmp_path / "in", SIZES)
    (tmp_path / "in/bad.png").write_text("no image")
    assert translate("--size", size, *ALLOW) == 1
    assert capsys.readouterr().out == "translated 4 images, skipped 1\n"
    translate_folder(METHOD, "in", "expected", size=size)
    assert_alike(tmp_path, 4)


def test_a_service_answers_with_the_same_picture(program, tmp_path):
    pictures(tmp_path / "in", SIZES[1:2])
    service = Service(FILE, ("pt2",))
    assert [entry["directions"] for entry in service.facts["tasks"]] == [
        [{"source": "with", "target": "other", "guide": "none"}]
    ]
    with Path("in/0.png").open("rb") as image:
        made = service.translate({"image": image}, {})
    assert translate(*ALLOW) == 0
    assert made == Path("out/0.png").read_bytes()


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("attacked"),)


def test_a_file_that_runs_code_is_not_loaded_unless_it_is_trusted(program, tmp_path, capsys):
    pictures(tmp_path / "in", SIZES[:1])
    changed(program, "sample_inputs", pickle.dumps(Hostile()))
    assert translate() == 2
    sentence = "model.pt2 is refused, as a pt2 file can run any code when it is loaded: give --allow pt2 if you trust"
    assert capsys.readouterr().err.startswith(f"xdomain: error: {sentence}")
    assert not Path("attacked").exists()
    translate(*ALLOW)
    assert Path("attacked").exists()  # else torch has become safe, and nobody needs to be asked


@pytest.mark.parametrize("damage", ["half", "text", "weights", "foreign"])
def test_what_is_no_program_is_one_sentence(program, tmp_path, capsys, damage):
    pictures(tmp_path / "in", SIZES[:1])
    why = "BadZipFile"
    if damage == "half":
        program.write_bytes(program.read_bytes()[: program.stat().st_size // 2])
    elif damage == "text":
        program.write_text("no program")
    elif damage == "weights":
        changed(program, "models/", b"{}")
        why = ""
    else:
        why = "it was not written by `xdomain export`"
        scaled = torch.export.export(torch.nn.Flatten(), (torch.zeros(2, 3, 8, 8),))
        torch.export.save(scaled, FILE)
    assert translate(*ALLOW) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"xdomain: error: model.pt2 cannot be read as a program ({why}")
    assert err.endswith("): give another.\n")
    assert (out, err.count("\n"), Path("out").exists()) == ("", 1, False)


def test_a_program_that_is_not_there(tmp_path, capsys):
    pictures(tmp_path / "in", SIZES[:1])
    assert translate(*ALLOW) == 2
    assert "the program model.pt2 does not exist: give a file that `xdomain export`" in capsys.readouterr().err


def test_neither_lightning_nor_the_method_is_imported(program):
    words = ["translate", "--ckpt_path", FILE, "--input", "in", "--output", "out"]  # loading it is torch's alone
    code = f"import sys\nfrom xdomain.commands.main import main\nprint(main({words}))\n"
    code += "print({'pytorch_lightning', 'lightning_fabric', 'torchvision', 'xdomain.methods'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "2\nset()\n"
    assert "model.pt2 is refused" in result.stderr
