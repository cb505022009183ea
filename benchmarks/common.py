"""What the benchmarks share."""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import instantiate_module

from xdomain.data import DomainPair, Handwritten, Street
from xdomain.discover import find_config
from xdomain.methods import DTN, Method
from xdomain.running.folder import git_commit, hardware, write_json
from xdomain.running.publishing import RESULTS, check_publication, read_result
from xdomain.running.results import rounded

NAIVE_SCHEDULE = "the papers' naive schedule in this code"  # not the authors' programs


def small_pair(batch_size: int = 64) -> DomainPair:
    """The data of dtn.yaml with fewer images to draw."""
    return DomainPair(Street(train_size=4000, val_size=50, test_size=50), Handwritten(), batch_size=batch_size)


def dtn(data: DomainPair, **settings: Any) -> DTN:
    """The method of dtn.yaml with an untrained f: the time of a step does not depend on its weights."""
    recipe = yaml.safe_load(find_config("dtn.yaml").read_text())["model"]["init_args"]
    classifier = yaml.safe_load(find_config(recipe["f"]).read_text())["model"]["init_args"]["network"]
    f = {**classifier, "class_path": f"xdomain.networks.{classifier['class_path']}"}
    linked = {"domains": list(data.domains), "channels": list(data.channels), "image_size": data.image_size}
    arguments = {"_class_path": "xdomain.methods.DTN", **recipe, **linked, "f": f, **settings}
    method: Method = instantiate_module(Method, arguments)
    assert isinstance(method, DTN)
    method.f.ready.fill_(True)
    return method


def report(name: str, metrics: dict[str, float], **more: Any) -> None:
    """Print the numbers and write results/benchmarks/<name>.json."""
    for key, value in metrics.items():
        print(f"{key:<32} {value:.4f}")
    content = {"recipe": name, "metrics": metrics, "commit": git_commit(), "hardware": hardware(), **more}
    write_json(Path("results/benchmarks") / f"{name}.json", content)


def publishing(parser: argparse.ArgumentParser) -> None:
    """Add the options of the scripts that publish results of recipes."""
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, help="folder that is kept; runs found in it are continued")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting for all runs")
    parser.add_argument("--anyway", action="store_true", help="publish with --set, or although code is not committed")


def settings_of(options: argparse.Namespace, names: Sequence[str], runs: int) -> list[str]:
    """The words for the command line of ``--set``; refuses, before any run, what could not be published.

    Args:
        options: as parsed; see :func:`publishing`.
        names: of the results to publish.
        runs: over which each is to be the mean.
    """
    pairs = [pair.partition("=") for pair in options.set]
    planned = {"commit": git_commit(), "overrides": {key: value for key, _, value in pairs}}
    for name in names:
        metrics = {"any": {"n": runs}}
        check_publication({"recipe": name, "metrics": metrics, **planned}, options.results, options.anyway)
    return [word for key, _, value in pairs for word in (f"--{key}", value)]


def median(values: list[float]) -> float:
    """The median, rounded for a JSON file."""
    return round(statistics.median(values), 6)


def train_and_test(recipe: str, run: Path, settings: Sequence[str] = (), threads: int | None = None) -> dict[str, Any]:
    """Train and test in processes of their own.

    Args:
        recipe: with overlays after ``+``.
        run: the run folder; what an interrupted call left in it is continued. The log lies beside it.
        settings: words of the command line, for both.
        threads: of the processes; by default as many as there are.

    Returns:
        the content of the run's ``results.json``.
    """
    configs = [word for part in recipe.split("+") for word in ("--config", part)]
    words = [*configs, "--trainer.run_dir", str(run), "--trainer.enable_progress_bar", "false", *settings]
    last = run / "checkpoints" / "last.ckpt"
    fit = ["fit", *words, *(["--ckpt_path", str(last)] if last.exists() else [])]
    test = ["test", *words, "--ckpt_path", str(last)]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    run.parent.mkdir(parents=True, exist_ok=True)
    log = run.with_name(f"{run.name}.log")
    with log.open("a") as out:
        for command in (fit, test):
            status = subprocess.run(
                [sys.executable, "-m", "xdomain", *command], stdout=out, stderr=out, env=environment
            )
            if status.returncode:
                raise SystemExit(f"xdomain {command[0]} of {recipe} failed, see the end of {log}")
    return read_result(run / RESULTS)


def _worst(commits: list[Any]) -> Any:
    """The first commit, but one with changes that were not committed if there is any."""
    return next((commit for commit in commits if str(commit).endswith("+")), commits[0])


def summary(results: list[dict[str, Any]], over: str, which: Sequence[Any]) -> dict[str, Any]:
    """Several results as one: every metric that all have with mean, standard deviation (n - 1) and n.

    Args:
        results: contents of results' JSON files.
        over: what differs between them, such as ``seeds``.
        which: its values, in the order of the results.
    """

    def spread(name: str) -> dict[str, Any]:
        values = [result["metrics"][name] for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        mean = rounded(statistics.mean(values))
        return {"mean": mean, "std": rounded(deviation), "n": len(values), over: list(which), "values": values}

    first = {k: v for k, v in results[0].items() if k != "metrics"}
    names = [name for name in results[0]["metrics"] if all(name in result["metrics"] for result in results)]
    hidden = ("seed", "data.init_args.path") if over == "inputs" else ("seed",)
    overrides = {k: v for k, v in first["overrides"].items() if not any(word in k for word in hidden)}
    seconds = [result["wall_seconds"] for result in results]  # None of a test alone
    return {
        **first,
        **{key: _worst([result.get(key) for result in results]) for key in ("commit", "commit_test") if key in first},
        "metrics": {name: spread(name) for name in names},
        "wall_seconds": None if None in seconds else round(statistics.mean(seconds), 1),
        "overrides": overrides,
    }
