"""``xdomain sample``, and what ``xdomain translate`` does with a method that has learned from a single image."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.commands.test_translate import names, save
from tests.inference.test_tasks import Quarters
from tests.methods.single import photograph
from xdomain.batch import to_float, to_uint8
from xdomain.commands.main import main
from xdomain.data.images import read_image, write_image
from xdomain.data.video import read_video, write_video
from xdomain.errors import refuse
from xdomain.methods import Method, PyramidMethod
from xdomain.methods.pyramid import check_walk

HEIGHT, WIDTH = 16, 24


class Sampler(PyramidMethod):
    """Two scales; a sample is noise, and brighter at the finer scale."""

    scales = 2

    def __init__(self, domains=("image",), channels=(3,), image_size=WIDTH, shapes=((HEIGHT, WIDTH),), **options):
        super().__init__(domains=domains, channels=channels, image_size=image_size, shapes=shapes, **options)

    def sample(self, count, size=None):
        size = size or tuple(side // (2 - self.finest) for side in self.shapes[-1])
        return torch.rand(count, 3, *size) / 2 + self.finest / 2 - 0.1


class ToyPyramid(Sampler):
    """Everything that a method may offer, in a way that shows what it was called with."""

    directions = (("image", "image"),)

    @property
    def tasks(self):
        return super().tasks | {
            "paint": self.translate,
            "harmonise": self.harmonise,
            "edit": self.edit,
            "super_resolve": self.super_resolve,
            "animate": self.animate,
        }

    def sample(self, count, size=None, start=0):
        self.check_start(start)
        return super().sample(count, size) - 0.5 * start

    def translate(self, images, source, target, start=1):
        assert (source, target) == ("image", "image")
        self.check_start(start, 1)
        return -images

    def harmonise(self, images, mask, start=0):
        return torch.lerp(images, -torch.ones_like(images), mask)

    def edit(self, images, mask, start):
        return torch.lerp(images, torch.ones_like(images), mask)

    def super_resolve(self, images, factor=4.0):
        if not factor > 1:
            refuse(self, "factor", f"{factor:g}", "give a number above 1.")
        return torch.nn.functional.interpolate(images, scale_factor=factor, mode="nearest")

    def animate(self, frames=30, alpha=0.1, beta=0.9):
        check_walk(self, frames, alpha, beta)
        value = torch.linspace(-alpha, beta, frames).view(-1, 1, 1, 1)
        return value.expand(-1, 3, HEIGHT, WIDTH)


class Still(Sampler):
    """Translates at no scale."""

    directions = (("image", "image"),)

    @property
    def tasks(self):
        return super().tasks | {"paint": self.translate}

    def translate(self, images, source, target):
        return -images


class Plain(Method):
    """Neither samples nor translates."""


class ClipSampler(Sampler):
    """Clips."""

    def __init__(self, domains=("video",), shapes=((4, HEIGHT, WIDTH),), **options):
        super().__init__(domains=domains, shapes=shapes, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A checkpoint of every toy, by name; the sampler also half trained and untrained."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    toys = {kind.__name__: kind() for kind in (Sampler, ToyPyramid, Still, ClipSampler)}
    toys |= {"half": Sampler(), "untrained": ToyPyramid()}
    square = {"domains": ("with", "other"), "channels": (3, 3), "image_size": 8}
    toys |= {"Plain": Plain(**square), "Quarters": Quarters(**square)}
    for name, method in toys.items():
        if isinstance(method, PyramidMethod):
            method.begun.fill_({"half": 1, "untrained": 0}.get(name, 2))
        found[name] = folder / f"{name}.ckpt"
        module = "tests.inference.test_tasks" if name == "Quarters" else __name__
        save(method, found[name], _class_path=f"{module}.{type(method).__name__}")
    return found


def run(command, checkpoint, *more):
    return main([command, "--allow", "tests", "--ckpt_path", str(checkpoint), "--output", "out", *map(str, more)])


def refused(capsys, *args):
    """The sentence with which a command is refused."""
    capsys.readouterr()
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xdomain: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("xdomain: error: ").rstrip().replace(str(args[1]), "RUN")


def expected(count, size, seed=0):
    torch.manual_seed(seed)
    return to_uint8(torch.rand(count, 3, *size) / 2 + 0.4)


# ---------------------------------------------------------------- random samples


def test_samples_are_numbered_files(runs, tmp_path, capsys):
    assert run("sample", runs["Sampler"], "--n", 3) == 0
    assert capsys.readouterr().out == f"wrote 3 samples of {HEIGHT}x{WIDTH}\n"
    assert names(tmp_path / "out") == ["0000.png", "0001.png", "0002.png"]
    for i, image in enumerate(expected(3, (HEIGHT, WIDTH))):
        assert torch.equal(read_image(tmp_path / f"out/{i:04d}.png", 3), image)


def test_size_seed_and_steps(runs, tmp_path, capsys):
    assert run("sample", runs["Sampler"], "--n", 3, "--size", "12x30", "--seed", 7, "--batch_size", 2) == 0
    torch.manual_seed(7)
    for i, image in enumerate(to_uint8(torch.cat([torch.rand(n, 3, 12, 30) for n in (2, 1)]) / 2 + 0.4)):
        assert torch.equal(read_image(tmp_path / f"out/{i:04d}.png", 3), image)
    assert capsys.readouterr().out == "wrote 3 samples of 12x30\n"


def test_fifty_samples_by_default(runs, tmp_path, capsys):
    assert run("sample", runs["Sampler"]) == 0
    assert len(names(tmp_path / "out")) == 50


def test_a_stopped_training_gives_its_finest_scale(runs, tmp_path, capsys):
    assert run("sample", runs["half"], "--n", 1) == 0
    assert capsys.readouterr().out == "wrote 1 sample of 8x12, of scale 1 of 2: training came no further\n"
    assert read_image(tmp_path / "out/0000.png", 3).shape == (3, 8, 12)


def test_a_later_start(runs, tmp_path, capsys):
    assert run("sample", runs["ToyPyramid"], "--n", 1, "--start", 1) == 0
    torch.manual_seed(0)
    darker = to_uint8(torch.rand(1, 3, HEIGHT, WIDTH) / 2 + 0.4 - 0.5)[0]
    assert torch.equal(read_image(tmp_path / "out/0000.png", 3), darker)
    assert refused(capsys, "sample", runs["ToyPyramid"], "--start", 2, "--overwrite") == (
        "--start is 2: give a scale from 0 to 1."
    )


def test_clips(runs, tmp_path, capsys):
    assert run("sample", runs["ClipSampler"], "--n", 2, "--format", "frames") == 0
    assert capsys.readouterr().out == f"wrote 2 samples of 4x{HEIGHT}x{WIDTH}\n"
    assert names(tmp_path / "out") == [f"000{i}/0000{t}.png" for i in range(2) for t in range(4)]
    clips = expected(2, (4, HEIGHT, WIDTH)).transpose(1, 2)
    for i in range(2):
        assert torch.equal(read_video(tmp_path / f"out/000{i}"), clips[i])


@pytest.mark.parametrize(("more", "name"), [([], "0000.gif"), (["--format", "mp4", "--fps", "5"], "0000.mp4")])
def test_formats_of_clips(runs, tmp_path, capsys, more, name):
    assert run("sample", runs["ClipSampler"], "--n", 1, *more) == 0
    assert names(tmp_path / "out") == [name]
    assert read_video(tmp_path / "out" / name).shape == (4, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(("size", "shape"), [("14x20", (4, 3, 14, 20)), ("6x14x20", (6, 3, 14, 20))])
def test_sizes_of_clips(runs, tmp_path, capsys, size, shape):
    assert run("sample", runs["ClipSampler"], "--n", 1, "--format", "frames", "--size", size) == 0
    clip = read_video(tmp_path / "out/0000")
    assert clip.shape == shape
    assert torch.equal(clip, expected(1, (shape[0], *shape[2:]))[0].transpose(0, 1))


def test_animations(runs, tmp_path, capsys):
    assert (
        run("sample", runs["ToyPyramid"], "--task", "animate", "--frames", 5, "--alpha", 1, "--format", "frames") == 0
    )
    assert capsys.readouterr().out == f"wrote 1 animation of 5x{HEIGHT}x{WIDTH}\n"
    frames = read_video(tmp_path / "out/0000")
    assert frames[:, 0, 0, 0].tolist() == to_uint8(torch.linspace(-1, 0.9, 5)).tolist()
    assert run("sample", runs["ToyPyramid"], "--task", "animate", "--n", 2, "--format", "gif") == 0
    assert len(read_video(tmp_path / "out/0001.gif")) == 30


# ---------------------------------------------------------------- nothing is lost


def test_files_are_kept_unless_overwritten(runs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/0001.png").write_bytes(b"mine")
    sentence = refused(capsys, "sample", runs["Sampler"], "--n", 3)
    assert sentence == "out/0001.png exists already: give another output, or overwrite."
    assert names(tmp_path / "out") == ["0001.png"]
    assert (tmp_path / "out/0001.png").read_bytes() == b"mine"
    (tmp_path / f"out/.{0:016x}.part").write_bytes(b"of a call that was killed")
    assert run("sample", runs["Sampler"], "--n", 3, "--overwrite") == 0
    assert len(names(tmp_path / "out")) == 3


def test_folders_of_frames_are_replaced_whole(runs, tmp_path, capsys):
    write_video(torch.zeros(9, 3, 12, 12, dtype=torch.uint8), tmp_path / "out/0000")
    more = ["--n", 1, "--format", "frames"]
    assert "out/0000 exists already" in refused(capsys, "sample", runs["ClipSampler"], *more)
    assert run("sample", runs["ClipSampler"], *more, "--overwrite") == 0
    assert len(names(tmp_path / "out")) == 4
    (tmp_path / "out/0000/letter.txt").write_text("mine")
    sentence = refused(capsys, "sample", runs["ClipSampler"], *more, "--overwrite")
    assert sentence == "the folder out/0000 holds letter.txt, which is no frame: give another output."
    assert len(names(tmp_path / "out")) == 5


def test_places_that_cannot_be_written(runs, tmp_path, capsys, monkeypatch):
    (tmp_path / "out").write_text("mine")
    assert refused(capsys, "sample", runs["Sampler"]) == "the output out is a file: give a folder."
    assert refused(capsys, "sample", runs["Sampler"], "--output", "out/x").startswith(
        f"the output out/x cannot be made, since {tmp_path / 'out'} is a file"
    )
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert refused(capsys, "sample", runs["Sampler"], "--output", "new/x").startswith(
        f"the output new/x cannot be written, since {tmp_path} is protected"
    )
    assert names(tmp_path) == ["out"]


def test_a_lack_of_memory_is_one_sentence(runs, capsys, monkeypatch):
    def greedy(self, count, size=None):
        return torch.empty(2**50)

    monkeypatch.setattr(Sampler, "sample", greedy)
    assert refused(capsys, "sample", runs["Sampler"]).startswith("there is not enough memory: give ")


# ---------------------------------------------------------------- one sentence

SIDES = "give sides from 12 to 20,000 pixels, and at least one frame."
REFUSED = [
    ("Sampler", "--size abc", "--size is abc: write HEIGHTxWIDTH in pixels, such as 256x400."),
    ("Sampler", "--size 30", "--size is 30: write HEIGHTxWIDTH"),
    ("Sampler", "--size 2x20x20x20", "--size is 2x20x20x20: write HEIGHTxWIDTH"),
    ("Sampler", "--size 0x10", f"--size is 0x10: {SIDES}"),
    ("Sampler", "--size 11x40", f"--size is 11x40: {SIDES}"),
    ("Sampler", "--size 40x20001", f"--size is 40x20001: {SIDES}"),
    ("ClipSampler", "--size 0x20x20", f"--size is 0x20x20: {SIDES}"),
    ("Sampler", "--size 20000x20000", "--size is 20000x20000, which has more than 16,777,216 pixels: give a smaller"),
    ("ClipSampler", "--size 4000x4100", "--size is 4x4000x4100, which has more than 16,777,216 pixels"),
    ("Sampler", "--size 4x20x20", "--size is 4x20x20, but a Sampler samples images: give HEIGHTxWIDTH."),
    ("Sampler", "--n 0", "--n is 0: give a whole number of at least 1."),
    ("Sampler", "--n many", "n is refused: invalid int value: 'many'"),
    ("Sampler", "--start 1", "--start is no option of random by this Sampler, which takes size: leav"),
    ("ToyPyramid", "--start -1", "--start is -1: give a scale from 0 to 1."),
    ("Sampler", "--seed -1", "--seed is -1: give a whole number of at least 0."),
    ("Sampler", "--fps 0", "--fps is 0: give a number of frames per second above 0."),
    ("Sampler", "--batch_size 0", "--batch_size is 0: give a whole number of at least 1."),
    ("Sampler", "--format gif", "--format is gif, but what is written are images: give png."),
    ("ClipSampler", "--format png", "--format is png, but what is written are clips: give gif, mp4 or frames."),
    ("ToyPyramid", "--task animate --format png", "--format is png, but what is written are clips"),
    ("Sampler", "--task animate", "--task is animate, which is nothing that this Sampler can do: give ran"),
    (
        "ToyPyramid",
        "--task animate --size 20x20",
        "--size is for random, not for animate:",
    ),
    (
        "ToyPyramid",
        "--task animate --start 1",
        "--start is for random, not for animate:",
    ),
    ("ToyPyramid", "--frames 3", "--frames is for animate, not for random:"),
    ("ToyPyramid", "--task animate --frames 0", "--frames is 0: give a number of frames of at least 1."),
    ("Plain", "", "RUN holds a Plain, which makes no random samples."),
    ("untrained", "", "this ToyPyramid is not trained: there is nothing to sample from."),
    ("Sampler", "--wide 3", "wide is no setting"),
]


@pytest.mark.parametrize(("name", "more", "sentence"), REFUSED)
def test_what_cannot_be_sampled_is_one_sentence(runs, tmp_path, capsys, name, more, sentence):
    assert refused(capsys, "sample", runs[name], *more.split()).startswith(sentence)
    assert names(tmp_path) == []


def test_help_does_not_import_torch():
    code = "import sys\nfrom xdomain.commands.main import main\ntry: main(['sample', '--help'])\n"
    code += "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "--size" in result.stdout
    assert result.stdout.endswith("0 False\n")


# ---------------------------------------------------------------- translate, of methods of a single image


@pytest.fixture
def pictures(tmp_path):
    """Two images of different shapes, and masks of their right halves."""
    found = {"a.png": photograph(20, 30), "b.png": photograph(18, 14, seed=1)}
    for name, image in found.items():
        write_image(image, tmp_path / "in" / name)
        mask = torch.zeros(1, *image.shape[1:], dtype=torch.uint8)
        mask[..., image.shape[2] // 2 :] = 255
        write_image(mask, tmp_path / "masks" / name)
    return found


@pytest.mark.parametrize("more", [[], ["--task", "paint"], ["--task", "paint", "--start", "1"]])
def test_paint_keeps_the_aspect_ratio(runs, pictures, tmp_path, capsys, more):
    assert run("translate", runs["ToyPyramid"], "--input", "in", *more) == 0
    assert capsys.readouterr().out == "translated 2 images\n"
    assert read_image(tmp_path / "out/a.png", 3).shape == (3, 20, 30)  # shrunk to what was learned, and back
    small = to_float(pictures["b.png"])
    assert torch.equal(read_image(tmp_path / "out/b.png", 3), to_uint8(-small))  # as it is


@pytest.mark.parametrize(("task", "value"), [("harmonise", 0), ("edit", 255)])
def test_masks_belong_to_images_by_number(runs, pictures, tmp_path, capsys, task, value):
    start = ["--start", 1] if task == "edit" else []  # the other has a default
    assert run("translate", runs["ToyPyramid"], "--input", "in", "--task", task, "--mask", "masks", *start) == 0
    found = read_image(tmp_path / "out/b.png", 3)
    assert torch.equal(found[..., :7], pictures["b.png"][..., :7])
    assert (found[..., 7:] == value).all()
    assert read_image(tmp_path / "out/a.png", 3).shape == (3, 20, 30)


def test_one_mask_for_one_image_and_masks_that_do_not_fit(runs, pictures, tmp_path, capsys):
    more = ["--task", "edit", "--start", 1, "--mask"]
    assert run("translate", runs["ToyPyramid"], "--input", "in/a.png", *more, "masks/a.png") == 0
    capsys.readouterr()
    assert run("translate", runs["ToyPyramid"], "--input", "in", "--overwrite", *more, "masks/a.png") == 1
    out, err = capsys.readouterr()
    assert out == "translated 1 image, skipped 1\n"
    assert "in/b.png has 18x14 pixels, but its mask masks/a.png 20x30: make them alike." in err
    write_image(torch.zeros(1, 20, 30, dtype=torch.uint8), tmp_path / "black.png")
    assert run("translate", runs["ToyPyramid"], "--input", "in/a.png", "--overwrite", *more, "black.png") == 1
    assert "the mask black.png of in/a.png is empty" in capsys.readouterr().err
    write_image(pictures["a.png"], tmp_path / "masks/c.png")
    sentence = refused(capsys, "translate", runs["ToyPyramid"], "--input", "in", "--overwrite", *more, "masks")
    assert sentence == "--mask is masks, which holds 3 masks for 2 images: give one for each, or a single one."


def test_super_resolution_takes_images_as_they_are(runs, pictures, tmp_path, capsys):
    assert run("translate", runs["ToyPyramid"], "--input", "in", "--task", "super_resolve", "--factor", 3) == 0
    expected = pictures["a.png"].repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(read_image(tmp_path / "out/a.png", 3), expected)
    more = ["--task", "super_resolve", "--factor", 1000, "--overwrite"]
    assert run("translate", runs["ToyPyramid"], "--input", "in", *more) == 1
    out, err = capsys.readouterr()
    assert out.endswith("translated 0 images, skipped 2\n")
    assert "factor 1000 makes more than 16,777,216 pixels of an image of 20x30." in err


@pytest.mark.parametrize("more", [[], ["--task", "paint"]])
def test_methods_without_scales_to_start_at_still_translate(runs, pictures, tmp_path, capsys, more):
    assert run("translate", runs["Still"], "--input", "in", *more) == 0
    assert torch.equal(read_image(tmp_path / "out/b.png", 3), to_uint8(-to_float(pictures["b.png"])))


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("ToyPyramid", "--start 2", "--start is 2: give a scale from 1 to 1."),
        ("ToyPyramid", "--start -1", "--start is -1: give a scale from 1 to 1."),
        ("ToyPyramid", "--task harmonise", "--mask is needed by harmonise: give images that are white where the wo"),
        ("ToyPyramid", "--task edit --mask masks", "--start is needed by edit: give a value."),
        (
            "ToyPyramid",
            "--task edit --mask absent --start 1",
            "--mask is absent, which does not exist: give an image file or a folder",
        ),
        ("ToyPyramid", "--mask masks", "--mask is for harmonise or edit, not for transfer:"),
        ("ToyPyramid", "--factor 2", "--factor is for super_resolve, not for transfer:"),
        ("ToyPyramid", "--task super_resolve --factor 1", "--factor is 1: give a number above 1."),
        ("ToyPyramid", "--task super_resolve --factor nan", "--factor is nan: give a number above 1."),
        ("ToyPyramid", "--task remove", "--task is remove, which is nothing that this ToyPyramid can do: give t"),
        ("ToyPyramid", "--guide in", "--guide is no option of transfer by this ToyPyramid, which takes sourc"),
        ("Still", "--start 1", "--start is no option of transfer by this Still, which takes source and"),
        ("Still", "--task super_resolve", "--task is super_resolve, which is nothing that this Still can do: give"),
        ("Sampler", "", "a Sampler does not translate but makes random samples: use xdomain sam"),
        ("Sampler", "--task paint", "a Sampler does not translate but makes random samples: use xdomain sam"),
        ("Plain", "", "a Plain does not translate: give another."),
        ("Quarters", "--task paint", "--task is paint, which is nothing that this Quarters can do: give tran"),
        (
            "Quarters",
            "--task edit --mask masks --start 1",
            "--task is edit, which is nothing that this Quarters can do: give trans",
        ),
        (
            "Quarters",
            "--task remove --start 1",
            "--start is no option of remove by this Quarters, which takes source: l",
        ),
        ("Quarters", "--start 1", "--start is no option of transfer by this Quarters, which takes source "),
        ("untrained", "", "this ToyPyramid is not trained"),
    ],
)
def test_what_cannot_be_translated_is_one_sentence(runs, pictures, tmp_path, capsys, name, more, sentence):
    before = names(tmp_path)
    assert refused(capsys, "translate", runs[name], "--input", "in", *more.split()).startswith(sentence)
    assert names(tmp_path) == before


def test_the_output_lies_outside_of_the_masks(runs, pictures, tmp_path, capsys):
    more = ["--task", "edit", "--start", 1, "--mask", "masks", "--output", "masks", "--overwrite"]
    sentence = refused(capsys, "translate", runs["ToyPyramid"], "--input", "in", *more)
    assert sentence.startswith("the output masks lies in the folder of the masks")


def test_paintings_are_a_function_of_the_seed(runs, pictures, tmp_path, capsys, monkeypatch):
    def noisy(self, images, source, target, start=1):
        return torch.rand_like(images)

    monkeypatch.setattr(ToyPyramid, "translate", noisy)
    found = []
    for seed in (0, 0, 1):
        assert run("translate", runs["ToyPyramid"], "--input", "in", "--seed", seed, "--overwrite") == 0
        found.append(read_image(tmp_path / "out/a.png", 3).numpy())
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
