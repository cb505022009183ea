"""``xdomain translate``: a folder of images through a trained method."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.commands.options import Parser, check_numbers, check_use, enough_memory, find_device
from xdomain.errors import UserError, did_you_mean
from xdomain.running.outputs import MOST_PIXELS, check_folder, check_new

if TYPE_CHECKING:
    from torch import Tensor

    from xdomain.methods import Method

DESCRIPTION = """\
Translate images with a trained method. Every image is resized to the method's size by antialiased bicubic
interpolation, without keeping its aspect ratio; its translation has that size too and gets the same name below the
output folder. A file that cannot be read is named and skipped.

A method that has learned from a single image keeps the aspect ratio; its translations are as large as what it learned.
--task says what it does with an image:
  transfer, paint  repaint it in the look of the learned image: simple shapes become a picture
  harmonise        fit an object that was pasted into the learned image, below --mask, into it
  edit             make parts of the learned image that were moved, below --mask, seamless
  super_resolve    enlarge it by --factor

A method of content transfer splits an image into what all domains share and content that only one domain has. --task
says what becomes of the content:
  transfer     take away the source's, give the target's, out of a guide
  remove       take away the source's
  add          give the target's, out of a guide, and keep the image's own
  swap         replace the source's by that of a guide from the same domain
  mask         no translation, but where the content is: grey PNG files
  interpolate  a grid of tiles: one code stays, the others run from the image's to the guide's
