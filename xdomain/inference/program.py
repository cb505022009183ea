"""Translating a folder with an exported program; by onnxruntime it needs no torch."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.changes import parsed_changes
from xdomain.errors import SettingError, UserError, refuse
from xdomain.files import remove_partial
from xdomain.inference.places import (
    PathLike,
    Translated,
    files_of,
    listed,
    output_files,
    tell_skipped,
    tell_tiles,
    written,
)
from xdomain.inference.plain import at_stride, resized, shrunk, to_float, to_uint8, with_change
from xdomain.inference.threads import Behind, ahead, depth_for
from xdomain.inference.tiles import STRAIGHT, at_own_size, needs_tiles
from xdomain.pixels import bombs_refused, encoded, load_formats, read_pixels, write_content
from xdomain.running.outputs import check_new

TASKS = ("transfer", "remove", "add", "swap", "edit", "free", "imitated")
"""Tasks that can be exported: they turn an image into one picture."""


SAMPLE = "sample"
"""What the facts of a program call its task if it makes samples of noise."""


class Program:
    """An exported program.

    Args:
        path: the ``.onnx`` file.

    Attributes:
        facts: what it is of; see :func:`xdomain.inference.export.export`.

    Raises:
        UserError: if onnxruntime is missing, or if the file is none that ``xdomain export`` has written.
    """

    def __init__(self, path: PathLike) -> None:
        try:
            runtime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise UserError(
                f"{path} needs onnxruntime, which is not installed: run `pip install onnxruntime`."
            ) from error
        check_exists(path)
        try:
            self.session = runtime.InferenceSession(str(path), providers=runtime.get_available_providers())
            self.facts: dict[str, Any] = json.loads(self.session.get_modelmeta().custom_metadata_map["xdomain"])
        except Exception as error:  # onnxruntime's own classes, without a common base
            raise cannot_read(path, error) from error

    def __call__(self, **inputs: np.ndarray) -> np.ndarray:
        """Translations, float [N, C, H, W] in [-1, 1]; see :func:`xdomain.inference.export.export`."""
        made: np.ndarray = self.session.run(None, {name: np.ascontiguousarray(x) for name, x in inputs.items()})[0]
        return made

    def translate(self, images: Sequence[np.ndarray], **more: np.ndarray) -> list[np.ndarray]:
        """Translations of float images [C, H, W] in [-1, 1], all of one size; without a stride only squares."""
        stride, (height, width) = self.facts["stride"], images[0].shape[1:]
        if stride:
            least = min(2 * stride, self.facts["image_size"])
            images = [at_stride(image, stride, least) for image in images]
        return [made[:, :height, :width] if stride else made for made in self(images=np.stack(images), **more)]


def opened_program(path: str, allow: Sequence[str] = ()) -> Program | None:
    """An exported program, or None if the path is not that of one; torch is imported only for a ``.pt2`` file.

    Args:
        path: a file.
        allow: ``pt2``, for a ``.pt2`` file, which can run any code.

    Raises:
        UserError: see :class:`Program` and :class:`xdomain.inference.torch_program.TorchProgram`.
    """
    suffix = Path(path).suffix
    if suffix == ".pt2":
        from xdomain.inference.torch_program import TorchProgram

        return TorchProgram(path, allow)
    if suffix != ".onnx":
        return None
    if allow:
        refuse(None, "allow", allow[0], ", but an .onnx file runs no code: leave it out.")
    return Program(path)


def check_exists(path: PathLike) -> None:
    """Raise a UserError if there is no such program."""
    if not Path(path).is_file():
        raise UserError(f"the program {path} does not exist: give a file that `xdomain export` has written.")


def cannot_read(path: PathLike, error: Exception) -> UserError:
    """The error for a file that is no program; a KeyError means that its facts are missing."""
    why = "it was not written by `xdomain export`" if isinstance(error, KeyError) else type(error).__name__
    return UserError(f"{path} cannot be read as a program ({why}): give another.")


class _Seen(NamedTuple):
    """An input image as the program sees it, float [C, h, w] (``uint8`` at its own size), and its original size."""

    pixels: np.ndarray
    size: tuple[int, int]


def translate_with_program(
    program: Program,
    input: PathLike,
    output: PathLike,
    *,
    task: str | None = None,
    source: str | None = None,
    target: str | None = None,
    guide: PathLike | None = None,
    size: str = "keep",
    attributes: str | None = None,
    overwrite: bool = False,
    batch_size: int = 64,
) -> Translated:
    """Translate an image file or a folder as :func:`xdomain.inference.folder.translate_folder` does.

    Args:
        program: the program.
        input: image file or folder.
        output: folder for the translations.
        task: if given, must be that of the program.
        source: likewise.
        target: likewise.
        guide: image file or folder, if the program takes guides.
        size: ``keep`` or ``model``.
        attributes: changes by name, if the program takes them.
        overwrite: replace files that already exist in the output folder.
        batch_size: images per step.

    Raises:
        UserError: as there.
    """
    facts = program.facts
    _check(facts, {"task": task, "source": source, "target": target}, guide, attributes)
    folder, names = listed(Path(input))
    guide_files = files_of("guide", guide) if guide is not None else []
    targets = output_files(Path(output), Path(input), folder, names, {"guides": guide}, as_png=False)
    check_new(targets, overwrite)
    for parent in {file.parent for file in targets}:
        remove_partial(parent)
    channels, as_it_is = facts["channels"][0], bool(facts["stride"]) and size == "keep"
    see = partial(_seen, facts=facts, size=size)
    guides, broken = _guides(guide_files, len(names), see)
    if guide_files and not guides:
        refuse(None, "guide", guide, ", which holds no image that can be read: give another.")
    changes = _changes(facts, attributes)
    done, enlarged, in_tiles, step = 0, 0, False, 1 if facts["stride"] else batch_size

    def finish(i: int, image: _Seen, made: np.ndarray) -> tuple[int, memoryview, bool]:
        """Number and content of a file, and whether its change was enlarged."""
        grown = size == "keep" and facts["edits"] and _larger(image, made)
        if as_it_is:
            result = made
        elif grown:
            large = read_pixels(folder / names[i], channels).transpose(2, 0, 1)
            result = with_change(large, image.pixels, made)
        else:
            result = _restored(to_uint8(made), image) if size == "keep" else to_uint8(made)
        return i, encoded(np.ascontiguousarray(result.transpose(1, 2, 0)), targets[i]), grown

    def write(finished: tuple[int, memoryview, bool]) -> None:
        nonlocal done, enlarged
        i, content, grown = finished
        done += written(partial(write_content, content, targets[i]))
        enlarged += grown

    load_formats()
    with (
        bombs_refused(),
        tqdm(total=len(names), unit="image", disable=None if names[1:] else True) as bar,
        Behind(write, step) as behind,
        closing(ahead(lambda name: see(folder / name), names, step)) as images,
    ):
        for start in range(0, len(names), step):
            chunk = range(start, min(start + step, len(names)))
            seen: dict[int, _Seen] = {}
            for i, image in zip(chunk, images, strict=False):
                if isinstance(image, UserError):
                    tell_skipped(image)
                else:
                    seen[i] = image
            behind.depth = depth_for((image.size for image in seen.values()), step)
            if seen:
                more = {}
                if guides:
                    more["guide"] = np.stack([to_float(guides[i % len(guides)]) for i in seen])
                if changes is not None:
                    more["changes"] = np.repeat(changes, len(seen), 0)
                if as_it_is:
                    ((i, image),) = seen.items()
                    if needs_tiles(image.size) and not in_tiles:
                        tell_tiles(names[i], image.size, STRAIGHT)
                        in_tiles = True
                    made = [at_own_size(image.pixels, lambda x: program.translate([x])[0], facts["stride"])]
                else:
                    made = program.translate([image.pixels for image in seen.values()], **more)
                for (i, image), picture in zip(seen.items(), made, strict=True):
                    behind.do(finish, i, image, picture)
            bar.update(len(chunk))
    return Translated(done, len(names) - done, broken, enlarged)


def _check(
    facts: Mapping[str, Any], wanted: Mapping[str, str | None], guide: PathLike | None, attributes: str | None
) -> None:
    """Raise a SettingError for what this program does not do."""
    for name, value in wanted.items():
        if value not in (None, facts[name]):
            refuse(None, name, value, f", but the program was exported with {facts[name]}: leave it out.")
    if (guide is not None) != facts["guide"]:
        if guide is None:
            raise SettingError(None, "guide", f"is needed by this program: give images of {facts['target']}.")
        refuse(None, "guide", guide, ", but the program takes none: leave it out.")
    if (attributes is not None) != bool(facts["attributes"]):
        if attributes is None:
            raise SettingError(
                None, "attributes", f"is needed by this program: give changes such as +{facts['attributes'][0]}."
            )
        refuse(None, "attributes", attributes, ", but the program takes none: leave it out.")


def _seen(file: Path, facts: Mapping[str, Any], size: str) -> _Seen | UserError:
    """An image as the program sees it, or why it cannot be used."""
    try:
        image = read_pixels(file, facts["channels"][0]).transpose(2, 0, 1)
    except UserError as error:
        return error
    height, width = image.shape[1:]
    if not facts["stride"]:
        pixels = resized(to_float(image), facts["image_size"], facts["image_size"]).clip(-1, 1)
        return _Seen(pixels, (height, width))
    return _Seen(shrunk(to_float(image), facts["image_size"]) if size == "model" else image, (height, width))


def _guides(
    files: Sequence[Path], count: int, see: Callable[[Path], _Seen | UserError]
) -> tuple[list[np.ndarray], int]:
    """The first ``count`` readable guides, ``uint8`` [C, H, W], and the number of unreadable ones."""
    guides: list[np.ndarray] = []
    broken = 0
    for file in files:
        if len(guides) == count:
            break
        if isinstance(image := see(file), UserError):
            tell_skipped(image)
            broken += 1
        else:
            guides.append(to_uint8(image.pixels))
    return guides, broken


def _changes(facts: Mapping[str, Any], attributes: str | None) -> np.ndarray | None:
    """Changes by name as the program takes them, [1, K]."""
    if attributes is None:
        return None
    names = facts["attributes"]
    changes = parsed_changes(None, facts["method"], attributes, names, facts["exclusive"])
    values = [0 if name not in changes else 1 if changes[name] else -1 for name in names]
    return np.array([values], dtype=np.float32)


def _larger(image: _Seen, made: np.ndarray) -> bool:
    """Whether an image was shrunk to what the program saw of it, and drawn again in the same size and channels."""
    seen = image.pixels.shape[1:]
    return made.shape == image.pixels.shape and max(image.size) > max(seen) and min(image.size) >= min(seen)


def _restored(picture: np.ndarray, image: _Seen) -> np.ndarray:
    """A translation with the resizing of its image undone."""
    sides = zip(picture.shape[1:], image.size, image.pixels.shape[1:], strict=True)
    return resized(picture, *(max(1, round(side * own / seen)) for side, own, seen in sides))
