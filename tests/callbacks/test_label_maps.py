"""Scores of translations between pictures and label maps: by a method that answers right, wrong, or with its input."""

import pytest

from tests.callbacks.oracle import oracle
from tests.fakes.folders import write_layout
from tests.toys import trainer
from xdomain.callbacks import LabelMapScores
from xdomain.data import FacadeWorld, UnpairedFolders
from xdomain.errors import UserError


def data(**options):
    return FacadeWorld(image_size=16, train_size=4, val_size=6, test_size=6, batch_size=2, eval_batch_size=4, **options)


def result_of(method, world):
    (values,) = trainer(callbacks=[LabelMapScores()]).test(method, datamodule=world, verbose=False)
    return values


def test_true_answers_have_full_marks_and_null_rows_stand_beside():
    values = result_of(oracle(), data())
    name = "photo_to_labels"
    for score in ("pixel_accuracy", "class_accuracy", "miou", "relabelled"):
        assert values[f"{score}/{name}"] == 1
    assert values[f"l1/{name}"] == values["l1/labels_to_photo"] == 0
    assert "pixel_accuracy/labels_to_photo" not in values  # nobody judges pictures here
    for other in ("largest", "random", "untranslated"):
        assert 0 < values[f"miou_{other}/{name}"] < 0.6
    assert values[f"pixel_accuracy_largest/{name}"] > 1 / 12
    assert values[f"class_accuracy_largest/{name}"] < 0.5


def test_noise_below_half_the_distance_of_colours_changes_nothing_but_l1():
    values = result_of(oracle(lambda truth, _: truth + 0.05), data())
    assert values["pixel_accuracy/photo_to_labels"] == 1
    assert 0.02 < values["l1/photo_to_labels"] <= 0.05


def test_doing_nothing_is_the_untranslated_row():
    values = result_of(oracle(lambda _, images: images), data())
    for score in ("pixel_accuracy", "class_accuracy", "miou", "l1"):
        name = f"{score}/photo_to_labels"
        assert values[name] == values[f"{score}_untranslated/photo_to_labels"]


def test_data_without_pairs_or_label_maps_are_refused(tmp_path):
    write_layout(tmp_path, trainA=4, trainB=4)
    folders = UnpairedFolders(path=str(tmp_path), image_size=16)
    with pytest.raises(UserError, match="knows none: remove it"):
        trainer(callbacks=[LabelMapScores()]).test(oracle(), datamodule=folders)
