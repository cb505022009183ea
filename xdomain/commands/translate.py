"""``xdomain translate``: translates a folder of images with a trained method."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdomain.commands.options import (
    ALLOW,
    Parser,
    add_task_options,
    check_numbers,
    described,
    named_options,
    task_options,
)
from xdomain.discover import TaskEntry, tasks
from xdomain.errors import refuse

if TYPE_CHECKING:
    from xdomain.inference.places import Translated
    from xdomain.methods import Method

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


def _parser(known: dict[str, TaskEntry]) -> Parser:
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
    checkpoint = "run folder (its best checkpoint), file, zoo:NAME, or an exported model.onnx"
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
    add("--allow", metavar="PACKAGE", action="append", default=[], help=f"{ALLOW}; can be given again")
    add("--overwrite", action="store_true", help="replace existing files in the output folder")
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
    known = {name: entry for name, entry in tasks().items() if "images" in entry.options}
    options = _parser(known).parse_args(signed(args))
    check_numbers(options, batch_size=1, seed=0)
    if Path(options.ckpt_path).suffix == ".onnx":
        return _translate_with_program(options, task_options(options, known))

    from xdomain.inference.folder import translate_folder
    from xdomain.inference.loading import load
    from xdomain.inference.video import is_video

    method = load(options.ckpt_path, options.allow)
    options.task = options.task or "transfer"
    if is_video(options.input):
        return _translate_video(method, options, task_options(options, known))
    common = ("input", "output", "source", "target", "task", "guide", "mask", "parameters", "size", "seed", "overwrite")
    chosen = {name: getattr(options, name) for name in (*common, "batch_size", "device")}
    with named_options():
        done = translate_folder(method, **chosen, **task_options(options, known))
    return _told(done)


def _told(done: "Translated") -> int:
    """Say what was done; the exit status."""
    skipped = [f"skipped {done.skipped}"] if done.skipped else []
    skipped += [f"skipped {done.skipped_guides} of the guides"] if done.skipped_guides else []
    print(", ".join([f"translated {done.images} image{'' if done.images == 1 else 's'}", *skipped]))
    if done.enlarged:
        print(f"{done.enlarged} larger than the method's own size: their change was enlarged (--size model: not)")
    return 1 if skipped else 0


def _translate_with_program(options: argparse.Namespace, given: dict[str, Any]) -> int:
    from xdomain.inference.program import Program, translate_with_program

    usual: dict[str, Any] = {"mask": None, "parameters": None, "seed": 0, "device": "auto", "allow": []}
    more = {name: getattr(options, name) for name in usual if getattr(options, name) != usual[name]}
    for name, value in {**given, **more}.items():
        if name != "attributes":
            refuse(None, f"--{name}", value, ", but an exported program has no such option: leave it out.")
    common = ("input", "output", "source", "target", "guide", "size", "overwrite", "batch_size")
    chosen = {name: getattr(options, name) for name in common}
    with named_options():
        program = Program(options.ckpt_path)
        return _told(translate_with_program(program, **chosen, task=options.task, attributes=given.get("attributes")))


def _translate_video(method: "Method", options: argparse.Namespace, given: dict[str, Any]) -> int:
    from xdomain.inference.video import translate_video

    for name in ("guide", "mask", "parameters"):
        if getattr(options, name) is not None:
            refuse(None, name, getattr(options, name), ", but a video takes none: leave it out, or give its frames.")
    common = ("input", "output", "source", "target", "task", "size", "seed", "overwrite", "batch_size", "device")
    with named_options():
        done = translate_video(method, **{name: getattr(options, name) for name in common}, **given)
    print(f"translated {done} frame{'' if done == 1 else 's'}")
    return 0
