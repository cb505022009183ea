"""CIFAR: fake files in the official formats come back exactly, and what is wrong is told."""

import os
import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from tests.fakes.cifar import (
    batch,
    noise,
    pack,
    png,
    python2_pickle,
    write_cifar10,
    write_cifar100,
    write_class_folders,
    write_corrupted,
)
from xdomain.data.cifar import CIFAR10, CIFAR100, CORRUPTIONS, CorruptedCIFAR
from xdomain.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*of the official")  # the fakes are always partial
PARTS = ("train", "val", "test")


def positions(part, content, labels=None):
    """Where the images of a part stand in the file, after a check that labels came along."""
    images, classes = content
    where = {image.tobytes(): i for i, image in enumerate(images)}
    found = [where[image.tobytes()] for image in part.images]
    assert part.labels.dtype == np.int64
    np.testing.assert_array_equal(part.labels, (classes if labels is None else labels)[found])
    return found


# ---------------------------------------------------------------- content


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(("kind", "write"), [(CIFAR10, write_cifar10), (CIFAR100, write_cifar100)])
def test_official_files_come_back_exactly(tmp_path, kind, write, archive):
    content = write(tmp_path, archive)
    data = kind(root=str(tmp_path), val_size=10)
    train, val, test = (data.data("a", split) for split in PARTS)
    assert test.images.dtype == np.uint8
    np.testing.assert_array_equal(test.images, content["test"][0])
    np.testing.assert_array_equal(test.labels, content["test"][1])
    from_train, from_val = positions(train, content["train"]), positions(val, content["train"])
    assert len(from_val) == 10
    assert sorted(from_train + from_val) == list(range(40))
    again = kind(root=str(tmp_path), val_size=10)
    assert positions(again.data("a", "train"), content["train"]) == from_train
    assert (data.channels, data.image_size, data.domains) == ((3,), 32, (kind.__name__.lower(),))


def test_class_folders_come_back_by_sorted_names(tmp_path):
    content = write_class_folders(tmp_path)
    data = CIFAR10(root=str(tmp_path), val_size=10)
    np.testing.assert_array_equal(data.data("a", "test").images, content["test"][0])
    np.testing.assert_array_equal(data.data("a", "test").labels, content["test"][1])
    found = [positions(data.data("a", split), content["train"]) for split in PARTS[:2]]
    assert sorted(found[0] + found[1]) == list(range(40))


def test_jpeg_and_grey_files_in_class_folders(tmp_path):
    smooth = np.full((32, 32), 77, np.uint8)
    Image.fromarray(smooth).save(tmp_path / "x.jpg")
    pack(tmp_path / "cifar10/test.tar.gz", {"./test/cat/0.jpg": (tmp_path / "x.jpg").read_bytes()})
    part = CIFAR10(root=str(tmp_path)).data("a", "test")
    assert part.labels.tolist() == [3]
    assert np.abs(part.images.astype(int) - 77).max() <= 1
    assert part.images.shape == (1, 3, 32, 32)


def test_official_files_come_before_the_archive_and_the_archive_before_class_folders(tmp_path):
    folders = write_class_folders(tmp_path)
    archived = {"train": noise(10, 10, 20), "test": noise(10, 10, 21)}
    images, labels = archived["test"]
    data = CIFAR10(root=str(tmp_path))
    np.testing.assert_array_equal(data.load("test").images, folders["test"][0])
    pack(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": batch(images, labels=labels)})
    np.testing.assert_array_equal(data.load("test").images, images)
    content = write_cifar10(tmp_path)
    np.testing.assert_array_equal(data.load("test").images, content["test"][0])


def test_coarse_labels(tmp_path):
    content = write_cifar100(tmp_path)
    part = CIFAR100(labels="coarse", root=str(tmp_path)).data("a", "test")
    np.testing.assert_array_equal(part.labels, content["test"][1] % 20)
    assert part.labels.max() > 9


def test_files_written_again_by_python_3(tmp_path):
    content = write_cifar10(tmp_path)
    images, labels = content["test"]
    entries = {"data": images.reshape(20, -1), "labels": labels.tolist()}
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(entries, protocol=4))
    np.testing.assert_array_equal(CIFAR10(root=str(tmp_path)).data("a", "test").images, images)


