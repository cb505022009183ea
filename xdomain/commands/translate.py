"""``xdomain translate``: translates a folder of images with a trained method."""

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
from xdomain.errors import UserError, refuse

if TYPE_CHECKING:
    from xdomain.inference.places import Translated
    from xdomain.inference.program import Program
    from xdomain.methods import Method

COMMON = ("input", "output", "source", "target", "guide", "size", "overwrite", "batch_size")
"""Options for methods and for exported programs."""
DESCRIPTION = """\
Translate images with a trained method. Every translation gets the name of its image below the output folder. A file
that cannot be read is named and skipped.

Most methods see images at the size that they were trained with, without their aspect ratio: by antialiased bicubic
interpolation there, and back to the image's own size, unless --size is model. Of a larger image, methods of content
transfer enlarge only the change, and leave what they did not touch as it is. A method that has learned from a single
image keeps the aspect ratio. One that translates whole domains, such as CycleGAN, sees images as they are; --size model
shrinks them to the size of its training first. Above a million pixels it works in tiles.

--task says what is made of an image; every method knows some of them:
{tasks}

edit --attributes +Eyeglasses,-Smiling --strength 1.5 changes what images show by name (AttGAN, STGAN, StarGAN,
IcGAN).

Content is what only images of one domain have, such as glasses; guides are images that show it. Image number i takes
guide number i, both in the order of their names; after the last guide comes the first again. Masks are grey PNG
files."""


def image_tasks() -> dict[str, TaskEntry]:
    """The tasks that work on images."""
    return {name: entry for name, entry in tasks().items() if "images" in entry.options}


