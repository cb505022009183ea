"""The command line in-process: what it says to bad input, and that what it says is all it says."""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from xdomain import __version__
from xdomain.commands.main import main
from xdomain.commands.train import _name_of, expand_configs, overrides
from xdomain.networks import ConvClassifier

CLASSIFIER = {"class_path": "ConvClassifier", "init_args": {"widths": [4, 4, 8], "image_size": 16}}
RECIPE = """\
model:
  class_path: DTN
  init_args:
    f: f.ckpt
    g: {class_path: UpConvDecoder, init_args: {width: 8}}
    D: {class_path: ConvDiscriminator, init_args: {width: 4}}
data:
  class_path: DomainPair
  init_args:
    a: {class_path: Street, init_args: {image_size: 16, train_size: 8, val_size: 4, test_size: 4}}
    b: {class_path: Handwritten, init_args: {image_size: 16, limit: 8}}
    batch_size: 4
trainer:
  accelerator: cpu
  devices: 1
  max_steps: 2
  limit_val_batches: 1
  enable_progress_bar: false
  enable_model_summary: false
"""


@pytest.fixture(autouse=True)
def recipe(tmp_path):
    """``small.yaml`` in the current folder, and the untrained classifier that it names."""
    Path("small.yaml").write_text(RECIPE)
    torch.manual_seed(0)
    network = ConvClassifier(**CLASSIFIER["init_args"])
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"hyper_parameters": {"network": CLASSIFIER}, "state_dict": state}, "f.ckpt")


def refused(capsys, *args):
    """The sentence with which a command is refused; there is nothing else on the screen."""
    assert main(list(args)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("Seed set to")]
    assert len(lines) == 1
    assert lines[0].startswith("xdomain: error: ")
    assert not Path("runs").exists()
    return lines[0].removeprefix("xdomain: error: ")


def nested(key, value):
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


# ---------------------------------------------------------------- settings

MISSPELT = {
    "model.init_args.betta": "beta",
    "model.init_args.g.init_args.widht": "width",
    "model.init_args.optimizer.init_args.beta": "betas",
    "data.init_args.batchsize": "batch_size",
    "data.init_args.a.init_args.trainsize": "train_size",
    "trainer.max_stepz": "trainer.max_steps",
    "trainr.max_steps": "trainer.max_steps",
    "seed_everythin": "seed_everything",
}


@pytest.mark.parametrize("place", ["command line", "config"])
@pytest.mark.parametrize("key", MISSPELT)
def test_a_misspelt_key_is_named_with_the_nearest(capsys, place, key):
    more = [f"--{key}", "3"]
    if place == "config":
        content = nested(key, 3)
        if "optimizer" in key:
            content["model"]["init_args"]["optimizer"]["class_path"] = "GANAdam"
        Path("more.yaml").write_text(yaml.safe_dump(content))
        more = ["--config", "more.yaml"]
    elif "optimizer" in key:
        more = ["--model.init_args.optimizer", "GANAdam", *more]
    assert (
        refused(capsys, "fit", "--config", "small.yaml", *more) == f"{key} is no setting: did you mean {MISSPELT[key]}?"
    )


def test_a_misspelt_key_in_a_list(capsys):
    content = {
        "callbacks": [{"class_path": "LearningCurves"}, {"class_path": "SampleGrid", "init_args": {"cont": 3}}],
        "logger": [{"class_path": "WandbLogger", "init_args": {"projekt": "x"}}],
    }
    nearest = {
        "callbacks": "cont is no setting: did you mean count?",
        "logger": "projekt is no setting: did you mean project?",
    }
    for key, end in nearest.items():
        Path("more.yaml").write_text(yaml.safe_dump({"trainer": {key: content[key]}}))
        assert (
            refused(capsys, "fit", "--config", "small.yaml", "--config", "more.yaml")
            == f"trainer.{key}.init_args.{end}"
        )


def test_a_key_like_no_other_is_answered_with_all_of_its_class(capsys):
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--model.init_args.g.init_args.zzz", "3")
    assert sentence == "model.init_args.g.init_args.zzz is no setting: there are pointwise, width."
    assert refused(capsys, "fit", "--config", "small.yaml", "--zzz", "3") == "zzz is no setting."


