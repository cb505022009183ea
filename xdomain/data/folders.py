"""The user's own image files: two unpaired folders, or one folder per class."""

import csv
import re
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from torch import nn

from xdomain.data.attributes import HorizontalFlip
from xdomain.data.augment import ResizeCropFlip
from xdomain.data.base import ROLES, BaseDataModule, ImageData, SingleDomain, Split, checked_names
from xdomain.data.decode import Geometry, decoded_images, file_versions
from xdomain.data.images import image_files
from xdomain.errors import SettingError, UserError, refuse
from xdomain.paths import data_root

OnBadFile = Literal["raise", "skip"]
Fit = Literal["crop", "pad", "stretch"]

COLUMNS = ("path", "domain", "split")
MOST_CLASSES = 10_000


class Entry(NamedTuple):
    """One image file.

    Attributes:
        path: path relative to a common folder.
        label: class, or None.
    """

    path: Path
    label: int | None = None


Parts = dict[Split, list[Entry]]
Kind = TypeVar("Kind", Entry, int)
"""An image, as its entry or its index."""


class UnpairedFolders(BaseDataModule):
    """Two unpaired domains of your own image files, in one of three layouts.

    - ``path``: a folder with ``trainA``, ``trainB`` and any of ``valA``, ``valB``, ``testA`` and ``testB``;
    - ``a`` and ``b``: any two folders;
    - ``manifest``: a CSV file with the columns ``path`` (relative to the file's own folder), ``domain``, ``split``
      (train, val or test) and, optionally, ``label`` (a class: integers from 0, or names, which are numbered in sorted
      order).

    Folders are read with all their subfolders. A part that is not given is taken from the training images by one fixed
    shuffle of their sorted names; a ``path`` or ``manifest`` without training images can be tested with. Training
    images are stored in shuffled order, so that ``limit`` is a random choice.

    Args:
        path: folder with ``trainA`` and ``trainB``, or ``testA`` and ``testB``.
        a: folder of the source domain.
        b: folder of the target domain.
        manifest: CSV file.
        domains: names of source and target; by default ``A`` and ``B`` of a ``path``, the names of the folders ``a``
            and ``b``, or those of the manifest in the order in which they appear.
        image_size: height and width in pixels.
        channels: 1 for grey or 3 for RGB; or two numbers, for source and target.
        fit: how an image is made square: ``crop`` takes the largest central square; ``pad`` keeps the whole image and
            its aspect ratio, and repeats the border; ``stretch`` squashes it.
        flip: mirror training images at random.
        jitter: crop training images at random from enlarged ones and mirror half of them, by
            :class:`xdomain.data.augment.ResizeCropFlip`: instead of ``flip``.
        val_share: share of the training images used for validation if there is no such part.
        test_share: share of the training images used for the test if there is no such part.
        on_bad_file: refuse an image that cannot be read, or leave it out with a warning.
        limit: use only this many training images per domain.

    Attributes:
        class_names: class names of a manifest with labels, else empty.
    """

    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        path: str | None = None,
        a: str | None = None,
        b: str | None = None,
        manifest: str | None = None,
        domains: list[str] | None = None,
        image_size: int = 64,
        channels: int | list[int] = 3,
        fit: Fit = "crop",
        flip: bool = False,
        jitter: bool = False,
        val_share: float = 0.1,
        test_share: float = 0.1,
        on_bad_file: OnBadFile = "raise",
        limit: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        sources = [source for source in (path, a or b, manifest) if source is not None]
        if len(sources) > 1:
            raise UserError("give UnpairedFolders either path, or both a and b, or manifest: they exclude each other.")
        if not sources or (a is None) != (b is None):
            way = "give two folders of images by a and b, or one folder by path, or a manifest."
            raise SettingError(self, "a" if a is None else "b", f"is missing: {way}")
        if domains is not None and len(set(domains)) != 2:
            raise UserError(f"domains is {domains}: give two different names.")
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: give a number of training images of at least 1, or null for all.")
        self.root, self.image_size, self.channels = data_root(), image_size, _channels(channels, 2)
        self.geometry = geometry_of(image_size, fit)
        if flip and jitter:
            refuse(self, "flip", "true", ", but jitter mirrors already: leave one of them out.")
        self.flip, self.jitter, self.on_bad_file, self.limit = flip, jitter, on_bad_file, limit
        shares = part_shares(val_share, test_share)

        if manifest is not None:
            file = Path(manifest).expanduser()
            found, self.class_names = _read_manifest(file, domains)
            folders = [file.parent] * 2
        elif path is not None:
            folders = [Path(path).expanduser()] * 2
            found = dict(zip(domains or "AB", _read_layout(folders[0]), strict=True))
        else:
            folders = [Path(str(folder)).expanduser() for folder in (a, b)]
            names = domains or [folder.resolve().name for folder in folders]
            if names[0] == names[1]:
                raise UserError(
                    f"the folders {a} and {b} have the same name: name the two domains by domains: [.., ..]."
                )
            found = {name: {"train": listed(folder)} for name, folder in zip(names, folders, strict=True)}
        self.domains = checked_names(found)
        self._folders = dict(zip(self.domains, folders, strict=True))
        self._parts = {
            domain: shared_out(parts, shares, f"the domain {domain} in {self._folders[domain]}")
            if "train" in parts
            else parts
            for domain, parts in found.items()
        }
        for parts in self._parts.values():
            if "train" in parts:
                parts["train"] = parts["train"][: self.limit]
        self._loaded: dict[tuple[str, Split], ImageData] = {}

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """The image files by domain and split."""
        return {
            (domain, split): [self._folders[domain] / entry.path for entry in entries]
            for domain, parts in self._parts.items()
            for split, entries in parts.items()
        }

    def augmentation(self, role: str) -> nn.Module | None:
        return ResizeCropFlip() if self.jitter else HorizontalFlip() if self.flip else None

    def contents(self) -> dict[str, Any]:
        states = [
            file_versions(folder, {group: paths for group, paths in self.files().items() if group[0] == domain})
            for domain, folder in self._folders.items()
        ]
        labels = {
            domain: {s: [e.label for e in part] for s, part in parts.items()} for domain, parts in self._parts.items()
        }
        return {"files": states, "labels": labels, "geometry": astuple(self.geometry)}

    def data(self, role: str, split: Split) -> ImageData:
        if (role, split) not in self._loaded:
            index = ROLES.index(role)
            domain = self.domains[index]
            folder = self._folders[domain]
            if split not in self._parts[domain]:
                raise UserError(f"{folder} holds no {split} images of the domain {domain}: add some.")
            self._loaded[role, split] = load_part(
                f"{domain}-{split}",
                folder,
                self._parts[domain][split],
                self.channels[index],
                self.geometry,
                self.on_bad_file,
            )
        return self._loaded[role, split]


