"""Streets in the official layouts: classes by the published numbers, parts without overlap, one sentence for damage."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes.streets import IDS, write_cityscapes, write_gta5
from xdomain.data import GTA5ToCityscapes
from xdomain.data.streets import LABEL_IDS
from xdomain.errors import UserError

CLASSES = dict(zip(IDS, (255, 0, 1, 2, 13, 18, 255, 255), strict=True))
"""The number in the files -> that of the 19 classes, as published by the authors of Cityscapes."""


@pytest.fixture
def written(tmp_path):
    return write_gta5(tmp_path, 6), write_cityscapes(tmp_path, train=6, val=3)


def streets(tmp_path, **options):
    sizes = {"source_size": (12, 20), "target_size": (8, 16)}
    return GTA5ToCityscapes(root=str(tmp_path), **{**sizes, "val_size": 2, "batch_size": 2, **options})


def classes(numbers):
    return np.vectorize(CLASSES.get)(numbers).astype(np.uint8)


def test_the_numbers_are_those_of_cityscapes():
    assert len(LABEL_IDS) == 19
    assert [*LABEL_IDS.values()] == sorted(LABEL_IDS.values())
    assert (LABEL_IDS["road"], LABEL_IDS["sky"], LABEL_IDS["train"], LABEL_IDS["bicycle"]) == (7, 23, 31, 33)


def test_images_come_with_the_class_of_every_pixel(tmp_path, written):
    gta5, cityscapes = written
    data = streets(tmp_path)
    train, val = data.data("a", "train"), data.data("a", "val")
    assert (len(train), len(val)) == (4, 2)
    maps = [*train.label_maps, *val.label_maps]
    expected = {classes(numbers).tobytes() for numbers in gta5}
    assert {label_map.tobytes() for label_map in maps} == expected  # every file once
    first = np.asarray(Image.open(tmp_path / train.file(0)))
    assert np.array_equal(train.images[0], first.transpose(2, 0, 1))
    test = data.data("b", "test")
    assert [m.tobytes() for m in test.label_maps] == [classes(numbers).tobytes() for numbers in cityscapes["val"]]
    assert test.label_maps.shape == (3, 16, 32)  # the official size


def test_training_images_of_cityscapes_are_shrunk_and_classes_are_never_mixed(tmp_path, written):
    train = streets(tmp_path).data("b", "train")
    sample = train.__getitems__([2, 0])
    assert sample.image.shape == (2, 3, 8, 16)
    assert sample.position.tolist() == [2, 0]
    whole = classes(np.asarray(Image.open(tmp_path / train.scenes[0].label_map)))
    for y in range(8):
        for x in range(16):
            assert sample.label_map[1, y, x] in whole[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]


def test_batches_hold_both_domains_and_augmentation_moves_no_class(tmp_path, written):
    data = streets(tmp_path)
    batch, _, _ = next(iter(data.train_dataloader()))
    assert batch["a"].image.shape == (2, 3, 12, 20)
    assert batch["b"].label_map.shape == (2, 8, 16)
    assert data.shapes == ((12, 20), (8, 16))
    assert data.fingerprint() == streets(tmp_path).fingerprint() != streets(tmp_path, val_size=1).fingerprint()
    part = data.data("a", "train").keep(np.array([False, True, False, True]))
    assert torch.equal(part.__getitems__([1]).image, data.data("a", "train").__getitems__([3]).image)


def test_missing_and_damaged_files_are_named(tmp_path, written):
    with pytest.raises(UserError, match="val_size is 6, but gta5 holds only 6 training images"):
        streets(tmp_path, val_size=6).data("a", "train")
    label_map = next((tmp_path / "cityscapes" / "gtFine" / "val").glob("*/*"))
    Image.new("L", (9, 9)).save(label_map)
    with pytest.raises(UserError, match="no label map of its image"):
        _ = streets(tmp_path).data("b", "test").label_maps
    label_map.write_bytes(b"png")
    with pytest.raises(UserError, match="cannot be read"):
        _ = streets(tmp_path).data("b", "test").label_maps
    label_map.unlink()
    with pytest.raises(UserError, match=r"label map .* is missing"):
        streets(tmp_path).data("b", "test")
    with pytest.raises(UserError, match="holds no images of the official archives of gta5"):
        streets(tmp_path / "elsewhere").data("a", "train")
