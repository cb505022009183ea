"""CIFAR-10 and CIFAR-100, read from their published files, and their corrupted test sets."""

import gzip
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torchvision
from pytorch_lightning.utilities import rank_zero_warn

from xdomain.data.base import ImageData, SingleDomain, Split
from xdomain.data.corruptions.table import CORRUPTIONS
from xdomain.data.decode import file_versions
from xdomain.data.official import AGAIN, Digits, _Official, _one_line, _unreadable, load_array
from xdomain.errors import UserError, did_you_mean
from xdomain.pixels import open_image

SIZES = {"train": 50_000, "test": 10_000}
MOST_BYTES = 1 << 30  # unpacked size of an archive: five times that of the official ones
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SEVERITIES = 5


class _Unpickler(pickle.Unpickler):
    """Builds only arrays and plain types: otherwise a pickle could run any code."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # numpy's own function for this, in older and newer versions
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data file needs")
        return self.allowed[module, name]


class _CIFAR(_Official):
    """Common base of both sets: pickled batches, in a folder or in the official archive.

    Attributes:
        archive: the official archive, directly below ``root``.
        batches: names of the files of each split.
        key: key of the labels in the files.
        classes: number of classes.
    """

    channels = (3,)
    archive: str
    batches: ClassVar[dict[str, tuple[str, ...]]]
    key: str
    classes: int

    def read(self, name: str) -> Digits:
        parts = [self._batch(content, path) for path, content in self._contents(name)]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        _warn_if_partial(f"the {name} part of {self.subfolder} below {self.root}", len(labels), name)
        return images, labels

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "labels": self.key}

    def sources(self) -> list[Path]:
        return [*super().sources(), self.root / self.archive, *sorted((self.root / self.domains[0]).glob("[!.]*"))]

    def _contents(self, name: str) -> list[tuple[str, bytes]]:
        """Name and bytes of every file of a split, from the folder, else the archive, else downloaded."""
        archive = self.root / self.archive
        if (self.root / self.subfolder / self.batches[name][0]).is_file() or not archive.is_file():
            paths = [self.find(name, batch) for batch in self.batches[name]]
            return [(str(path), path.read_bytes()) for path in paths]
        members = [f"{self.subfolder}/{batch}" for batch in self.batches[name]]
        found = _unpacked(archive)
        if missing := [member for member in members if member not in found]:
            raise UserError(f"{archive} does not hold {missing[0]}: {AGAIN}")
        return [(f"{archive} ({member})", found[member]) for member in members]

    def _batch(self, content: bytes, path: str) -> Digits:
        try:
            entries = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        except Exception as error:  # a damaged pickle can raise anything
            raise UserError(f"{path} cannot be read ({_one_line(error)}): {AGAIN}") from error
        if not isinstance(entries, dict) or not {"data", self.key} <= entries.keys():
            raise UserError(f"{path} does not hold data and {self.key} like a batch of {type(self).__name__}: {AGAIN}")
        data = entries["data"]
        try:
            labels = np.array(entries[self.key])
        except ValueError:  # lists of different lengths
            labels = np.empty(0)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
            shown = f"{data.dtype} {list(data.shape)}" if isinstance(data, np.ndarray) else type(data).__name__
            raise UserError(f"{path} holds data as {shown}, not uint8 [N, 3072]: {AGAIN}")
        if len(data) == 0 or labels.shape != (len(data),):
            raise UserError(f"{path} holds {labels.size:,} labels for {len(data):,} images: {AGAIN}")
        if labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(self.classes)).all():
            raise UserError(f"{path} holds labels that are no numbers below {self.classes}: {AGAIN}")
        return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)

    def fetch(self, name: str, folder: Path) -> None:
        getattr(torchvision.datasets, type(self).__name__)(folder, download=True)
        (folder / self.archive).unlink()  # already unpacked by torchvision


class CIFAR10(_CIFAR):
    """CIFAR-10, photographs of ten kinds of objects: ``cifar10``, RGB, classes 0-9.

    Reads the first of these that exists:

    - ``cifar-10-batches-py/{data_batch_1..5,test_batch}``, which is also where downloads go,
    - ``cifar-10-python.tar.gz``, the official archive of these files,
    - ``cifar10/{train,test}.tar.gz``: images as files ``<split>/<class name>/<any name>``, e.g.
      ``train/airplane/0000.jpg``, in any format with 32x32 pixels, taken by sorted names. The usual copies of this kind
      are JPEG, whose compression has changed the pixels.

    There are 50,000 training images, of which the last ``val_size`` of one fixed shuffle are for validation, and 10,000
    test images; other numbers are accepted with a warning.

    Args:
        image_size: height and width in pixels; the files have 32.
        val_size: number of validation images, taken from the training part.
    """

    domains = ("cifar10",)
    subfolder, archive = "cifar-10-batches-py", "cifar-10-python.tar.gz"
    batches: ClassVar = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
    key, classes = "labels", 10

    def __init__(self, image_size: int = 32, val_size: int = 5000, **options: Any) -> None:
        super().__init__(image_size, val_size, **options)

    def read(self, name: str) -> Digits:
        files = self.root / "cifar10" / f"{name}.tar.gz"
        official = (self.root / self.subfolder / self.batches[name][0], self.root / self.archive)
        if files.is_file() and not any(path.is_file() for path in official):
            return _read_class_folders(files, name)
        return super().read(name)


class CIFAR100(_CIFAR):
    """CIFAR-100, photographs of a hundred kinds of objects in twenty groups: ``cifar100``, RGB.

    Reads ``cifar-100-python/{train,test}``, which is also where downloads go, else ``cifar-100-python.tar.gz``, the
    official archive of these files: There are 50,000 training images, of which the last ``val_size`` of one fixed
    shuffle are for validation, and 10,000 test images; other numbers are accepted with a warning.

    Args:
        labels: ``fine`` for the classes 0-99, ``coarse`` for their groups 0-19.
        image_size: height and width in pixels; the files have 32.
        val_size: number of validation images, taken from the training part.
    """

    domains = ("cifar100",)
    subfolder, archive = "cifar-100-python", "cifar-100-python.tar.gz"
    batches: ClassVar = {"train": ("train",), "test": ("test",)}

    def __init__(
        self,
        labels: Literal["fine", "coarse"] = "fine",
        image_size: int = 32,
        val_size: int = 5000,
        **options: Any,
    ) -> None:
        super().__init__(image_size, val_size, **options)
        self.key, self.classes = f"{labels}_labels", {"fine": 100, "coarse": 20}[labels]


class CorruptedCIFAR(SingleDomain):
    """The test images of CIFAR-10 or CIFAR-100 under one corruption (CIFAR-10-C and CIFAR-100-C), for testing only.

    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
    2019. Reads ``CIFAR-10-C/<corruption>.npy`` and ``CIFAR-10-C/labels.npy`` (or ``CIFAR-100-C/``): the 10,000 test
      images at severity 1, then at severity 2, and so on. There is no downloader.

    Args:
        corruption: one of :data:`CORRUPTIONS`.
        severity: 1 (weakest) to 5.
        variant: the set that was corrupted; also the name of the domain.
    """

    channels = (3,)
    image_size = 32

    subfolder: str

    def __init__(
        self,
        corruption: str,
        severity: int = 3,
        variant: Literal["cifar10", "cifar100"] = "cifar10",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if corruption not in CORRUPTIONS:
            hint = did_you_mean(corruption, CORRUPTIONS, f": choose from {' '.join(CORRUPTIONS)}.")
            raise UserError(f"there is no corruption {corruption!r}{hint}")
        if severity not in range(1, SEVERITIES + 1):
            raise UserError(f"the severity of a corruption is {severity}: give a number from 1 to {SEVERITIES}.")
        self.corruption, self.severity, self.domains = corruption, severity, (variant,)
        self.subfolder, self.classes = {"cifar10": ("CIFAR-10-C", 10), "cifar100": ("CIFAR-100-C", 100)}[variant]

    def load(self, split: Split) -> ImageData:
        if split != "test":
            raise UserError(
                f"{self.subfolder} has a test part only, no {split} part: train on {self.domains[0].upper()}, and test "
                "on this."
            )
        path, labels_path = (self.root / self.subfolder / f"{name}.npy" for name in (self.corruption, "labels"))
        images, labels = self._array(path), self._array(labels_path)
        if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or len(images) == 0 or len(images) % SEVERITIES:
            raise UserError(
                f"{path} holds {images.dtype} {list(images.shape)}, not uint8 [{SEVERITIES} x N, 32, 32, 3]: "
                "unpack the official file again."
            )
        whole = labels.dtype.kind in "iu" and labels.shape == (len(images),)
        if not whole or not np.isin(labels, np.arange(self.classes)).all():
            raise UserError(
                f"{labels_path} does not hold {len(images):,} numbers below {self.classes}, one for every image of "
                f"{path.name}: unpack the official file again."
            )
        each = len(images) // SEVERITIES
        _warn_if_partial(f"{path} at each severity", each, "test")
        rows = slice((self.severity - 1) * each, self.severity * each)
        chosen = np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2))
        return ImageData(chosen, labels[rows].astype(np.int64))

    def contents(self) -> dict[str, Any]:
        folder = self.root / self.subfolder
        files = {("", ""): [folder / f"{name}.npy" for name in (self.corruption, "labels")]}
        return {**super().contents(), "files": file_versions(folder, files), "severity": self.severity}

    def _array(self, path: Path) -> np.ndarray:
        if not path.is_file():
            raise UserError(
                f"{path} is missing: unpack the official {self.subfolder}.tar there, or let root or the environment "
                f"variable XDOMAIN_DATA name the folder that holds {self.subfolder}."
            )
        return load_array(path, "unpack the official file again.")


def _read_class_folders(path: Path, name: str) -> Digits:
    """Images of an archive with one folder per class of CIFAR-10, by sorted names."""
    files = _unpacked(path)
    if not files:
        raise UserError(f"{path} holds no files: put images named {name}/<class>/<file> there, or remove it.")
    images = np.empty((len(files), 3, 32, 32), np.uint8)
    labels = np.empty(len(files), np.int64)
    for row, member in enumerate(sorted(files)):
        top, _, rest = member.partition("/")
        label = rest.partition("/")[0]
        if top != name or label not in CIFAR10_CLASSES:
            raise UserError(f"{path} holds {member}, which is not named {name}/<class of CIFAR-10>/<file>: remove it.")
        try:
            with open_image(io.BytesIO(files[member])) as image:
                width, height = image.size
                pixels = np.array(image.convert("RGB")) if (width, height) == (32, 32) else None
        except Exception as error:  # decoders raise all kinds of errors on damaged files
            raise UserError(f"{member} in {path} cannot be read ({_one_line(error)}): replace or remove it.") from error
        if pixels is None:
            raise UserError(f"{member} in {path} has {height}x{width} pixels, not 32x32: remove it.")
        images[row], labels[row] = pixels.transpose(2, 0, 1), CIFAR10_CLASSES.index(label)
    _warn_if_partial(str(path), len(files), name)
    return images, labels


def _unpacked(path: Path) -> dict[str, bytes]:
    """Files of an archive by name; nothing is written to disk.

    Raises:
        UserError: for an archive that is truncated, damaged, or larger than any of these sets.
    """
    content: dict[str, bytes] = {}
    left = MOST_BYTES
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream) as archive:
            for member in archive:
                if member.size > left:
                    raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
                left -= member.size
                if (file := archive.extractfile(member)) is not None:  # None for folders
                    content[member.name.removeprefix("./")] = file.read()
            while stream.read(1 << 20):  # up to the checksum at its end
                pass
    except Exception as error:  # errors of decompression or of headers
        raise _unreadable(path, error) from error
    return content


def _warn_if_partial(what: str, count: int, name: str) -> None:
    if count != SIZES[name]:
        rank_zero_warn(
            f"{what} holds {count:,} instead of the official {SIZES[name]:,} images: numbers measured with it do not "
            "compare with published ones."
        )