class LabelledFolders(SingleDomain):
    """One domain of your own image files, with one folder per class.

    The classes are the folders in ``path/train``, with the same folders in ``path/val`` and ``path/test``; without
    ``path/train``, those in ``path`` itself. A part that is not given is taken from the training images by one fixed
    shuffle, with the same share of every class. Classes are numbered in the sorted order of their names.

    Args:
        path: the folder.
        domain: name of the domain; by default that of the folder.
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        fit: how an image is made square: ``crop`` takes the largest central square; ``pad`` keeps the whole image and
            its aspect ratio, and repeats the border; ``stretch`` squashes it.
        val_share: share of the training images used for validation if there is no such part.
        test_share: share of the training images used for the test if there is no such part.
        on_bad_file: refuse an image that cannot be read, or leave it out with a warning.

    Attributes:
        class_names: names of the classes, in the order of their numbers.
    """

    class_names: tuple[str, ...]

    def __init__(
        self,
        path: str,
        domain: str | None = None,
        image_size: int = 64,
        channels: int = 3,
        fit: Fit = "crop",
        val_share: float = 0.1,
        test_share: float = 0.1,
        on_bad_file: OnBadFile = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path = Path(path).expanduser()
        self.domains, self.channels = checked_names([domain or self.path.resolve().name]), _channels(channels, 1)
        self.image_size, self.geometry, self.on_bad_file = image_size, geometry_of(image_size, fit), on_bad_file
        shares = part_shares(val_share, test_share)

        whole = self.path / "train"
        if not whole.is_dir():
            whole = self.path
        self.class_names = _subfolders(whole)
        if len(self.class_names) < 2:
            what = "no folders" if not self.class_names else f"only the folder {self.class_names[0]}"
            raise UserError(
                f"{whole} holds {what}: every class needs a folder of its own, and there must be two at least."
            )
        of_class: list[Parts] = [
            {"train": listed(self.path, whole.relative_to(self.path) / name, label)}
            for label, name in enumerate(self.class_names)
        ]
        for split in ("val", "test") if whole != self.path else ():
            self._add(of_class, split)
        whole_parts = [
            shared_out(parts, shares, f"the class {name} in {whole}")
            for name, parts in zip(self.class_names, of_class, strict=True)
        ]
        self._parts: Parts = {s: [entry for parts in whole_parts for entry in parts[s]] for s in get_args(Split)}
        self._parts["train"] = _shuffled(self._parts["train"])  # so that `limit` keeps images of every class

    def _add(self, of_class: list[Parts], split: Split) -> None:
        """Add a given part to every class."""
        if not (self.path / split).is_dir():
            return
        if unknown := sorted(set(_subfolders(self.path / split)) - set(self.class_names)):
            raise UserError(
                f"the class {unknown[0]} in {self.path / split} is not in {self.path / 'train'}: add or rename it."
            )
        for label, name in enumerate(self.class_names):
            there = (self.path / split / name).is_dir()
            of_class[label][split] = listed(self.path, Path(split) / name, label) if there else []
        if not any(parts[split] for parts in of_class):
            raise UserError(f"{self.path / split} holds no class folder: add images, or remove it.")

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """The image files by domain and split."""
        return {(self.domains[0], split): [self.path / e.path for e in part] for split, part in self._parts.items()}

    def contents(self) -> dict[str, Any]:
        return {
            **super().contents(),
            "files": file_versions(self.path, self.files()),
            "geometry": astuple(self.geometry),
        }

    def load(self, split: Split) -> ImageData:
        name = f"{self.domains[0]}-{split}"
        return load_part(name, self.path, self._parts[split], self.channels[0], self.geometry, self.on_bad_file)


def _channels(channels: int | Sequence[int], count: int) -> tuple[int, ...]:
    result = (channels,) * count if isinstance(channels, int) else tuple(channels)
    if len(result) != count or not {*result} <= {1, 3}:
        raise UserError(f"channels is {channels}: give 1 for grey or 3 for RGB" + ", or two of them." * (count == 2))
    return result


def geometry_of(image_size: int, fit: Fit) -> Geometry:
    """How images are made square with a size in pixels; see :class:`UnpairedFolders`."""
    if image_size < 1:
        raise UserError(f"image_size is {image_size}: give a number of pixels of at least 1.")
    boxes: dict[Fit, Literal["centre", "pad"] | None] = {"crop": "centre", "pad": "pad", "stretch": None}
    return Geometry(image_size, boxes[fit], "bicubic")


def part_shares(val_share: float, test_share: float) -> dict[Split, float]:
    """The shares of the training images for validation and test, checked."""
    for name, share in {"val_share": val_share, "test_share": test_share, "their sum": val_share + test_share}.items():
        if not 0 < share < 1:
            raise UserError(f"{name} is {share:g}, as a share of the training images it must lie between 0 and 1.")
    return {"val": val_share, "test": test_share}


def _shuffled(entries: list[Kind]) -> list[Kind]:
    return [entries[i] for i in np.random.default_rng(0).permutation(len(entries))]


def shared_out(parts: dict[Split, list[Kind]], shares: dict[Split, float], whose: str) -> dict[Split, list[Kind]]:
    """All three parts; missing ones are taken from the training images, at least one image each."""
    result = dict(parts)
    rest = _shuffled(parts["train"])
    for split, share in shares.items():
        if split not in parts:
            count = max(1, round(share * len(parts["train"])))
            result[split], rest = sorted(rest[:count]), rest[count:]
    if not rest:
        raise UserError(
            f"{whose} has only {len(parts['train'])} training images, too few to take validation and test images "
            "out of them: add some, or give those parts yourself."
        )
    return result | {"train": rest}


def listed(folder: Path, below: Path = Path(), label: int | None = None) -> list[Entry]:
    """The images in a folder and its subfolders, by sorted names relative to ``folder``."""
    if not (folder / below).is_dir():
        raise UserError(f"the folder {folder / below} does not exist: give a folder of images.")
    return [Entry(below / name, label) for name in image_files(folder / below)[1]]


def _subfolders(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: give one that holds a folder for every class.")
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))


