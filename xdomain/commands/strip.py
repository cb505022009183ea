"""``xdomain strip``: one picture of several trained methods that change the same attributes of the same people."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from xdomain.commands.options import ALLOW, Parser, check_numbers
from xdomain.commands.translate import signed
from xdomain.errors import UserError, choice, did_you_mean
from xdomain.files import whole_file
from xdomain.running.folder import newest_config, run_dir_of
from xdomain.running.outputs import check_new

if TYPE_CHECKING:
    from torch import Tensor

    from xdomain.data.base import BaseDataModule
    from xdomain.methods import Method

DESCRIPTION = """\
Draw one picture of several trained methods, as papers compare attribute editors: a row per method, and for each person
the image and single edits of it, one attribute after the other. Attribute editors (AttGAN, STGAN, StarGAN, IcGAN) and
methods of content transfer whose two domains differ in one attribute (a Fader Network with glasses and without) can be
mixed; what a method was not trained for is said in its place.

Without --input the people are test images of the data of the first run that has attributes, and without --attributes
each attribute of the first editor is added to those who lack it and taken away from those who have it."""


def _parser() -> Parser:
    parser = Parser(
        "xdomain strip",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", help="run folder, file, zoo:NAME or hf:OWNER/NAME; a row each")
    add("--output", metavar="FILE", type=Path, required=True, help="the picture, a PNG file")
    add("--input", metavar="DIR|FILE", help="images of the people")
    add("--attributes", metavar="A", help="the edits, each a column of its own, such as +Eyeglasses,-Smiling")
    add("--people", metavar="N", type=int, default=3, help="number of people; by default 3")
    add("--allow", metavar="PACKAGE", action="append", default=[], help=f"{ALLOW}; can be given again")
    add("--overwrite", action="store_true", help="replace the picture if it exists")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="by default cuda if present")
    return parser


def strip_command(args: list[str]) -> int:
    """Run ``xdomain strip``; returns the exit status.

    Raises:
        UserError: if nothing can be drawn; nothing is written then.
    """
    options = _parser().parse_args(signed(args))
    check_numbers(options, people=1)
    if options.output.suffix.lower() != ".png":
        raise UserError(f"--output is {options.output}: give a file that ends in .png.")
    if options.input is not None and options.attributes is None:
        raise UserError("--input needs --attributes: say what to change, such as +Eyeglasses,-Smiling.")
    check_new([options.output], options.overwrite)

    from xdomain.inference.device import enough_memory, find_device
    from xdomain.inference.loading import load
    from xdomain.inference.strip import Row, strip
    from xdomain.methods import ContentMethod
    from xdomain.methods.editor import AttributeEditor

    methods = [load(run, options.allow) for run in options.runs]
    for run, method in zip(options.runs, methods, strict=True):
        if not isinstance(method, (AttributeEditor, ContentMethod)):
            kind = type(method).__name__
            raise UserError(f"{run} holds a {kind}, which changes no attribute of images: leave it out.")
    wanted = _edits(options.attributes, methods) if options.attributes is not None else None
    rows = [
        Row(label, method, getattr(_data_of(run), "rules", {}) if isinstance(method, ContentMethod) else {})
        for label, method, run in zip(_labels(options.runs, methods), methods, options.runs, strict=True)
    ]
    if options.input is not None:
        assert wanted is not None
        people = _images(options.input, options.people)
        edits = [wanted] * len(people)
    else:
        people, edits = _drawn(options.runs, methods, options.people, wanted)
    with enough_memory():
        picture = strip(rows, people, edits, str(find_device(options.device)))
    with whole_file(options.output) as file:
        picture.save(file, format="PNG")
    print(f"{options.output}: {len(rows)} methods, {len(people)} people, {len(edits[0])} edits")
    return 0


def _labels(runs: list[str], methods: list["Method"]) -> list[str]:
    """Names of the methods; with that of the run where a method is there twice."""
    kinds = [type(method).__name__ for method in methods]
    often = Counter(kinds)
    names = [str(Path(run).parent.name if Path(run).name.isdigit() else Path(run).stem) for run in runs]
    return [kind if often[kind] == 1 else f"{kind} {name}" for kind, name in zip(kinds, names, strict=True)]


def _data_of(run: str) -> "BaseDataModule | None":
    """The data of a run's config; None for weights outside of a run folder."""
    from xdomain.commands.check_data import configured_data

    folder = Path(run) if Path(run).is_dir() else run_dir_of(run)
    if folder is None or not (config := newest_config(folder)).is_file():
        return None
    return configured_data([str(config)])


def _edits(text: str, methods: list["Method"]) -> list[str]:
    """The edits that were asked for, such as ``+Eyeglasses``."""
    from xdomain.methods.editor import AttributeEditor

    known = dict.fromkeys(name for method in methods if isinstance(method, AttributeEditor) for name in method.names)
    edits = [word.strip() for word in text.split(",")]
    for edit in edits:
        if edit[:1] not in ("+", "-") or not edit[1:]:
            raise UserError(f"--attributes is {text}, but {edit!r} lacks its + or -: give +Smiling or so.")
        if known and edit[1:] not in known:
            hint = did_you_mean(edit[1:], known, f": give {choice(known)}.")
            raise UserError(f"--attributes is {text}, but no editor changes {edit[1:]}{hint}")
    return edits


def _images(source: str, count: int) -> "list[Tensor]":
    """The first images of a folder, or one of a file, ``uint8`` [3, H, W]."""
    from xdomain.data.images import image_files, read_image

    folder, names = image_files(Path(source))
    return [read_image(folder / name, 3) for name in names[:count]]


def _drawn(
    runs: list[str], methods: list["Method"], count: int, wanted: list[str] | None
) -> "tuple[list[Tensor], list[list[str]]]":
    """Test images of the first run's data that has attributes, and the edits of each of them."""
    from xdomain.callbacks.reading import spread
    from xdomain.data.attributes import AttributeDomains, truth
    from xdomain.methods.editor import AttributeEditor

    editor = next((method for method in methods if isinstance(method, AttributeEditor)), None)
    if wanted is None and editor is None:
        raise UserError("no run holds an attribute editor: say what to change by --attributes, such as +Eyeglasses.")
    data = next((found for run in runs if isinstance(found := _data_of(run), AttributeDomains)), None)
    if data is None:
        raise UserError("no run has data with attributes: give images by --input, and --attributes.")
    part = data.part("test")
    at = spread(len(part), count)
    people = [*part.__getitems__(at.tolist()).image]
    if wanted is not None or editor is None:
        return people, [wanted or []] * len(people)
    has = truth(editor.attributes.values(), data.attribute_names, data.table("test")[at]).tolist()
    return people, [
        [f"{'-' if value else '+'}{name}" for name, value in zip(editor.names, own, strict=True)] for own in has
    ]
