"""Refused settings: by name in Python, by key on the command line."""

import pytest

from tests.toys import ToyGAN
from xdomain.commands.main import main
from xdomain.commands.train import keys_of
from xdomain.errors import SettingError, refuse


def test_python_hears_the_name_of_the_setting():
    with pytest.raises(SettingError, match=r"^ToyGAN: accumulate is 0: give a number of batches of at least 1\.$"):
        ToyGAN(accumulate=0)


def test_a_reason_follows_a_comma_and_a_function_has_no_owner():
    with pytest.raises(SettingError, match=r"^frames is 1, but a clip has 2: give more\.$"):
        refuse(None, "frames", 1, ", but a clip has 2: give more.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.init_args.accumulate", "0"], "model.init_args.accumulate is 0: give"),
        (["--data.init_args.batch_size", "0"], "data.init_args.batch_size is 0: give"),
        (
            ["--data.init_args.b.init_args.batch_size", "0"],
            "data.init_args.b.init_args.batch_size is 0: give",
        ),
    ],
)
def test_the_command_line_hears_the_key(options, sentence, capsys):
    assert main(["fit", "--config", "dtn", *options]) == 2
    assert f"xdomain: error: {sentence}" in capsys.readouterr().err


def test_keys_are_those_of_the_owner():
    config = {
        "model": {"class_path": "X", "init_args": {"seed": 1, "network": {"class_path": "N", "init_args": {"k": 1}}}},
        "data": {"class_path": "xdomain.data.Y", "init_args": {"seed": 1}},
        "trainer": {"callbacks": [{"class_path": "Z", "init_args": {"count": 1}}]},
    }

    def found(owner, option):
        error = SettingError(type(owner, (), {}) if owner else None, option, "is bad")
        return list(keys_of(error, config))

    assert found("Y", "seed") == ["data.init_args.seed"]
    assert found("Z", "count") == ["trainer.callbacks.0.init_args.count"]
    assert found("X", "network.k") == ["model.init_args.network.init_args.k"]
    assert found(None, "k") == ["model.init_args.network.init_args.k"]
    assert found("Q", "seed") == []