def test_another_size(tmp_path):
    content = write_cifar10(tmp_path)
    images = CIFAR10(root=str(tmp_path), image_size=16).data("a", "test").images
    assert images.shape == (20, 3, 16, 16)
    whole = content["test"][0].reshape(20, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.corrcoef(images.ravel(), whole.ravel())[0, 1] > 0.9


def test_exclude_classes_touch_only_training(tmp_path):
    write_cifar10(tmp_path)
    data = CIFAR10(root=str(tmp_path), val_size=10, exclude_classes=[3, 7])
    assert not np.isin(data.data("a", "train").labels, [3, 7]).any()
    assert np.isin([3, 7], data.data("a", "test").labels).all()


@pytest.mark.filterwarnings("default:.*of the official")
def test_partial_files_are_used_with_a_warning(tmp_path):
    write_cifar10(tmp_path)
    with pytest.warns(UserWarning, match=r"the test part of .*-py below .* holds 20 instead of the official 10,000"):
        CIFAR10(root=str(tmp_path)).data("a", "test")
    write_class_folders(tmp_path / "folders")
    with pytest.warns(UserWarning, match=r"train\.tar\.gz holds 40 instead of the official 50,000"):
        CIFAR10(root=str(tmp_path / "folders"), val_size=10).data("a", "train")
    write_corrupted(tmp_path, "CIFAR-10-C", 10, "fog")
    with pytest.warns(UserWarning, match=r"fog\.npy at each severity holds 4 instead of the official 10,000"):
        CorruptedCIFAR("fog", root=str(tmp_path)).data("a", "test")


# ---------------------------------------------------------------- what is wrong


class Malice:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(("function", "argument"), [(os.mkdir, "owned"), (eval, "__import__('os').mkdir('owned')")])
def test_a_pickle_runs_nothing(tmp_path, function, argument, protocol):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps({"data": Malice(function, argument)}, protocol))
    with pytest.raises(UserError, match=rf"{path} cannot be read \(it asks for .*{function.__name__}, .*: delete it"):
        CIFAR10(root=str(tmp_path)).data("a", "test")
    assert not Path("owned").exists()
    pickle.loads(path.read_bytes())  # the pickle itself is a working attack
    assert Path("owned").exists()


