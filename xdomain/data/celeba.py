"""CelebA, photographs of faces with 40 attributes, read from the official files."""

from collections.abc import Callable
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torchvision
from filelock import FileLock
from pytorch_lightning.utilities import rank_zero_warn

from xdomain.data.attributes import AttributeDomains, holds
from xdomain.data.base import ImageData, Split
from xdomain.data.decode import Geometry, Interpolation, decoded_images, file_versions
from xdomain.errors import UserError

ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
"""The attributes in the order of the official file."""

WIDTH, HEIGHT = 178, 218  # pixels of the aligned images
VALUES = {"1", "-1"}
PARTITION: dict[Split, str] = {"train": "0", "val": "1", "test": "2"}
FIRST = 64  # test images per domain in the authors' code of the papers

Box = tuple[float, float, float, float]

CROPS: dict[str, tuple[Box | None, Interpolation]] = {
    "centre178": ((0, 20, 178, 198), "bilinear"),
    "squash": (None, "bilinear"),
    "attgan170": ((3, 26, 173, 196), "bicubic"),
    "stgan148": ((15, 40, 163, 188), "bicubic"),
    "icgan138": ((30, 40, 168, 178), "bilinear"),
}
"""Maps a name to left, top, right and bottom in pixels of the aligned images, and the resizing filter."""