def test_a_shortened_key_is_not_guessed(capsys):
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--trainer.max_step", "3")
    assert sentence == "trainer.max_step is no setting: did you mean trainer.max_steps?"
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--model.init_args.bet", "3")
    assert sentence == "model.init_args.bet is no setting: did you mean beta?"


@pytest.mark.parametrize(
    ("key", "value", "end"),
    [
        ("model.init_args.beta", "abc", "is 'abc': give a number."),
        ("model.init_args.clip", "abc", "is 'abc': give a number or null."),
        ("model.init_args.gan", "tern", "is 'tern': give ternary, binary or none."),
        ("model.init_args.cache_features", "maybe", "is 'maybe': give true or false."),
        ("model.init_args.g.init_args.width", "wide", "is 'wide': give a whole number."),
        ("data.init_args.batch_size", "1.5", "is '1.5': give a whole number."),
        ("trainer.max_steps", "abc", "is 'abc': give a whole number."),
        ("model.init_args.beta", "null", "has no value: give a number."),
        ("model.init_args.beta", "", "has no value: give a number."),
        ("trainer.max_steps", "null", "has no value: give a whole number."),
        ("model.init_args.f", "null", "must be given."),
        ("model", "DTNN", "is DTNN, which is no class that fits there: did you mean DTN?"),
        ("model.class_path", "DTNN", "is DTNN, which is no class that fits there: did you mean DTN?"),
        ("data.init_args.a", "Stret", "is Stret, which is no class that fits there: did you mean Street?"),
        (
            "model.init_args.g",
            "UpConvDecodr",
            "is UpConvDecodr, which is no class that fits there: did you mean UpConvDecoder?",
        ),
        ("model.init_args.optimizer", "Adamm", "is Adamm, which is no class that fits there: did you mean Adam?"),
        (
            "trainer.callbacks+",
            "SampleGridd",
            "is SampleGridd, which is no class that fits there: did you mean SampleGrid?",
        ),
        ("model", "Street", "is Street, which is no class that fits there: choose one of AttributeClassifier"),
        (
            "model",
            "torch.nn.Linear",
            "is torch.nn.Linear, which is no class that fits there: choose one of AttributeClassifier",
        ),
        (
            "model",
            "xdomain.methods.DTNN",
            "is xdomain.methods.DTNN, which is no class that fits there: did you mean DTN?",
        ),
        ("model", "absent.DTN", "is absent.DTN, which is no class that fits there: did you mean DTN?"),
    ],
)
def test_a_bad_value_is_named_with_what_fits(capsys, key, value, end):
    sentence = refused(capsys, "fit", "--config", "small.yaml", f"--{key}={value}")
    assert sentence.startswith(
        f"{key.removesuffix('.class_path').removesuffix('+')} {end}"
    )  # the tests' own classes may follow


def test_the_module_that_a_users_class_needs_is_named(capsys, tmp_path, monkeypatch):
    Path("mine_to_break.py").write_text("import absent_package")
    monkeypatch.syspath_prepend(tmp_path)
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--model", "mine_to_break.Mine")
    assert sentence == "model is mine_to_break.Mine, which cannot be used: No module named 'absent_package'."


@pytest.mark.parametrize("key", ["trainer.max_steps", "model.init_args.beta", "config", "ckpt_path"])
@pytest.mark.parametrize("more", [[], ["--seed_everything", "1"]])
def test_a_key_without_a_value(capsys, key, more):
    assert refused(capsys, "fit", "--config", "small.yaml", f"--{key}", *more) == f"--{key} needs a value."


def test_a_word_that_is_no_key(capsys):
    sentence = refused(capsys, "fit", "--config", "small.yaml", "trainer.max_steps")
    assert sentence == "trainer.max_steps is no setting: a setting is written --KEY VALUE."


@pytest.mark.parametrize("name", ["domains", "channels", "image_size"])
def test_what_the_data_decides_cannot_be_set(capsys, name):
    value = {"domains": "[x, y]", "channels": "[1, 3]", "image_size": "32"}[name]
    sentence = refused(capsys, "fit", "--config", "small.yaml", f"--model.init_args.{name}={value}")
    assert sentence == f"model.init_args.{name} is set by the data: leave it out of config and command line."


