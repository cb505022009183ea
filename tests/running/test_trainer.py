"""What every trainer has."""

import pytest

from xdomain.callbacks import LearningCurves, Results, SampleGrid
from xdomain.running.trainer import Trainer


def kinds(callbacks):
    made = Trainer(callbacks=callbacks, accelerator="cpu", devices=1, enable_progress_bar=False).callbacks
    return [type(callback) for callback in made]


@pytest.mark.parametrize("callbacks", [None, [], {}, SampleGrid(), {"pictures": SampleGrid(), "gone": None}])
def test_every_run_has_curves_and_results(callbacks):
    found = kinds(callbacks)
    assert found.count(LearningCurves) == found.count(Results) == 1
    assert found.count(SampleGrid) == bool(callbacks)


def test_configs_that_name_them_get_them_once():
    found = kinds([Results(), SampleGrid(), LearningCurves()])
    assert found.count(LearningCurves) == found.count(Results) == 1