def _read_layout(folder: Path) -> tuple[Parts, Parts]:
    """The parts of both domains in a folder with ``trainA``, ``trainB`` and so on; perhaps none to train with."""
    result: tuple[Parts, Parts] = ({}, {})
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: give one that holds trainA and trainB.")
    for split in get_args(Split):
        for side, parts in zip("AB", result, strict=True):
            if (folder / f"{split}{side}").is_dir():
                parts[split] = listed(folder, Path(f"{split}{side}"))
    untrained = [side for side, parts in zip("AB", result, strict=True) if "train" not in parts]
    if len(untrained) == 1 or not all(result):
        raise UserError(f"{folder} holds no folder train{untrained[0]}: add it, or name two folders by a and b.")
    return result


def _read_manifest(path: Path, domains: list[str] | None) -> tuple[dict[str, Parts], tuple[str, ...]]:
    """The parts of two domains, and the names of the classes if there are labels."""
    rows = read_csv(path, "manifest", COLUMNS)
    for line, row in rows:
        if empty := [name for name in COLUMNS if not row[name]]:
            raise UserError(f"the manifest {path}, line {line}: the column {empty[0]} is empty, fill it in.")
    known = domains or list(dict.fromkeys(row["domain"] for _, row in rows))
    if len(known) != 2:
        raise UserError(f"the manifest {path} has {len(known)} domain(s), {', '.join(known)}: there must be two.")
    first_line: dict[str, int] = {}
    for line, row in rows:
        at, name = f"the manifest {path}, line {line}:", row["path"]
        if row["domain"] not in known:
            raise UserError(f"{at} unknown domain {row['domain']!r}, expected {' or '.join(known)}.")
        if row["split"] not in get_args(Split):
            raise UserError(f"{at} unknown split {row['split']!r}, expected train, val or test.")
        if name in first_line:
            raise UserError(f"{at} {name} stands in line {first_line[name]} already, remove one of the two.")
        first_line[name] = line
        if not (path.parent / name).is_file():
            raise UserError(f"{at} the file {path.parent / name} does not exist.")
    class_names, labels = _classes([row.get("label", "") for _, row in rows], path)

    parts: dict[str, Parts] = {domain: {} for domain in known}
    for (_, row), label in zip(rows, labels, strict=True):
        split: Split = row["split"]
        parts[row["domain"]].setdefault(split, []).append(Entry(Path(row["path"]), label))
    untrained = [domain for domain, found in parts.items() if "train" not in found]
    if len(untrained) == 1:
        raise UserError(f"the manifest {path} has no training images of the domain {untrained[0]}: add some.")
    return {
        domain: {split: sorted(part) for split, part in found.items()} for domain, found in parts.items()
    }, class_names


