"""Running a trained method on a folder of images."""

from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.batch import to_float, to_uint8
from xdomain.data.images import image_files, read_image
from xdomain.engines import Engine
from xdomain.errors import UserError, choice, refuse
from xdomain.files import remove_partial
from xdomain.inference.device import enough_memory, find_device
from xdomain.inference.parameters import check_file, write_parameters
from xdomain.inference.places import PathLike, Translated, files_of, output_files, tell_skipped, tell_tiles, written
from xdomain.inference.sizes import restored, shrunk, square, with_change
from xdomain.inference.tasks import chosen, no_translation, of_images, pictures
from xdomain.inference.tasks import parameters as arguments
from xdomain.inference.threads import Behind, ahead, depth_for
from xdomain.inference.tiles import STRAIGHT, at_own_size, needs_tiles
from xdomain.methods import TOS, Method
from xdomain.methods.translation import TranslationMethod
from xdomain.pixels import bombs_refused, encoded, load_formats, write_content
from xdomain.running.outputs import check_new

Size = Literal["keep", "model"]
Fit = Callable[[Tensor], Tensor]
"""From an image [1, C, H, W] to what a method sees of it."""
EXACT = ("mask", "segment")
"""Tasks whose pictures are values for every pixel, which lossy formats would blur."""


class _Image(NamedTuple):
    """An input image, its mask [1, h, w] in [0, 1], and its original size.

    The pixels are float [C, h, w] in [-1, 1], or ``uint8`` if the method sees images as they are.
    """

    pixels: Tensor
    mask: Tensor | None
    size: tuple[int, int]