class CelebA(AttributeDomains):
    """CelebA, aligned photographs of faces with 40 attributes: RGB, domains by attributes.

    Reads, below ``root``, ``celeba/img_align_celeba/000001.jpg`` and so on (202,599 images), ``list_attr_celeba.txt``,
    ``list_eval_partition.txt`` and, if it exists, ``identity_CelebA.txt``. Images may be smaller copies with the same
    aspect ratio; missing ones are left out with a warning. All are decoded once and then memory-mapped from the cache
    folder, 10 GB for the whole set at 128 pixels.

    Args:
        domains: name of a preset, or rules by the name of the domain; see
            :class:`xdomain.data.attributes.AttributeDomains`.
        split: ``official``, the published partition into 162,770, 19,867 and 19,962 images; or ``first64`` as in the
            authors' code of Domain Intersection and Domain Difference and its predecessors: the first 64 images of each
            domain are for the test, the next 64 for validation, all others for training.
        crop: ``centre178``, the central square, as in most papers; ``squash``, the whole image, as in Mask Based
            Unsupervised Content Transfer; ``attgan170``, ``stgan148`` or ``icgan138``, the squares of AttGAN, STGAN (at
            64 pixels) and IcGAN; or left, top, right and bottom in pixels of an aligned image of 178x218.
        image_size: height and width in pixels.
        download: fetch missing official files through torchvision, which needs the package gdown.
        on_bad_file: refuse a file that is not an image, or leave it out with a warning.
    """

    attribute_names = ATTRIBUTES

    subfolder = "celeba"

    def __init__(
        self,
        domains: str | dict[str, str] = "smile_glasses",
        split: Literal["official", "first64"] = "official",
        crop: str | Box = "centre178",
        image_size: int = 128,
        download: bool = False,
        on_bad_file: Literal["raise", "skip"] = "raise",
        **options: Any,
    ) -> None:
        super().__init__(domains, **options)
        if image_size < 1:
            raise UserError(f"image_size is {image_size}: give a number of pixels of at least 1.")
        if isinstance(crop, str):
            if crop not in CROPS:
                raise UserError(
                    f"crop is {crop!r}, which is none of {', '.join(CROPS)}: give one of them, or left, top, right and "
                    f"bottom in pixels of an image of {WIDTH}x{HEIGHT}."
                )
            box, interpolation = CROPS[crop]
        else:
            box, interpolation = crop, "bilinear"
        if box is not None and not (0 <= box[0] < box[2] <= WIDTH and 0 <= box[1] < box[3] <= HEIGHT):
            raise UserError(
                f"crop is {list(box)}: give left, top, right and bottom in pixels, within an image of {WIDTH}x{HEIGHT}."
            )
        shares = None if box is None else (box[0] / WIDTH, box[1] / HEIGHT, box[2] / WIDTH, box[3] / HEIGHT)
        self.image_size, self.split = image_size, split
        self.geometry = Geometry(image_size, shares, interpolation, aspect=WIDTH / HEIGHT)
        self.aspect = WIDTH / HEIGHT
        self.download, self.on_bad_file = download, on_bad_file

    def load(self, split: Split) -> ImageData:
        images, part = self._everything
        chosen = np.flatnonzero(part == PARTITION[split])
        if len(chosen) == 0:
            raise UserError(
                f"none of the {len(images):,} images in {self.root / 'celeba'} is in the {split} part, split: "
                f"{self.split}: use more of the images, or split: first64."
            )
        return images.keep(chosen)

    @cached_property
    def _listed(self) -> tuple[list[str], np.ndarray]:
        """Names and attributes of all listed images that exist, in the order of the attribute file."""
        folder = self.root / self.subfolder
        attribute_file, image_folder = folder / "list_attr_celeba.txt", folder / "img_align_celeba"
        partition = [folder / "list_eval_partition.txt"] if self.split == "official" else []
        self._find(folder, [image_folder, attribute_file, *partition])
        names, table = _read_attributes(attribute_file)
        there = {path.name for path in image_folder.iterdir()}
        kept = np.array([name in there for name in names], dtype=bool)
        if not kept.any():
            raise UserError(f"{image_folder} holds none of the {len(names):,} images of {attribute_file}: {_HELP}")
        if not kept.all():
            rank_zero_warn(
                f"{image_folder} lacks {np.count_nonzero(~kept):,} of the {len(names):,} images of "
                f"{attribute_file.name}, which are left out: numbers measured with the others do not compare with "
                "published ones."
            )
        return [name for name, keep in zip(names, kept, strict=True) if keep], table[kept]

    def _partition(self, rows: np.ndarray) -> np.ndarray:
        """The part of each of the given rows of the listed images, as in the partition file."""
        names, table = self._listed
        if self.split == "first64":
            return self._first(table[rows])
        file = self.root / self.subfolder / "list_eval_partition.txt"
        parts: np.ndarray = _read_column(file, names, set(PARTITION.values()).__contains__, "0, 1 or 2")[rows]
        return parts

    @cached_property
    def _everything(self) -> tuple[ImageData, np.ndarray]:
        """All usable images in the order of the attribute file, and the part of each as in the partition file."""
        names, table = self._listed
        folder = self.root / self.subfolder
        pixels, good = decoded_images("celeba", folder / "img_align_celeba", names, 3, self.geometry, self.on_bad_file)
        usable, identities = np.flatnonzero(good), None
        if (identity_file := folder / "identity_CelebA.txt").is_file():
            identities = _read_column(identity_file, names, _is_number, "a number").astype(np.int64)
        return ImageData(pixels, identities, table, usable, names), self._partition(usable)

    def contents(self) -> dict[str, Any]:
        folder = self.root / "celeba"
        return {
            **super().contents(),
            "files": file_versions(folder, {("celeba", ""): sorted(folder.glob("*.txt")), **self.files()}),
            "geometry": astuple(self.geometry),
        }

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """All files by domain and part; a file of both domains is listed under both names joined."""
        names, table = self._listed
        folder, parts = self.root / self.subfolder / "img_align_celeba", self._partition(np.arange(len(names)))
        member = {name: holds(rule, self.attribute_names, table) for name, rule in self.rules.items()}
        found: dict[tuple[str, str], list[Path]] = {}
        for row, name in enumerate(names):
            if domain := "+".join(domain for domain, rows in member.items() if rows[row]):
                split = next(split for split, part in PARTITION.items() if part == parts[row])
                found.setdefault((domain, split), []).append(folder / name)
        return found

    def _first(self, table: np.ndarray) -> np.ndarray:
        """Part of each row of a table: the first of each domain are for the test, the next for validation."""
        part = np.full(len(table), PARTITION["train"])
        chosen = [np.flatnonzero(holds(rule, self.attribute_names, table)) for rule in self.rules.values()]
        for rows in chosen:
            part[rows[FIRST : 2 * FIRST]] = PARTITION["val"]
        for rows in chosen:
            part[rows[:FIRST]] = PARTITION["test"]
        return part

    def _find(self, folder: Path, needed: list[Path]) -> None:
        """Check that files and folders exist; with ``download``, fetch missing ones first.

        Raises:
            UserError: if one is missing or the download fails.
        """
        if self.download and not all(path.exists() for path in needed):
            _download(folder, needed)
        for path in needed:
            if not (path.is_dir() if path == needed[0] else path.is_file()):
                raise UserError(f"{path} is missing: {_HELP}")