def read_csv(path: Path, what: str, columns: Sequence[str] = ()) -> list[tuple[int, dict[str, Any]]]:
    """Line numbers and rows (by the names in the first line) of a CSV file.

    Args:
        path: the file.
        what: name of the file in error messages.
        columns: required columns.

    Raises:
        UserError: if it cannot be read, lacks a column or has no rows.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"the {what} {path} is no regular file: give a CSV file.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise UserError(
                    f"the {what} {path} has no column {missing[0]}: its first line must name {', '.join(columns)}."
                )
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise UserError(f"the {what} {path} does not exist: give a CSV file.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the {what} {path} cannot be read as CSV: {error}.") from error
    if not rows:
        raise UserError(f"the {what} {path} names no images: add lines below its first.")
    return rows


def _classes(words: list[str], path: Path) -> tuple[tuple[str, ...], list[int | None]]:
    """Names and numbers of the classes; none if no labels are given."""
    if not any(words):
        return (), [None] * len(words)
    if not all(words):
        raise UserError(f"the manifest {path} labels some of its images only: label all, or leave the column out.")
    if all(re.fullmatch(r"\d+", word, re.ASCII) for word in words):
        if far := [word for word in words if len(word) > len(str(MOST_CLASSES)) or int(word) >= MOST_CLASSES]:
            raise UserError(
                f"the manifest {path} has the label {far[0]}: whole numbers count the classes from 0, and there can be "
                f"{MOST_CLASSES:,}; count them so, or give them names."
            )
        return tuple(str(i) for i in range(1 + max(map(int, words)))), [int(word) for word in words]
    names = tuple(sorted(set(words)))
    return names, [names.index(word) for word in words]


def load_part(
    name: str, folder: Path, entries: list[Entry], channels: int, geometry: Geometry, on_bad_file: OnBadFile
) -> ImageData:
    """Decode one part, without skipped images."""
    paths = [entry.path for entry in entries]
    images, good = decoded_images(re.sub(r"\W+", "_", name), folder, paths, channels, geometry, on_bad_file)
    if not good.any():
        raise UserError(f"none of the {len(entries):,} images of {name} in {folder} can be read: replace them.")
    labels = np.array([entry.label for entry in entries], dtype=np.int64) if entries[0].label is not None else None
    data = ImageData(images, labels, files=paths)
    return data if good.all() else data.keep(np.flatnonzero(good))
