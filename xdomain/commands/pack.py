"""``xdomain pack``: makes one small file of trained weights."""

from pathlib import Path

from xdomain.commands.options import Parser
from xdomain.errors import UserError

DESCRIPTION = """\
Packs the weights of a run into one small file FILE.safetensors: in half precision, and without the networks that only
a training needs. FILE.json beside it says how it is used, how it was trained and how it was measured. Give
FILE.safetensors to --ckpt_path of translate; both files can be copied together. With --helper it writes helper
networks, such as classifiers and judges, into the folder DIR: those of the package lie in xdomain/weights/helpers."""


def pack_command(args: list[str]) -> int:
    """Run ``xdomain pack``; returns the exit status, 0.

    Raises:
        UserError: if the run cannot be packed, or if the file exists.
    """
    parser = Parser("xdomain pack", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", nargs="?", help="run folder (its best checkpoint) or checkpoint file")
    parser.add_argument("--helper", metavar="RECIPE", nargs="+", help="recipes of helper networks, instead of RUN")
    parser.add_argument(
        "--output", metavar="FILE|DIR", required=True, help="file to write, ending in .safetensors; or a folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options = parser.parse_args(args)
    if (options.run is None) == (options.helper is None):
        raise UserError("give either a run or --helper with names of recipes.")
    if options.helper is not None:
        from xdomain.features.helpers import ship
        from xdomain.running.folder import git_commit

        commit = git_commit()  # before the files of the package change
        for name in options.helper:
            file = ship(name, Path(options.output), commit)
            print(f"packed {file}: {file.stat().st_size / 2**20:.1f} MiB")
        return 0

    from xdomain.inference.packing import pack
    from xdomain.running.outputs import check_new

    output = Path(options.output)
    check_new([output, output.with_suffix(".json")], options.overwrite)
    card = pack(options.run, output)
    without = f", without {', '.join(card['left_out'])}" if card["left_out"] else ""
    print(f"packed {output}: {output.stat().st_size / 2**20:.1f} MiB{without}")
    if card["change_by_half_precision"] is not None:
        print(f"half precision changes translations by at most {card['change_by_half_precision']} on [-1, 1]")
    return 0
