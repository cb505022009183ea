"""Files of an engine's parameters, and the pictures that it draws from them."""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.classes import find_class
from xdomain.data.images import write_image
from xdomain.engines import Emoji, Engine, Glyphs, Polygons, Schema
from xdomain.errors import UserError, choice, did_you_mean, refuse
from xdomain.files import remove_partial, whole_file
from xdomain.pixels import ENDINGS
from xdomain.running.outputs import MOST_PIXELS, check_folder, check_new

PathLike = str | os.PathLike[str]
ENGINES: dict[str, type[Engine]] = {"avatars": Emoji, "glyphs": Glyphs, "polygons": Polygons}
"""Engines by the names that ``xdomain render`` takes; others are named by the path of their class."""
CHUNK = 64  # pictures drawn at a time
IMAGE = "image"  # first column of a table


def check_file(path: Path) -> None:
    """Raise a UserError for a file of parameters that cannot be written, or whose name does not tell its format."""
    if path.suffix.lower() not in (".json", ".csv"):
        raise UserError(f"{path} ends in neither .json nor .csv: rename it.")
    check_folder(path.parent)


def write_parameters(path: Path, schema: Schema, rows: Mapping[str, Tensor]) -> None:
    """Write parameters by the names of their images, atomically, for people and for :func:`read_parameters`.

    A ``.json`` maps an image to its parameters, ``{"a.png": {"vertices": "5", "radius": 0.5, ...}}``; a ``.csv`` has a
    row for each, with the columns ``image`` and the names of the parameters. Choices are written by name.

    Args:
        path: the file.
        schema: the parameters.
        rows: float32 [P] by image.

    Raises:
        UserError: if it cannot be written.
    """
    check_file(path)
    named = {image: schema.named(row) for image, row in rows.items()}
    text = io.StringIO(newline="")
    if path.suffix.lower() == ".json":
        json.dump(named, text, indent=1, ensure_ascii=False)
        text.write("\n")
    else:
        table = csv.DictWriter(text, [IMAGE, *schema.names], lineterminator="\n")
        table.writeheader()
        table.writerows({IMAGE: image, **values} for image, values in named.items())
    with whole_file(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def read_parameters(path: Path, schema: Schema) -> dict[str, Tensor]:
    """Read the parameters of images, float32 [P] each, from a file of :func:`write_parameters`, maybe edited since.

    Raises:
        UserError: if it cannot be read, or if a value is missing, unknown or impossible; the message names file, image
            and parameter.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UserError(
            f"the parameters {path} cannot be read ({error.strerror}): give a .json or .csv file."
        ) from error
    entries = _table(path, text) if path.suffix.lower() == ".csv" else _mapping(path, text)
    if not entries:
        raise UserError(f"{path} names no image: give at least one, with its parameters.")
    rows = {}
    for image, values in entries:
        if image in rows:
            raise UserError(f"{path} names the image {image} twice: leave one out.")
        try:
            rows[image] = schema.from_names(values)
        except ValueError as error:
            raise UserError(f"{path}, {image}: {error}") from error
    return rows


def _mapping(path: Path, text: str) -> list[tuple[str, dict[str, object]]]:
    def pairs(found: list[tuple[str, object]]) -> list[tuple[str, object]]:
        return found  # a dict would keep one of two equal names in silence

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise UserError(f"{path}{where} is no JSON: {what}.") from error
    if not _is_object(content):
        raise UserError(f'{path} must map images to their parameters: write {{"a.png": {{"NAME": VALUE, ...}}}}.')
    entries = []
    for image, values in content:
        if not _is_object(values):
            raise UserError(f'{path}, {image}: its parameters must be an object: write {{"NAME": VALUE, ...}}.')
        names = [name for name, _ in values]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"{path}, {image}: {twice} is given twice: leave one out.")
        entries.append((image, dict(values)))
    return entries


def _is_object(content: object) -> bool:
    """Whether a value was an object in JSON; its pairs are tuples, which no array holds."""
    return isinstance(content, list) and all(isinstance(pair, tuple) for pair in content)


def _table(path: Path, text: str) -> list[tuple[str, dict[str, object]]]:
    entries = []
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if IMAGE not in (table.fieldnames or ()):
            raise UserError(f"{path} has no column {IMAGE}: its first line must name the columns.")
        for row in table:
            if None in row or None in row.values():
                raise UserError(f"{path}, line {table.line_num}: it must have {len(table.fieldnames or ())} values.")
            entries.append((row.pop(IMAGE), dict[str, object](row)))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV table: {error}.") from error
    return entries


def find_engine(name: str) -> Engine:
    """An engine by its name in :data:`ENGINES`, or by the path of its class, such as ``shapes.Stars``.

    Raises:
        UserError: if there is none.
    """
    if name in ENGINES:
        return ENGINES[name]()
    if "." not in name:
        hint = did_you_mean(name, ENGINES, f": give {choice(ENGINES)}, or the path of a class.")
        refuse(None, "engine", name, f", which is no engine{hint}")
    kind = find_class(None, "engine", name, [Engine], None)
    engine: Engine = kind()
    return engine


def render_file(
    engine: Engine, parameters: PathLike, output: PathLike, *, size: int = 256, overwrite: bool = False
) -> int:
    """Draw the pictures of a file of parameters, like ``xdomain render``.

    Args:
        engine: what draws them.
        parameters: file of :func:`write_parameters`.
        output: folder for the pictures, which are named like the images; names without the ending of an image get
            ``.png``.
        size: height and width in pixels.
        overwrite: replace files that already exist.

    Returns:
        number of pictures.

    Raises:
        UserError: if anything in the file is impossible, or files would be overwritten; nothing is written then.
    """
    if not 1 <= size * size <= MOST_PIXELS:
        refuse(None, "size", size, f"give a number of pixels from 1 to {int(MOST_PIXELS**0.5):,}.")
    rows = read_parameters(Path(parameters), engine.schema)
    check_folder(Path(output))
    files = {image: _output(Path(parameters), Path(output), image) for image in rows}
    first: dict[Path, str] = {}
    for image, file in files.items():
        if first.setdefault(file, image) != image:
            raise UserError(f"{first[file]} and {image} in {parameters} would both be drawn as {file}: rename one.")
    check_new([*files.values()], overwrite)
    for parent in {file.parent for file in files.values()}:
        remove_partial(parent)
    names = [*rows]
    chunk = max(1, min(CHUNK, 2**20 // size**2))
    with tqdm(total=len(names), unit="image", disable=None) as bar:
        for start in range(0, len(names), chunk):
            part = names[start : start + chunk]
            try:
                drawn = engine.render(torch.stack([rows[name] for name in part]), size)
            except ValueError as error:  # a size that the engine does not draw
                raise UserError(f"{engine.name} cannot draw this: {error}.") from error
            for name, picture in zip(part, drawn, strict=True):
                write_image(picture, files[name])
            bar.update(len(part))
    return len(names)


def _output(parameters: Path, output: Path, image: str) -> Path:
    """The file of a picture, which must lie below the output."""
    name = PurePosixPath(image)
    if not name.name or name.is_absolute() or ".." in name.parts or "\0" in image:
        raise UserError(f"{parameters} names the image {image!r}, which leads out of the output: give a plain name.")
    file = output / name
    if not file.parent.resolve().is_relative_to(output.resolve()):
        raise UserError(f"{file.parent} is a link that leads out of the output folder: remove it, or give another.")
    return file if name.suffix.lower() in ENDINGS else file.with_name(f"{name.name}.png")
