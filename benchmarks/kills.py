"""Kills what the command line does at random moments, starts it again, and compares with what was never killed.

    python benchmarks/kills.py [--kills 60] [--seed 0] [--only dtn sample]

Trainings of several methods (with accumulated gradients, averaged weights, loader processes and an offline run of
Weights & Biases), a helper's training, the drawing of a data set, translate and sample, each with SIGKILL, SIGTERM and
SIGINT in turn. After every kill nothing may stand half written under its name; after the next call everything must be
equal to the straight run, bit for bit, and no temporary file may be left. Writes results/benchmarks/kills.json and
fails if anything differs.

The victims are forked from this process, which has imported everything: a start takes no time.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from resume import differences

from xdomain.commands import sample, train, translate  # noqa: F401 - imported once, for all victims
from xdomain.commands.main import main as xdomain
from xdomain.data.images import write_image
from xdomain.running.folder import git_commit, hardware, write_json

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
PARTS = ("state_dict", "optimizer_states", "random_states", "accumulated", "ema", "global_step")
TRAINER = {
    "accelerator": "cpu",
    "devices": 1,
    "max_steps": 40,
    "val_check_interval": 9,
    "check_val_every_n_epoch": None,
    "limit_val_batches": 1,
    "log_every_n_steps": 1,
    "save_minutes": 0.002,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
STREET = {"class_path": "Street", "init_args": {"image_size": 16, "train_size": 64, "val_size": 8, "test_size": 8}}
HANDWRITTEN = {"class_path": "Handwritten", "init_args": {"image_size": 16}}
PAIR = {"class_path": "DomainPair", "init_args": {"a": STREET, "b": HANDWRITTEN, "batch_size": 8}}
CLASSIFIER = {
    "class_path": "Classifier",
    "init_args": {"network": {"class_path": "ConvClassifier", "init_args": {"widths": [4, 4], "image_size": 16}}},
}
DTN = {
    "class_path": "DTN",
    "init_args": {
        "f": "f.yaml",
        "g": {"class_path": "UpConvDecoder", "init_args": {"width": 8}},
        "D": {"class_path": "ConvDiscriminator", "init_args": {"width": 4}},
    },
}


def recipe(model: dict[str, Any], data: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    """A config."""
    return {"model": model, "data": data, "trainer": {**TRAINER, **trainer}}


def with_settings(part: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """A class in a config with more settings."""
    return {**part, "init_args": {**part["init_args"], **settings}}


RECIPES = {
    "f": recipe(CLASSIFIER, STREET, limit_val_batches=0),
    "dtn": recipe(DTN, PAIR, callbacks=[{"class_path": "GeneratorEMA", "init_args": {"networks": ["g"]}}]),
    "accumulate": recipe(with_settings(DTN, accumulate=3), PAIR),
    "workers": recipe(CLASSIFIER, with_settings(STREET, num_workers=2), callbacks=["ClassificationAccuracy"]),
    "wandb": recipe(
        CLASSIFIER,
        STREET,
        logger={"class_path": "pytorch_lightning.loggers.WandbLogger", "init_args": {"save_dir": "wandb_files"}},
    ),
    "singan": recipe(
        {"class_path": "SinGAN", "init_args": {"iterations": 10, "min_size": 12, "width": 4, "layers": 3}},
        {"class_path": "SingleImage", "init_args": {"path": "image.png", "max_size": 24, "steps_per_epoch": 10}},
    ),
    "draw": recipe(CLASSIFIER, with_settings(STREET, train_size=6000), max_steps=1),
}


class Job(NamedTuple):
    """Something to kill.

    Attributes:
        words: the command.
        again: the command that goes on after a kill; it may look what is there.
        results: files to compare byte by byte, as patterns; the rest of a run is compared by its content.
        keeps: whether the helper network and the data of earlier runs are kept in the cache.
    """

    words: list[str]
    again: Callable[[list[str]], list[str]]
    results: tuple[str, ...] = ()
    keeps: bool = True


def resumed(words: list[str]) -> list[str]:
    """The training goes on if it has a checkpoint, else it begins again."""
    return [*words, "--ckpt_path", "run"] if Path("run/checkpoints/last.ckpt").exists() else words


def training(name: str, *results: str, keeps: bool = True) -> Job:
    """A fit of one of the recipes."""
    return Job(["fit", "--config", f"{name}.yaml", "--trainer.run_dir", "run"], resumed, results, keeps)


def overwriting(words: list[str]) -> list[str]:
    """Files that are there are written again."""
    return [*words, "--overwrite"]


DOMAINS = ("--source", "street", "--target", "handwritten")
JOBS = {
    **{name: training(name) for name in ("dtn", "accumulate", "workers", "wandb", "singan")},
    "helper": training("dtn", "cache/zoo/*.safetensors", keeps=False),
    "draw": training("draw", "cache/worlds/*/*.npy", keeps=False),
    "translate": Job(
        ["translate", "--ckpt_path", "trained_dtn", "--input", "photos", "--output", "out", *DOMAINS],
        overwriting,
        ("out/*.png",),
    ),
    "sample": Job(
        ["sample", "--ckpt_path", "trained_singan", "--output", "out", "--n", "60"], overwriting, ("out/*.png",)
    ),
}


def start(words: list[str]) -> int:
    """Fork a process that does what the command line does; returns its number."""
    sys.stdout.flush()
    if process := os.fork():
        return process
    status = 1
    try:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["xdomain", *words]
        status = xdomain(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(process: int) -> int:
    """Its status; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def content(job: Job) -> dict[str, Any]:
    """Everything that must be equal, by name."""
    found: dict[str, Any] = {str(p): p.read_bytes() for pattern in job.results for p in sorted(Path().glob(pattern))}
    if (last := Path("run/checkpoints/last.ckpt")).exists():
        checkpoint = torch.load(last, weights_only=True)
        found |= {part: checkpoint.get(part) for part in PARTS}
        found["metrics"] = Path("run/metrics.csv").read_text()
    return found