def translate_parser(known: dict[str, TaskEntry]) -> Parser:
    """The parser of ``xdomain translate``."""
    parser = Parser(
        "xdomain translate",
        description=DESCRIPTION.format(tasks=described(known)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    first = "by default the method's first, for remove and swap its first with content"
    last = "by default the method's last; with a guide for a last that has no content, from the last to the first"
    guide = "images that provide content, if needed: of the target (transfer, add), of the source (swap), any"
    checkpoint = "run folder (its best checkpoint), file, zoo:NAME, hf:OWNER/NAME, or an exported .onnx or .pt2"
    add("--ckpt_path", metavar="RUN|FILE", required=True, help=checkpoint)
    add("--input", metavar="DIR|FILE", required=True, help="images; a folder with all its subfolders; or a video file")
    add("--output", metavar="DIR", required=True, help="folder for the translations; for a video also a file")
    add("--source", metavar="NAME", help=f"domain of the images; {first}")
    add("--target", metavar="NAME", help=f"domain to translate into; {last}")
    add("--task", metavar="TASK", help="by default transfer")
    add("--guide", metavar="DIR|FILE", help=guide)
    add("--mask", metavar="DIR|FILE", help="white where the object or the moved parts are (harmonise, edit)")
    add("--parameters", metavar="FILE", help="also write what an engine draws the images from (TOS), .json or .csv")
    add_task_options(parser, known)
    add("--size", choices=("keep", "model"), default="keep", help="the image's own size, or the method's; keep")
    add("--seed", type=int, metavar="S", default=0, help="for methods that draw random numbers; by default 0")
    add("--allow", metavar="PACKAGE", action="append", default=[], help=ALLOW_PROGRAM)
    add("--overwrite", action="store_true", help="replace existing files in the output folder")
    add("--report", action="store_true", help="of a video: say how much it flickers where the input stands still")
    add("--batch_size", type=int, default=64, metavar="N", help="images per step; by default 64")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def signed(args: list[str]) -> list[str]:
    """The same with edits such as ``-Smiling`` joined to their option: argparse takes them for options otherwise."""
    joined: list[str] = []
    for word in args:
        if joined and joined[-1] == "--attributes" and word[:1] == "-" and word[:2] != "--":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def translate_command(args: list[str]) -> int:
    """Run ``xdomain translate``; returns the exit status: 0, or 1 if files were skipped.

    Raises:
        UserError: if nothing can be translated, or files would be overwritten; nothing is written then.
    """
    known = image_tasks()
    options = translate_parser(known).parse_args(signed(args))
    check_numbers(options, batch_size=1, seed=0)
    given = task_options(options, known)
    from xdomain.inference.program import Program

    with named_options():
        model = opened(options.ckpt_path, options.allow)
        if not isinstance(model, Program):
            from xdomain.inference.video import is_video

            if is_video(options.input):
                return _translate_video(model, options, given)
        if options.report:
            raise UserError("--report measures the flicker of a video file: leave it out.")
        return _told(translated(model, options, given))


def opened(path: str, allow: Sequence[str] = ()) -> "Method | Program":
    """A trained method, or an exported program; torch is not imported for one of ONNX, Lightning for none."""
    from xdomain.inference.program import SAMPLE, opened_program

    if (program := opened_program(path, allow)) is not None:
        if program.facts["task"] == SAMPLE:
            raise UserError(f"{path} does not translate but makes random samples: use xdomain sample.")
        return program
    from xdomain.inference.loading import load

    return load(path, allow)


def translated(model: "Method | Program", options: argparse.Namespace, given: dict[str, Any]) -> "Translated":
    """Translate images.

    Args:
        model: from :func:`opened`.
        options: as :func:`translate_parser` parses them.
        given: the options of the task among them.
    """
    from xdomain.inference.program import Program, translate_with_program

    if isinstance(model, Program):
        usual: dict[str, Any] = {"mask": None, "parameters": None, "seed": 0, "device": "auto"}
        more = {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]}
        for name, value in {**given, **more}.items():
            if name != "attributes":
                refuse(None, name, value, ", but an exported program has no such option: leave it out.")
        chosen = {name: getattr(options, name) for name in (*COMMON, "task")}
        return translate_with_program(model, **chosen, attributes=given.get("attributes"))

    from xdomain.inference.folder import translate_folder

    chosen = {name: getattr(options, name) for name in (*COMMON, "mask", "parameters", "seed", "device")}
    return translate_folder(model, **chosen, task=options.task or "transfer", **given)


def _told(done: "Translated") -> int:
    """Say what was done; the exit status."""
    skipped = [f"skipped {done.skipped}"] if done.skipped else []
    skipped += [f"skipped {done.skipped_guides} of the guides"] if done.skipped_guides else []
    print(", ".join([f"translated {done.images} image{'' if done.images == 1 else 's'}", *skipped]))
    if done.enlarged:
        print(f"{done.enlarged} larger than the method's own size: their change was enlarged (--size model: not)")
    return 1 if skipped else 0


def _translate_video(method: "Method", options: argparse.Namespace, given: dict[str, Any]) -> int:
    from xdomain.inference.video import translate_video
    from xdomain.metrics.flicker import Flicker

    for name in ("guide", "mask", "parameters"):
        if getattr(options, name) is not None:
            refuse(None, name, getattr(options, name), ", but a video takes none: leave it out, or give its frames.")
    common = ("input", "output", "source", "target", "size", "seed", "overwrite", "batch_size", "device")
    chosen = {name: getattr(options, name) for name in common}
    flicker = Flicker() if options.report else None
    done = translate_video(method, **chosen, task=options.task or "transfer", flicker=flicker, **given)
    print(f"translated {done} frame{'' if done == 1 else 's'}")
    if flicker is not None:
        values = flicker.compute()
        made, own, still = (float(values[name]) for name in ("flicker", "flicker_input", "still"))
        if math.isnan(made):
            print("flicker: not measured, since nothing in the input stands still")
        else:
            changes = f"the translation changes by {made:.1f} of 255 levels from frame to frame, the input by {own:.1f}"
            print(f"flicker: where the input stands still, {still:.0%} of it, {changes}")
    return 0