def test_damaged_batches(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    good = path.read_bytes()
    for bad in (b"", b"<html>", good[:200], good[:-500]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"{path} cannot be read \(.+\): delete it"):
            CIFAR10(root=str(tmp_path)).data("a", "test")


def test_wrong_content_of_batches(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    images, labels = noise(4, 10, 0)

    def refused(entries, match):
        path.write_bytes(python2_pickle(entries))
        with pytest.raises(UserError, match=match):
            CIFAR10(root=str(tmp_path)).data("a", "test")

    rows, classes = images.reshape(4, -1), labels.tolist()
    for entries in ({"data": rows}, {"labels": classes}, {"data": rows, "fine_labels": classes}, [rows]):
        refused(entries, rf"{path} does not hold data and labels like a batch of CIFAR10: delete")
    for wrong, shown in (
        (rows[:, 1:], r"uint8 \[4, 3071\]"),
        (rows / 255, r"float64 \[4, 3072\]"),
        (images, r"uint8 \[4, 3, 32, 32\]"),
        ([1, 2], "list"),
    ):
        refused({"data": wrong, "labels": classes}, rf"{path} holds data as {shown}, not uint8 \[N, 3072\]")
    refused({"data": rows, "labels": classes[:3]}, f"{path} holds 3 labels for 4 images")
    refused({"data": rows[:0], "labels": []}, f"{path} holds 0 labels for 0 images")
    for label in (10, -1, 2.5, "cat"):
        refused({"data": rows, "labels": [*classes[:3], label]}, f"{path} holds labels that are no numbers below 10")


@pytest.mark.parametrize(("labels", "limit"), [("fine", 100), ("coarse", 20)])
def test_labels_of_cifar100_are_checked(tmp_path, labels, limit):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images, _ = noise(2, 10, 0)
    (folder / "test").write_bytes(batch(images, **{f"{labels}_labels": np.array([0, limit])}))
    with pytest.raises(UserError, match=f"no numbers below {limit}"):
        CIFAR100(labels=labels, root=str(tmp_path)).data("a", "test")


@pytest.mark.parametrize(
    ("kind", "file"), [(CIFAR10, "cifar-10-batches-py/test_batch"), (CIFAR100, "cifar-100-python/test")]
)
def test_missing_files_are_named(tmp_path, kind, file):
    with pytest.raises(UserError, match=rf"{tmp_path}/{file} is missing: .*XDOMAIN_DATA .*download: true\.$"):
        kind(root=str(tmp_path)).data("a", "test")


def test_one_missing_batch_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_4").unlink()
    with pytest.raises(UserError, match=r"data_batch_4 is missing"):
        CIFAR10(root=str(tmp_path)).data("a", "train")


def test_damaged_archives(tmp_path):
    write_cifar10(tmp_path / "official", archive=True)
    write_class_folders(tmp_path / "folders")
    for path in (tmp_path / "official/cifar-10-python.tar.gz", tmp_path / "folders/cifar10/test.tar.gz"):
        good = path.read_bytes()
        root = tmp_path / path.relative_to(tmp_path).parts[0]
        for bad in (b"", b"<html>", good[: len(good) // 2], good[:2000] + b"damage" + good[2006:]):
            path.write_bytes(bad)
            with pytest.raises(UserError, match=rf"{path} cannot be read \(.+\): check it, or delete it"):
                CIFAR10(root=str(root)).data("a", "test")


def test_an_archive_without_the_file(tmp_path):
    pack(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/data_batch_1": b""})
    with pytest.raises(UserError, match=r"tar\.gz does not hold cifar-10-batches-py/test_batch: delete"):
        CIFAR10(root=str(tmp_path)).data("a", "test")


def test_wrong_class_folders(tmp_path):
    good, large = png(noise(1, 1, 0)[0][0]), png(np.zeros((3, 33, 32), np.uint8))
    for files, match in (
        ({}, r"test\.tar\.gz holds no files: put images named test/<class>/<file> there"),
        ({"test/cat/0.png": good, "test/kitten/0.png": good}, r"holds test/kitten/0\.png, which is not named test/<cl"),
        ({"train/cat/0.png": good}, r"holds train/cat/0\.png, which is not named test/"),
        ({"readme.txt": b""}, r"holds readme\.txt, which is not named test/"),
        ({"test/cat/0.png": large}, r"test/cat/0\.png in .*test\.tar\.gz has 33x32 pixels, not 32x32"),
        ({"test/cat/0.png": good[:50]}, r"test/cat/0\.png in .*test\.tar\.gz cannot be read \(.+\): replace"),
    ):
        pack(tmp_path / "cifar10/test.tar.gz", files)
        with pytest.raises(UserError, match=match):
            CIFAR10(root=str(tmp_path)).data("a", "test")


# ---------------------------------------------------------------- download


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_offline(tmp_path, monkeypatch, kind):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(UserError, match=rf"^the download into {tmp_path}/{kind.subfolder} failed \(.*no route.*\): "):
        kind(root=str(tmp_path), download=True).data("a", "train")


@pytest.mark.parametrize(("kind", "write"), [(CIFAR10, write_cifar10), (CIFAR100, write_cifar100)])
def test_download_lands_in_the_official_places(tmp_path, monkeypatch, kind, write):
    def fake(root, download):
        write(root, archive=True)
        write(root)

    monkeypatch.setattr(torchvision.datasets, kind.__name__, fake)
    data = kind(root=str(tmp_path), val_size=10, download=True)
    assert [len(data.data("a", split)) for split in PARTS] == [30, 10, 20]
    monkeypatch.setattr(torchvision.datasets, kind.__name__, None)  # a second download would fail
    assert len(kind(root=str(tmp_path), download=True).data("a", "test")) == 20
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("[!.]*") if path.is_file()}
    write(tmp_path / "expected")
    expected = tmp_path / "expected"
    assert written == {path.relative_to(expected) for path in expected.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "write"), [(CIFAR10, write_cifar10), (CIFAR100, write_cifar100)])
def test_an_archive_that_is_there_is_not_fetched(tmp_path, monkeypatch, kind, write):
    write(tmp_path, archive=True)
    monkeypatch.setattr(torchvision.datasets, kind.__name__, None)
    assert len(kind(root=str(tmp_path), download=True).data("a", "test")) == 20


# ---------------------------------------------------------------- corrupted


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    ("variant", "folder", "classes"), [("cifar10", "CIFAR-10-C", 10), ("cifar100", "CIFAR-100-C", 100)]
)
def test_one_severity_of_one_corruption(tmp_path, variant, folder, classes, severity):
    images, labels = write_corrupted(tmp_path, folder, classes, "snow")
    data = CorruptedCIFAR("snow", severity, variant, root=str(tmp_path))
    part = data.data("a", "test")
    rows = slice(4 * (severity - 1), 4 * severity)
    np.testing.assert_array_equal(part.images, images[rows])
    np.testing.assert_array_equal(part.labels, labels[rows])
    assert part.labels.dtype == np.int64
    assert (data.domains, data.channels, data.image_size) == ((variant,), (3,), 32)
    batches = list(data.test_dataloader())
    assert batches[0][0]["a"].image.shape == (4, 3, 32, 32)


def test_there_are_15_corruptions():
    assert len(set(CORRUPTIONS)) == 15
    for name in CORRUPTIONS:
        assert CorruptedCIFAR(name).corruption == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gausian_noise", r": did you mean gaussian_noise\?"),
        ("xyz", ": choose from gaussian_noise .* jpeg_compression"),
    ],
)
def test_unknown_corruptions(name, hint):
    with pytest.raises(UserError, match=f"there is no corruption '{name}'{hint}"):
        CorruptedCIFAR(name)


