"""The command line in-process: what it says to bad input, and that what it says is all it says."""

import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from xdomain import __version__
from xdomain.commands.configs import expand_configs, name_of, overrides
from xdomain.commands.main import main
from xdomain.methods import DTN
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


BOMB = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 20))


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


def test_a_misspelt_key_of_a_callback_and_of_a_logger(capsys):
    content = {
        "callbacks": {"pictures": {"class_path": "SampleGrid", "init_args": {"cont": 3}}},
        "logger": [{"class_path": "WandbLogger", "init_args": {"projekt": "x"}}],
    }
    nearest = {
        "callbacks": "callbacks.pictures.init_args.cont is no setting: did you mean count?",
        "logger": "logger.init_args.projekt is no setting: did you mean project?",
    }
    for key, end in nearest.items():
        Path("more.yaml").write_text(yaml.safe_dump({"trainer": {key: content[key]}}))
        assert refused(capsys, "fit", "--config", "small.yaml", "--config", "more.yaml") == f"trainer.{end}"
    pictures = ["--trainer.callbacks.pictures", "SampleGrid", "--trainer.callbacks.pictures.cont", "3"]
    assert refused(capsys, "fit", "--config", "small.yaml", *pictures) == (
        "trainer.callbacks.pictures.cont is no setting: did you mean count?"
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
            "trainer.callbacks",
            "{x: SampleGridd}",
            "is SampleGridd, which is no class that fits there: did you mean SampleGrid?",
        ),
        ("model", "Street", "is Street, which is no class that fits there: choose one of ADDA"),
        (
            "model",
            "torch.nn.Hardswish",
            "is torch.nn.Hardswish, which is no class that fits there: choose one of ADDA",
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
        ("trainer: &a {callbacks: *a}\n", "x.yaml refers to itself, or repeats itself without end: "),
        ("a: &a [1, *a]\n", "x.yaml refers to itself"),
        (BOMB, "x.yaml refers to itself, or repeats itself without end: "),
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


def test_weights_and_a_run_to_go_on_with_exclude_each_other(capsys):
    for words in (["--weights", "x"], ["--trainer.weights=x"]):
        sentence = refused(capsys, "fit", "--config", "small.yaml", *words, "--ckpt_path", "y")
        assert sentence == "--weights begins a new run and --ckpt_path goes on with one: give one of them."
    sentence = refused(capsys, "test", "--config", "small.yaml", "--weights", "x")
    assert sentence == "--weights is for xdomain fit, not for test: give --ckpt_path."
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--weights", "absent")
    assert sentence.startswith("checkpoint absent does not exist")


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
    assert not [warning for warning in recwarn if "logging interval" in str(warning.message)]

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


def test_auto_goes_on_with_the_newest_run_of_the_same_config(capsys):
    fit = ["fit", "--config", "small.yaml", "--ckpt_path", "auto"]
    other = [*fit, "--seed_everything", "7"]
    assert main(fit) == 0
    assert main(other) == 0
    Path("runs/small/0003").mkdir()  # has nothing yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DTN, "on_train_batch_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert main([*fit, "--trainer.max_steps", "3"]) == 143
    assert main([*fit, "--trainer.max_steps", "3"]) == 0
    steps = {n: json.loads(Path(f"runs/small/{n:04}/run.json").read_text())["steps"] for n in (1, 2, 4)}
    assert steps == {1: 2, 2: 2, 4: 3}
    assert main(other) == 0  # has ended: nothing is left to do
    assert sorted(path.name for path in Path("runs/small").iterdir()) == ["0001", "0002", "0003", "0004"]
    capsys.readouterr()
    assert main(["test", *fit[1:]]) == 2
    assert "--ckpt_path auto is for xdomain fit, not for test: give last or best" in capsys.readouterr().err


# ---------------------------------------------------------------- words that YAML would read

AWKWARD = ["[x].png", "[x]", "[x", "@x", "%x", "{x}", "{x", "!x", "&x", "*x", "'x", '"x', "#x", "2024-01-01"]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_path_is_a_path(name):
    Path(name).mkdir()
    config = f"{name.replace('@', '')}.yaml"  # which names of runs may not have
    Path(config).write_text(RECIPE)
    words = ["--config", config, "--data.init_args.a.init_args.root", name, f"--ckpt_path={name}"]
    content = yaml.safe_load(printed(*words))
    assert Path(content["data"]["init_args"]["a"]["init_args"]["root"]) == Path(name)
    assert Path(content["ckpt_path"]) == Path(name)


@pytest.mark.parametrize("name", ["[x]", "#x", "&x", "*x"])
def test_a_missing_path_is_named(capsys, name):
    assert refused(capsys, "fit", "--config", name).startswith(f"no config named {name!r}: ")
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--ckpt_path", name)
    assert re.match(rf"checkpoint (./)?{re.escape(name)} does not exist: ", sentence)


def test_a_word_that_reads_as_nothing(capsys):
    sentence = refused(capsys, "fit", "--config", "small.yaml", "--data.init_args.a.init_args.root", "#x")
    assert sentence == "data.init_args.a.init_args.root #x reads as nothing in YAML: write ./#x if it is a path."


# ---------------------------------------------------------------- callbacks


def callbacks(*words):
    """The callbacks that a recipe ends with: from name to (class, settings)."""
    content = yaml.safe_load(printed("--config", "small.yaml", *words))["trainer"]["callbacks"]
    return {
        name: callback and (callback["class_path"].rsplit(".", 1)[-1], callback.get("init_args", {}))
        for name, callback in content.items()
    }


@pytest.fixture
def pictured():
    """A recipe with two callbacks."""
    mapping = {
        "quality": {"class_path": "AnalogyQuality", "init_args": {"samples": 3, "layer": "x", "options": {"start": 1}}},
        "pictures": {"class_path": "SampleGrid", "init_args": {"count": 5}},
    }
    content = yaml.safe_load(RECIPE)
    content["trainer"]["callbacks"] = mapping
    Path("small.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.usefixtures("pictured")
def test_an_overlay_changes_one_setting_of_one_callback():
    before = callbacks()
    assert before.keys() == {"quality", "pictures"}
    Path("one.yaml").write_text("trainer: {callbacks: {quality: {init_args: {options: {start: 2}}}}}")
    Path("two.yaml").write_text(
        "trainer: {callbacks: {more: {class_path: SampleGrid}, pictures: null, quality: {init_args: {samples: 4}}}}"
    )
    one, two = ["--config", "one.yaml"], ["--config", "two.yaml"]
    changed = {**before["quality"][1], "options": {"start": 2}}
    assert callbacks(*one) == {**before, "quality": ("AnalogyQuality", changed)}
    after = callbacks(*one, *two)
    assert after == {
        "quality": ("AnalogyQuality", {**changed, "samples": 4}),
        "pictures": None,
        "more": ("SampleGrid", {"count": 16, "directions": None}),
    }
    assert callbacks(*two, *one).keys() == after.keys()
    words = ["--trainer.callbacks.more.count", "2", "--trainer.callbacks.quality.init_args.samples=9"]
    spoken = callbacks(*one, *two, *words)
    assert spoken["more"] == ("SampleGrid", {"count": 2, "directions": None})
    assert spoken["quality"][1]["samples"] == 9
    Path("again.yaml").write_text(printed("--config", "small.yaml", *one, *two, *words))
    assert callbacks("--config", "again.yaml") == spoken


@pytest.mark.usefixtures("pictured")
def test_an_overlay_changes_the_class_of_a_callback():
    Path("one.yaml").write_text("trainer: {callbacks: {pictures: {class_path: SampleSheet}}}")
    assert callbacks("--config", "one.yaml")["pictures"][0] == "SampleSheet"


@pytest.mark.usefixtures("pictured")
def test_a_list_of_callbacks_replaces_them_and_is_not_added(capsys):
    Path("one.yaml").write_text("trainer: {callbacks: [{class_path: SampleGrid}, {class_path: LearningCurves}]}")
    assert [kind for kind, _ in callbacks("--config", "one.yaml").values()] == ["SampleGrid", "LearningCurves"]
    Path("two.yaml").write_text("trainer: {callbacks+: [{class_path: SampleGrid}]}")
    assert refused(capsys, "fit", "--config", "small.yaml", "--config", "two.yaml") == (
        "trainer.callbacks needs no +: give every callback a name, NAME: CALLBACK."
    )


# ---------------------------------------------------------------- owners of overlays


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--config", "alpha_1"], "alpha_1.yaml is an overlay for recipes of structural_analogy, not for DTN"),
        (["--config", "photo_brick"], "photo_brick.yaml is an overlay for the data SingleImage, not for DomainPair"),
        (["--config", "no_tid", "--model", "DIDD"], "no_tid.yaml is an overlay for recipes of dtn, not for DIDD"),
    ],
)
def test_an_overlay_of_another_method_or_of_other_data(capsys, words, what):
    """The recipe is a user's own: its classes say whose it is."""
    assert refused(capsys, "fit", "--config", "small.yaml", *words) == f"{what}: leave it out."