@pytest.mark.parametrize(("name", "ours"), [("gradient_clip_val", "clip"), ("accumulate_grad_batches", "accumulate")])
def test_options_that_manual_optimisation_has_elsewhere(capsys, name, ours):
    sentence = refused(capsys, "fit", "--config", "small.yaml", f"--trainer.{name}", "2")
    assert sentence == f"trainer.{name} does not work with these methods: set model.init_args.{ours} instead."


def test_a_value_that_a_class_refuses(capsys):
    sizes = [f"--data.init_args.{role}.init_args.image_size=20" for role in "ab"]
    sentence = refused(capsys, "fit", "--config", "small.yaml", *sizes)
    assert sentence.startswith("a setting is refused: image_size ")
    assert refused(capsys, "fit", "--config", "small.yaml", sizes[0]).startswith("image sizes differ: street has 20, ")
    assert "'gpuu'" in refused(capsys, "fit", "--config", "small.yaml", "--trainer.accelerator", "gpuu")
    assert refused(capsys, "fit", "--config", "small.yaml", "--model.init_args.f", "f").startswith(
        "no config named 'f'"
    )


# ---------------------------------------------------------------- configs, checkpoints, commands


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("model:\n  init_args: {a: [1, 2\ndata:\n", "x.yaml, line 3 is not YAML: "),
        ("a: b: c\n", "x.yaml, line 1 is not YAML: "),
        (b"\xff\xfe\x00", "x.yaml is not YAML: this is no text file."),
        ("- a\n- b\n", "x.yaml is no config: "),
        ("", "x.yaml is no config: "),
        ("model:\n", "x.yaml is no config: "),
        ("trainer: {max_steps: 3}\n", "data and model must be given: add --config RECIPE."),
    ],
)
def test_a_broken_config_is_named_with_its_line(capsys, content, sentence):
    Path("x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(capsys, "fit", "--config", "x.yaml").startswith(sentence)


def test_a_missing_config_is_named_with_the_nearest(capsys):
    assert refused(capsys, "fit", "--config", "dtnn.yaml").startswith(
        "no config named 'dtnn.yaml': did you mean dtn.yaml?"
    )
    assert refused(capsys, "fit").startswith("xdomain fit needs a recipe: add --config NAME")


def test_a_missing_checkpoint_is_named(capsys):
    for words in (["fit", "--config", "small.yaml"], ["test"]):
        assert refused(capsys, *words, "--ckpt_path", "absent.ckpt").startswith(
            "checkpoint absent.ckpt does not exist: "
        )
    Path("alone.ckpt").write_text("")
    assert refused(capsys, "test", "--ckpt_path", "alone.ckpt").startswith("alone.ckpt has no run folder")


def test_an_unknown_command(capsys):
    assert refused(capsys, "train").startswith("unknown command 'train': choose one of fit, ")


def test_the_settings_of_a_class_are_shown_without_a_recipe(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--model.help", "DTN"])
    assert "--model.alpha" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "small.yaml", "--print_config"])
    assert "class_path: xdomain.methods.DTN" in capsys.readouterr().out
    assert refused(capsys, "fit", "--model.help", "DTNN").startswith("DTNN is no known class")


# ---------------------------------------------------------------- a whole run


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_a_run_prints_no_advertising_and_its_config_and_checkpoint_work_again(capsys, recwarn):
    listener, lightning = Lines(), logging.getLogger("pytorch_lightning")
    lightning.addHandler(listener)
    try:
        assert main(["fit", "--config", "small.yaml"]) == 0
    finally:
        lightning.removeHandler(listener)
    assert any("max_steps=2" in line for line in listener.lines)  # what Lightning has to say still comes
    assert not [line for line in listener.lines if "Tip" in line or "weights_only" in line]
    assert not [warning for warning in recwarn if "LeafSpec" in str(warning.message)]

    run = Path("runs/small/0001")
    assert main(["fit", "--config", str(run / "config.yaml")]) == 0
    assert Path("runs/small/0002/checkpoints/last.ckpt").is_file()

    Path("f.ckpt").unlink()
    from xdomain.data.images import write_image

    write_image(torch.zeros(3, 20, 20, dtype=torch.uint8), Path("in/x.png"))
    capsys.readouterr()
    assert main(["translate", "--ckpt_path", str(run), "--input", "in", "--output", "out"]) == 0
    assert capsys.readouterr().out == "translated 1 image\n"
    assert Path("out/x.png").is_file()


