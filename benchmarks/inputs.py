"""Trains and tests recipes on several inputs, one after another, and writes results/<recipe>.json with mean and spread.

    python benchmarks/inputs.py singan_tiny consingan_tiny --inputs photo_brick photo_coffee
    python benchmarks/inputs.py patch_vaegan_video_tiny+vae_levels_1 --inputs engine:balloons clip.mp4

Every recipe may have overlays after ``+``. An input is the name of an overlay, or else what `data.init_args.path`
takes. `--suffix papers` writes results/<recipe>_papers.json. The logs lie beside the run folders.
"""

import argparse
import tempfile
import time
from pathlib import Path

from common import summary, train_and_test

from xdomain.commands.table import result_name
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.running.folder import write_json

PHOTOGRAPHS = ["photo_brick", "photo_chelsea", "photo_coffee", "photo_hubble", "photo_rocket"]


def with_input(recipe: str, name: str) -> tuple[str, list[str]]:
    """A recipe on an input, and the settings that it needs."""
    try:
        find_config(name)
    except UserError:
        return recipe, ["--data.init_args.path", name]
    return f"{recipe}+{name}", []


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--inputs", nargs="+", default=PHOTOGRAPHS, help=f"by default {' '.join(PHOTOGRAPHS)}")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--suffix", help="of the names of the results, for another choice of inputs")
    parser.add_argument("--runs", type=Path, help="folder that is kept; runs found in it are continued")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting for all runs")
    options = parser.parse_args()
    settings = [word for pair in options.set for word in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        for recipe in options.recipes:
            results = []
            for name in options.inputs:
                began = time.monotonic()
                words, more = with_input(recipe, name)
                run = folder / f"{result_name(recipe)}-{''.join(c if c.isalnum() else '_' for c in name)}"
                results.append(train_and_test(words, run, [*settings, *more]))
                print(f"{recipe} on {name}: {time.monotonic() - began:.0f} s", flush=True)
            name = "_".join([result_name(recipe), *([options.suffix] if options.suffix else [])])
            combined = {**summary(results, "inputs", options.inputs), "recipe": name}
            write_json(options.results / f"{combined['recipe']}.json", combined)


if __name__ == "__main__":
    main()
