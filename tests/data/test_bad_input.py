"""Images, clips and places that nothing can be learned from, through the command line: one sentence, and no trace."""

from pathlib import Path

import pytest
import torch

from tests.methods.single import photograph
from xdomain.commands.main import main
from xdomain.data.images import write_image
from xdomain.data.video import write_video

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SHORT = ["--model.iterations=1", "--data.steps_per_epoch=1", "--trainer.max_steps=1"]
VIDEO = "--data=SingleVideo"


@pytest.fixture(autouse=True)
def _files(tmp_path):
    """One of every kind."""
    write_image(photograph(20, 30), tmp_path / "good.png")
    write_image(torch.full((3, 40, 40), 7, dtype=torch.uint8), tmp_path / "one_colour.png")
    write_image(photograph(5, 5), tmp_path / "five.png")
    write_image(photograph(2, 20_001), tmp_path / "long.png")
    write_image(photograph(14, 300), tmp_path / "thin.png")
    write_image(photograph(18, 40), tmp_path / "small.png")
    write_image(photograph(20, 20), tmp_path / "folder" / "a.png")
    Path("text.txt").write_text("hello")
    Path("text.png").write_text("hello")
    clip = torch.stack([photograph(20, 30, seed) for seed in range(6)])
    write_video(clip[:1], tmp_path / "one_frame.gif")
    write_video(clip, tmp_path / "six.gif")
    write_video(clip, tmp_path / "good.mp4")
    content = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "corrupt.mp4").write_bytes(content[: len(content) // 2])
    write_image(torch.zeros(3, 20, 30, dtype=torch.uint8), tmp_path / "black" / "0.png")
    write_image(torch.zeros(3, 20, 30, dtype=torch.uint8), tmp_path / "black" / "1.png")
    write_image(photograph(20, 30), tmp_path / "mixed" / "0.png")
    write_image(photograph(30, 20), tmp_path / "mixed" / "1.png")


def everything():
    return sorted(str(path) for path in Path().rglob("*"))


def refused(capsys, *more):
    before = everything()
    assert main(["fit", "--config", "singan_tiny.yaml", *QUIET, *more]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if not line.startswith("Seed set to")]
    assert line.startswith("xdomain: error: ")
    assert everything() == before
    return line.removeprefix("xdomain: error: ")


IMAGES = {
    "one_colour.png": "one_colour.png is of one colour: give one that shows something.",
    "five.png": "five.png with 5x5 pixels becomes 5x5 at max_size 64: both sides must keep at least 12.",
    "long.png": "long.png has 2x20001 pixels: shrink it to sides of at most 20,000.",
    "thin.png": "thin.png with 14x300 pixels becomes 3x64 at max_size 64: both sides must keep at least 12.",
    "small.png": "a setting is refused: an image of 18x40 pixels is too small for a pyramid from 18 to 64: its shorter "
    "side must be larger than min_size",
    "text.txt": "text.txt cannot be read as an image, replace or remove it: its content is of no known image format.",
    "text.png": "text.png cannot be read as an image",
    "corrupt.mp4": "corrupt.mp4 cannot be read as an image",
    "folder": "folder cannot be read as an image, replace or remove it: it is a folder.",
    "absent.png": "the image absent.png does not exist.",
    "scikit-image:cofee": "scikit-image:cofee is none of the photographs of scikit-image: did you mean coffee?",
}
CLIPS = {
    "one_frame.gif": "one_frame.gif holds one frame only: give a video, or use an image method for a single picture.",
    "good.png": "good.png holds one frame only",
    "folder": "folder holds one frame only",
    "six.gif": "six.gif holds 6 frames, which gives 6 of the 13 wanted from start 0 with stride 1",
    "corrupt.mp4": "corrupt.mp4 cannot be read as a video, replace it: ",
    "text.txt": "text.txt cannot be read as a video, replace it: ",
    "absent.mp4": "the video absent.mp4 does not exist: give a video file or a folder of frames.",
    "mixed": "the frames of mixed differ in size: frame 1 has 30x20 pixels, make all alike.",
    "engine:watr": "engine:watr is none of the clips that are drawn: did you mean water?",
}


@pytest.mark.parametrize("path", IMAGES)
def test_images(capsys, path):
    assert refused(capsys, f"--data.path={path}").startswith(IMAGES[path])


@pytest.mark.parametrize("path", CLIPS)
def test_clips(capsys, path):
    assert refused(capsys, VIDEO, f"--data.path={path}").startswith(CLIPS[path])


def test_the_long_spelling(capsys):
    for more, path, sentences in ([], "five.png", IMAGES), ([VIDEO], "one_frame.gif", CLIPS):
        assert refused(capsys, *more, f"--data.init_args.path={path}").startswith(sentences[path])


def test_a_clip_of_one_colour(capsys):
    sentence = refused(capsys, VIDEO, "--data.path=black", "--data.frames=2")
    assert sentence == "black is of one colour: give one that shows something."


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("--model.iterations=0", "model.init_args.iterations is 0: give a number of batches of at least 1."),
        ("--model.iterations=x", "model.init_args.iterations is 'x': give a whole number."),
        ("--data.max_size=0", "data.init_args.max_size is 0: give a number of pixels."),
        ("--data.max_size=-5", "data.init_args.max_size is -5: give a number of pixels."),
        ("--data.steps_per_epoch=0", "data.init_args.steps_per_epoch is 0: give at least 1."),
        ("--model.min_size=100", "a setting is refused: an image of 43x64 pixels is too small for a pyramid from 100"),
        ("--model.min_size=0", "model.init_args.min_size is 0: give at least 1."),
        ("--model.width=0", "model.init_args.width is 0: give at least 1."),
        ("--model.layers=0", "model.init_args.layers is 0: give at least 1."),
        ("--model.factor=1", "a setting is refused: the factor between scales is 1.0: give a number between 0 and 1."),
    ],
)
def test_settings(capsys, setting, sentence):
    assert refused(capsys, setting).startswith(sentence)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("--trainer.run_dir=text.txt", "the output text.txt is a file: give a folder."),
        ("--trainer.run_dir=text.txt/x", "the output text.txt/x cannot be made, since "),
        ("--trainer.default_root_dir=text.txt", "the output text.txt/singan_tiny cannot be made, since "),
    ],
)
def test_places_of_runs(capsys, setting, sentence):
    assert refused(capsys, setting).startswith(sentence)


def test_a_place_of_results_is_refused_before_the_test(capsys):
    more = [*QUIET, *SHORT, "--data.path=good.png", "--model.max_size=30"]
    assert (
        main(["fit", "--config", "singan_tiny.yaml", *more, "--trainer.run_dir=run", "--trainer.callbacks=null"]) == 0
    )
    before = everything()
    capsys.readouterr()
    assert main(["test", "--config", "singan_tiny.yaml", *more, "--ckpt_path=run", "--trainer.run_dir=text.txt"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "error" in line] == [
        "xdomain: error: the output text.txt is a file: give a folder."
    ]
    assert everything() == before


@pytest.mark.parametrize("key", ["--data.path", "--data.init_args.path"])
def test_both_spellings_of_a_setting_reach_it(capsys, key):
    spelt = key.replace("path", "")
    more = [f"{key}=good.png", f"{spelt}max_size=28", f"{spelt.replace('data', 'model')}iterations=2"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "singan_tiny.yaml", *more, "--print_config"])
    assert stop.value.code in (0, None)
    printed = capsys.readouterr().out
    for setting in ("path: good.png", "max_size: 28", "iterations: 2"):
        assert setting in printed
