"""Programs of trained methods against the methods themselves."""

import json
import sys

import numpy as np
import pytest
import torch

from tests.commands.test_translate import names, save
from tests.inference.test_tasks import OPTIONS, SIZE, Plain, saved
from tests.methods import domains, editors, faces
from tests.methods.test_tos import tos
from tests.methods.test_two_step import Three
from tests.methods.test_two_step import make as two_step
from xdomain.commands.main import main
from xdomain.data.images import read_image, write_image
from xdomain.errors import UserError
from xdomain.inference import export as room
from xdomain.inference.export import export
from xdomain.methods import (
    DIDD,
    AttGAN,
    CycleGAN,
    FaderNetwork,
    MaskedTransfer,
    SinGAN,
)


def attgan():
    method = editors.make(AttGAN, exclusive=[["Black", "Blond"]])
    torch.nn.init.normal_(method.D.classifier[-1].weight)
    return method


def three():
    method = two_step(Three)
    with torch.no_grad():
        for parameter in (*method.G.parameters(), *method.E.parameters()):  # else nothing depends on the images
            parameter.mul_(5)
    return method


PROGRAMS = {
    "CycleGAN": (lambda: domains.tiny(CycleGAN), {"source": "plain"}, lambda m, x: m.translate(x, "plain", "plus")),
    "Masked": (
        lambda: faces.make(MaskedTransfer),
        {"target": "plus"},
        lambda m, x, guide: m.translate(x, "plain", "plus", guide),
    ),
    "DIDD": (
        lambda: faces.make(DIDD),
        {"task": "add"},
        lambda m, x, guide: m.translate(x, "plus", "plain", guide, task="add"),
    ),
    "Fader": (lambda: faces.make(FaderNetwork), {}, lambda m, x: m.translate(x, "plus", "plain")),
    "AttGAN": (attgan, {"task": "edit"}, lambda m, x, changes: m.edit_by(x, changes)),
    "TOS": (tos, {"task": "imitated"}, lambda m, x: m.imitated(x, "colour", "discs")),
    "TwoStep": (three, {"target": "grey"}, lambda m, x: m.translate(x, "red", "grey")),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_what_its_method_does(tmp_path, monkeypatch, name):
    make, options, expected = PROGRAMS[name]
    programs = []
    monkeypatch.setattr(room, "_pt2", lambda program, facts: programs.append(program.module()) or b"")
    monkeypatch.setattr(room, "_loaded_pt2", lambda content: programs[0])  # the file is the next test's
    method = make()
    made = export(method, tmp_path / "model.pt2", format="pt2", **options)
    assert made.difference <= 1e-6
    source = {"Masked": "plain", "CycleGAN": "plain"}.get(name, method.domains[0])
    channels = method.channels[method.domains.index(source)]
    side = (5 * made.stride, 7 * made.stride) if made.stride else (made.size, made.size)
    shapes = {"changes": (3, 3)}
    inputs = [torch.rand(shapes.get(entry, (3, channels, *side))) * 2 - 1 for entry in made.inputs]
    inputs = [x.mul(1.5).round() if entry == "changes" else x for x, entry in zip(inputs, made.inputs, strict=True)]
    with torch.no_grad():
        found, wanted = programs[0](*inputs), expected(method.eval(), *inputs)
    assert found.shape == wanted.shape
    assert wanted.std(0).max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_a_file_is_read_by_torch_alone(tmp_path):
    method = Plain(**{**OPTIONS, "channels": (1, 3)})
    export(method, tmp_path / "model.pt2", format="pt2")
    extra = {"xdomain.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    x = torch.rand(5, 1, SIZE, SIZE)
    assert torch.equal(program(x), -x)
    facts = json.loads(extra["xdomain.json"])
    assert {name: facts[name] for name in ("method", "source", "target", "channels", "range", "image_size")} == {
        **{"method": "Plain", "source": "with", "target": "other", "channels": [1, 3], "range": [-1, 1]},
        "image_size": SIZE,
    }


def test_changes_as_numbers_are_the_changes_by_name():
    method = attgan().eval()
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    for attributes, row in (("+Blond,-Glasses", (0, 1, -1)), ("-Black", (-1, 0, 0)), ("+Black", (1, 0, 0))):
        by_number = method.edit_by(x, torch.tensor([row] * 4).float())
        assert torch.equal(by_number, method.edit(x, attributes))
    own = torch.tensor([[1.0, 0.0, 1.0]])
    assert method.changed(own, {"Blond": True}).tolist() == [[0, 1, 1]]  # takes away what it excludes


def test_a_program_that_differs_is_not_written(tmp_path, monkeypatch):
    loaded = room._loaded_pt2
    monkeypatch.setattr(room, "_loaded_pt2", lambda content: lambda *x: loaded(content)(*x) + 2e-4 * (len(x[0]) == 9))
    with pytest.raises(UserError, match=r"the program of this Plain differs by 2.0e-04 from the method, more than 1e-"):
        export(Plain(**OPTIONS), tmp_path / "model.pt2", format="pt2")
    assert names(tmp_path) == []


class Counting(Plain):
    """A batch of another size than that of the trace is another program."""

    def translate(self, images, source, target):
        return images * len(images)


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (tos, {}, "task is transfer, which by this TOS is not exported: its last step is the engine, which is no net"),
        (
            lambda: faces.make(MaskedTransfer),
            {"task": "mask"},
            "task is mask, which by this MaskedTransfer is not exported: it gives no pict",
        ),
        (lambda: faces.make(MaskedTransfer), {"source": "x"}, "source is x, which is no domain of this MaskedTran"),
        (attgan, {}, "task is transfer, which is nothing that this AttGAN can do: give edit"),
        (lambda: two_step(inversion="optimised"), {}, "finds the latent vectors of every image by optimisation"),
        (lambda: Counting(**OPTIONS), {}, "this Counting cannot be traced for an export: "),
        (
            lambda: SinGAN(domains=("x",), channels=(3,), image_size=30),
            {"task": "harmonise"},
            "task is harmonise, which by this SinGAN is not exported: it sees every image at its own size",
        ),
    ],
    ids=["engine", "mask", "domain", "task", "optimised", "untraceable", "single image"],
)
def test_what_cannot_be_exported_is_said(tmp_path, make, options, sentence):
    with pytest.raises(UserError, match=sentence):
        export(make(), tmp_path / "model.pt2", format="pt2", **options)
    assert names(tmp_path) == []


