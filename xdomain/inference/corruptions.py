"""Corrupted copies of a folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.data.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    Frost,
    corrupt,
    official_frost,
    own_frost,
    parameters,
)
from xdomain.data.images import image_files, read_image, write_image
from xdomain.errors import UserError, refuse
from xdomain.files import remove_partial
from xdomain.inference.places import tell_skipped
from xdomain.pixels import open_image
from xdomain.running.outputs import MOST_PIXELS, check_folder, check_new

GREY = ("1", "L", "LA", "I", "F")
"""Modes of PIL without colours; those of 16 bits begin with ``I``."""


class Corrupted(NamedTuple):
    """Number of images that were corrupted and skipped, and of files that were written."""

    images: int
    skipped: int
    files: int


def corrupt_folder(
    input: str | Path,
    output: str | Path,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    frost: str | Path | None = None,
    overwrite: bool = False,
) -> Corrupted:
    """Write corrupted copies of an image file, or of all images of a folder and its subfolders.

    The copies are PNG files in OUTPUT/corruption/severity, with the subfolders of the input. The number of an image in
    the order of names belongs to its random numbers. Images that cannot be read are reported on standard error and
    skipped. A grey file stays grey.

    Args:
        input: image file or folder.
        output: folder for the copies, outside of the input.
        corruptions: some of the 15 corruptions and the 4 for validation; by default the 15.
        severities: some of 1 to 5; by default all.
        seed: of the random numbers, from 0.
        frost: folder with the photographs ``frost1.png`` to ``frost5.jpg`` of ImageNet-C. Without it, textures are
            generated, and the folder is called ``frost*``.
        overwrite: replace files that already exist in the output folder.

    Returns:
        number of images that were corrupted and skipped, and of files written.

    Raises:
        UserError: if nothing can be corrupted, or files would be overwritten; nothing is written then. Also if a file
            cannot be written later on; files that were already written stay.
    """
    kinds = [(name, severity) for name in dict.fromkeys(corruptions) for severity in dict.fromkeys(severities)]
    for name, severity in kinds:
        parameters(name, severity, "imagenet")  # refuses unknown ones
    folder, names = image_files(Path(input))
    check_folder(Path(output))
    if Path(output).resolve().is_relative_to(folder.resolve()) and Path(input).is_dir():
        raise UserError(f"the output {output} lies in the folder of the input: give one outside of it.")
    copies = _copies(names)
    pictures = _pictures(frost, corruptions)
    places = [(name, severity, Path(output) / _called(name, pictures) / str(severity)) for name, severity in kinds]
    check_new([place / copy for _, _, place in places for copy in copies], overwrite)
    for parent in {(place / copy).parent for _, _, place in places for copy in copies}:
        remove_partial(parent)

    images = 0
    with tqdm(total=len(names) * len(places), unit="image", disable=None) as bar:
        for number, (file, copy) in enumerate(zip(names, copies, strict=True)):
            if (image := _read(folder / file)) is None:
                bar.update(len(places))
                continue
            for corruption, severity, place in places:
                made = corrupt(image[None], corruption, severity, seed=seed, indices=[number], frost=pictures)
                write_image(made[0], place / copy)
                bar.update()
            images += 1
    return Corrupted(images, len(names) - images, images * len(places))


def _copies(names: Sequence[Path]) -> list[Path]:
    """The names of the copies: PNG, since another compression would be one more corruption."""
    of: dict[Path, Path] = {}
    for name in names:
        copy = name.with_suffix(".png")
        if of.setdefault(copy, name) != name:
            raise UserError(f"{of[copy]} and {name} would both have the copy {copy}: rename one of them.")
    return list(of)


def _pictures(folder: str | Path | None, corruptions: Sequence[str]) -> Frost | None:
    """The pictures of frost, if they are needed."""
    if folder is not None:
        if "frost" not in corruptions:
            refuse(None, "frost", folder, ", but no corruption is frost: leave it out.")
        return official_frost(Path(folder))
    return own_frost() if "frost" in corruptions else None


def _called(corruption: str, pictures: Frost | None) -> str:
    return pictures.name if corruption == "frost" and pictures is not None else corruption


def _read(file: Path) -> torch.Tensor | None:
    """An image ``uint8`` [C, H, W]; if it cannot be used, this is reported and the result is None."""
    try:
        image = read_image(file, 3)
        if image.shape[1] * image.shape[2] > MOST_PIXELS:
            raise UserError(f"{file} has more than {MOST_PIXELS:,} pixels: make it smaller.")
        with open_image(file) as opened:
            grey = opened.mode in GREY or opened.mode.startswith("I;")
        return image[:1] if grey else image
    except UserError as error:
        tell_skipped(error)
        return None
