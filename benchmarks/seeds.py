"""Trains and tests one recipe with several seeds and publishes mean and spread of each in results/.

    python benchmarks/seeds.py dtn dtn+no_tid dtn+no_const --seeds 0 1 2

Every argument is a recipe, with overlays after ``+``. Several runs can share the machine (``--parallel``), each with
its part of the threads.
"""

import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import publishing, settings_of, summary, train_and_test

from xdomain.errors import UserError
from xdomain.running.publishing import publish


def one(recipe: str, seed: int, folder: Path, threads: int, settings: list[str]) -> dict[str, Any]:
    """Train and test; the content of the result's JSON file."""
    seeds = ["--seed_everything", str(seed), "--data.init_args.seed", str(seed)]
    result = train_and_test(recipe, folder / f"{recipe}-{seed}", [*settings, *seeds], threads)
    print(f"{recipe} seed {seed}: {result['wall_seconds']} s", flush=True)
    return result


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=1)
    publishing(parser)
    options = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // options.parallel)
    settings = settings_of(options, options.recipes, len(options.seeds))
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.parallel) as pool:
        folder = options.runs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = {r: [pool.submit(one, r, s, folder, threads, settings) for s in options.seeds] for r in options.recipes}
        for futures in jobs.values():
            result = summary([future.result() for future in futures], "seeds", options.seeds)
            print(
                f"published {publish({**result, 'seed': options.seeds}, options.results, options.anyway)}", flush=True
            )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