def translate_folder(
    method: Method,
    input: PathLike,
    output: PathLike,
    *,
    task: str = "transfer",
    source: str | None = None,
    target: str | None = None,
    guide: PathLike | None = None,
    mask: PathLike | None = None,
    parameters: PathLike | None = None,
    size: Size = "keep",
    seed: int = 0,
    overwrite: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    **options: Any,
) -> Translated:
    """Translate an image file, or all images of a folder and its subfolders, like ``xdomain translate``.

    Every translation gets the relative path of its image in the output folder. Images and guides that cannot be used
    are reported on standard error and skipped.

    Args:
        method: a trained method, such as from :func:`xdomain.load`. It is moved to the device.
        input: image file or folder.
        output: folder for the translations, outside of the input.
        task: one of ``method.tasks`` that take images.
        source: domain of the images; by default the method's usual one.
        target: domain to translate into; by default the method's usual one.
        guide: image file or folder; image number i takes guide number i, starting again after the last guide.
        mask: image file or folder, white where the image is to be changed; one for each image, or one for all.
        parameters: file for the parameters that an engine draws the translations from, ``.json`` or ``.csv``; see
            :func:`xdomain.inference.parameters.write_parameters`. Only for methods that read some, such as TOS.
        size: ``keep`` resizes a translation to the size of its image, ``model`` keeps the size of the method's output.
            With ``keep``, methods that ``edit`` images, such as those of content transfer, leave a larger image as it
            is and add the enlarged change.
            Methods with ``full_size`` see images as they are with ``keep``, shrunk to ``image_size`` with ``model``.
            Outputs for images that were not resized before, and grids of tiles, always keep their size.
        seed: seed for methods that draw random numbers.
        overwrite: replace files that already exist in the output folder.
        batch_size: images per step; methods that take any size work on one at a time.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        options: arguments of the task, such as ``steps``; unknown ones are refused.

    Returns:
        number of images that were translated and skipped.

    Raises:
        UserError: if nothing can be translated, or files would be overwritten; nothing is written then. Also if a file
            cannot be written later on; files that were already written stay.
    """
    if size not in get_args(Size):
        refuse(None, "size", size, f"give {choice(get_args(Size))}.")
    if batch_size < 1:
        refuse(None, "batch_size", batch_size, "give a number of images of at least 1.")
    roles = {"source": source, "target": target, "guide": guide, "mask": mask}
    device = find_device(device)
    folder, names = image_files(Path(input))
    if not (tasks := of_images(method)):
        raise no_translation(method)
    function = chosen(method, tasks, task, [*(name for name, value in roles.items() if value is not None), *options])
    takes = arguments(function)
    source, target = method.direction(task, source, target, guided=guide is not None)
    guide_files = files_of("guide", guide) if guide is not None else []
    mask_files = _masks(mask, len(names)) if mask is not None else []
    targets = output_files(Path(output), Path(input), folder, names, {"guides": guide, "masks": mask}, task in EXACT)
    engine = _engine(method, task, parameters) if parameters is not None else None
    check_new([*targets, *([Path(parameters)] if parameters is not None else [])], overwrite)
    for parent in {file.parent for file in targets}:
        remove_partial(parent)

    method.to(device)
    torch.manual_seed(seed)
    channels = method.channels[method.domains.index(source)]
    fit: Fit | None = partial(square, size=method.image_size)
    if method.any_size:
        factor = options.get("factor", takes["factor"].default) if "factor" in takes else None
        longest = None if method.full_size and size == "keep" else method.image_size
        fit, batch_size = partial(shrunk, size=longest, factor=factor), 1
    as_it_is = isinstance(method, TranslationMethod) and method.any_size and size == "keep" and "guide" not in takes
    fit = None if as_it_is else fit
    guides, broken = _guides(guide_files, len(names), method.channels[method.domains.index(target)], fit)
    if guide_files and not guides:
        refuse(None, "guide", guide, ", which holds no image that can be read: give another.")
    ends = {name: value for name, value in {"source": source, "target": target}.items() if name in takes}
    edits = method.edits and size == "keep" and task != "mask"
    done, enlarged, in_tiles, read = 0, 0, False, dict[str, Tensor]()

    def see(i: int) -> _Image | UserError:
        return _read(folder / names[i], channels, fit, mask_files[i % len(mask_files)] if mask_files else None)

    def finish(i: int, image: _Image, picture: Tensor, made: Tensor | None) -> tuple[int, memoryview, bool]:
        """Number and content of a file, and whether its change was enlarged."""
        grown = edits and made is not None and _larger(image, made)
        if grown and made is not None:
            picture = with_change(read_image(folder / names[i], channels), image.pixels, made)
        elif size == "keep" and made is not None:
            picture = restored(picture, image.pixels.shape[1:], image.size, pure=task == "segment")
        return i, encoded(picture.permute(1, 2, 0).numpy(), targets[i]), grown

    def write(finished: tuple[int, memoryview, bool]) -> None:
        nonlocal done, enlarged
        i, content, grown = finished
        done += written(partial(write_content, content, targets[i]))
        enlarged += grown

    load_formats()
    with (
        torch.inference_mode(),
        enough_memory(),
        bombs_refused(),
        tqdm(total=len(names), unit="image", disable=None if names[1:] else True) as bar,
        Behind(write, batch_size) as behind,
        closing(ahead(see, range(len(names)), batch_size)) as seen,
    ):
        for start in range(0, len(names), batch_size):
            chunk = range(start, min(start + batch_size, len(names)))
            images: dict[int, _Image] = {}
            for i, image in zip(chunk, seen, strict=False):
                if isinstance(image, UserError):
                    tell_skipped(image)
                else:
                    images[i] = image
            behind.depth = depth_for((image.size for image in images.values()), batch_size)
            if images and as_it_is:
                assert isinstance(method, TranslationMethod)
                for i, image in images.items():
                    if needs_tiles(image.size) and not in_tiles:
                        tell_tiles(names[i], image.size, STRAIGHT)
                        in_tiles = True
                    run = partial(_on_array, function, device, {**ends, **options})
                    picture = torch.from_numpy(at_own_size(image.pixels.numpy(), run, method.stride))
                    behind.do(finish, i, image, picture, None)
            elif images:
                given: dict[str, Any] = {**ends, **options}
                if guides:
                    given["guide"] = to_float(torch.stack([guides[i % len(guides)] for i in images])).to(device)
                if mask_files:
                    given["mask"] = torch.stack([x.mask for x in images.values() if x.mask is not None]).to(device)
                stack = torch.stack([image.pixels for image in images.values()]).to(device)
                if engine is not None and isinstance(method, TOS):
                    u = method.read(stack)
                    made = method.draw(u)
                    read |= {names[i].as_posix(): row for i, row in zip(images, u.cpu(), strict=True)}
                else:
                    made = function(stack, **given)
                shown = [picture.cpu() for picture in pictures(task, made)]
                rows = made.cpu() if made.ndim == 4 else [None] * len(made)
                for (i, image), picture, row in zip(images.items(), shown, rows, strict=True):
                    behind.do(finish, i, image, picture, row)
            bar.update(len(chunk))
    if engine is not None and parameters is not None:
        write_parameters(Path(parameters), engine.schema, read)
    return Translated(done, len(names) - done, broken, enlarged)


