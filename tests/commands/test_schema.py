"""The schema of recipes: it accepts what ships, and finds what a typist gets wrong."""

import copy
import json
import re

import pytest
import yaml

from xdomain.commands.main import main
from xdomain.commands.schema import schema
from xdomain.discover import _configs, find_config

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install jsonschema")

SHIPPED = find_config("dtn.yaml").resolve().parents[1] / "recipe.schema.json"


@pytest.fixture(scope="module")
def validator():
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def test_the_schema_that_ships_is_of_today(validator):
    assert json.loads(SHIPPED.read_text()) == validator.schema, "write it again: make schema"


@pytest.mark.parametrize("overlays", [False, True])
def test_every_config_names_the_schema_that_ships(overlays):
    for config in _configs(overlays):
        [path] = re.findall(r"^# yaml-language-server: \$schema=(.+)$", config.read_text(), re.MULTILINE)
        assert (config.parent / path).resolve() == SHIPPED, config


@pytest.mark.parametrize("overlays", [False, True])
def test_every_config_that_ships_is_valid(validator, overlays):
    configs = _configs(overlays)
    assert len(configs) > 50
    wrong = [path.name for path in configs if not validator.is_valid(yaml.safe_load(path.read_text()))]
    assert wrong == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.class_path", "DTNN"),
        ("model.init_args.alfa", 3),
        ("model.init_args.alpha", "many"),
        ("model.init_args.gan", "quaternary"),
        ("model.init_args.domains", ["x", "y"]),
        ("model.init_args.g.class_path", "HalfResolutionDecoderr"),
        ("model.init_args.g.init_args.widht", 64),
        ("model.init_args.g.init_arg", {}),
        ("model.init_args.clipp", 1.0),  # of the base class: clip
        ("model.init_args.optimizer.init_args.beta", 0.5),
        ("data.init_args.batchsize", 64),
        ("data.init_args.a.class_path", "Streets"),
        ("trainer.max_step", 100),
        ("trainer.max_steps", "all"),
        ("trainer.callbacks.ema.init_args.decays", 0.9),
        ("trainer.callbacks.accuracy.class_path", "Accuracies"),
        ("modle", {}),
    ],
    ids=str,
)
def test_a_typo_is_found(validator, key, value):
    recipe = yaml.safe_load(find_config("dtn.yaml").read_text())
    changed = copy.deepcopy(recipe)
    *parents, last = key.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert validator.is_valid(recipe)
    assert not validator.is_valid(changed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", {"class_path": "my.Method", "init_args": {"anything": 1}}),
        ("data", "Avatars"),
        ("seed_everything", 3),
    ],
)
def test_what_is_of_others_is_taken_as_it_is(validator, key, value):
    assert validator.is_valid({**yaml.safe_load(find_config("dtn.yaml").read_text()), key: value})


def test_the_command_writes_it(tmp_path, capsys, validator):
    assert main(["schema", "--output", "recipe.json"]) == 0
    assert json.loads((tmp_path / "recipe.json").read_text()) == validator.schema
    assert capsys.readouterr() == ("", "")
