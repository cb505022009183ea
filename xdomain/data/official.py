"""The official digit sets, read from their published files: SVHN, MNIST and USPS."""

import bz2
import gzip
import http.client
import io
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import scipy.io
import torch
import torchvision
from filelock import FileLock
from pytorch_lightning.utilities import rank_zero_warn
from sklearn.datasets import load_svmlight_file
from torch.nn import functional as F

from xdomain.batch import to_uint8
from xdomain.data.base import ImageData, SingleDomain, Split
from xdomain.data.decode import file_versions
from xdomain.errors import UserError

Digits = tuple[np.ndarray, np.ndarray]
"""Images ``uint8`` [N, C, H, W] and classes ``int64`` [N]."""

SVHN_SIZES = {"train": 73257, "test": 26032, "extra": 531131}
MOST_DIGITS = 6  # digits in one house number of SVHN
MOST_IMAGES = 1_000_000  # entries of one file; a larger number means damage, or an attempt to fill the memory
NUMBERS = ("uint8", "int8", "uint16", "int16", "int32", "int64", "single", "double")  # MATLAB's names
MOST_TEXT = 1 << 28  # bytes of USPS as text, 20 times the size of the official files

AGAIN = "delete it and fetch the official file again, for instance with download: true."


class _Official(SingleDomain):
    """Common base of the three sets: files are found or downloaded, checked, resized and kept as ``uint8``.

    A file is read only once for all parts that it contains.

    Attributes:
        subfolder: where the files of this data set are below ``root``.
    """

    subfolder: str

    def __init__(self, image_size: int, val_size: int, **options: Any) -> None:
        super().__init__(**options)
        if val_size < 1:
            raise UserError(f"val_size is {val_size}: give a number of validation images of at least 1.")
        self.image_size, self.val_size = image_size, val_size
        self._ready: dict[Split, Digits] = {}

    def read(self, name: str) -> Digits:
        """Images and labels of one official file, checked."""
        raise NotImplementedError(f"{type(self).__name__} must implement read()")

    def fetch(self, name: str, folder: Path) -> object:
        """Let torchvision download the official files of ``name`` to anywhere below a folder."""
        raise NotImplementedError(f"{type(self).__name__} must implement fetch()")

    def open(self, split: Split) -> dict[Split, Digits]:
        """All parts from the file of a split; the last images of one fixed shuffle are for validation."""
        if split == "test":
            return {"test": self.sized(self.read("test"))}
        digits = self.read("train")
        count = len(digits[1])
        if self.val_size >= count:
            raise UserError(
                f"val_size is {self.val_size:,}, but {self.subfolder} below {self.root} holds only {count:,} training "
                "images: give a smaller number."
            )
        order = np.random.default_rng(0).permutation(count)
        return {
            "train": self.sized(digits, order[: -self.val_size]),
            "val": self.sized(digits, order[-self.val_size :]),
        }

    def load(self, split: Split) -> ImageData:
        if split not in self._ready:
            self._ready.update(self.open(split))
        return ImageData(*self._ready.pop(split))

    def contents(self) -> dict[str, Any]:
        files = {("", ""): [path for path in self.sources() if path.is_file()]}
        return {**super().contents(), "files": file_versions(self.root, files), "val_size": self.val_size}

    def sources(self) -> list[Path]:
        """All paths below ``root`` that the images may come from."""
        return sorted((self.root / self.subfolder).glob("[!.]*"))

    def sized(self, digits: Digits, chosen: np.ndarray | None = None) -> Digits:
        """The chosen images (by default all), resized to ``image_size`` with antialiasing."""
        images, labels = digits
        chosen = np.arange(len(labels)) if chosen is None else chosen
        size = self.image_size
        result = np.empty((len(chosen), images.shape[1], size, size), dtype=np.uint8)
        for begin in range(0, len(chosen), 2000):  # in pieces: a whole set as float may not fit into memory
            piece = images[chosen[begin : begin + 2000]]
            if piece.shape[2:] != (size, size):
                values = torch.from_numpy(piece).float()
                values = F.interpolate(values, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
                piece = values.round_().clamp_(0, 255).byte().numpy()
            result[begin : begin + 2000] = piece
        return result, labels[chosen]

    def find(self, name: str, *file_names: str) -> Path:
        """The first of some files that exists; with ``download``, they are fetched first if none does.

        Raises:
            UserError: if none exists, or the download fails.
        """
        folder = self.root / self.subfolder
        paths = [folder / file_name for file_name in file_names]

        def present() -> bool:
            return any(path.is_file() for path in paths)

        if self.download and not present():
            _download(folder, present, lambda scratch: self.fetch(name, scratch))
        for path in paths:
            if path.is_file():
                return path
        raise UserError(
            f"{' or '.join(map(str, paths))} is missing: put the official file there, let root or the environment "
            f"variable XDOMAIN_DATA name the folder that holds {self.subfolder}, or set download: true."
        )


class MNIST(_Official):
    """MNIST, scanned digits, white on black: ``mnist``, grey, classes 0-9.

    Reads ``MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte``, plain or with ``.gz``: 60,000 training images, of
    which the last ``val_size`` of one fixed shuffle are for validation, and 10,000 test images.

    Args:
        image_size: height and width in pixels; the files have 28.
        val_size: number of validation images, taken from the training file.
    """

    domains = ("mnist",)
    channels = (1,)
    subfolder = "MNIST/raw"

    def __init__(self, image_size: int = 32, val_size: int = 5000, **options: Any) -> None:
        super().__init__(image_size, val_size, **options)

    def fetch(self, name: str, folder: Path) -> object:
        return torchvision.datasets.MNIST(folder, download=True)

    def read(self, name: str) -> Digits:
        stem = {"train": "train", "test": "t10k"}[name]
        images_file, labels_file = (
            self.find(name, f"{stem}-{kind}-ubyte", f"{stem}-{kind}-ubyte.gz")
            for kind in ("images-idx3", "labels-idx1")
        )
        images, labels = _read_idx(images_file, (28, 28)), _read_idx(labels_file)
        return _checked(images[:, None], labels, labels_file)


class USPS(_Official):
    """USPS, scanned digits from envelopes, white on black: ``usps``, grey, classes 0-9.

    Reads ``usps/zip.{train,test}.gz`` (the original text: digit and 256 values in [-1, 1] per line) or
    ``usps/usps.bz2`` and ``usps/usps.t.bz2`` (the same in libsvm format, which torchvision downloads): 7,291 training
    images, of which the last ``val_size`` of one fixed shuffle are for validation, and 2,007 test images.

    Args:
        image_size: height and width in pixels; the files have 16.
        val_size: number of validation images, taken from the training file.
    """

    domains = ("usps",)
    channels = (1,)
    subfolder = "usps"

    def __init__(self, image_size: int = 32, val_size: int = 500, **options: Any) -> None:
        super().__init__(image_size, val_size, **options)

    def fetch(self, name: str, folder: Path) -> object:
        return torchvision.datasets.USPS(folder, train=name == "train", download=True)

    def read(self, name: str) -> Digits:
        path = self.find(name, f"zip.{name}.gz", {"train": "usps.bz2", "test": "usps.t.bz2"}[name])
        try:
            with (gzip.open if path.suffix == ".gz" else bz2.open)(path) as file:
                if len(text := file.read(MOST_TEXT)) == MOST_TEXT:
                    raise ValueError("it holds more text than the official files")
            if path.suffix == ".gz":
                table = np.loadtxt(io.BytesIO(text), dtype=np.float32, ndmin=2)
                labels, values = table[:, 0], table[:, 1:]
            else:
                content = io.BytesIO(text)
                sparse, labels = load_svmlight_file(content, n_features=256, dtype=np.float32, zero_based=False)
                labels, values = labels - 1, sparse.toarray()  # libsvm numbers the classes from 1
        except Exception as error:  # parsers raise all kinds of errors on damaged files
            raise _unreadable(path, error) from error
        if values.shape[1] != 256 or not (np.abs(values) <= 1).all():
            raise UserError(f"{path} does not hold 256 values in [-1, 1] per line: {AGAIN}")
        return _checked(to_uint8(torch.from_numpy(values)).view(-1, 1, 16, 16).numpy(), labels, path)


class SVHN(_Official):
    """Street View House Numbers, cropped digits: ``svhn``, RGB, classes 0-9 (the files' class 10 is the digit 0).

    Reads ``svhn/{train,test,extra}_32x32.mat``: 73,257, 26,032 and 531,131 images. A smaller file is used with a
    warning. A street photo yields several crops, each showing parts of its neighbours, so validation and test images
    must not share a photo with training images:

    - with ``svhn/<file>_photo.npy`` (the number of its photo for every crop, integer [N], e.g. ``train_photo.npy``)
      whole photos are assigned to the parts by one fixed shuffle, and a part may exceed its size by the rest of a
      photo;
    - without it every part is one block of the file: test, validation, training. Crops of a photo are adjacent in the
      official files, so only the boundary between two blocks could divide one. There 5 crops are left out, because a
      house number has at most 6 digits.

    Args:
        image_size: height and width in pixels; the files have 32.
        part: the files of the training images; with ``train+extra``, those of ``extra`` are for training only.
        val_size: number of validation images, taken from the (first) training file.
        holdout: fraction of the (first) training file to use as the test part, if there is no ``test_32x32.mat``; None
            reads that file.
    """

    domains = ("svhn",)
    channels = (3,)
    subfolder = "svhn"

    def __init__(
        self,
        image_size: int = 32,
        part: Literal["train", "extra", "train+extra"] = "train",
        val_size: int = 1000,
        holdout: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_size, val_size, **options)
        if holdout is not None and not 0 < holdout < 1:
            raise UserError(f"holdout is {holdout}: give a fraction between 0 and 1, or null to read test_32x32.mat.")
        self.part, self.holdout = part, holdout

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "part": self.part, "holdout": self.holdout}

    def fetch(self, name: str, folder: Path) -> object:
        return torchvision.datasets.SVHN(folder, split=name, download=True)

    def open(self, split: Split) -> dict[Split, Digits]:
        if split == "test" and self.holdout is None:
            return {"test": self.sized(self.read("test"))}
        first, *more = self.part.split("+")
        digits = self.read(first)
        parts = {name: self.sized(digits, chosen) for name, chosen in self._share_out(first, len(digits[1])).items()}
        for name in more:
            old, new = parts["train"], self.sized(self.read(name))
            parts["train"] = np.concatenate([old[0], new[0]]), np.concatenate([old[1], new[1]])
        return parts

    def read(self, name: str) -> Digits:
        folder = self.root / self.subfolder
        path = folder / f"{name}_32x32.mat"
        if name == "test" and not self.download and not path.is_file() and any(folder.glob("*_32x32.mat")):
            raise UserError(
                f"{path} is missing: set download: true to fetch the official test images, or holdout: 0.125 to set "
                "apart an eighth of the training file instead."
            )
        path = self.find(name, path.name)
        try:
            announced = {array: (shape, kind) for array, shape, kind in scipy.io.whosmat(path)}
        except Exception as error:  # scipy raises all kinds of errors on damaged files
            raise _unreadable(path, error) from error
        if not {"X", "y"} <= announced.keys():
            raise UserError(f"{path} does not hold the arrays X and y of an SVHN file: {AGAIN}")
        shape, kind = announced["X"]
        if len(shape) != 4 or shape[:3] != (32, 32, 3) or kind != "uint8":
            raise UserError(
                f"{path} holds X as {kind} {list(shape)}, not uint8 [32, 32, 3, N] like the cropped digits of SVHN: "
                f"{AGAIN}"
            )
        if shape[3] > MOST_IMAGES:
            raise UserError(f"{path} announces {shape[3]:,} images, more than SVHN has: {AGAIN}")
        of, kind = announced["y"]
        if kind not in NUMBERS or sorted(of) != sorted((1, int(np.prod(of)))):
            raise UserError(f"{path} holds y as {kind} {list(of)}, not a number for every image: {AGAIN}")
        try:
            content = scipy.io.loadmat(path, variable_names=["X", "y"])
        except Exception as error:
            raise _unreadable(path, error) from error
        images, labels = content["X"], content["y"].reshape(-1)
        digits = _checked(images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels), path)
        if len(labels) < SVHN_SIZES[name]:
            rank_zero_warn(
                f"{path} holds {len(labels):,} of the official {SVHN_SIZES[name]:,} images: numbers measured "
                "with it do not compare with published ones."
            )
        return digits

    def _share_out(self, name: str, count: int) -> dict[Split, np.ndarray]:
        """Positions of the parts in a training file; no photo is in two parts."""
        photo = self._photos(name, count)
        order = np.arange(count)
        if photo is not None:
            numbers, number = np.unique(photo, return_inverse=True)
            order = np.argsort(np.random.default_rng(0).permutation(len(numbers))[number], kind="stable")
        sizes: dict[Split, int] = {"test": max(1, round(self.holdout * count))} if self.holdout is not None else {}
        sizes["val"] = self.val_size

        parts: dict[Split, np.ndarray] = {}
        begin = 0
        for split, size in sizes.items():
            end = begin + size
            if photo is not None and end < count:
                end += int(np.count_nonzero(photo[order[end:]] == photo[order[end - 1]]))  # the rest of a divided photo
            parts[split] = order[begin:end]
            begin = end if photo is not None else end + MOST_DIGITS - 1
        parts["train"] = order[begin:]
        if len(parts["train"]) == 0:
            raise UserError(
                f"{name}_32x32.mat in {self.root / self.subfolder} holds {count:,} images, which leaves none for "
                f"training with val_size {self.val_size:,} and holdout {self.holdout}: make them smaller."
            )
        return parts

    def _photos(self, name: str, count: int) -> np.ndarray | None:
        path = self.root / self.subfolder / f"{name}_photo.npy"
        if not path.is_file():
            return None
        photo = load_array(path, "write it again or remove it.")
        if photo.dtype.kind not in "iu":
            raise UserError(f"{path} holds {photo.dtype}, not whole numbers: write it again or remove it.")
        if photo.shape != (count,):
            raise UserError(
                f"{path} has the shape {list(photo.shape)}, but {name}_32x32.mat holds {count:,} images: "
                "give one number per image, or remove it."
            )
        return photo