# ---------------------------------------------------------------- names of runs


def printed(*words):
    """What ``--print_config`` writes."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        main(["fit", *words, "--print_config"])
    return text.getvalue()


def test_the_name_of_a_run_is_that_of_its_configs():
    Path("small_more.yaml").write_text(RECIPE)
    Path("more.yaml").write_text("trainer: {max_steps: 1}")
    configs = [["small"], ["small_more"], ["small", "more"]]
    names = [expand_configs([word for name in given for word in ("--config", f"{name}.yaml")])[1] for given in configs]
    assert names == ["small", "small_more", "small+more"]
    assert expand_configs(["--help"])[1] == "run"


def test_a_printed_config_has_the_name_of_its_file(capsys):
    Path("mine.yaml").write_text(printed("--config", "small.yaml"))
    assert main(["fit", "--config", "mine.yaml", "--trainer.max_steps", "1"]) == 0
    run = Path("runs/mine/0001")
    assert capsys.readouterr().out == f"run:      {run}, changed on the command line: trainer.max_steps 1\n"
    assert json.loads((run / "run.json").read_text())["recipe"] == "mine"
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["recipe"] is None
    for number in ("", "_resumed_1"):  # configs that a run saved have its name, with what is laid over them
        (run / f"config{number}.yaml").touch()
        assert _name_of(run / f"config{number}.yaml") == "mine"
    Path("theirs.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert _name_of(Path("theirs.yaml")) == "theirs"


@pytest.mark.parametrize("name", ["../../etc", "/etc", ".hidden", "", ".."])
def test_a_name_that_leads_elsewhere(capsys, name):
    sentence = refused(capsys, "fit", "--config", "small.yaml", f"--trainer.recipe={name}")
    assert sentence == f"trainer.recipe is {name!r}: give a plain name, without folders."
    assert not Path("../../etc").exists()


def test_a_name_that_is_too_long(capsys):
    Path(f"{'x' * 245}.yaml").write_text(RECIPE)
    assert refused(capsys, "fit", "--config", f"{'x' * 245}.yaml").endswith("give a name of at most 240.")


def test_a_name_that_would_read_as_two(capsys):
    Path("small+more.yaml").write_text(RECIPE)
    assert refused(capsys, "fit", "--config", "small+more.yaml") == (
        "small+more.yaml has + in its name, which joins names of configs: rename it."
    )


def test_changes_of_the_command_line():
    words = [
        "--config",
        "x",
        "--a=1",
        "--b",
        "null",
        "--c",
        "[1, x]",
        "--d",
        "2024-01-01",
        "--e",
        "[x.png",
        "--f",
        "a: b: c",
    ]
    shown = ["--trainer.run_dir", "r", "--trainer.enable_progress_bar", "false"]
    assert overrides([*words, *shown]) == {
        **{"a": 1, "b": None, "c": [1, "x"]},
        **{"d": "2024-01-01", "e": "[x.png", "f": "a: b: c"},
    }


# ---------------------------------------------------------------- answers without torch


@pytest.mark.parametrize(
    ("args", "text"),
    [(["list"], "dtn.yaml"), (["--version"], f"xdomain {__version__}"), (["--help"], "usage: xdomain")],
)
def test_quick_answers_do_not_wait_for_torch(args, text):
    code = (
        f"import sys\nfrom xdomain.commands.main import main\ncode = main({args})\nprint(code, 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    seconds = []
    for _ in range(3):  # the best of three: the machine may have other work
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        seconds.append(time.perf_counter() - start)
        assert text in result.stdout
        assert result.stdout.endswith("0 False\n")
    assert min(seconds) < 1
