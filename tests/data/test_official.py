import gzip
import http.client
import threading
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision
from scipy.ndimage import uniform_filter

from tests.fakes.digits import Digits, noise_digits, write_idx, write_mnist, write_svhn, write_usps
from xdomain.data import MNIST, SVHN, USPS, ImageData, SingleDomain
from xdomain.data.base import Split
from xdomain.data.official import SVHN_SIZES
from xdomain.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*of the official")  # the fakes are always partial
PARTS: tuple[Split, ...] = ("train", "val", "test")


def positions(part: ImageData, content: Digits) -> list[int]:
    """Where the images of a part stand in the file, after a check that labels came along."""
    images, labels = content
    where = {image.tobytes(): i for i, image in enumerate(images)}
    found = [where[image.tobytes()] for image in part.images]
    assert part.labels is not None
    assert part.labels.dtype == np.int64
    np.testing.assert_array_equal(part.labels, labels[found])
    return found


def all_positions(data: SingleDomain, content: Digits) -> dict[Split, list[int]]:
    return {name: positions(data.data("a", name), content) for name in PARTS}


# ---------------------------------------------------------------- content


@pytest.mark.parametrize(
    ("kind", "write", "options"),
    [
        (MNIST, write_mnist, {}),
        (MNIST, write_mnist, {"ending": ".gz"}),
        (USPS, write_usps, {}),
        (USPS, write_usps, {"libsvm": True}),
        (SVHN, write_svhn, {}),
    ],
)
def test_files_come_back_exactly(tmp_path: Path, kind: Any, write: Any, options: dict[str, Any]) -> None:
    content = write(tmp_path, **options)
    native = {MNIST: 28, USPS: 16, SVHN: 32}[kind]
    data = kind(root=str(tmp_path), image_size=native, val_size=10)
    train, val, test = (data.data("a", split) for split in PARTS)
    assert test.images.dtype == np.uint8
    np.testing.assert_array_equal(test.images, content["test"][0])
    np.testing.assert_array_equal(test.labels, content["test"][1])
    from_train, from_val = positions(train, content["train"]), positions(val, content["train"])
    assert len(from_val) == 10
    assert not set(from_train) & set(from_val)
    dropped = len(content["train"][0]) - len(from_train) - len(from_val)
    assert dropped == (5 if kind is SVHN else 0)
    again = kind(root=str(tmp_path), image_size=native, val_size=10)
    assert positions(again.data("a", "train"), content["train"]) == from_train


@pytest.mark.parametrize(
    ("kind", "write", "channels"), [(MNIST, write_mnist, 1), (USPS, write_usps, 1), (SVHN, write_svhn, 3)]
)
def test_default_is_32_pixels(tmp_path: Path, kind: Any, write: Any, channels: int) -> None:
    write(tmp_path)
    data = kind(root=str(tmp_path), val_size=10)
    assert data.image_size == 32
    assert data.channels == (channels,)
    assert data.domains == (kind.__name__.lower(),)
    images = data.data("a", "test").images
    assert images.dtype == np.uint8
    assert images.shape == (20, channels, 32, 32)


def resized(root: Path, image: np.ndarray, size: int) -> np.ndarray:
    """What becomes of one MNIST image at another size."""
    write_mnist(root, test=1)
    write_idx(root / "MNIST/raw/t10k-images-idx3-ubyte", image[None])
    image_out: np.ndarray = MNIST(root=str(root), image_size=size).data("a", "test").images[0, 0]
    return image_out


def test_shrinking_antialiases(tmp_path: Path) -> None:
    stripes = np.zeros((28, 28), np.uint8)
    stripes[:, ::4] = 255
    small = resized(tmp_path, stripes, 7)[:, 1:-1]
    assert np.abs(small.astype(int) - 64).max() < 8  # the mean; without antialiasing the stripes vanish


def test_overshoot_does_not_wrap_around(tmp_path: Path) -> None:
    edge = np.zeros((28, 28), np.uint8)
    edge[:, 14:] = 255
    large = resized(tmp_path, edge, 56)
    assert large[:, :27].max() < 64
    assert large[:, 29:].min() > 191