def _checked(images: np.ndarray, labels: np.ndarray, path: Path) -> Digits:
    """Check that images and labels match; ``path`` is the file of the labels."""
    if len(images) == 0 or len(images) != len(labels):
        raise UserError(f"{path} holds {len(labels):,} labels for {len(images):,} images: {AGAIN}")
    if not np.isin(labels, np.arange(10)).all():
        raise UserError(f"{path} holds labels that are no digits: {AGAIN}")
    return images, labels.astype(np.int64)


def load_array(path: Path, way: str) -> np.ndarray:
    """The array in an ``.npy`` file, memory-mapped.

    Raises:
        UserError: for a file without an array; the message ends with ``way``.
    """
    try:
        array = np.load(path, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive")
    except Exception as error:  # numpy raises many kinds of errors on damaged files
        raise UserError(f"{path} cannot be read ({_one_line(error)}): {way}") from error
    return array


def _read_idx(path: Path, of: tuple[int, ...] = ()) -> np.ndarray:
    """The array in an idx file of unsigned bytes, plain or ``.gz``; reads no more than its header announces.

    Args:
        path: the file.
        of: shape of one entry.

    Raises:
        UserError: for a file that is damaged, is not idx, or holds something else.
    """
    dimensions = 1 + len(of)
    header = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(header)
            if head[:4] != bytes([0, 0, 8, dimensions]):  # magic number: 8 stands for unsigned bytes
                raise UserError(f"{path} does not begin like an idx file of {dimensions}-dimensional bytes: {AGAIN}")
            if len(head) < header:
                raise UserError(f"{path} is truncated in its header: {AGAIN}")
            count, *shape = struct.unpack(f">{dimensions}I", head[4:])
            if shape != [*of]:
                raise UserError(f"{path} holds images of {tuple(shape)} pixels, not {of[0]}x{of[1]}: {AGAIN}")
            if count > MOST_IMAGES:
                raise UserError(f"{path} announces {count:,} entries, more than any set of digits has: {AGAIN}")
            size = int(np.prod([count, *shape], dtype=np.int64))
            data = file.read(size + 1)  # up to the end and its checksum, if the data ends there
    except UserError:
        raise
    except Exception as error:  # decompression fails in several ways
        raise _unreadable(path, error) from error
    if len(data) != size:
        more = " or more" if len(data) > size else ""
        raise UserError(
            f"{path} is damaged, with {header + len(data):,} bytes{more} where its header announces {header + size:,}: "
            f"{AGAIN}"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(count, *shape)


def _download(folder: Path, present: Callable[[], bool], fetch: Callable[[Path], object]) -> None:
    """Download files into a folder, in one process while the others wait.

    They are downloaded to a temporary folder and then moved, so that an interrupted download leaves no partial file
    under an official name; existing files are not changed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            if present():
                return
            with TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                fetch(Path(scratch))
                for path in Path(scratch).rglob("*"):
                    if path.is_file() and not (folder / path.name).exists():
                        path.replace(folder / path.name)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(
            f"the download into {folder} failed ({_one_line(error)}): check the connection and the folder, or put the "
            "official files there yourself."
        ) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({_one_line(error)}): check it, or {AGAIN}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
