"""``xdomain corrupt``: copies of a folder of images under common corruptions."""

import argparse

from xdomain.commands.options import Parser, check_numbers, named_options

DESCRIPTION = """\
Write corrupted copies of images, as in ImageNet-C and CIFAR-C: noise, blur, weather and digital artefacts in five
severities. The copies are PNG files in OUTPUT/corruption/severity, with the subfolders of the input:

  OUTPUT/fog/3/cats/0001.png

Images of up to 48 pixels get the strengths of CIFAR-C, up to 128 those of Tiny-ImageNet-C, larger ones those of
ImageNet-C. By default the 15 corruptions that numbers are reported on; speckle_noise, gaussian_blur, spatter and
saturate are for choosing settings. The same seed and files give the same copies. A file that cannot be read is named
and skipped."""


def _parser() -> Parser:
    parser = Parser(
        "xdomain corrupt",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    frost = "folder with frost1.png to frost5.jpg of ImageNet-C; without it textures are generated, called frost*"
    add("--input", metavar="DIR|FILE", required=True, help="images; a folder with all its subfolders")
    add("--output", metavar="DIR", required=True, help="folder for the copies")
    add("--corruption", metavar="NAME", nargs="+", help="such as fog or gaussian_noise; by default the 15")
    add("--severity", metavar="N", nargs="+", type=int, help="1 to 5; by default all")
    add("--seed", type=int, metavar="S", default=0, help="of the random numbers; by default 0")
    add("--frost", metavar="DIR", help=frost)
    add("--overwrite", action="store_true", help="replace existing files in the output folder")
    return parser


def corrupt_command(args: list[str]) -> int:
    """Run ``xdomain corrupt``; returns the exit status: 0, or 1 if files were skipped.

    Raises:
        UserError: if nothing can be corrupted, or files would be overwritten; nothing is written then.
    """
    options = _parser().parse_args(args)
    check_numbers(options, seed=0)

    from xdomain.data.corruptions import CORRUPTIONS, SEVERITIES
    from xdomain.inference.corruptions import corrupt_folder

    with named_options():
        done = corrupt_folder(
            options.input,
            options.output,
            corruptions=options.corruption or CORRUPTIONS,
            severities=options.severity or SEVERITIES,
            seed=options.seed,
            frost=options.frost,
            overwrite=options.overwrite,
        )
    skipped = f", skipped {done.skipped}" if done.skipped else ""
    print(f"corrupted {done.images} image{'' if done.images == 1 else 's'} into {done.files} files{skipped}")
    return 1 if done.skipped else 0
