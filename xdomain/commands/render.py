"""``xdomain render``: the pictures that an engine draws from a file of parameters."""

import argparse

from xdomain.commands.options import Parser, check_numbers, named_options

DESCRIPTION = """\
Draw pictures from the parameters of an engine, at any size. The file is one that xdomain translate --parameters has
written, and may be edited with a text editor:

  {"me.png": {"vertices": "5", "radius": 0.5, ...}}

or a CSV table with the columns image, vertices, radius, ... Every picture gets the name of its image below the output
folder."""


def _parser() -> Parser:
    parser = Parser(
        "xdomain render",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    own = "or the path of a class of your own, such as shapes.Stars"
    add("--engine", metavar="NAME", required=True, help=f"avatars, glyphs or polygons, {own}")
    add("--parameters", metavar="FILE", required=True, help=".json or .csv")
    add("--output", metavar="DIR", required=True, help="folder for the pictures")
    add("--size", type=int, metavar="N", default=256, help="height and width in pixels; by default 256")
    add("--overwrite", action="store_true", help="replace existing files in the output folder")
    return parser


def render_command(args: list[str]) -> int:
    """Run ``xdomain render``; returns the exit status, 0.

    Raises:
        UserError: if anything cannot be drawn; nothing is written then.
    """
    options = _parser().parse_args(args)
    check_numbers(options, size=1)

    from xdomain.inference.parameters import find_engine, render_file

    with named_options():
        engine = find_engine(options.engine)
        count = render_file(engine, options.parameters, options.output, size=options.size, overwrite=options.overwrite)
    print(f"drew {count} image{'' if count == 1 else 's'}")
    return 0
