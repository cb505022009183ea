"""Publishing: where a result goes, and what is refused."""

import json
from pathlib import Path

import pytest

from xdomain.errors import UserError
from xdomain.running.publishing import check_publication, publish, read_result, result_file

ONE = {"recipe": "dtn+no_tid", "metrics": {"accuracy": 0.5}, "commit": "0123", "commit_test": "0123", "overrides": {}}
SEVERAL = {**ONE, "metrics": {"accuracy": {"mean": 0.4, "std": 0.1, "n": 3}, "odd": 1.0}}


@pytest.mark.parametrize(
    ("recipe", "file"),
    [
        ("dtn", "dtn/dtn.json"),
        ("dtn+no_tid+seed_1", "dtn/dtn+no_tid+seed_1.json"),
        ("singan_tiny@photographs", "singan/singan_tiny@photographs.json"),
        ("street_classifier", "helpers/street_classifier.json"),
        ("somebodys_own", "somebodys_own.json"),
    ],
)
def test_a_result_lies_in_the_folder_of_its_recipe(recipe, file):
    assert result_file(recipe, Path("x")) == Path("x", file)


def test_one_run_becomes_several_but_not_the_other_way_round():
    path = publish(ONE, Path("x"))
    assert json.loads(path.read_text()) == ONE
    assert publish(SEVERAL, Path("x")) == path
    for anyway in (False, True):
        with pytest.raises(UserError, match=r"dtn\+no_tid.json holds the numbers of 3 runs: remove it first"):
            publish(ONE, Path("x"), anyway)
    assert json.loads(path.read_text()) == SEVERAL
    publish({**SEVERAL, "metrics": {"accuracy": {"mean": 0.3, "std": 0.1, "n": 4}}}, Path("x"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"commit": "0123+"}, r"the code of dtn\+no_tid is not committed: commit it and run it again, or add --anyway"),
        ({"commit_test": "0123+"}, "is not committed"),
        (
            {"overrides": {"model.init_args.alpha": 3}},
            "is not its recipe alone, changed on the command line: model.init_args.alpha 3: add --anyway",
        ),
    ],
)
def test_what_a_table_should_not_show_has_to_be_asked_for(change, sentence):
    with pytest.raises(UserError, match=sentence):
        publish({**ONE, **change}, Path("x"))
    assert not Path("x").exists()
    assert publish({**ONE, **change}, Path("x"), anyway=True).is_file()


def test_an_installed_package_has_no_commit():
    assert publish({**ONE, "commit": None, "commit_test": None}, Path("x")).is_file()


def test_a_plan_can_be_checked():
    assert check_publication({"recipe": "dtn", "commit": "0123"}, Path("x")) == Path("x/dtn/dtn.json")
    assert not Path("x").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"recipe": "x", "metrics": 3}', "[" * 100_000, "\xff"])
def test_a_broken_result_is_named(content):
    Path("x.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"x.json (cannot be read as JSON|is no result): "):
        read_result(Path("x.json"))