def test_resizing_keeps_the_picture(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    images, labels = noise_digits(2001, 3, 32)  # more than one piece of the resizing
    smooth = uniform_filter(images.astype(np.float32), (0, 0, 9, 9)).astype(np.uint8)
    y = np.where(labels == 0, 10, labels)[:, None]
    scipy.io.savemat(tmp_path / "svhn/test_32x32.mat", {"X": smooth.transpose(2, 3, 1, 0), "y": y})
    large = SVHN(root=str(tmp_path), image_size=64).data("a", "test").images
    assert large.shape == (2001, 3, 64, 64)
    back = large.reshape(2001, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(back - smooth).max() < 4


def test_svhn_class_10_is_the_digit_0(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    assert 10 in scipy.io.loadmat(tmp_path / "svhn/test_32x32.mat")["y"]
    labels = SVHN(root=str(tmp_path)).data("a", "test").labels
    assert labels is not None
    assert set(labels.tolist()) == set(range(10))


def test_exclude_classes_and_limit_touch_only_training(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = MNIST(root=str(tmp_path), val_size=10, exclude_classes=[3, 7], limit=12)
    train, val, test = (data.data("a", split) for split in PARTS)
    assert (len(train), len(val), len(test)) == (12, 10, 20)
    assert train.labels is not None
    assert test.labels is not None
    assert not np.isin(train.labels, [3, 7]).any()
    assert np.isin([3, 7], test.labels).all()


# ---------------------------------------------------------------- SVHN: sizes, files, photos


@pytest.mark.filterwarnings("default:.*of the official")
def test_svhn_warns_of_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path)
    with pytest.warns(UserWarning, match=r"test_32x32\.mat holds 20 of the official 26,032 images"):
        SVHN(root=str(tmp_path)).data("a", "test")
    monkeypatch.setitem(SVHN_SIZES, "test", 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SVHN(root=str(tmp_path)).data("a", "test")


def test_svhn_extra(tmp_path: Path) -> None:
    content = write_svhn(tmp_path, extra=80)
    extra = SVHN(root=str(tmp_path), part="extra", val_size=10)
    assert len(positions(extra.data("a", "train"), content["extra"])) == 80 - 10 - 5
    both = SVHN(root=str(tmp_path), part="train+extra", val_size=10)
    joined = tuple(np.concatenate(arrays) for arrays in zip(content["train"], content["extra"], strict=True))
    images, labels = joined
    train = positions(both.data("a", "train"), (images, labels))
    assert [i for i in train if i >= 200] == list(range(200, 280))
    assert len(train) == 200 - 10 - 5 + 80
    assert len(positions(both.data("a", "val"), content["train"])) == 10


@pytest.mark.parametrize("holdout", [None, 0.125])
@pytest.mark.parametrize("val_size", [29, 30, 31, 32])  # some of them would cut a photo
def test_svhn_photos_never_straddle(tmp_path: Path, val_size: int, holdout: float | None) -> None:
    content = write_svhn(tmp_path, photos=True)
    photo = np.load(tmp_path / "svhn/train_photo.npy")
    data = SVHN(root=str(tmp_path), val_size=val_size, holdout=holdout)
    splits = PARTS if holdout else PARTS[:2]
    found = {split: positions(data.data("a", split), content["train"]) for split in splits}
    assert sorted(i for where in found.values() for i in where) == list(range(200))
    photos = {split: set(photo[where].tolist()) for split, where in found.items()}
    assert sum(map(len, photos.values())) == len(set(photo.tolist()))  # no photo is counted twice
    assert val_size <= len(found["val"]) < val_size + 4  # a started photo is finished
    if holdout:
        assert 25 <= len(found["test"]) < 29
    assert found["val"] != sorted(found["val"])  # photos are shuffled, not taken in the order of the file


def test_svhn_blocks_keep_a_distance(tmp_path: Path) -> None:
    content = write_svhn(tmp_path, test=None)
    found = all_positions(SVHN(root=str(tmp_path), val_size=30, holdout=0.125), content["train"])
    assert found == {"test": list(range(25)), "val": list(range(30, 60)), "train": list(range(65, 200))}


def test_svhn_holdout_comes_before_the_test_file(tmp_path: Path) -> None:
    content = write_svhn(tmp_path, test=20)
    test = SVHN(root=str(tmp_path), val_size=30, holdout=0.125).data("a", "test")
    assert positions(test, content["train"]) == list(range(25))


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize("folder_exists", [True, False])
@pytest.mark.parametrize(
    ("kind", "split", "file"),
    [
        (MNIST, "train", r"MNIST/raw/train-images-idx3-ubyte or .*/MNIST/raw/train-images-idx3-ubyte\.gz"),
        (MNIST, "test", r"MNIST/raw/t10k-images-idx3-ubyte or .*\.gz"),
        (USPS, "train", r"usps/zip\.train\.gz or .*/usps/usps\.bz2"),
        (USPS, "test", r"usps/zip\.test\.gz or .*/usps/usps\.t\.bz2"),
        (SVHN, "train", r"svhn/train_32x32\.mat"),
        (SVHN, "test", r"svhn/test_32x32\.mat"),
    ],
)
def test_missing_files_are_named(tmp_path: Path, kind: Any, split: Any, file: str, folder_exists: bool) -> None:
    if folder_exists:
        (tmp_path / kind.subfolder).mkdir(parents=True)
    with pytest.raises(
        UserError, match=rf"{tmp_path}/{file} is missing: .*XDOMAIN_DATA .*{kind.subfolder}.*download: true\.$"
    ):
        kind(root=str(tmp_path)).data("a", split)


def test_root_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_usps(tmp_path)
    monkeypatch.setenv("XDOMAIN_DATA", str(tmp_path))
    assert len(USPS().data("a", "test")) == 20


def test_svhn_without_test_file_names_both_ways_out(tmp_path: Path) -> None:
    write_svhn(tmp_path, test=None)
    with pytest.raises(UserError, match=r"svhn/test_32x32\.mat is missing: set download: true .* or holdout: 0\.125"):
        SVHN(root=str(tmp_path)).data("a", "test")


# ---------------------------------------------------------------- what is damaged or wrong


def test_mnist_damage(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    labels = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    good = path.read_bytes()
    data = MNIST(root=str(tmp_path))

    for bad in (good[:-1], good + b"0", good[:300]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"{path} is damaged, with {len(bad):,} bytes .* announces 15,696: delete"):
            data.data("a", "test")
    path.write_bytes(good[:9])
    with pytest.raises(UserError, match=f"{path} is truncated in its header"):
        data.data("a", "test")
    for bad in (b"", b"<html>", labels.read_bytes()):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=f"{path} does not begin like an idx file of 3-dim"):
            data.data("a", "test")
    write_idx(path, np.zeros((20, 27, 28)))
    with pytest.raises(UserError, match=rf"{path} holds images of \(27, 28\) pixels, not 28x28"):
        data.data("a", "test")
    write_idx(path, np.zeros((19, 28, 28)))
    with pytest.raises(UserError, match=f"{labels} holds 20 labels for 19 images"):
        data.data("a", "test")
    write_idx(path, np.zeros((0, 28, 28)))
    write_idx(labels, np.zeros(0))
    with pytest.raises(UserError, match=f"{labels} holds 0 labels for 0 images"):
        data.data("a", "test")
    write_idx(path, np.zeros((2, 28, 28)))
    write_idx(labels, np.array([9, 10]))
    with pytest.raises(UserError, match=f"{labels} holds labels that are no digits"):
        data.data("a", "test")


@pytest.mark.parametrize(
    ("kind", "file"), [(MNIST, "t10k-images-idx3-ubyte.gz"), (USPS, "zip.test.gz"), (USPS, "usps.t.bz2")]
)
def test_damaged_compression(tmp_path: Path, kind: Any, file: str) -> None:
    write_mnist(tmp_path, ending=".gz")
    write_usps(tmp_path, libsvm="bz2" in file)
    path = tmp_path / kind.subfolder / file
    good = path.read_bytes()
    middle = len(good) // 2
    for bad in (
        good[:middle],
        good[:middle] + b"damage" + good[middle + 6 :],
        good[:10] + b"damage" + good[16:],
        b"<html>",
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=rf"{path} cannot be read \(.+\): check it, or delete it"):
            kind(root=str(tmp_path)).data("a", "test")


def test_usps_wrong_content(tmp_path: Path) -> None:
    write_usps(tmp_path)
    path = tmp_path / "usps/zip.test.gz"
    data = USPS(root=str(tmp_path))

    def put(*lines: str) -> None:
        path.write_bytes(gzip.compress("\n".join(lines).encode()))

    for line in ("5 " + "0 " * 255, "5 " + "0 " * 255 + "1.1", "5 " + "0 " * 255 + "nan"):
        put(line)
        with pytest.raises(UserError, match=rf"{path} does not hold 256 values in \[-1, 1\] per line"):
            data.data("a", "test")
    put("5 " + "0 " * 256, "5 " + "0 " * 255)
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.*columns changed"):
        data.data("a", "test")
    for label in ("10", "-1", "2.5", "nan"):
        put(label + " 0" * 256)
        with pytest.raises(UserError, match=f"{path} holds labels that are no digits"):
            data.data("a", "test")


def test_svhn_wrong_content(tmp_path: Path) -> None:
    folder = tmp_path / "svhn"
    path = folder / "test_32x32.mat"
    write_svhn(tmp_path)
    data = SVHN(root=str(tmp_path))
    good = path.read_bytes()

    for bad in (b"", b"<html>", good[:-1000], good[:5000] + b"damage" + good[5006:]):
        path.write_bytes(bad)
        with pytest.raises(
            UserError, match=rf"{path} (cannot be read \(.+\): check it, or|does not hold .*: ) ?delete it"
        ):
            data.data("a", "test")
    X, y = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)
    for content in ({"X": X}, {"y": y}, {"Z": X}):
        scipy.io.savemat(path, content)
        with pytest.raises(UserError, match=f"{path} does not hold the arrays X and y"):
            data.data("a", "test")
    for wrong, shown in (
        (X[..., 0], r"uint8 \[32, 32, 3\]"),
        (X[:, :, 0], r"uint8 \[32, 32, 4\]"),
        (X[:28], r"uint8 \[28, 32, 3, 4\]"),
        (X / 255, r"double \[32, 32, 3, 4\]"),
    ):
        scipy.io.savemat(path, {"X": wrong, "y": y})
        with pytest.raises(UserError, match=rf"{path} holds X as {shown}, not uint8 \[32, 32, 3, N\]"):
            data.data("a", "test")
    scipy.io.savemat(path, {"X": X, "y": y[:3]})
    with pytest.raises(UserError, match=f"{path} holds 3 labels for 4 images"):
        data.data("a", "test")
    scipy.io.savemat(path, {"X": X, "y": y * 11})
    with pytest.raises(UserError, match=f"{path} holds labels that are no digits"):
        data.data("a", "test")


def test_svhn_wrong_photos(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "svhn/train_photo.npy"
    np.save(path, np.arange(199))
    with pytest.raises(UserError, match=rf"{path} has the shape \[199\], but train_32x32\.mat holds 200 images"):
        SVHN(root=str(tmp_path), val_size=10).data("a", "train")
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match=rf"{path} cannot be read \(.+\): write it again or remove it"):
        SVHN(root=str(tmp_path), val_size=10).data("a", "train")


# ---------------------------------------------------------------- options


def test_sizes_that_leave_nothing(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_svhn(tmp_path)
    with pytest.raises(UserError, match="val_size is 0: give"):
        MNIST(val_size=0)
    with pytest.raises(
        UserError, match=f"val_size is 40, but MNIST/raw below {tmp_path} holds only 40 training images"
    ):
        MNIST(root=str(tmp_path), val_size=40).data("a", "train")
    for holdout in (0.0, 1.0, -0.5):
        with pytest.raises(UserError, match=f"holdout is {holdout}: give a fraction between 0 and 1"):
            SVHN(holdout=holdout)
    for photos in (False, True):
        write_svhn(tmp_path, photos=photos)
        for options in ({"val_size": 200}, {"val_size": 150, "holdout": 0.25}, {"val_size": 10, "holdout": 0.999}):
            with pytest.raises(
                UserError, match=r"train_32x32\.mat in .* holds 200 images, which leaves none for training"
            ):
                SVHN(root=str(tmp_path), **options).data("a", "train")


# ---------------------------------------------------------------- download


def test_a_file_that_is_there_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: pytest.fail("went to the network"))
    for kind, write in ((MNIST, write_mnist), (USPS, write_usps), (SVHN, write_svhn)):
        write(tmp_path)
        assert len(kind(root=str(tmp_path), download=True).data("a", "test")) == 20
    assert not list(tmp_path.rglob(".download*"))  # so the folder may be read-only


@pytest.mark.parametrize("kind", [MNIST, USPS, SVHN])
def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(
        UserError, match=rf"^the download into {tmp_path}/{kind.subfolder} failed \(.*no route.*\): [^\n]*$"
    ):
        kind(root=str(tmp_path), download=True).data("a", "train")


def test_broken_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise http.client.HTTPException

    monkeypatch.setattr(urllib.request, "urlopen", broken)
    with pytest.raises(UserError, match=r"^the download into .* failed \(HTTPException\): "):
        SVHN(root=str(tmp_path), download=True).data("a", "train")


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "usps").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=rf"^the download into {tmp_path}/usps failed"):
        USPS(root=str(tmp_path), download=True).data("a", "train")


def test_download_lands_in_the_official_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda root, download: write_mnist(Path(root)))

    def fake_usps(root: Path, train: bool, download: bool) -> None:
        write_usps(root, libsvm=True)
        (root / "usps" / ("usps.t.bz2" if train else "usps.bz2")).unlink()

    def fake_svhn(root: Path, split: str, download: bool) -> None:
        write_svhn(root, test=20)
        (root / "svhn" / ("train_32x32.mat" if split == "test" else "test_32x32.mat")).unlink()

    monkeypatch.setattr(torchvision.datasets, "USPS", fake_usps)
    monkeypatch.setattr(torchvision.datasets, "SVHN", fake_svhn)
    for kind in (MNIST, USPS, SVHN):
        data = kind(root=str(tmp_path), val_size=10, download=True)
        assert [len(data.data("a", split)) for split in PARTS[1:]] == [10, 20]
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*") if path.is_file()}
    assert written == {
        *(f"MNIST/raw/{s}-{k}-ubyte" for s in ("train", "t10k") for k in ("images-idx3", "labels-idx1")),
        "usps/usps.bz2",
        "usps/usps.t.bz2",
        "svhn/train_32x32.mat",
        "svhn/test_32x32.mat",
    }


