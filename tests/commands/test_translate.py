import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from tests.methods.editors import make as make_editor
from xdomain.batch import to_float, to_uint8
from xdomain.commands.main import main
from xdomain.data.images import read_image, write_image
from xdomain.errors import UserError
from xdomain.inference.loading import load
from xdomain.methods import DTN, AttGAN, Classifier
from xdomain.networks import ConvClassifier, UpConvDecoder
from xdomain.running.trainer import Trainer

SIZE = 16
SPEC = {"class_path": "ConvClassifier", "init_args": {"widths": [4, 4, 8], "image_size": SIZE}}
SETTINGS = {"g": {"class_path": "xdomain.networks.UpConvDecoder", "init_args": {"width": 8}}}


def save(method, path, **settings):
    """Save as ``xdomain fit`` does: with the name of the class and its settings as plain types."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(method)
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(path, weights_only=False)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"] |= {"_class_path": f"xdomain.methods.{type(method).__name__}", **settings}
    torch.save(content, path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained DTN from colour (RGB) to grey, and its checkpoint in a run folder."""
    run = tmp_path_factory.mktemp("runs") / "0001"
    torch.manual_seed(0)
    g = partial(UpConvDecoder, width=8)
    method = DTN(f=SPEC, g=g, domains=("colour", "grey"), channels=(3, 1), image_size=SIZE)
    for parameter in method.g.parameters():  # no two images look the same
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    save(method, run / "checkpoints" / "best.ckpt", **SETTINGS)
    return method.eval(), run


@pytest.fixture
def pictures(tmp_path):
    """Five images at the method's size, one of them in a subfolder."""
    folder = tmp_path / "pictures"
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
        write_image(torch.from_numpy(pixels), folder / ("sub/4.png" if i == 4 else f"{i}.png"))
    return folder


def translate(run, source, output, *more):
    return main(
        [
            "translate",
            "--allow",
            "tests",
            "--ckpt_path",
            str(run),
            "--input",
            str(source),
            "--output",
            str(output),
            *more,
        ]
    )


def refused(capsys, *args):
    """The sentence with which a command is refused."""
    assert translate(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xdomain: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("xdomain: error: ").rstrip()


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- a checkpoint alone


def test_a_method_is_rebuilt_from_its_checkpoint_alone(trained):
    method, run = trained
    loaded = load(run)
    assert isinstance(loaded, DTN)
    assert not any(module.training for module in loaded.modules())
    assert loaded.domains == ("colour", "grey")
    images = torch.rand(3, 3, SIZE, SIZE)
    assert torch.equal(loaded.translate(images, "colour", "grey"), method.translate(images, "colour", "grey"))


def test_a_dtn_checkpoint_needs_neither_recipe_nor_weights_of_f(tmp_path):
    torch.manual_seed(0)
    network = ConvClassifier(widths=[4, 4, 8], image_size=SIZE)
    classifier = Classifier(network, domains=("x",), channels=(3,), image_size=SIZE)
    save(classifier, tmp_path / "f.ckpt", network=SPEC)
    method = DTN(f=str(tmp_path / "f.ckpt"), domains=("x", "y"), channels=(3, 1), image_size=SIZE)
    method.f.network.load_state_dict(classifier.network.state_dict())
    method.f.ready.fill_(True)
    save(method, tmp_path / "dtn.ckpt")
    (tmp_path / "f.ckpt").unlink()
    loaded = load(tmp_path / "dtn.ckpt")
    assert bool(loaded.f.ready)
    images = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(loaded.f(images), classifier.eval()(images))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"_class_path": None}, "does not name its method"),
        (
            {"_class_path": "torch.nn.Linear"},
            "the method is torch.nn.Linear, which is no class that fits there: give a Method",
        ),
        ({"betta": 3}, r"does not fit this version of xdomain.methods.DTN: .*betta"),
        ({"image_size": 2 * SIZE}, "weights .* are not those of this version of xdomain.methods.DTN"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, trained, change, reason):
    content = torch.load(trained[1] / "checkpoints" / "best.ckpt", weights_only=True)
    settings = content["hyper_parameters"] | change
    content["hyper_parameters"] = {name: value for name, value in settings.items() if value is not None}
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=reason):
        load(tmp_path / "x.ckpt")


