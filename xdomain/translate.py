"""``xdomain translate``: a folder of images through a trained method."""

import argparse
import sys
from collections.abc import Iterator
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
output folder. A file that cannot be read is named and skipped."""


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(" ".join(filter(None, explain(self, message))))


def _parser() -> Parser:
    parser = Parser("xdomain translate", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--ckpt_path", metavar="RUN|FILE", required=True, help="run folder (its best checkpoint) or file"
    )
    parser.add_argument("--input", metavar="DIR|FILE", required=True, help="images; a folder with all its subfolders")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the translations")
    parser.add_argument("--source", metavar="NAME", help="domain of the images; by default the method's first")
    parser.add_argument("--target", metavar="NAME", help="domain to translate into; by default the method's last")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are in the output folder already")
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="images per step; by default 64")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def translate_command(args: list[str]) -> int:
    """Run ``xdomain translate``; returns the exit status: 0, or 1 if files were skipped.

    Raises:
        UserError: where nothing can be translated, or would be overwritten; nothing has been written then.
    """
    options = _parser().parse_args(args)
    if options.batch_size < 1:
        raise UserError(f"--batch_size is {options.batch_size}: give a number of images of at least 1.")

    import torch

    from xdomain.batch import to_uint8
    from xdomain.data.images import image_files, write_image
    from xdomain.loading import load_method

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, but torch finds no CUDA device: give cpu or leave it out.")
    folder, names = image_files(Path(options.input))
    output = Path(options.output)
    _check_output(output, Path(options.input), folder)
    existing = [output / name for name in names if (output / name).exists()]
    if existing and not options.overwrite:
        more = f" and {len(existing) - 1} more of the output files exist" if existing[1:] else " exists"
        raise UserError(f"{existing[0]}{more} already: give another --output, or add --overwrite.")
    method = load_method(options.ckpt_path)
    source, target = options.source or method.domains[0], options.target or method.domains[-1]
    _check_method(method, options.ckpt_path, source, target)

    device = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    method.to(device)
    channels = method.channels[method.domains.index(source)]
    done = 0
    with torch.inference_mode(), tqdm(total=len(names), unit="image", disable=None) as bar:
        for start in range(0, len(names), options.batch_size):
            chunk = names[start : start + options.batch_size]
            if images := dict(_read(folder, chunk, channels, method.image_size)):
                batch = torch.stack(list(images.values())).to(device)
                for name, image in zip(images, to_uint8(method.translate(batch, source, target)), strict=True):
                    write_image(image, output / name)
            done += len(images)
            bar.update(len(chunk))
    skipped = len(names) - done
    print(f"translated {done} image{'' if done == 1 else 's'}{f', skipped {skipped}' if skipped else ''}")
    return 1 if skipped else 0


def _check_output(output: Path, source: Path, folder: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UserError(f"the output {output} is a file: give a folder.")
    inside = source.is_dir() and output.resolve().is_relative_to(folder.resolve())
    if inside or output.resolve() == folder.resolve():
        raise UserError(f"the output {output} lies in the folder of the input: give one outside of it.")


def _check_method(method: "Method", checkpoint: str, source: str, target: str) -> None:
    from xdomain.methods import Method as Base

    if type(method).translate is Base.translate:
        raise UserError(f"{checkpoint} holds a {type(method).__name__}, which does not translate: give another.")
    for option, name in (("source", source), ("target", target)):
        if name not in method.domains:
            hint = did_you_mean(name, method.domains, f": it knows {' and '.join(method.domains)}.")
            raise UserError(f"--{option} {name} is no domain of {checkpoint}{hint}")


def _read(folder: Path, names: list[Path], channels: int, size: int) -> Iterator[tuple[Path, "Tensor"]]:
    """The images that can be read, float [channels, size, size] in [-1, 1], by name; the others are told of."""
    from torch.nn.functional import interpolate

    from xdomain.batch import to_float
    from xdomain.data.images import read_image

    for name in names:
        try:
            image = to_float(read_image(folder / name, channels))[None]
        except UserError as error:
            tqdm.write(f"xdomain: skipped: {error}", file=sys.stderr)
        else:
            yield name, interpolate(image, (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)