def leftovers() -> list[str]:
    """Temporary files and folders, but for locks of the cache."""
    odd = [*Path().glob("run/**/.*"), *Path().glob("out/**/.*"), *Path().glob("cache/zoo/*.training")]
    return [str(path) for path in odd]


def half_written(job: Job, straight: dict[str, Any]) -> list[str]:
    """Files that stand under their names but are not what they shall be, and checkpoints that cannot be read."""
    wrong = [
        str(path)
        for pattern in job.results
        for path in Path().glob(pattern)
        if straight.get(str(path)) != path.read_bytes()
    ]
    for path in Path().glob("run/checkpoints/*.ckpt"):
        try:
            torch.load(path, weights_only=True)
        except Exception:
            wrong.append(str(path))
    return wrong


@contextlib.contextmanager
def place(job: Job, prepared: Path) -> Any:
    """A folder with everything that a job needs."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        if not job.keeps:
            shutil.rmtree(f"{folder}/cache")
        os.chdir(folder)
        os.environ["XDOMAIN_CACHE"] = f"{folder}/cache"
        yield Path(folder)
        os.chdir("/")


def prepare(folder: Path) -> None:
    """Write the recipes and the images, and train what translate and sample use."""
    os.chdir(folder)
    os.environ |= {"XDOMAIN_CACHE": f"{folder}/cache", "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for name, config in RECIPES.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(0)
    for number in range(120):
        write_image(torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8), Path(f"photos/{number:03d}.png"))
    write_image(torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8), Path("image.png"))
    for name in ("dtn", "singan"):
        if status := wait(start(["fit", "--config", f"{name}.yaml", "--trainer.run_dir", f"trained_{name}"])):
            raise SystemExit(f"{Path('log').read_text()}\nthe training of {name} ended with status {status}")
    Path("log").unlink()


def straight_run(job: Job, prepared: Path) -> tuple[dict[str, Any], float]:
    """What a job gives that nobody kills, and how many seconds it takes."""
    with place(job, prepared):
        begin = time.monotonic()
        if status := wait(start(job.words)):
            raise SystemExit(f"{Path('log').read_text()}\n{' '.join(job.words)} ended with status {status}")
        return content(job), time.monotonic() - begin


def kill_once(job: Job, prepared: Path, straight: dict[str, Any], seconds: float, signum: signal.Signals) -> list[str]:
    """Kill a job at a random moment and start it again.

    Returns:
        what is wrong.
    """
    with place(job, prepared):
        process = start(job.words)
        time.sleep(random.uniform(0.05, seconds))
        os.kill(process, signum)
        status = wait(process)
        wrong = [] if status in (0, STATUS[signum]) else [f"status {status}"]
        wrong += [f"half written: {name}" for name in half_written(job, straight)]
        if signum != signal.SIGKILL:
            wrong += [f"left: {name}" for name in leftovers()]
        if status and (again := wait(start(job.again(job.words)))):
            return [*wrong, f"the next call ended with status {again}: {Path('log').read_text()[-300:]}"]
        wrong += [f"left in the end: {name}" for name in leftovers()]
        return wrong + [f"differs: {name}" for name in differences(straight, content(job))]


def main() -> None:
    """Run every job straight, then kill the jobs in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(JOBS), default=list(JOBS), metavar="JOB")
    options = parser.parse_args()
    random.seed(options.seed)
    torch.set_num_threads(1)
    root, kills, faults = Path.cwd(), [], []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        straight = {name: straight_run(JOBS[name], Path(folder)) for name in options.only}
        for number in range(options.kills):
            name = options.only[number % len(options.only)]
            signum = SIGNALS[number // len(options.only) % len(SIGNALS)]
            wrong = kill_once(JOBS[name], Path(folder), *straight[name], signum)
            kills.append({"job": name, "signal": signum.name})
            faults += [{**kills[-1], "fault": fault} for fault in wrong]
            print(f"{number + 1:3} {name:<12} {signum.name:<8} {'; '.join(wrong) or 'equal'}", flush=True)
    os.chdir(root)
    facts = {"metrics": {"kills": len(kills), "faults": len(faults)}, "commit": git_commit(), "hardware": hardware()}
    seconds = {name: round(took, 2) for name, (_, took) in straight.items()}
    more = {"seconds": seconds, "what": kills, "wrong": faults}
    write_json(Path("results/benchmarks/kills.json"), {"recipe": "kills", **facts, **more})
    print(f"{len(kills)} kills, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
