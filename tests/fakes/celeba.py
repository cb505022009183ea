"""Fake files of CelebA in the official formats and folders; every pixel says where it was and in which image."""

from pathlib import Path

import numpy as np
from PIL import Image

from xdomain.data.celeba import ATTRIBUTES


def names_of(count: int) -> list[str]:
    """``000001.jpg`` and so on."""
    return [f"{i + 1:06d}.jpg" for i in range(count)]


def aligned_image(number: int, shrink: int = 1) -> Image.Image:
    """An image of 178x218 pixels, or smaller: red is the column and green the row (of 178x218), blue 3 x the number."""
    columns, rows = (shrink * np.arange(side // shrink) + (shrink - 1) / 2 for side in (178, 218))
    pixels = np.empty((len(rows), len(columns), 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = columns.round(), rows[:, None].round(), 3 * number
    return Image.fromarray(pixels)


def write_attributes(path: Path, table: np.ndarray) -> None:
    """``list_attr_celeba.txt``: number of images, names of the attributes, and per image 1 and -1 in columns."""
    rows = [" ".join(f"{value:2d}" for value in row) for row in np.where(table, 1, -1)]
    lines = [f"{name} {row}" for name, row in zip(names_of(len(table)), rows, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([str(len(table)), " ".join(ATTRIBUTES) + " ", *lines]) + "\n", encoding="utf-8")


def write_columns(path: Path, values: np.ndarray) -> None:
    """``list_eval_partition.txt`` or ``identity_CelebA.txt``: per image its name and a number."""
    lines = [f"{name} {value}\n" for name, value in zip(names_of(len(values)), values, strict=True)]
    path.write_text("".join(lines), encoding="utf-8")


def write_celeba(
    root: Path, table: np.ndarray, partition: np.ndarray | None, identities: np.ndarray | None = None, shrink: int = 1
) -> Path:
    """``celeba/`` with one image per row of a table of attributes [N, 40]; None leaves a file out."""
    folder = root / "celeba"
    write_attributes(folder / "list_attr_celeba.txt", table)
    if partition is not None:
        write_columns(folder / "list_eval_partition.txt", partition)
    if identities is not None:
        write_columns(folder / "identity_CelebA.txt", identities)
    images = folder / "img_align_celeba"
    images.mkdir(exist_ok=True)
    for number, name in enumerate(names_of(len(table))):
        aligned_image(number, shrink).save(images / name, quality=95, subsampling=0)
    return folder
