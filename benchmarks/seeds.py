"""Trains and tests one recipe with several seeds and writes results/<recipe>.json with mean and spread.

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

from common import summary, train_and_test

from xdomain.running.folder import write_json


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
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, help="folder that is kept; runs found in it are continued")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting for all runs")
    options = parser.parse_args()
    threads = max(1, (os.cpu_count() or 1) // options.parallel)
    settings = [word for pair in options.set for word in (f"--{pair.partition('=')[0]}", pair.partition("=")[2])]
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.parallel) as pool:
        folder = options.runs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = {r: [pool.submit(one, r, s, folder, threads, settings) for s in options.seeds] for r in options.recipes}
        for futures in jobs.values():
            result = summary([future.result() for future in futures], "seeds", options.seeds)
            write_json(options.results / f"{result['recipe']}.json", {**result, "seed": options.seeds})


if __name__ == "__main__":
    main()
