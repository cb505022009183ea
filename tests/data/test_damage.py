"""Data files of every kind, damaged, foreign or hostile: one sentence that names the file, or the right content."""

import bz2
import contextlib
import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.io

from tests.fakes.celeba import write_celeba
from tests.fakes.cifar import pack, python2_pickle, write_cifar10, write_class_folders, write_corrupted
from tests.fakes.damage import bomb
from tests.fakes.digits import write_mnist, write_svhn, write_usps
from tests.fakes.folders import write_layout
from xdomain import data
from xdomain.errors import UserError

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def mat(**arrays):
    file = io.BytesIO()
    scipy.io.savemat(file, arrays, do_compression=True)
    return file.getvalue()


def header(shape, kind="<u1"):
    """An .npy file that announces what it does not hold."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def tar_of_zeros(size):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        entry = tarfile.TarInfo("test/cat/x.png")
        entry.size = size
        archive.addfile(entry, io.BytesIO(bytes(size)))
    return file.getvalue()


WHATEVER = {
    "empty": b"",
    "text": b"hello\n",
    "a page": b"<html><body>404 Not Found</body></html>",
    "zeros": bytes(1000),
    "a pickle": pickle.dumps({"data": print}),
    "an archive": b"PK\3\4" + bytes(200),
    "gzip of nothing": gzip.compress(b""),
    "gzip cut off": gzip.compress(bytes(1000))[:-9],
    "bzip of text": bz2.compress(b"1 2 3"),
}
ARRAYS = {
    "one number": npy(np.uint8(3)),
    "text": npy(np.array(["a", "b"])),
    "objects": npy(np.array([{}, None]), allow_pickle=True),
    "floats": npy(np.full(200, np.nan)),
    "an archive of arrays": npz(a=np.zeros(3)),
    "records": npy(np.zeros(200, dtype=[("a", "u1"), ("b", "f4")])),
    "more than there is": header((10**12, 32, 32, 3)),
    "a negative shape": header((-1, 32)),
    "a shape that is none": header("(1, 'x')"),
}
MATS = {
    "text for y": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y="four"),
    "cells": mat(X=np.array([[1, "a"]], dtype=object), y=np.ones((1, 4))),
    "cells for y": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.array([[1, "a", 2, 3]], dtype=object)),
    "a structure": mat(X={"a": 1}, y={"b": 2}),
    "nothing for a number": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.full((4, 1), np.nan)),
    "fractions": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.full((4, 1), 0.5)),
    "complex numbers": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.full((4, 1), 1j)),
    "a sparse y": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=scipy.sparse.csc_matrix(np.ones((4, 1)))),
    "two columns": mat(X=np.zeros((32, 32, 3, 4), np.uint8), y=np.ones((4, 2))),
    "other axes": mat(X=np.zeros((4, 32, 32, 3), np.uint8), y=np.ones((4, 1))),
}
PIXELS = np.zeros((2, 3072), np.uint8)
BATCHES = {
    "lists of several lengths": python2_pickle({"data": PIXELS, "labels": [[1], [1, 2]]}),
    "text for labels": python2_pickle({"data": PIXELS, "labels": "ab"}),
    "a number for labels": python2_pickle({"data": PIXELS, "labels": 1}),
    "nothing for labels": python2_pickle({"data": PIXELS, "labels": None}),
    "fractions": python2_pickle({"data": PIXELS, "labels": [0.5, 1.0]}),
    "a list for data": python2_pickle({"data": [1, 2], "labels": [1, 2]}),
    "other pixels": python2_pickle({"data": np.zeros((2, 3073), np.uint8), "labels": [1, 2]}),
    "no pixels": python2_pickle({"data": np.zeros((), np.uint8), "labels": [1, 2]}),
    "a list": python2_pickle([1, 2]),
}


def idx(*shape, magic=(0, 0, 8)):
    return bytes([*magic, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


IDX = {
    "more than memory": idx(2**32 - 1, 28, 28) + bytes(100),
    "other sides": idx(2**31, 2**31, 2**31),
    "more than a set": idx(2_000_000, 28, 28),
    "no sides": idx(20),
    "floats": idx(20, 28, 28, magic=(0, 0, 13)) + bytes(15680),
    "cut off": idx(20, 28, 28)[:9],
}
LINES = {"rows of two lengths": b"1 0 0\n1 0\n", "words": b"a b c\n", "nan": b"nan " * 257}
CASES = {
    "t10k-images-idx3-ubyte": (data.MNIST, write_mnist, WHATEVER | IDX),
    "t10k-labels-idx1-ubyte": (data.MNIST, write_mnist, WHATEVER | IDX),
    "zip.test.gz": (data.USPS, write_usps, WHATEVER | {k: gzip.compress(v) for k, v in LINES.items()}),
    "test_32x32.mat": (data.SVHN, write_svhn, WHATEVER | MATS | ARRAYS),
    "train_photo.npy": (data.SVHN, lambda root: write_svhn(root, photos=True), WHATEVER | ARRAYS),
    "test_batch": (data.CIFAR10, write_cifar10, WHATEVER | BATCHES | ARRAYS),
    "test.tar.gz": (data.CIFAR10, write_class_folders, WHATEVER),
    "fog.npy": (data.CorruptedCIFAR, lambda root: write_corrupted(root, "CIFAR-10-C", 10, "fog"), WHATEVER | ARRAYS),
    "labels.npy": (data.CorruptedCIFAR, lambda root: write_corrupted(root, "CIFAR-10-C", 10, "fog"), WHATEVER | ARRAYS),
    "list_attr_celeba.txt": (data.CelebA, None, WHATEVER),
    "list_eval_partition.txt": (data.CelebA, None, WHATEVER),
    "identity_CelebA.txt": (data.CelebA, None, WHATEVER),
}


def celeba(root):
    write_celeba(root, np.eye(3, 40, dtype=np.uint8), np.arange(3), np.arange(3))


def opened(kind, root):
    """The module with small parts."""
    options = {
        data.MNIST: {"val_size": 5},
        data.USPS: {"val_size": 5},
        data.SVHN: {"val_size": 5},
        data.CIFAR10: {"val_size": 5},
        data.CorruptedCIFAR: {"corruption": "fog"},
        data.CelebA: {"domains": {"all": "*"}, "image_size": 8},
    }
    return kind(root=str(root), **options[kind])


def read(kind, root):
    module = opened(kind, root)
    for split in SPLITS if kind is not data.CorruptedCIFAR else ("test",):
        module.data("a", split)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_what_a_file_does_not_hold_is_said_in_a_sentence(tmp_path, name):
    kind, write, contents = CASES[name]
    (write or celeba)(tmp_path)
    read(kind, tmp_path)
    (path,) = tmp_path.rglob(name)
    for what, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=name) as caught:
            read(kind, tmp_path)
        assert "\n" not in str(caught.value), what
        assert len(str(caught.value)) < 500, what


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_no_damage_leads_to_anything_but_a_sentence(tmp_path, name):
    kind, write, _ = CASES[name]
    (write or celeba)(tmp_path)
    (path,) = tmp_path.rglob(name)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for i in range(15):
        content = bytearray(whole)
        if i % 3 == 0:
            del content[rng.integers(len(content)) :]
        else:
            for at in rng.integers(0, min(len(content), 200 if i % 3 == 1 else len(content)), 3):
                content[at] = rng.integers(256)
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(UserError):
                read(kind, tmp_path)


@pytest.mark.parametrize("kind", ["idx", "usps", "tar"])
def test_a_small_file_does_not_fill_the_memory(tmp_path, monkeypatch, kind):
    zeros = 1 << 26
    if kind == "idx":
        write_mnist(tmp_path, ending=".gz")
        path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx(20, 28, 28) + bytes(zeros), 1))
        module, message = data.MNIST, "is damaged, with 15,697 bytes or more"
    elif kind == "usps":
        monkeypatch.setattr("xdomain.data.official.MOST_TEXT", 1 << 20)
        write_usps(tmp_path)
        path = tmp_path / "usps/zip.test.gz"
        path.write_bytes(gzip.compress(b"0 " * (zeros // 2), 1))
        module, message = data.USPS, "more text than the official files"
    else:
        monkeypatch.setattr("xdomain.data.cifar.MOST_BYTES", 1 << 20)
        write_class_folders(tmp_path)
        path = tmp_path / "cifar10/test.tar.gz"
        path.write_bytes(tar_of_zeros(zeros))
        module, message = data.CIFAR10, "unpacks to more than 1,048,576 bytes"
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=f"{path.name} .*{message}"):
            opened(module, tmp_path).data("a", "test")
        assert tracemalloc.get_traced_memory()[1] < zeros / 4
    finally:
        tracemalloc.stop()


def test_a_picture_in_an_archive_is_measured_before_it_is_decoded(tmp_path):
    write_class_folders(tmp_path)
    pack(tmp_path / "cifar10/test.tar.gz", {"test/cat/x.png": bomb(12_000)})
    with pytest.raises(UserError, match=r"x\.png in .*test\.tar\.gz has 12000x12000 pixels, not 32x32"):
        opened(data.CIFAR10, tmp_path).data("a", "test")


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"])
def test_an_image_is_listed_once(tmp_path, name):
    celeba(tmp_path)
    (path,) = tmp_path.rglob(name)
    lines = path.read_text().splitlines()
    first = 2 if name.startswith("list_attr") else 0
    lines[first + 1] = lines[first].replace(" 1 ", " -1 ") if first else "000001.jpg 2"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        UserError, match=rf"{name} lists 000001\.jpg in line {first + 1} and in line {first + 2}: remove"
    ):
        opened(data.CelebA, tmp_path).data("a", "train")


@pytest.mark.parametrize("label", ["20240101", "9" * 5000, "10000"])
def test_labels_that_are_no_numbers_of_classes(tmp_path, label):
    write_layout(tmp_path, x=4)
    rows = [f"x/{i:03d}.png,{'ab'[i % 2]},train,{label if i else 0}" for i in range(4)]
    (tmp_path / "m.csv").write_text("\n".join(["path,domain,split,label", *rows]))
    with pytest.raises(UserError, match=rf"m\.csv has the label {label}: whole numbers count the classes from 0"):
        data.UnpairedFolders(manifest=str(tmp_path / "m.csv"))