_HELP = (
    "unpack the official files there, let root or the environment variable XDOMAIN_DATA name the folder that holds "
    "celeba, or set download: true."
)

_AGAIN = "fetch the official file again."


def _read_attributes(path: Path) -> tuple[list[str], np.ndarray]:
    """File names and attributes ``uint8`` [N, 40] of ``list_attr_celeba.txt``.

    Raises:
        UserError: for a malformed file; the message names the line.
    """
    lines = _lines(path)
    if len(lines) < 2 or not _is_number(lines[0].strip()):
        raise UserError(f"{path} is malformed in line 1: it must be the number of images.")
    if tuple(lines[1].split()) != ATTRIBUTES:
        raise UserError(f"{path} is malformed in line 2: it must be the names of the {len(ATTRIBUTES)} attributes.")
    count, rows = int(lines[0]), lines[2:]
    if len(rows) != count:
        raise UserError(f"{path} announces {count:,} images in line 1, but lists {len(rows):,}: {_AGAIN}")
    line_of: dict[str, int] = {}
    table = np.empty((count, len(ATTRIBUTES)), dtype=np.uint8)
    for i, row in enumerate(rows):
        name, *values = row.split() or [""]
        if len(values) != len(ATTRIBUTES) or not VALUES.issuperset(values):
            raise UserError(
                f"{path} is malformed in line {i + 3}: it must be a file name and {len(ATTRIBUTES)} times 1 or -1."
            )
        if line_of.setdefault(name, i + 3) != i + 3:
            raise UserError(f"{path} lists {name} in line {line_of[name]} and in line {i + 3}: remove one of them.")
        table[i] = [value == "1" for value in values]
    return [*line_of], table


def _read_column(path: Path, names: list[str], valid: Callable[[str], bool], what: str) -> np.ndarray:
    """The value of every name in a file with lines of a name and a value, as text [N].

    Raises:
        UserError: for a malformed line or a missing name.
    """
    values: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        name, *rest = line.split() or [""]
        if len(rest) != 1 or not valid(rest[0]):
            raise UserError(f"{path} is malformed in line {number}: it must be a file name and {what}.")
        if line_of.setdefault(name, number) != number:
            raise UserError(f"{path} lists {name} in line {line_of[name]} and in line {number}: remove one of them.")
        values[name] = rest[0]
    try:
        return np.array([values[name] for name in names])
    except KeyError as error:
        raise UserError(f"{path} does not list {error.args[0]}: {_AGAIN}") from error


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 19  # fits into 64 bits


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): check it, or {_AGAIN}") from error


def _download(folder: Path, needed: list[Path]) -> None:
    """Fetch all files into a temporary folder and move the missing ones here, in one process while others wait."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            if all(path.exists() for path in needed):
                return
            with TemporaryDirectory(prefix=".download-", dir=folder) as scratch:
                torchvision.datasets.CelebA(scratch, download=True)
                for path in (Path(scratch) / "celeba").iterdir():
                    if path.suffix != ".zip" and not (folder / path.name).exists():
                        path.replace(folder / path.name)
    except Exception as error:  # gdown's exceptions have no common base
        raise UserError(
            f"the download into {folder} failed ({' '.join(str(error).split()) or type(error).__name__}): put the "
            "official files there yourself."
        ) from error