def test_download_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write_mnist(tmp_path, train=30)
    for path in (tmp_path / "MNIST/raw").glob("t10k*"):
        path.unlink()
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda root, download: write_mnist(Path(root), train=50))
    data = MNIST(root=str(tmp_path), image_size=28, val_size=10, download=True)
    assert len(data.data("a", "test")) == 20
    assert len(positions(data.data("a", "train"), own["train"])) == 20


def test_interrupted_download_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(root: Path, split: str, download: bool) -> None:
        (root / f"{split}_32x32.mat").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets, "SVHN", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SVHN(root=str(tmp_path), download=True).data("a", "test")
    assert not list(tmp_path.rglob("*.mat"))


def test_several_ranks_download_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow(root: Path, split: str, download: bool) -> None:
        calls.append(split)
        time.sleep(0.2)
        write_svhn(root)

    monkeypatch.setattr(torchvision.datasets, "SVHN", slow)
    lengths: list[int] = []

    def rank() -> None:
        lengths.append(len(SVHN(root=str(tmp_path), download=True).data("a", "test")))

    ranks = [threading.Thread(target=rank) for _ in range(3)]
    for thread in ranks:
        thread.start()
    for thread in ranks:
        thread.join()
    assert calls == ["test"]
    assert lengths == [20, 20, 20]