def _on_array(function: Callable[..., Tensor], device: str, given: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """A task for one image [C, H, W] as an array."""
    return function(torch.from_numpy(image)[None].to(device), **given)[0].float().cpu().numpy()


def _larger(image: _Image, made: Tensor) -> bool:
    """Whether an image was shrunk to what the method saw of it, and drew again in the same size and channels."""
    same = made.shape == image.pixels.shape
    return same and max(image.size) > max(image.pixels.shape[1:]) and min(image.size) >= min(image.pixels.shape[1:])


def _engine(method: Method, task: str, file: PathLike) -> Engine:
    """The engine whose parameters are to be written."""
    if not isinstance(method, TOS):
        kind = type(method).__name__
        refuse(method, "parameters", file, f", but a {kind} reads no parameters of an engine: leave it out.")
    if task != "transfer":
        refuse(method, "parameters", file, f", but they belong to transfer, not to {task}: leave it out.")
    check_file(Path(file))
    return method.engine


def _masks(path: PathLike, count: int) -> list[Path]:
    files = files_of("mask", path)
    if len(files) not in (1, count):
        many = f", which holds {len(files)} masks for {count} image{'' if count == 1 else 's'}"
        refuse(None, "mask", path, f"{many}: give one for each, or a single one.")
    return files


def _read(file: Path, channels: int, fit: Fit | None, mask: Path | None = None) -> _Image | UserError:
    """An image with its mask, or why it cannot be used."""
    try:
        pixels = read_image(file, channels)
        size = pixels.shape[1], pixels.shape[2]
        if fit is None:
            return _Image(pixels, None, size)
        fitted = fit(to_float(pixels)[None])[0]
        if mask is None:
            return _Image(fitted, None, size)
        where = to_float(read_image(mask, 1))
        if where.shape[1:] != pixels.shape[1:]:
            sizes = [f"{x.shape[1]}x{x.shape[2]}" for x in (pixels, where)]
            raise UserError(f"{file} has {sizes[0]} pixels, but its mask {mask} {sizes[1]}: make them alike.")
        where = (fit(where[None])[0] + 1) / 2
        if not (where > 0.5).any():
            raise UserError(f"the mask {mask} of {file} is empty: make it white where the work is to be done.")
        return _Image(fitted, where, size)
    except UserError as error:
        return error


def _guides(files: list[Path], count: int, channels: int, fit: Fit | None) -> tuple[list[Tensor], int]:
    """The first ``count`` readable guides, ``uint8`` [channels, H, W], and the number of unreadable ones."""
    guides: list[Tensor] = []
    broken = 0
    for file in files:
        if len(guides) == count:
            break
        if isinstance(image := _read(file, channels, fit), UserError):
            tell_skipped(image)
            broken += 1
        else:
            guides.append(to_uint8(image.pixels))  # a quarter of the memory
    return guides, broken
