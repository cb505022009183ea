"""Trains and tests one recipe with several seeds and writes results/<recipe>.json with mean and spread.

    python benchmarks/seeds.py dtn dtn+no_tid dtn+no_const --seeds 0 1 2

Every argument is a recipe, with overlays after ``+``. Several runs can share the machine (``--parallel``), each with
its part of the threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xdomain.runs import write_json


def one(recipe: str, seed: int, folder: Path, threads: int, settings: list[str]) -> dict[str, Any]:
    """Train and test; the content of the result's JSON file."""
    configs = [word for part in recipe.split("+") for word in ("--config", part)]
    run, log = folder / f"{recipe}-{seed}", folder / f"{recipe}-{seed}.log"
    results = run / "json"
    common = [*configs, "--trainer.run_dir", str(run), "--trainer.enable_progress_bar", "false", *settings]
    common += ["--seed_everything", str(seed), "--data.init_args.seed", str(seed)]
    fit = [sys.executable, "-m", "xdomain", "fit", *common]
    if (last := run / "checkpoints" / "last.ckpt").exists():
        fit += ["--ckpt_path", str(last)]
    test = [sys.executable, "-m", "xdomain", "test", *common, "--trainer.results_dir", str(results)]
    test += ["--ckpt_path", str(last)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with log.open("a") as out:
        for command in (fit, test):
            subprocess.run(command, check=True, stdout=out, stderr=out, env=environment)
    (path,) = results.glob("*.json")
    result: dict[str, Any] = json.loads(path.read_text())
    print(f"{recipe} seed {seed}: {result['wall_seconds']} s", flush=True)
    return result


def summary(results: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """The results of all seeds as one: every metric with mean, standard deviation (n - 1), n and the seeds."""

    def spread(name: str) -> dict[str, Any]:
        values = [result["metrics"][name] for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        mean = round(statistics.mean(values), 6)
        return {"mean": mean, "std": round(deviation, 6), "n": len(values), "seeds": seeds, "values": values}

    first = {k: v for k, v in results[0].items() if k != "metrics"}
    overrides = {k: v for k, v in first["overrides"].items() if "seed" not in k and "enable_progress" not in k}
    seconds = [result["wall_seconds"] for result in results]
    return {
        **first,
        "metrics": {name: spread(name) for name in results[0]["metrics"]},
        "seed": seeds,
        "wall_seconds": round(statistics.mean(seconds), 1),
        "overrides": overrides,
    }


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
            result = summary([future.result() for future in futures], options.seeds)
            write_json(options.results / f"{result['recipe']}.json", result)


if __name__ == "__main__":
    main()
