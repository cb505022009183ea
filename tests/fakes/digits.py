"""Fake files of MNIST, USPS and SVHN in their official formats and folders.

Every writer returns what it wrote: images ``uint8`` [N, C, H, W] and classes 0-9 ``int64`` [N].
"""

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import scipy.io

Digits = tuple[np.ndarray, np.ndarray]


def noise_digits(count: int, channels: int, size: int, seed: int = 0) -> Digits:
    """Noise with labels that contain every class; no two images are equal."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return images, rng.permutation(np.arange(count) % 10)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write unsigned bytes of any shape as an idx file, compressed where the name ends in ``.gz``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + np.ascontiguousarray(array, dtype=np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(root: Path, train: int = 40, test: int = 20, ending: str = "") -> dict[str, Digits]:
    """``MNIST/raw/``: four idx files, plain, or compressed with the ending ``.gz``."""
    content = {"train": noise_digits(train, 1, 28, seed=1), "test": noise_digits(test, 1, 28, seed=2)}
    for name, (images, labels) in content.items():
        stem = root / "MNIST" / "raw" / {"train": "train", "test": "t10k"}[name]
        write_idx(Path(f"{stem}-images-idx3-ubyte{ending}"), images[:, 0])
        write_idx(Path(f"{stem}-labels-idx1-ubyte{ending}"), labels)
    return content


def write_usps(root: Path, train: int = 40, test: int = 20, libsvm: bool = False) -> dict[str, Digits]:
    """``usps/``: the original text ``zip.*.gz``, or the libsvm format ``usps*.bz2`` with classes from 1."""
    content = {"train": noise_digits(train, 1, 16, seed=3), "test": noise_digits(test, 1, 16, seed=4)}
    folder = root / "usps"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in content.items():
        values = images.reshape(len(images), -1) / 127.5 - 1
        if libsvm:
            rows = [" ".join(f"{i}:{v:.4f}" for i, v in enumerate(row, start=1)) for row in values]
            lines = [f"{label + 1} {row} \n" for label, row in zip(labels, rows, strict=True)]
            (folder / {"train": "usps.bz2", "test": "usps.t.bz2"}[name]).write_bytes(
                bz2.compress("".join(lines).encode())
            )
        else:
            rows = [" ".join(f"{v:.4f}" for v in row) for row in values]
            lines = [f"{label:.4f} {row} \n" for label, row in zip(labels, rows, strict=True)]
            (folder / f"zip.{name}.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return content


def write_svhn(
    root: Path, train: int = 200, test: int | None = 20, extra: int | None = None, photos: bool = False
) -> dict[str, Digits]:
    """``svhn/``: ``*_32x32.mat`` with class 10 for the digit 0; None leaves a file out.

    With ``photos`` also ``train_photo.npy``: neighbours in runs of one to four crops.
    """
    content: dict[str, Digits] = {}
    folder = root / "svhn"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate({"train": train, "test": test, "extra": extra}.items(), start=5):
        if count is None:
            continue
        images, labels = content[name] = noise_digits(count, 3, 32, seed)
        X, y = images.transpose(2, 3, 1, 0), np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(folder / f"{name}_32x32.mat", {"X": X, "y": y}, do_compression=True)
    if photos:
        runs = np.random.default_rng(8).integers(1, 5, train)
        np.save(folder / "train_photo.npy", np.repeat(np.arange(1, train + 1), runs)[:train].astype(np.int32))
    return content
