"""``xdomain translate``: a folder of images through a trained method."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.errors import UserError
from xdomain.messages import did_you_mean, explain

if TYPE_CHECKING:
    from torch import Tensor

    from xdomain.methods import Method

DESCRIPTION = """\
Translate images with a trained method. Every image is resized to the method's size by antialiased bicubic
interpolation, without keeping its aspect ratio; its translation has that size too and gets the same name below the
output folder. A file that cannot be read is named and skipped.

A method of content transfer splits an image into what all domains share and content that only one domain has. --task
says what becomes of the content:
  transfer     take away the source's, give the target's, out of a guide
  remove       take away the source's
  add          give the target's, out of a guide, and keep the image's own
  swap         replace the source's by that of a guide from the same domain
  mask         no translation, but where the content is: grey PNG files
  interpolate  a grid of tiles: one code stays, the others run from the image's to the guide's
Image number i takes guide number i, both in the order of their names; after the last guide comes the first again."""
TASKS = ("transfer", "remove", "add", "swap", "mask", "interpolate")


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(" ".join(filter(None, explain(self, message))))


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
    guide = "give content where the task needs it: images of the target (transfer, add), of the source (swap), any"
    add("--ckpt_path", metavar="RUN|FILE", required=True, help="run folder (its best checkpoint) or file")
    add("--input", metavar="DIR|FILE", required=True, help="images; a folder with all its subfolders")
    add("--output", metavar="DIR", required=True, help="folder for the translations")
    add("--source", metavar="NAME", help=f"domain of the images; {first}")
    add("--target", metavar="NAME", help=f"domain to translate into; {last}")
    add("--task", choices=TASKS, default="transfer", help="by default transfer; methods without content know no other")
    add("--guide", metavar="DIR|FILE", help=guide)
    add("--steps", type=int, metavar="N", help="interpolate: tiles along a side; by default 7")
    add("--fixed", metavar="NAME", help="interpolate: the code that stays, common or a domain; by default common")
    add("--overwrite", action="store_true", help="replace files that are in the output folder already")
    add("--batch_size", type=int, default=64, metavar="N", help="images per step; by default 64")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def _options(args: list[str]) -> argparse.Namespace:
    options = _parser().parse_args(args)
    if options.batch_size < 1:
        raise UserError(f"--batch_size is {options.batch_size}: give a number of images of at least 1.")
    for name, default in (("steps", 7), ("fixed", "common")):
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif options.task != "interpolate":
            raise UserError(f"--{name} is for --task interpolate, not for {options.task}: leave it out.")
    if options.steps < 2:
        raise UserError(f"--steps is {options.steps}: give a number of tiles of at least 2.")
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
    from xdomain.loading import load_method
    from xdomain.tasks import check_task, direction, pictures

    device = _device(options.device)
    folder, names = image_files(Path(options.input))
    guide_files = _guide_files(options.guide) if options.guide else []
    written = _output_files(options, folder, names)
    method = load_method(options.ckpt_path)
    source, target = direction(method, options)
    _check_method(method, options.ckpt_path, source, target)
    check_task(method, options, source, target)

    method.to(device)
    channels = method.channels[method.domains.index(source)]
    guides, broken = _guides(guide_files, len(names), channels, method.image_size)
    if guide_files and not guides:
        raise UserError(f"--guide {options.guide} holds no image that can be read: give another.")
    done = 0
    with torch.inference_mode(), tqdm(total=len(names), unit="image", disable=None) as bar:
        for start in range(0, len(names), options.batch_size):
            chunk = range(start, min(start + options.batch_size, len(names)))
            images = {i: x for i in chunk if (x := _read(folder / names[i], channels, method.image_size)) is not None}
            if images:
                batch = torch.stack(list(images.values())).to(device)
                given = to_float(torch.stack([guides[i % len(guides)] for i in images])).to(device) if guides else None
                for i, picture in zip(images, pictures(method, batch, given, options, source, target), strict=True):
                    write_image(picture, written[i])
            done += len(images)
            bar.update(len(chunk))
    skipped = len(names) - done
    left_out = f"{f', skipped {skipped}' if skipped else ''}{f', skipped {broken} of the guides' if broken else ''}"
    print(f"translated {done} image{'' if done == 1 else 's'}{left_out}")
    return 1 if left_out else 0


def _device(wanted: str) -> str:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, but torch finds no CUDA device: give cpu or leave it out.")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _guide_files(path: str) -> list[Path]:
    from xdomain.data.images import image_files

    if not Path(path).exists():
        raise UserError(f"--guide {path} does not exist: give an image file or a folder of them.")
    folder, names = image_files(Path(path))
    return [folder / name for name in names]


def _output_files(options: argparse.Namespace, folder: Path, names: list[Path]) -> list[Path]:
    """The file to write for every image."""
    output = Path(options.output)
    _check_output(output, Path(options.input), folder)
    if options.guide:
        guide = Path(options.guide)
        _check_output(output, guide, guide if guide.is_dir() else guide.parent, of="guides")
    files = [output / name for name in names]
    if options.task == "mask":  # lossy formats would blur them
        files = [file if file.suffix.lower() == ".png" else file.with_suffix(".png") for file in files]
        image_of: dict[Path, Path] = {}
        for name, file in zip(names, files, strict=True):
            if image_of.setdefault(file, name) != name:
                raise UserError(f"{image_of[file]} and {name} would both have the mask {file}: rename one of them.")
    existing = [file for file in files if file.exists()]
    if existing and not options.overwrite:
        more = f" and {len(existing) - 1} more of the output files exist" if existing[1:] else " exists"
        raise UserError(f"{existing[0]}{more} already: give another --output, or add --overwrite.")
    return files


def _check_output(output: Path, source: Path, folder: Path, of: str = "input") -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"the output {output} is a file: give a folder.")
    inside = source.is_dir() and output.resolve().is_relative_to(folder.resolve())
    if inside or output.resolve() == folder.resolve():
        raise UserError(f"the output {output} lies in the folder of the {of}: give one outside of it.")


def _check_method(method: "Method", checkpoint: str, source: str, target: str) -> None:
    from xdomain.methods import Method as Base

    if type(method).translate is Base.translate:
        raise UserError(f"{checkpoint} holds a {type(method).__name__}, which does not translate: give another.")
    for option, name in (("source", source), ("target", target)):
        if name not in method.domains:
            hint = did_you_mean(name, method.domains, f": it knows {' and '.join(method.domains)}.")
            raise UserError(f"--{option} {name} is no domain of {checkpoint}{hint}")


def _read(file: Path, channels: int, size: int) -> "Tensor | None":
    """An image, float [channels, size, size] in [-1, 1]; one that cannot be read is told of and None."""
    from torch.nn.functional import interpolate

    from xdomain.batch import to_float
    from xdomain.data.images import read_image

    try:
        image = to_float(read_image(file, channels))[None]
    except UserError as error:
        tqdm.write(f"xdomain: skipped: {error}", file=sys.stderr)
        return None
    return interpolate(image, (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)


def _guides(files: list[Path], count: int, channels: int, size: int) -> "tuple[list[Tensor], int]":
    """The first ``count`` guides that can be read, ``uint8`` [channels, size, size], and how many could not."""
    from xdomain.batch import to_uint8

    guides: list[Tensor] = []
    broken = 0
    for file in files:
        if len(guides) == count:
            break
        if (image := _read(file, channels, size)) is None:
            broken += 1
        else:
            guides.append(to_uint8(image))  # a quarter of the memory
    return guides, broken