@pytest.mark.parametrize("severity", [0, 6])
def test_unknown_severities(severity):
    with pytest.raises(UserError, match=f"the severity of a corruption is {severity}: give a number from 1 to 5"):
        CorruptedCIFAR("fog", severity)


@pytest.mark.parametrize("split", ["train", "val"])
def test_corrupted_images_only_test(tmp_path, split):
    write_corrupted(tmp_path, "CIFAR-10-C", 10, "fog")
    with pytest.raises(
        UserError, match=f"CIFAR-10-C has a test part only, no {split} part: train on CIFAR10, and test"
    ):
        CorruptedCIFAR("fog", root=str(tmp_path)).data("a", split)


def test_wrong_corrupted_files(tmp_path):
    data = CorruptedCIFAR("fog", root=str(tmp_path))
    folder = tmp_path / "CIFAR-10-C"

    def refused(match):
        with pytest.raises(UserError, match=match):
            data.data("a", "test")

    refused(rf"{folder}/fog\.npy is missing: unpack the official CIFAR-10-C\.tar there, .*XDOMAIN_DATA")
    images, labels = write_corrupted(tmp_path, "CIFAR-10-C", 10, "fog")
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    for wrong, shown in (
        (pixels[:-1], r"uint8 \[19, 32, 32, 3\]"),
        (images, r"uint8 \[20, 3, 32, 32\]"),
        (pixels[:0], r"uint8 \[0, 32, 32, 3\]"),
        (pixels / 255, r"float64 \[20, 32, 32, 3\]"),
    ):
        np.save(folder / "fog.npy", wrong)
        refused(rf"{folder}/fog\.npy holds {shown}, not uint8 \[5 x N, 32, 32, 3\]: unpack")
    np.save(folder / "fog.npy", pixels)
    for wrong_labels in (labels[:-1], labels + 10, labels[:, None]):
        np.save(folder / "labels.npy", wrong_labels)
        refused(rf"{folder}/labels\.npy does not hold 20 numbers below 10, one for every image of fog\.npy: unpack")
    (folder / "labels.npy").unlink()
    refused(rf"{folder}/labels\.npy is missing")
    np.save(folder / "labels.npy", np.array([Malice(os.mkdir, "owned")]), allow_pickle=True)
    for content in ((folder / "labels.npy").read_bytes(), b"", b"<html>", (folder / "fog.npy").read_bytes()[:1000]):
        (folder / "labels.npy").write_bytes(content)
        refused(rf"{folder}/labels\.npy cannot be read \(.+\): unpack the official file again")
    assert not Path("owned").exists()
