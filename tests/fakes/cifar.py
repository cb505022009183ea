"""Fake files of CIFAR-10, CIFAR-100 and their corrupted test sets in their official formats and folders.

Every writer returns what it wrote: images ``uint8`` [N, 3, 32, 32] and labels ``int64`` [N].
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

Content = tuple[np.ndarray, np.ndarray]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def noise(count: int, classes: int, seed: int) -> Content:
    """Noise with labels; no two images are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), rng.permutation(np.arange(count) % classes)


class _Python2(pickle._Pickler):  # type: ignore[misc, name-defined]
    """Writes bytes and ASCII text as the strings of Python 2, like the programs that made the official files."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: Any) -> None:
        data = value if isinstance(value, bytes) else value.encode("ascii")
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(entries: Any) -> bytes:
    """A pickle of protocol 2 with the module names of the numpy of that time."""
    file = io.BytesIO()
    _Python2(file, protocol=2).dump(entries)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(images: np.ndarray, **labels: np.ndarray) -> bytes:
    """One official file: rows of 1,024 red, green and blue values, and lists of labels."""
    names = [f"thing_s_{i:06d}.png" for i in range(len(images))]
    rows = images.reshape(len(images), -1)
    lists = {key: value.tolist() for key, value in labels.items()}
    return python2_pickle({"batch_label": "a batch", "data": rows, "filenames": names, **lists})


def pack(path: Path, files: dict[str, bytes]) -> None:
    """A compressed archive with folders before their files, as tar makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for folder in dict.fromkeys(parent for name in files for parent in reversed(Path(name).parents[:-1])):
            entry = tarfile.TarInfo(str(folder))
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _write(root: Path, archive: str | None, files: dict[str, bytes]) -> None:
    if archive is not None:
        return pack(root / archive, files)
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return None


def write_cifar10(root: Path, archive: bool = False) -> dict[str, Content]:
    """``cifar-10-batches-py/``, five training files of eight images and a test file of 20; or the archive of it."""
    content = {"train": noise(40, 10, seed=1), "test": noise(20, 10, seed=2)}
    images, labels = content["train"]
    files = {
        f"cifar-10-batches-py/data_batch_{i + 1}": batch(images[8 * i : 8 * i + 8], labels=labels[8 * i : 8 * i + 8])
        for i in range(5)
    }
    files["cifar-10-batches-py/test_batch"] = batch(content["test"][0], labels=content["test"][1])
    files["cifar-10-batches-py/batches.meta"] = python2_pickle({"label_names": CLASSES})
    _write(root, "cifar-10-python.tar.gz" if archive else None, files)
    return content


def write_cifar100(root: Path, archive: bool = False) -> dict[str, Content]:
    """``cifar-100-python/{train,test}``; coarse labels are the fine ones modulo 20."""
    content = {"train": noise(40, 100, seed=3), "test": noise(20, 100, seed=4)}
    files = {
        f"cifar-100-python/{name}": batch(images, fine_labels=labels, coarse_labels=labels % 20)
        for name, (images, labels) in content.items()
    }
    _write(root, "cifar-100-python.tar.gz" if archive else None, files)
    return content


def png(image: np.ndarray) -> bytes:
    """An image [3, H, W] as a file."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def write_class_folders(root: Path) -> dict[str, Content]:
    """``cifar10/{train,test}.tar.gz``: images in class folders, lossless here; sorted by class."""
    result = {}
    for name, (images, labels) in {"train": noise(40, 10, seed=5), "test": noise(20, 10, seed=6)}.items():
        order = np.argsort(labels, kind="stable")
        images, labels = images[order], labels[order]
        names = [f"{name}/{CLASSES[label]}/{i:04d}.png" for i, label in enumerate(labels)]
        files = dict(zip(names, map(png, images), strict=True))
        pack(root / "cifar10" / f"{name}.tar.gz", dict(reversed(files.items())))
        result[name] = images, labels
    return result


def write_corrupted(root: Path, name: str, classes: int, corruption: str, each: int = 4) -> Content:
    """``CIFAR-10-C/`` or ``CIFAR-100-C/``: five severities of the same labels in one array [5 x each, 32, 32, 3]."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    images, _ = noise(5 * each, classes, seed=7)
    labels = np.tile(np.arange(each) * 7 % classes, 5)
    np.save(folder / f"{corruption}.npy", images.transpose(0, 2, 3, 1))
    np.save(folder / "labels.npy", labels.astype(np.uint8))
    return images, labels