def test_an_overlay_of_the_method():
    content = yaml.safe_load(printed("--config", "small.yaml", "--config", "no_tid"))
    assert content["model"]["init_args"]["beta"] == 0


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
        assert name_of(run / f"config{number}.yaml") == "mine"
    Path("theirs.yaml").write_bytes((run / "config.yaml").read_bytes())
    assert name_of(Path("theirs.yaml")) == "theirs"


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


# ---------------------------------------------------------------- ends before the last step


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_fit_with_its_status_and_a_checkpoint(monkeypatch, capsys, signum, status):
    with monkeypatch.context() as patch:
        patch.setattr(DTN, "on_train_batch_start", lambda *_: os.kill(os.getpid(), signum))
        assert main(["fit", "--config", "small.yaml"]) == status
    run = Path("runs/small/0001")
    sentence = f"xdomain: stopped by {signum.name} after step 1: --ckpt_path {run} goes on from there.\n"
    assert capsys.readouterr().err.endswith(sentence)
    assert main(["fit", "--ckpt_path", str(run), "--trainer.log_every_n_steps", "1"]) == 0
    assert main(["fit", "--ckpt_path", str(run), "--trainer.max_steps", "3"]) == 0
    assert yaml.safe_load((run / "config_resumed_2.yaml").read_text())["trainer"]["log_every_n_steps"] == 1
    facts = yaml.safe_load((run / "run.json").read_text())
    assert facts["overrides"] == {"trainer.log_every_n_steps": 1, "trainer.max_steps": 3}
    assert facts["steps"] == 3
    assert sorted(path.name for path in run.iterdir())[:2] == ["checkpoints", "config.yaml"]  # nothing half written


