"""The user's own image files with a table of attributes: domains by rules, as for CelebA."""

import re
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from xdomain.data.attributes import PRESETS, AttributeDomains, attributes_of, holds
from xdomain.data.base import ImageData, Split
from xdomain.data.decode import decoded_images, file_versions
from xdomain.data.folders import Fit, OnBadFile, geometry_of, part_shares, read_csv, shared_out
from xdomain.errors import UserError

SPLIT = "split"


class AttributeTable(AttributeDomains):
    """Your own image files with a table of attributes: RGB, domains by attributes.

    The table is a CSV file. Its first column is the name of an image, relative to the folder of the table. A column
    whose values are 0 and 1, or -1 and 1, is an attribute and may have any name; in rules and in ``attribute_names``,
    characters other than letters and digits become ``_``. A column ``split`` gives the part of an image (train, val or
    test). Parts that it does not name, or all without such a column, are taken from the training images by one fixed
    shuffle. Other columns are ignored.

    Args:
        table: the CSV file.
        domains: a mapping from domain names to rules, such as ``{bald: Bald, rest: not Bald}``, or the name of a
            preset; see :class:`xdomain.data.attributes.AttributeDomains`.
        image_size: height and width in pixels.
        fit: how an image is made square; see :class:`xdomain.data.folders.UnpairedFolders`.
        val_share: share of the training images used for validation if there is no such part.
        test_share: share of the training images used for the test if there is no such part.
        on_bad_file: refuse an image that cannot be read, or leave it out with a warning.
    """

    def __init__(
        self,
        table: str,
        domains: str | dict[str, str],
        image_size: int = 64,
        fit: Fit = "crop",
        val_share: float = 0.1,
        test_share: float = 0.1,
        on_bad_file: OnBadFile = "raise",
        **options: Any,
    ) -> None:
        self.file = Path(table).expanduser()
        shares = part_shares(val_share, test_share)
        rows = read_csv(self.file, "table")
        path_column, *columns = (str(name) for name in rows[0][1] if name is not None)
        self._names = _names(self.file, path_column, rows)
        attributes, others = _attributes(self.file, [name for name in columns if name != SPLIT], rows)
        self.attribute_names, self._table = tuple(attributes), np.stack([*attributes.values()], 1)
        rules = PRESETS.get(domains, {}) if isinstance(domains, str) else domains
        for name in (name for rule in rules.values() for name in attributes_of(rule)):
            if name in others:
                raise UserError(f"the table {self.file} {others[name]}: an attribute is 0 or 1, or -1 or 1.")
        super().__init__(domains, **options)
        self.image_size, self.on_bad_file = image_size, on_bad_file
        self.geometry = geometry_of(image_size, fit)
        given: dict[Split, list[int]] = {"train": list(range(len(rows)))}
        if SPLIT in columns:
            given = _given_parts(self.file, rows)
        self._rows_of = shared_out(given, shares, f"the table {self.file}")

    def load(self, split: Split) -> ImageData:
        rows = np.array(self._rows_of[split])
        names = [self._names[row] for row in rows]
        images, good = decoded_images(f"table-{split}", self.file.parent, names, 3, self.geometry, self.on_bad_file)
        if not good.any():
            raise UserError(f"none of the {len(rows):,} images of the {split} part of {self.file} can be read.")
        return ImageData(images, None, self._table[rows], np.flatnonzero(good), names)

    def files(self) -> dict[tuple[str, str], list[Path]]:
        """The image files by domain and split; a file of both domains is listed under both names joined."""
        found: dict[tuple[str, str], list[Path]] = {}
        for split, rows in self._rows_of.items():
            for row in rows:
                if domain := "+".join(name for name, member in self._members.items() if member[row]):
                    found.setdefault((domain, split), []).append(self.file.parent / self._names[row])
        return found

    @cached_property
    def _members(self) -> dict[str, np.ndarray]:
        return {name: holds(rule, self.attribute_names, self._table) for name, rule in self.rules.items()}

    def contents(self) -> dict[str, Any]:
        files = {("", ""): [self.file], **self.files()}
        return {
            **super().contents(),
            "files": file_versions(self.file.parent, files),
            "geometry": astuple(self.geometry),
        }


def _names(table: Path, column: str, rows: list[tuple[int, dict[str, Any]]]) -> list[Path]:
    line_of: dict[Path, int] = {}
    for line, row in rows:
        name = Path(row[column] or "")
        at = f"the table {table}, line {line}:"
        if line_of.setdefault(name, line) != line:
            raise UserError(f"{at} {name} stands in line {line_of[name]} already, remove one of the two.")
        if not (table.parent / name).is_file():
            raise UserError(f"{at} the file {table.parent / name} does not exist; the first column names the images.")
    return [*line_of]


def _attributes(
    table: Path, columns: list[str], rows: list[tuple[int, dict[str, Any]]]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Attribute columns as ``uint8`` [N] by their names in rules, and why the other columns are not attributes."""
    found: dict[str, np.ndarray] = {}
    others: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column.strip())
        if name in found or name in others:
            raise UserError(f"the table {table} has two columns that a rule would call {name}: rename one of them.")
        values = [(row[column] or "").strip() for _, row in rows]
        allowed = ("-1", "1") if "-1" in values else ("0", "1")
        if wrong := [i for i, value in enumerate(values) if value not in allowed]:
            others[name] = f"has {values[wrong[0]]!r} in the column {column} in line {rows[wrong[0]][0]}"
        else:
            found[name] = np.array([value == "1" for value in values], dtype=np.uint8)
    if not found:
        raise UserError(f"the table {table} has no column of 0 and 1, or -1 and 1: add one for every attribute.")
    return found, others


def _given_parts(table: Path, rows: list[tuple[int, dict[str, Any]]]) -> dict[Split, list[int]]:
    parts: dict[Split, list[int]] = {}
    for number, (line, row) in enumerate(rows):
        if row[SPLIT] not in get_args(Split):
            raise UserError(
                f"the table {table}, line {line}: unknown split {row[SPLIT]!r}, expected train, val or test."
            )
        parts.setdefault(row[SPLIT], []).append(number)
    if "train" not in parts:
        raise UserError(f"the table {table} has no training images: add some.")
    return parts