def test_a_checkpoint_that_does_not_exist_is_refused():
    for name in ("absent.ckpt", "last"):
        with pytest.raises(UserError, match=f"{name} does not exist"):
            load(name)


# ---------------------------------------------------------------- the command


def test_images_keep_their_names_and_get_the_right_translation(trained, pictures, tmp_path, capsys):
    method, run = trained
    assert translate(run, pictures, tmp_path / "out", "--batch_size", "2") == 0
    assert capsys.readouterr().out == "translated 5 images\n"
    assert names(tmp_path / "out") == ["0.png", "1.png", "2.png", "3.png", "sub/4.png"]
    for name in names(pictures):
        expected = to_uint8(method.translate(to_float(read_image(pictures / name, 3))[None], "colour", "grey"))[0]
        image = read_image(tmp_path / "out" / name, 1)
        assert (image.int() - expected.int()).abs().max() <= 1  # a batch of another size rounds differently
    with Image.open(tmp_path / "out" / "0.png") as file:
        assert (file.mode, file.size) == ("L", (SIZE, SIZE))


def test_other_sizes_are_resized_with_antialiasing(trained, pictures, tmp_path, capsys):
    """A board of pixels is grey from afar: its translation is that of a grey image."""
    board = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 64, 96)[:, :, :128]
    board[:, 1::2] = 255 - board[:, 1::2]
    write_image(board, tmp_path / "in" / "board.png")
    write_image(torch.full((3, SIZE, SIZE), 128, dtype=torch.uint8), tmp_path / "in" / "grey.png")
    assert translate(trained[1], tmp_path / "in", tmp_path / "out") == 0
    assert read_image(tmp_path / "out" / "board.png", 1).shape == (1, 64, 128)  # its own size again
    assert translate(trained[1], tmp_path / "in", tmp_path / "out", "--overwrite", "--size", "model") == 0
    board, grey = (read_image(tmp_path / "out" / name, 1).int() for name in ("board.png", "grey.png"))
    assert board.shape == (1, SIZE, SIZE)
    assert (board - grey).abs().max() <= 3
    assert grey.float().std() > 3  # a translation that says something


def test_one_file_and_a_domain_into_itself(trained, tmp_path, capsys):
    write_image(torch.zeros(1, 40, 30, dtype=torch.uint8), tmp_path / "x.jpg")
    assert translate(trained[1], tmp_path / "x.jpg", tmp_path / "out", "--source", "grey", "--target", "grey") == 0
    assert capsys.readouterr().out == "translated 1 image\n"
    assert names(tmp_path / "out") == ["x.jpg"]


def test_bad_files_are_named_and_skipped(trained, pictures, tmp_path, capsys):
    (pictures / "1.png").write_bytes(b"hello")
    (pictures / "sub" / "4.png").write_bytes(b"")
    assert translate(trained[1], pictures, tmp_path / "out", "--batch_size", "1") == 1
    out, err = capsys.readouterr()
    assert out == "translated 3 images, skipped 2\n"
    lines = [line for line in err.splitlines() if line.startswith("xdomain: skipped: ")]
    assert len(lines) == 2
    assert f"{pictures / '1.png'} " in lines[0]
    assert f"{pictures / 'sub/4.png'} " in lines[1]
    assert names(tmp_path / "out") == ["0.png", "2.png", "3.png"]