def test_a_signal_before_the_first_batch_ends_fit_too(monkeypatch, capsys):
    monkeypatch.setattr(DTN, "setup", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    assert main(["fit", "--config", "small.yaml"]) == 130
    assert capsys.readouterr().err.endswith("xdomain: stopped by SIGINT.\n")
    assert list(Path("runs/small").iterdir()) == []


def test_another_recipes_checkpoint_is_one_sentence(tmp_path, capsys):
    assert main(["fit", "--config", "small.yaml"]) == 0
    other = yaml.safe_load(RECIPE)
    other["model"]["init_args"]["g"]["init_args"]["width"] = 4
    Path("other.yaml").write_text(yaml.safe_dump(other))
    (tmp_path / "x.ckpt").write_bytes(Path("runs/small/0001/checkpoints/last.ckpt").read_bytes())
    for command in ("fit", "test"):
        capsys.readouterr()
        assert main([command, "--config", "other.yaml", "--ckpt_path", "x.ckpt"]) == 1
        assert "xdomain: error: the checkpoint does not fit this DTN: it belongs to another" in capsys.readouterr().err
        assert list(Path("runs/other").iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (("precision", "64-true"), "trainer.precision is 64-true, but images reach the networks in 32 bits"),
        (("save_minutes", "-1"), "trainer.save_minutes is -1.0: give a number of at least 0"),
    ],
)
def test_settings_of_the_trainer_are_refused_by_their_key(capsys, setting, sentence):
    name, value = setting
    assert sentence in refused(capsys, "fit", "--config", "small.yaml", f"--trainer.{name}", value)


@pytest.mark.parametrize("text", ["1", "1.0", "0.5"])
def test_a_limit_of_one_is_one_batch_and_not_all(capsys, text):
    names = [f"limit_{part}_batches" for part in ("train", "val", "test", "predict")]
    Path("more.yaml").write_text("trainer:\n" + "".join(f"  {name}: {text}\n" for name in names[:2]))
    words = [word for name in names[2:] for word in (f"--trainer.{name}", text)]
    with pytest.raises(SystemExit):
        main(["fit", "--config", "small.yaml", "--config", "more.yaml", *words, "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert [str(found[name]) for name in names] == [text] * 4


@pytest.mark.parametrize(
    ("settings", "variables", "sentence"),
    [
        (
            {"val_check_interval": 50, "check_val_every_n_epoch": 1},
            {},
            "trainer.val_check_interval is 50, but an epoch has 2 batches: give at most 2",
        ),
        ({}, {"SLURM_NTASKS": "4"}, "SLURM_NTASKS is 4: start the training with `srun --ntasks-per-node=4`"),
        (
            {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/fid"}}]},
            {},
            "EarlyStopping watches val/fid, which is not there: choose one of ",
        ),
    ],
)
def test_what_lightning_refuses_is_one_sentence(capsys, monkeypatch, settings, variables, sentence):
    recipe = yaml.safe_load(RECIPE)
    recipe["trainer"] |= settings
    Path("small.yaml").write_text(yaml.safe_dump(recipe))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["fit", "--config", "small.yaml"]) == 1
    assert f"xdomain: error: {sentence}" in capsys.readouterr().err


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
    for _ in range(3):  # the best of three, of the processor's time: the machine may have other work
        before = os.times()
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
        assert text in result.stdout
        assert result.stdout.endswith("0 False\n")
    assert min(seconds) < 1


@pytest.mark.parametrize(
    ("key", "path"),
    [
        *((key, "os.system") for key in ("optimizer", "d_optimizer", "scheduler", "g", "D", "view")),
        ("optimizer", "torch.hub.load"),
        ("g", "torch.load"),
    ],
)
def test_a_recipe_names_classes_of_the_right_kind_only(capsys, tmp_path, key, path):
    """What is called with settings is a class: a function of any module is not."""
    evil = {"class_path": path, "init_args": {"command": "touch hacked"}}
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump({"model": {"init_args": {key: evil}}}))
    setting = f"--model.init_args.{key}"
    for words in (
        ("--config", "evil.yaml"),
        (setting, json.dumps(evil)),
        (f"{setting}.class_path", path),
        (setting, path),
    ):
        sentence = refused(capsys, "fit", "--config", "small.yaml", *words)
        assert sentence.startswith(f"model.init_args.{key} is ")
        assert path in sentence
        assert "Expected" not in sentence
    assert not (tmp_path / "hacked").exists()