Image number i takes guide number i, both in the order of their names; after the last guide comes the first again."""
TASKS = (
    *("transfer", "remove", "add", "swap", "mask", "interpolate"),
    *("paint", "harmonise", "edit", "super_resolve"),
)
USES = {
    "steps": ("interpolate",),
    "fixed": ("interpolate",),
    "start": ("transfer", "paint", "harmonise", "edit"),
    "mask": ("harmonise", "edit"),
    "factor": ("super_resolve",),
}
"""Options that only some tasks have."""


def _parser() -> Parser:
    parser = Parser(
        "xdomain translate",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    first = "by default the method's first, for remove and swap its first with content"
    last = "by default the method's last; with a guide for a last that has no content, from the last to the first"
    usual = "a method may have a default"
    guide = "give content where the task needs it: images of the target (transfer, add), of the source (swap), any"
    add("--ckpt_path", metavar="RUN|FILE", required=True, help="run folder (its best checkpoint) or file")
    add("--input", metavar="DIR|FILE", required=True, help="images; a folder with all its subfolders")
    add("--output", metavar="DIR", required=True, help="folder for the translations")
    add("--source", metavar="NAME", help=f"domain of the images; {first}")
    add("--target", metavar="NAME", help=f"domain to translate into; {last}")
    add("--task", choices=TASKS, default="transfer", help="by default transfer; a method may know few of them")
    add("--guide", metavar="DIR|FILE", help=guide)
    add("--steps", type=int, metavar="N", help="interpolate: tiles along a side; by default 7")
    add("--fixed", metavar="NAME", help="interpolate: the code that stays, common or a domain; by default common")
    add(
        "--start",
        type=int,
        metavar="K",
        help=f"scale at which the image replaces what coarser ones would give; {usual}",
    )
    add("--mask", metavar="DIR|FILE", help="harmonise, edit: white where the object or the moved parts are")
    add("--factor", type=float, metavar="F", help="super_resolve: by default 4")
    add("--seed", type=int, metavar="S", default=0, help="of methods that draw random numbers; by default 0")
    add("--overwrite", action="store_true", help="replace files that are in the output folder already")
    add("--batch_size", type=int, default=64, metavar="N", help="images per step; by default 64")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def _options(args: list[str]) -> argparse.Namespace:
    options = _parser().parse_args(args)
    check_use(options, USES)
    check_numbers(options, batch_size=1, steps=2, start=0, seed=0)
    for name, default in (("steps", 7), ("fixed", "common"), ("factor", 4.0)):
        if getattr(options, name) is None:
            setattr(options, name, default)
    if options.mask is None and options.task in USES["mask"]:
        raise UserError(
            f"--task {options.task} needs --mask: give an image that is white where the work is to be done."
        )
    if not options.factor > 1:
        raise UserError(f"--factor is {options.factor:g}: give a number above 1.")
    return options


def translate_command(args: list[str]) -> int:
    """Run ``xdomain translate``; returns the exit status: 0, or 1 if files were skipped.

    Raises:
        UserError: where nothing can be translated, or would be overwritten; nothing has been written then.
    """
    options = _options(args)

    import torch

    from xdomain.batch import to_float
    from xdomain.data.images import image_files, write_image
    from xdomain.inference.loading import load_method
    from xdomain.inference.tasks import check_task, direction, pictures
    from xdomain.methods import PyramidMethod

    device = find_device(options.device)
    folder, names = image_files(Path(options.input))
    guide_files = _other_files("guide", options.guide) if options.guide else []
    mask_files = _mask_files(options, len(names)) if options.mask else []
    written = _output_files(options, folder, names)
    method = load_method(options.ckpt_path)
    source, target = direction(method, options)
    _check_domains(method, options.ckpt_path, source, target)
    check_task(method, options, source, target)

    method.to(device)
    torch.manual_seed(options.seed)
    channels, size = method.channels[method.domains.index(source)], method.image_size
    fit, batch_size = partial(_square, size=size), options.batch_size
    if isinstance(method, PyramidMethod):  # images of several sizes
        fit, batch_size = partial(_shrunk, options=options, size=size), 1
    guides, broken = _guides(guide_files, len(names), channels, fit)
    if guide_files and not guides:
        raise UserError(f"--guide {options.guide} holds no image that can be read: give another.")
    done = 0
    with torch.inference_mode(), enough_memory(), tqdm(total=len(names), unit="image", disable=None) as bar:
        for start in range(0, len(names), batch_size):
            chunk = range(start, min(start + batch_size, len(names)))
            masks = [mask_files[start % len(mask_files)]] if mask_files else []
            images = {i: x for i in chunk if (x := _read(folder / names[i], channels, fit, *masks)) is not None}
            if images:
                batch = torch.stack(list(images.values())).to(device)
                given = to_float(torch.stack([guides[i % len(guides)] for i in images])).to(device) if guides else None
                if masks:
                    batch, given = batch[:, :-1], batch[:, -1:]
                for i, picture in zip(images, pictures(method, batch, given, options, source, target), strict=True):
                    write_image(picture, written[i])
            done += len(images)
            bar.update(len(chunk))
    skipped = len(names) - done
    left_out = f"{f', skipped {skipped}' if skipped else ''}{f', skipped {broken} of the guides' if broken else ''}"
    print(f"translated {done} image{'' if done == 1 else 's'}{left_out}")
    return 1 if left_out else 0


def _other_files(option: str, path: str) -> list[Path]:
    from xdomain.data.images import image_files

    if not Path(path).exists():
        raise UserError(f"--{option} {path} does not exist: give an image file or a folder of them.")
    folder, names = image_files(Path(path))
    return [folder / name for name in names]


def _mask_files(options: argparse.Namespace, count: int) -> list[Path]:
    files = _other_files("mask", options.mask)
    if len(files) not in (1, count):
        raise UserError(
            f"--mask {options.mask} holds {len(files)} masks, but --input {count} image{'' if count == 1 else 's'}: "
            "give one mask for each, or a single one."
        )
    return files


def _output_files(options: argparse.Namespace, folder: Path, names: list[Path]) -> list[Path]:
    """The file to write for every image."""
    output = Path(options.output)
    _check_output(output, Path(options.input), folder)
    for of, path in (("guides", options.guide), ("masks", options.mask)):
        if path:
            given = Path(path)
            _check_output(output, given, given if given.is_dir() else given.parent, of)
    files = [output / name for name in names]
    if options.task == "mask":  # lossy formats would blur them
        files = [file if file.suffix.lower() == ".png" else file.with_suffix(".png") for file in files]
        image_of: dict[Path, Path] = {}
        for name, file in zip(names, files, strict=True):
            if image_of.setdefault(file, name) != name:
                raise UserError(f"{image_of[file]} and {name} would both have the mask {file}: rename one of them.")
    check_new(files, options.overwrite)
    return files


def _check_output(output: Path, source: Path, folder: Path, of: str = "input") -> None:
    check_folder(output)
    inside = source.is_dir() and output.resolve().is_relative_to(folder.resolve())
    if inside or output.resolve() == folder.resolve():
        raise UserError(f"the output {output} lies in the folder of the {of}: give one outside of it.")


def _check_domains(method: "Method", checkpoint: str, source: str, target: str) -> None:
    for option, name in (("source", source), ("target", target)):
        if name not in method.domains:
            hint = did_you_mean(name, method.domains, f": it knows {' and '.join(method.domains)}.")
            raise UserError(f"--{option} {name} is no domain of {checkpoint}{hint}")


def _square(image: "Tensor", size: int) -> "Tensor":
    """An image [1, C, H, W] resized to a square."""
    from torch.nn.functional import interpolate

    return interpolate(image, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)


def _shrunk(image: "Tensor", options: argparse.Namespace, size: int) -> "Tensor":
    """An image [1, C, H, W] with its longer side shrunk to ``size``; one that will be enlarged stays as it is."""
    from xdomain.networks.pyramid import resize, size_of_longest

    height, width = image.shape[2:]
    if options.task == "super_resolve":
        if height * width * options.factor**2 > MOST_PIXELS:
            raise UserError(
                f"--factor {options.factor:g} makes more than {MOST_PIXELS:,} pixels of an image of {height}x{width}."
            )
        return image
    return resize(image, size_of_longest(height, width, size)) if max(height, width) > size else image


def _read(file: Path, channels: int, fit: "Callable[[Tensor], Tensor]", mask: Path | None = None) -> "Tensor | None":
    """An image, float [channels, H, W] in [-1, 1]; one that cannot be used is told of and None.

    With a mask, that is a last channel in [0, 1].
    """
    import torch

    from xdomain.batch import to_float
    from xdomain.data.images import read_image

    try:
        image = to_float(read_image(file, channels))[None]
        fitted = fit(image)
        if mask is None:
            return fitted[0]
        where = to_float(read_image(mask, 1))[None]
        if where.shape[2:] != image.shape[2:]:
            sizes = [f"{x.shape[2]}x{x.shape[3]}" for x in (image, where)]
            raise UserError(f"{file} has {sizes[0]} pixels, but its mask {mask} {sizes[1]}: make them alike.")
        where = (fit(where) + 1) / 2
        if not (where > 0.5).any():
            raise UserError(f"the mask {mask} of {file} is empty: make it white where the work is to be done.")
        return torch.cat([fitted, where], 1)[0]
    except UserError as error:
        tqdm.write(f"xdomain: skipped: {error}", file=sys.stderr)
        return None


def _guides(
    files: list[Path], count: int, channels: int, fit: "Callable[[Tensor], Tensor]"
) -> "tuple[list[Tensor], int]":
    """The first ``count`` guides that can be read, ``uint8`` [channels, H, W], and how many could not."""
    from xdomain.batch import to_uint8

    guides: list[Tensor] = []
    broken = 0
    for file in files:
        if len(guides) == count:
            break
        if (image := _read(file, channels, fit)) is None:
            broken += 1
        else:
            guides.append(to_uint8(image))  # a quarter of the memory
    return guides, broken