def test_existing_files_are_kept_unless_overwritten(trained, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    for name in ("2.png", "sub/4.png"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"mine")
    sentence = refused(capsys, trained[1], pictures, out)
    assert sentence.startswith(f"{out / '2.png'} and 1 more of the output files exist already: ")
    assert names(out) == ["2.png", "sub/4.png"]
    assert translate(trained[1], pictures, out, "--overwrite") == 0
    assert len(names(out)) == 5
    assert (out / "2.png").read_bytes() != b"mine"


@pytest.mark.parametrize("place", ["pictures", "pictures/sub", "pictures/new/deep"])
def test_the_output_must_lie_outside_of_the_input(trained, pictures, tmp_path, capsys, place):
    before = names(pictures)
    sentence = refused(capsys, trained[1], pictures, tmp_path / place, "--overwrite")
    assert "lies in the folder of the input" in sentence
    assert names(pictures) == before


def test_one_file_is_not_replaced_by_its_translation(trained, pictures, capsys):
    sentence = refused(capsys, trained[1], pictures / "0.png", pictures, "--overwrite")
    assert "lies in the folder of the input" in sentence
    assert translate(trained[1], pictures / "0.png", pictures / "out") == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--source", "color"], "--source is color, which is no domain of this DTN: did you mean colour"),
        (["--target", "x"], "--target is x, which is no domain of this DTN: give colour or grey."),
        (["--target", "colour"], "--target is colour, but this DTN translates from colour to grey or fro"),
        (["--batch_size", "0"], "--batch_size is 0: give a whole number of at least 1."),
        (["--batch_size", "many"], "batch_size is refused: invalid int value: 'many'"),
        (["--sourc", "grey"], "sourc is no setting: did you mean source?"),
        (["--device", "gpu"], "device is refused: invalid choice: 'gpu'"),
    ],
)
def test_bad_options_are_one_sentence(trained, pictures, tmp_path, capsys, more, sentence):
    found = refused(capsys, trained[1], pictures, tmp_path / "out", *more)
    assert found.replace(str(trained[1]), "RUN").startswith(sentence)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_refused(trained, pictures, tmp_path, capsys):
    assert "no CUDA device" in refused(capsys, trained[1], pictures, tmp_path / "out", "--device", "cuda")


def test_bad_places_are_one_sentence(trained, pictures, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for args, sentence in {
        (trained[1], "absent", "out"): "the input absent does not exist",
        (trained[1], "empty", "out"): "the folder empty holds no image",
        (trained[1], "pictures", "file"): "the output file is a file",
        ("absent.ckpt", "pictures", "out"): "checkpoint absent.ckpt does not exist",
    }.items():
        assert refused(capsys, *args).startswith(sentence)
    assert not (tmp_path / "out").exists()
    assert main(["translate", "--input", "x"]) == 2
    assert capsys.readouterr().err == "xdomain: error: --ckpt_path and --output must be given.\n"


def test_a_method_that_does_not_translate_is_refused(pictures, tmp_path, capsys):
    network = ConvClassifier(widths=[4, 4, 8], image_size=SIZE)
    method = Classifier(network, domains=("colour",), channels=(3,), image_size=SIZE)
    spec = {**SPEC, "class_path": "xdomain.networks.ConvClassifier"}
    save(method, tmp_path / "x.ckpt", network=spec)
    assert "a Classifier does not translate" in refused(capsys, "x.ckpt", pictures, tmp_path / "out")


def test_help_does_not_import_torch():
    code = "import sys\nfrom xdomain.commands.main import main\ntry: main(['translate', '--help'])\n"
    code += "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "--overwrite" in result.stdout
    assert result.stdout.endswith("0 False\n")


# ---------------------------------------------------------------- edits by name


def test_attributes_are_edited_by_name(pictures, tmp_path, capsys):
    method = make_editor(AttGAN)
    torch.nn.init.normal_(method.D.classifier[-1].weight)
    networks = {
        "generator": {"class_path": "xdomain.networks.AttGANGenerator", "init_args": {"width": 4}},
        "discriminator": {"class_path": "xdomain.networks.AttGANDiscriminator", "init_args": {"width": 4, "hidden": 8}},
    }
    save(method, tmp_path / "run/checkpoints/best.ckpt", **networks)
    method.eval()
    for attributes, strength in (("+Glasses,-Black", "1.5"), ("-Blond", None)):
        more = ["--task", "edit", "--attributes", attributes, *(["--strength", strength] if strength else [])]
        assert translate(tmp_path / "run", pictures / "0.png", tmp_path / attributes, *more) == 0
        x = to_float(read_image(pictures / "0.png", 3))[None]
        with torch.no_grad():
            expected = to_uint8(method.edit(x, attributes, float(strength or 1)))[0]
        assert torch.equal(read_image(tmp_path / attributes / "0.png", 3), expected)
    capsys.readouterr()
    for more, sentence in [
        (["--attributes", "+Hat"], "--attributes is Hat, which this AttGAN does not change: give Black, Blond or"),
        ([], "--attributes is needed by edit: give a value."),
        (["--attributes", "-Blond", "--mask", "m"], "--mask is no option of edit by this AttGAN"),
    ]:
        found = refused(capsys, tmp_path / "run", pictures, tmp_path / "out", "--task", "edit", *more)
        assert found.startswith(sentence)
