"""Translating with an exported program, on a stand-in for onnxruntime, against translating with the method."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands.test_translate import names
from tests.inference.test_tasks import OPTIONS, SIZE, Plain, Quarters
from tests.methods.editors import make as make_editor
from xdomain.commands.main import main
from xdomain.data.images import read_image, write_image
from xdomain.inference.export import facts_of
from xdomain.inference.folder import translate_folder
from xdomain.methods import AttGAN
from xdomain.methods.translation import TranslationMethod
from xdomain.pixels import read_pixels


class Slid(TranslationMethod):
    """A network that takes multiples of 4, and mixes every image with its mirror image."""

    def __init__(self, **options):
        super().__init__(**options)
        self.G = torch.nn.Identity()
        self.G.stride = 4

    def generate(self, images, target):
        assert not images.shape[2] % 4
        assert not images.shape[3] % 4
        return 0.6 * images + 0.4 * images.flip((2, 3))


def installed(monkeypatch, tmp_path, function, facts):
    """The path of a program that runs a function of tensors."""

    class Session:
        def __init__(self, path, providers):
            self.known = json.loads(Path(path).read_text())

        def get_modelmeta(self):
            return SimpleNamespace(custom_metadata_map=self.known)

        def run(self, outputs, given):
            assert list(given) == facts["inputs"]
            assert all(x.dtype == np.float32 and x.flags["C_CONTIGUOUS"] for x in given.values())
            with torch.no_grad():
                return [function(**{name: torch.from_numpy(x) for name, x in given.items()}).numpy()]

    module = ModuleType("onnxruntime")
    module.InferenceSession, module.get_available_providers = Session, lambda: ["CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    (tmp_path / "model.onnx").write_text(json.dumps({"xdomain": json.dumps(facts)}))
    return "model.onnx"


def pictures(folder, sizes):
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(sizes):
        write_image(torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)), folder / f"{i}.png")


def translate(*more):
    return main(["translate", "--ckpt_path", "model.onnx", "--input", "in", *more])


def assert_alike(tmp_path, count):
    """That both folders hold the same translations, but for the rounding of two resizing codes."""
    assert names(tmp_path / "out") == names(tmp_path / "expected")
    assert len(names(tmp_path / "out")) == count
    for name in names(tmp_path / "out"):
        found, expected = (read_image(tmp_path / folder / name, 3).int() for folder in ("out", "expected"))
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1


SIZES = ((SIZE, SIZE), (41, 27), (SIZE, 64), (3, 30))


@pytest.mark.parametrize("size", ["keep", "model"])
@pytest.mark.parametrize("kind", [Plain, Slid])
def test_translations_are_those_of_the_method(monkeypatch, tmp_path, capsys, kind, size):
    method = kind(**OPTIONS)
    facts = facts_of(method, "transfer", "with", "other", {})
    run = (lambda images: method.generate(images, "other")) if kind is Slid else (lambda images: -images)
    installed(monkeypatch, tmp_path, run, facts)
    pictures(tmp_path / "in", SIZES)
    (tmp_path / "in/bad.png").write_text("no image")
    assert translate("--output", "out", "--size", size, "--batch_size", "3") == 1
    out, err = capsys.readouterr()
    assert out == "translated 4 images, skipped 1\n"
    translate_folder(method, "in", "expected", size=size)
    assert [line for line in capsys.readouterr().err.splitlines() if "skipped" in line] == [
        line for line in err.splitlines() if "skipped" in line
    ]
    assert_alike(tmp_path, 4)


def test_guides_and_enlarged_changes_are_those_of_the_method(monkeypatch, tmp_path, capsys):
    method = Quarters(**OPTIONS)
    facts = facts_of(method, "transfer", "with", "other", {})
    installed(monkeypatch, tmp_path, lambda images, guide: method.translate(images, "with", "other", guide), facts)
    pictures(tmp_path / "in", SIZES)
    pictures(tmp_path / "guides", [(SIZE, SIZE), (20, 9)])
    assert translate("--output", "out", "--guide", "guides", "--batch_size", "2") == 0
    assert capsys.readouterr().out.startswith("translated 4 images\n2 larger than the method's own size")
    assert translate_folder(method, "in", "expected", guide="guides").enlarged == 2
    assert_alike(tmp_path, 4)


def test_attributes_by_name_become_numbers(monkeypatch, tmp_path, capsys):
    method = make_editor(AttGAN, exclusive=[["Black", "Blond"]])
    torch.nn.init.normal_(method.D.classifier[-1].weight)
    facts = facts_of(method, "edit", "head", "head", {})
    installed(monkeypatch, tmp_path, lambda images, changes: method.edit_by(images, changes), facts)
    pictures(tmp_path / "in", [(16, 16), (20, 30)])
    assert translate("--output", "out", "--attributes", "+Blond,-Glasses") == 0
    translate_folder(method, "in", "expected", task="edit", attributes="+Blond,-Glasses")
    assert_alike(tmp_path, 2)
    capsys.readouterr()
    for attributes, sentence in (
        (["--attributes", "+Blond,+Black"], "--attributes is +Blond,+Black, but Blond and Black exclude each other"),
        (["--attributes", "+Hat"], "--attributes is Hat, which this AttGAN does not change: give Black, Blond or"),
        ([], "--attributes is needed by this program: give changes such as +Black."),
        (["--attributes", "+Blond", "--strength", "2"], "--strength is 2.0, but an exported program has no such"),
    ):
        assert translate("--output", "new", *attributes) == 2
        assert capsys.readouterr().err.startswith(f"xdomain: error: {sentence}")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--target", "with"], "--target is with, but the program was exported with other: leave it out."),
        (["--task", "remove"], "--task is remove, but the program was exported with transfer: leave it out."),
        (["--guide", "in"], "--guide is in, but the program takes none: leave it out."),
        (["--seed", "3"], "--seed is 3, but an exported program has no such option: leave it out."),
        (["--output", "in/out"], "the output in/out lies in the folder of the input: give one outside of it."),
    ],
)
def test_what_a_program_does_not_do_is_one_sentence(monkeypatch, tmp_path, capsys, more, sentence):
    installed(monkeypatch, tmp_path, None, facts_of(Plain(**OPTIONS), "transfer", "with", "other", {}))
    pictures(tmp_path / "in", SIZES[:1])
    assert translate("--output", "out", *more) == 2
    assert capsys.readouterr() == ("", f"xdomain: error: {sentence}\n")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_program_and_a_missing_package(monkeypatch, tmp_path, capsys):
    installed(monkeypatch, tmp_path, None, {})
    (tmp_path / "model.onnx").write_text("{}")
    pictures(tmp_path / "in", SIZES[:1])
    assert translate("--output", "out") == 2
    assert "model.onnx cannot be read as a program (it was not written by `xdomain" in capsys.readouterr().err
    (tmp_path / "model.onnx").unlink()
    assert translate("--output", "out") == 2
    assert "the program model.onnx does not exist" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert translate("--output", "out") == 2
    assert "model.onnx needs onnxruntime, which is not installed: run `pip install onnx" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_pixels_are_those_of_the_other_reader(tmp_path, mode):
    rng = np.random.default_rng(0)
    if mode == "I;16":
        Image.fromarray(rng.integers(0, 2**16, (9, 7), dtype=np.uint16)).save(tmp_path / "x.png")
    else:
        Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8)).convert(mode).save(tmp_path / "x.png")
    for channels in (1, 3):
        expected = read_image(tmp_path / "x.png", channels)
        assert np.array_equal(read_pixels(tmp_path / "x.png", channels), expected.permute(1, 2, 0).numpy())


RUNTIME = """
class InferenceSession:
    def __init__(self, path, providers):
        self.custom_metadata_map = {"xdomain": open(path).read()}

    def get_modelmeta(self):
        return self

    def run(self, outputs, given):
        return [-given["images"]]


def get_available_providers():
    return []
"""


def test_neither_torch_nor_lightning_is_imported(tmp_path):
    (tmp_path / "onnxruntime.py").write_text(RUNTIME)
    (tmp_path / "x.onnx").write_text(json.dumps(facts_of(Plain(**OPTIONS), "transfer", "with", "other", {})))
    pictures(tmp_path / "in", [(SIZE, SIZE), (20, 30)])
    code = "import sys\nfrom xdomain.commands.main import main\n"
    code += "print(main(['translate', '--ckpt_path', 'x.onnx', '--input', 'in', '--output', 'out']))\n"
    code += "print({'torch', 'pytorch_lightning', 'torchvision'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "translated 2 images\n0\nset()\n"
    assert torch.equal(read_image(tmp_path / "out/0.png", 3), 255 - read_image(tmp_path / "in/0.png", 3))
