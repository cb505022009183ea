"""``xdomain sample``: random samples and animations by a method trained on a single image or clip."""

import argparse
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.commands.options import (
    ALLOW_PROGRAM,
    Parser,
    add_task_options,
    check_numbers,
    described,
    named_options,
    task_options,
)
from xdomain.discover import TaskEntry, tasks
from xdomain.errors import UserError, choice, refuse
from xdomain.files import remove_partial
from xdomain.running.outputs import MOST_PIXELS, check_folder, check_new

if TYPE_CHECKING:
    from torch import Tensor

    from xdomain.inference.program import Program
    from xdomain.methods import Method

DESCRIPTION = """\
Draw from a method that has learned from a single image or clip; of a training that was stopped, from the finest scale
it came to. Files are numbered: 0000.png, 0001.png ...

--task says what is drawn:
{tasks}

The same seed, number, size and batch size give the same files."""
SUFFIXES = {"png": ".png", "gif": ".gif", "mp4": ".mp4", "frames": ""}
BATCH_PIXELS = 2**20


def _parser(known: dict[str, TaskEntry]) -> Parser:
    parser = Parser(
        "xdomain sample",
        description=DESCRIPTION.format(tasks=described(known)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--ckpt_path",
        metavar="RUN|FILE",
        required=True,
        help="run folder (its best checkpoint) or file, also .onnx",
    )
    add("--output", metavar="DIR", required=True, help="folder for the samples")
    add("--task", metavar="TASK", default="random", help="by default random")
    add("--n", type=int, metavar="N", help="number of samples; by default 50, or 1 for animations")
    add("--size", metavar="HxW|FxHxW", help="height and width in pixels; for clips, frames may come first")
    add_task_options(parser, known)
    add("--format", choices=tuple(SUFFIXES), help="by default png, or gif for clips; frames: a folder for every clip")
    add("--fps", type=float, metavar="X", default=10.0, help="frames per second of clips; by default 10")
    add("--seed", type=int, metavar="S", default=0, help="of the random numbers; by default 0")
    add("--allow", metavar="PACKAGE", action="append", default=[], help=ALLOW_PROGRAM)
    add("--overwrite", action="store_true", help="replace existing files in the output folder")
    add("--batch_size", type=int, metavar="N", help="samples per step; by default as many as have a million pixels")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def _options(args: list[str], known: dict[str, TaskEntry]) -> argparse.Namespace:
    options = _parser(known).parse_args(args)
    check_numbers(options, n=1, batch_size=1, seed=0)
    if not options.fps > 0:
        raise UserError(f"--fps is {options.fps:g}: give a number of frames per second above 0.")
    options.size = parse_size(options.size) if options.size is not None else None
    return options


def parse_size(text: str) -> tuple[int, ...]:
    """Parse height and width, optionally preceded by frames, from ``256x400`` or ``13x144x256``.

    Raises:
        UserError: for any other text, and for sides that no pyramid can generate.
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
        UserError: if nothing can be drawn, or files would be overwritten; nothing is written then.
    """
    known = {name: entry for name, entry in tasks().items() if "images" not in entry.options}
    options = _options(args, known)
    check_folder(Path(options.output))

    from xdomain.inference.program import opened_program

    with named_options():
        if (program := opened_program(options.ckpt_path, options.allow)) is not None:
            return _sample_with_program(program, options, task_options(options, known))

    import torch

    from xdomain.inference.device import enough_memory, find_device
    from xdomain.inference.loading import load
    from xdomain.inference.tasks import parameters

    method, more = load(options.ckpt_path, options.allow), task_options(options, known)
    with named_options(), torch.inference_mode(), enough_memory():
        method.to(find_device(options.device))
        function = _function(method, options, more)
        clips = "count" not in parameters(function)  # one at a time
        shape = _shape(method, function, options, more)
        kind, count = _format(options, len(shape) == 3), options.n or (1 if clips else 50)
        files = _files(options, count, SUFFIXES[kind])

        torch.manual_seed(options.seed)
        steps = _drawn_clips(function, count, more)
        if not clips:
            batch_size = options.batch_size or max(1, BATCH_PIXELS // math.prod(shape))
            steps = _drawn(function, count, batch_size, more | ({"size": shape} if options.size else {}))
        with tqdm(total=count, unit="sample", disable=None) as bar:
            for file, sample in zip(files, steps, strict=True):
                _write(sample, file, options.fps)
                bar.update()
    from xdomain.methods import PyramidMethod

    scales = (method.finest + 1, method.scales) if isinstance(method, PyramidMethod) else (0, 0)
    _tell(count, shape, *scales, clips=clips)
    return 0


def _sample_with_program(program: "Program", options: argparse.Namespace, given: dict[str, Any]) -> int:
    """The same by an exported program; by onnxruntime it needs no torch."""
    from xdomain.inference.plain import to_uint8
    from xdomain.inference.sampling import check_samples, drawn
    from xdomain.pixels import write_pixels

    check_samples(program, options.ckpt_path)
    size = tuple(program.facts["size"])
    usual = {"task": "random", "device": "auto", "format": None, "size": None}
    more = {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]} | given
    for name, value in more.items():
        if name == "size" and value != size:
            refuse(None, name, _times(value), f", but the program makes samples of {_times(size)}: leave it out.")
        if name != "size" and (name, value) != ("format", "png"):
            refuse(None, name, value, ", but an exported program has no such option: leave it out.")
    count = options.n or 50
    files = _files(options, count, ".png")
    batch_size = options.batch_size or max(1, BATCH_PIXELS // math.prod(size))
    with tqdm(total=count, unit="sample", disable=None) as bar:
        for file, sample in zip(files, drawn(program, count, batch_size, options.seed), strict=True):
            write_pixels(to_uint8(sample).transpose(1, 2, 0), file)
            bar.update()
    _tell(count, size, *program.facts["scales"])
    return 0


def _files(options: argparse.Namespace, count: int, suffix: str) -> list[Path]:
    """Files of samples, checked: none is replaced without leave."""
    digits = max(4, len(str(count - 1)))
    files = [Path(options.output) / f"{i:0{digits}d}{suffix}" for i in range(count)]
    check_new(files, options.overwrite)
    _check_replaceable(files)
    remove_partial(Path(options.output))
    return files


def _tell(count: int, shape: tuple[int, ...], reached: int, scales: int, clips: bool = False) -> None:
    """Say what was drawn, and of which scale if the training was stopped before its last."""
    what = ("animation" if clips else "sample") + ("" if count == 1 else "s")
    rest = "" if reached == scales else f", of scale {reached} of {scales}: training came no further"
    print(f"wrote {count} {what} of {_times(shape)}{rest}")


def _function(method: "Method", options: argparse.Namespace, more: dict[str, Any]) -> Callable[..., Any]:
    """The function of the task, which accepts the options."""
    from xdomain.inference.tasks import chosen, of_noise

    if not (tasks := of_noise(method)):
        raise UserError(f"{options.ckpt_path} holds a {type(method).__name__}, which makes no random samples.")
    return chosen(method, tasks, options.task, [*more, *(["size"] if options.size else [])])


def _shape(
    method: "Method", function: Callable[..., Any], options: argparse.Namespace, more: dict[str, Any]
) -> tuple[int, ...]:
    """Height and width of the samples; for clips preceded by frames."""
    from xdomain.inference.tasks import parameters

    usual = tuple(method.tasks["random"](1).shape[2:])
    if frames := parameters(function).get("frames"):
        return (more.get("frames", frames.default), *usual)
    size = options.size or usual
    if len(size) > len(usual):
        refuse(method, "size", _times(size), f", but a {type(method).__name__} samples images: give HEIGHTxWIDTH.")
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
    """Refuse to replace a folder that holds anything except frames, or a file by a folder and vice versa."""
    for file in files:
        if file.is_dir() != (file.suffix == "") and file.exists():
            raise UserError(f"{file} is a {'folder' if file.is_dir() else 'file'}: remove it or give another --output.")
        if file.is_dir():
            from xdomain.data.video import check_frames

            check_frames(file)


def _drawn(function: Callable[..., Any], count: int, batch_size: int, more: dict[str, Any]) -> "Iterator[Tensor]":
    """Samples to write: images ``uint8`` [3, H, W] or clips [T, 3, H, W]."""
    from xdomain.batch import to_uint8

    for done in range(0, count, batch_size):
        samples = to_uint8(function(min(batch_size, count - done), **more))
        yield from samples.transpose(1, 2) if samples.ndim == 5 else samples


def _drawn_clips(function: Callable[..., Any], count: int, more: dict[str, Any]) -> "Iterator[Tensor]":
    """Animations to write, ``uint8`` [T, 3, H, W]."""
    from xdomain.batch import to_uint8

    return (to_uint8(function(**more)) for _ in range(count))


def _write(sample: "Tensor", file: Path, fps: float) -> None:
    from xdomain.data.images import write_image
    from xdomain.data.video import write_video

    if sample.ndim == 3:
        write_image(sample, file)
    else:
        write_video(sample, file, fps)  # a folder holds only old frames, as checked before


def _times(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
