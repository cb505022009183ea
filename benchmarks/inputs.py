"""Trains and tests recipes on several inputs, one after another, and publishes mean and spread in results/.

    python benchmarks/inputs.py singan_tiny consingan_tiny --inputs photo_brick photo_coffee
    python benchmarks/inputs.py patch_vaegan_video_tiny+vae_levels_1 --inputs engine:balloons clip.mp4

Every recipe may have overlays after ``+``. An input is the name of an overlay, or else what `data.init_args.path`
takes. `--inputs-name papers` names the result <recipe>@papers. The logs lie beside the run folders.
"""

import argparse
import tempfile
import time
from pathlib import Path

from common import publishing, settings_of, summary, train_and_test

from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.running.publishing import publish

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
    parser.add_argument("--inputs-name", help="name of another choice of inputs, after @ in the names of the results")
    publishing(parser)
    options = parser.parse_args()
    names = {recipe: "@".join(filter(None, (recipe, options.inputs_name))) for recipe in options.recipes}
    settings = settings_of(options, list(names.values()), len(options.inputs))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        for recipe in options.recipes:
            results = []
            for name in options.inputs:
                began = time.monotonic()
                words, more = with_input(recipe, name)
                run = folder / f"{recipe}-{''.join(c if c.isalnum() else '_' for c in name)}"
                results.append(train_and_test(words, run, [*settings, *more]))
                print(f"{recipe} on {name}: {time.monotonic() - began:.0f} s", flush=True)
            combined = {**summary(results, "inputs", options.inputs), "recipe": names[recipe]}
            print(f"published {publish(combined, options.results, options.anyway)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