def test_the_command(tmp_path, capsys):
    saved(tmp_path / "runs/0001/checkpoints/last.ckpt", Plain)
    write_image(torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8), tmp_path / "in/x.png")
    command = ["export", "runs/0001", "--allow", "tests", "--format", "pt2", "--input", "in"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said == ("model.pt2: images of 8x8 pixels, largest difference 0.0e+00 (at most 1e-04)\n", "")
    for more, sentence in (
        ([], "model.pt2 exists already: give another output, or overwrite."),
        (["--output", "x.onnx"], "--output is x.onnx: give a file that ends in .pt2."),
        (["--overwrite", "--target", "x"], "--target is x, which is no domain of this Plain: give with or other."),
        (["--overwrite", "--task", "edit"], "--task is edit, which is nothing that this Plain can do: give transfer."),
    ):
        assert main([*command, *more]) == 2
        assert capsys.readouterr().err.startswith(f"xdomain: error: {sentence}")


def test_without_the_packages_it_is_said_how_to_get_them(tmp_path, monkeypatch):
    for package in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"an export to ONNX needs onnx.*: run `pip install 'xdomain\[export\]'`, or"):
        export(Plain(**OPTIONS), tmp_path / "model.onnx")


def test_onnx_there_and_back(tmp_path, capsys):
    """The one export of many to ONNX; the exporter alone takes some seconds to begin."""
    packages = ("onnx", "onnxscript", "onnxruntime")
    reason = "not all of onnx, onnxscript and onnxruntime are installed: pip install 'xdomain[export]'"
    onnx, *_ = (pytest.importorskip(package, reason=reason) for package in packages)
    method = domains.tiny(CycleGAN)
    networks = {
        "generator": {"class_path": "xdomain.networks.ResnetGenerator", "init_args": {"width": 4, "blocks": 1}},
        "discriminator": {"class_path": "xdomain.networks.PatchDiscriminator", "init_args": {"width": 4, "layers": 1}},
    }
    save(method, tmp_path / "runs/0001/checkpoints/last.ckpt", **networks)
    for i, shape in enumerate(((16, 16), (21, 34))):
        pixels = np.random.default_rng(i).integers(0, 256, (3, *shape), dtype=np.uint8)
        write_image(torch.from_numpy(pixels), tmp_path / f"in/{i}.png")
    assert main(["export", "runs/0001", "--source", "plain", "--output", "model.onnx"]) == 0
    assert "model.onnx: images of any multiples of 4 pixels, largest difference" in capsys.readouterr().out
    model = onnx.load(tmp_path / "model.onnx")
    facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["xdomain"])
    assert facts == room.facts_of(method, "transfer", "plain", "plus", {})
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("images", "translation")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for model, more in (("model.onnx", []), ("runs/0001", ["--source", "plain"])):
        command = ["translate", "--ckpt_path", model, "--input", "in", "--output", f"out/{model}"]
        assert main([*command, *more]) == 0
    for i in range(2):
        found, expected = (read_image(tmp_path / f"out/{model}/{i}.png", 3) for model in ("model.onnx", "runs/0001"))
        assert (found.int() - expected.int()).abs().max() <= 1
