"""``xdomain sample``: random samples and animations of a method that has learned from a single image or clip."""

import argparse
import inspect
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.commands.options import Parser, check_numbers, check_use, enough_memory, find_device
from xdomain.errors import UserError, choice
from xdomain.running.outputs import MOST_PIXELS, check_folder, check_new

if TYPE_CHECKING:
    from torch import Tensor

    from xdomain.methods import PyramidMethod

DESCRIPTION = """\
Draw from a method that has learned from a single image or clip; of a training that was stopped, from the finest scale
it came to. Files are numbered: 0000.png, 0001.png ...

--task says what is drawn:
  random   samples of any size and aspect ratio, by default those of the scale
  animate  clips that begin at the learned image and move around it

The same seed, number, size and batch size give the same files."""
USES = {"size": ("random",), "frames": ("animate",), "alpha": ("animate",), "beta": ("animate",)}
SUFFIXES = {"png": ".png", "gif": ".gif", "mp4": ".mp4", "frames": ""}
BATCH_PIXELS = 2**20


def _parser() -> Parser:
    parser = Parser(
        "xdomain sample",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    start = "first scale that draws noise; what is coarser stays as in the learned image"
    add("--ckpt_path", metavar="RUN|FILE", required=True, help="run folder (its best checkpoint) or file")
    add("--output", metavar="DIR", required=True, help="folder for the samples")
    add("--task", choices=("random", "animate"), default="random", help="by default random")
    add("--n", type=int, metavar="N", help="how many; by default 50, of animations 1")
    add("--size", metavar="HxW|FxHxW", help="height and width in pixels; of clips the frames may stand in front")
    add("--start", type=int, metavar="K", help=start)
    add("--frames", type=int, metavar="N", help="animate: frames; by default 30")
    add("--alpha", type=float, metavar="X", help="animate: pull back to the image, from 0 to 1; by default 0.1")
    add("--beta", type=float, metavar="X", help="animate: smoothness, from 0 to 1; by default 0.9")
    add("--format", choices=tuple(SUFFIXES), help="by default png, of clips gif; frames: a folder for every clip")
    add("--fps", type=float, metavar="X", default=10.0, help="frames per second of clips; by default 10")
    add("--seed", type=int, metavar="S", default=0, help="of the random numbers; by default 0")
    add("--overwrite", action="store_true", help="replace files that are in the output folder already")
    add("--batch_size", type=int, metavar="N", help="samples per step; by default as many as have a million pixels")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def _options(args: list[str]) -> argparse.Namespace:
    options = _parser().parse_args(args)
    check_use(options, USES)
    check_numbers(options, n=1, start=0, frames=1, batch_size=1, seed=0)
    if not options.fps > 0:
        raise UserError(f"--fps is {options.fps:g}: give a number of frames per second above 0.")
    options.size = parse_size(options.size) if options.size is not None else None
    options.frames = options.frames or 30
    options.n = options.n or (50 if options.task == "random" else 1)
    return options


def parse_size(text: str) -> tuple[int, ...]:
    """Height and width, with or without frames in front, out of ``256x400`` or ``13x144x256``.

    Raises:
        UserError: for anything else, and for sides that no pyramid could fill.
    """
    from xdomain.data.single import LARGEST, SMALLEST

    if not re.fullmatch(r"\d{1,9}x\d{1,9}(x\d{1,9})?", text):
        raise UserError(f"--size is {text}: write HEIGHTxWIDTH in pixels, such as 256x400.")
    size = tuple(map(int, text.split("x")))
    if not (min(size[-2:]) >= SMALLEST and max(size[-2:]) <= LARGEST and size[0] >= 1):
        raise UserError(f"--size is {text}: give sides from {SMALLEST} to {LARGEST:,} pixels, and at least one frame.")
    _check_pixels(size)
    return size


def _check_pixels(size: tuple[int, ...]) -> None:
    if math.prod(size) > MOST_PIXELS:
        raise UserError(f"--size is {_times(size)}, which has more than {MOST_PIXELS:,} pixels: give a smaller one.")


def sample_command(args: list[str]) -> int:
    """Run ``xdomain sample``; returns the exit status.

    Raises:
        UserError: where nothing can be drawn, or would be overwritten; nothing has been written then.
    """
    options = _options(args)
    check_folder(Path(options.output))

    import torch

    from xdomain.inference.loading import load_method

    device = find_device(options.device)
    method = load_method(options.ckpt_path)
    pyramid = _check_method(method, options)
    with enough_memory():
        shape = _shape(pyramid, options)
    kind = _format(options, clips=len(shape) == 3)
    digits = max(4, len(str(options.n - 1)))
    files = [Path(options.output) / f"{i:0{digits}d}{SUFFIXES[kind]}" for i in range(options.n)]
    check_new(files, options.overwrite)
    _check_replaceable(files)

    pyramid.to(device)
    torch.manual_seed(options.seed)
    with torch.inference_mode(), enough_memory(), tqdm(total=options.n, unit="sample", disable=None) as bar:
        for file, sample in zip(files, _draw(pyramid, options, shape), strict=True):
            _write(sample, file, options.fps)
            bar.update()
    what = ("sample" if options.task == "random" else "animation") + ("" if options.n == 1 else "s")
    reached, scales = pyramid.finest + 1, pyramid.scales
    partial = f", of scale {reached} of {scales}: training came no further" if reached < scales else ""
    print(f"wrote {options.n} {what} of {_times(shape)}{partial}")
    return 0


def _check_method(method: object, options: argparse.Namespace) -> "PyramidMethod":
    """The method, known to be able to do the task."""
    from xdomain.methods import PyramidMethod

    holder = f"{options.ckpt_path} holds a {type(method).__name__}"
    if not isinstance(method, PyramidMethod) or type(method).sample is PyramidMethod.sample:
        raise UserError(f"{holder}, which makes no random samples: give another.")
    method.finest  # noqa: B018 - refuses a method without training
    work = method.sample if options.task == "random" else getattr(method, "animate", None)
    if work is None:
        raise UserError(f"{holder}, which does not animate: leave --task out.")
    if options.start is not None and "start" not in inspect.signature(work).parameters:
        raise UserError(f"{holder}, which has no scales to start at: leave --start out.")
    return method


def _shape(method: "PyramidMethod", options: argparse.Namespace) -> tuple[int, ...]:
    """Height and width of what will be drawn; of clips with the frames in front."""
    import torch

    with torch.inference_mode():
        usual = tuple(method.sample(1).shape[2:])
    if options.task == "animate":
        return (options.frames, *usual)
    size = options.size or usual
    if len(size) > len(usual):
        holder = f"{options.ckpt_path} holds a {type(method).__name__}"
        raise UserError(f"--size is {_times(size)}, but {holder}, which samples images: give HEIGHTxWIDTH.")
    size = (*usual[: len(usual) - len(size)], *size)
    _check_pixels(size)
    return size


def _format(options: argparse.Namespace, clips: bool) -> str:
    fitting = ("gif", "mp4", "frames") if clips else ("png",)
    kind = options.format or fitting[0]
    if kind not in fitting:
        what = "clips" if clips else "images"
        raise UserError(f"--format is {kind}, but what is written are {what}: give {choice(fitting)}.")
    return str(kind)


def _check_replaceable(files: list[Path]) -> None:
    """Refuse to replace a folder that holds anything but frames, or a file by a folder and the other way round."""
    for file in files:
        if file.is_dir() != (file.suffix == "") and file.exists():
            raise UserError(f"{file} is a {'folder' if file.is_dir() else 'file'}: remove it or give another --output.")
        if file.is_dir() and (other := [x for x in file.iterdir() if not re.fullmatch(r"\d+\.png", x.name)]):
            raise UserError(f"the folder {file} holds {other[0].name}, which is no frame: give another --output.")


def _draw(method: "PyramidMethod", options: argparse.Namespace, shape: tuple[int, ...]) -> "Iterator[Tensor]":
    """What to write: images ``uint8`` [3, H, W] or clips [T, 3, H, W]."""
    from xdomain.batch import to_uint8

    more = {} if options.start is None else {"start": options.start}
    if options.task == "animate":
        more |= {name: getattr(options, name) for name in ("alpha", "beta") if getattr(options, name) is not None}
        for _ in range(options.n):
            yield to_uint8(method.animate(options.frames, **more))  # type: ignore[operator]
        return
    batch_size = options.batch_size or max(1, BATCH_PIXELS // math.prod(shape))
    for done in range(0, options.n, batch_size):
        samples = to_uint8(method.sample(min(batch_size, options.n - done), shape if options.size else None, **more))
        yield from samples.transpose(1, 2) if len(shape) == 3 else samples


def _write(sample: "Tensor", file: Path, fps: float) -> None:
    from xdomain.data.images import write_image
    from xdomain.data.video import write_video

    if sample.ndim == 3:
        write_image(sample, file)
        return
    if not file.is_dir():
        write_video(sample, file, fps)
        return
    write_video(sample, new := file.with_name(f".{file.name}-new"), fps)
    shutil.rmtree(file)  # frames of before, as has been checked
    new.replace(file)


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
