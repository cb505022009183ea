"""Two jobs of SLURM in one folder, requeued at random moments, against their straight runs.

    python benchmarks/requeue.py [--requeues 10] [--seed 0] [--only dtn singan]

Both jobs train the same recipe with different seeds, at the same time, in the same runs folder, with ``--ckpt_path
auto``, or without it, by the note that a requeued job finds in its run. SLURM is played by this script: it sends
SIGUSR1 to a job, and once the job has called ``scontrol requeue``, SIGTERM, as SLURM does; then it starts the job
again. The first requeue of each job comes before its first batch and the second before its first checkpoint, of the
others half in a validation and half at any moment, be it in a batch or while the job begins. At the end both jobs must
be equal to runs that nobody stopped, bit for bit.
Writes results/benchmarks/requeue.json and fails if anything differs.
"""

import argparse
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from kills import CLASSIFIER, DTN, PAIR, PARTS, STREET, recipe, start, with_settings
from resume import differences

from xdomain.data.images import write_image
from xdomain.methods import Method
from xdomain.running.folder import facts_of, git_commit, hardware, write_json

STEPS = 60
SEEDS = {"4711": 0, "4712": 1}
"""Seed of each job, by its number."""
EMA = {"class_path": "GeneratorEMA", "init_args": {"networks": ["g"]}}
SETTINGS: dict[str, Any] = {"max_steps": STEPS, "val_check_interval": 7, "save_minutes": None}
RECIPES = {
    "f": recipe(CLASSIFIER, STREET, limit_val_batches=0, save_minutes=None),
    "dtn": recipe(with_settings(DTN, accumulate=2), PAIR, **SETTINGS, callbacks=[EMA]),
    "workers": recipe(CLASSIFIER, with_settings(STREET, num_workers=2), **SETTINGS),
    "singan": recipe(
        {"class_path": "SinGAN", "init_args": {"iterations": 15, "min_size": 12, "width": 4, "layers": 3}},
        {"class_path": "SingleImage", "init_args": {"path": "image.png", "max_size": 24, "steps_per_epoch": 15}},
        **SETTINGS,
    ),
}
AUTO = {"dtn": True, "singan": True, "workers": False}
"""Whether the jobs of a recipe are started with ``--ckpt_path auto``."""
SCONTROL = '#!/bin/sh\n[ "$1" = requeue ] && touch "$REQUEUED/$2"\n'
PAUSE = 0.1
"""Seconds that a validation takes longer, so that it can be hit."""
FLAGS = ("batch", "validation")
WITHIN = {"start": 0.3, "any": 4.0, "batch": 0.1, "validation": PAUSE}
"""Seconds within which a requeue comes: after the signal is first caught, or after the first batch or validation."""
PATIENCE = 300
"""Seconds after which a job that has been asked to leave has failed to do so."""


class Job:
    """One job, from its first start to its last end.

    Args:
        number: of the job.
        words: its command.
        moments: of the requeues that are still to come, out of ``WITHIN``.
    """

    def __init__(self, number: str, words: list[str], moments: list[str]) -> None:
        self.number, self.words, self.moments = number, words, moments
        self.status = 0
        self.wrong: list[str] = []

    def live(self) -> Iterator[None]:
        """Start the job and requeue it until it has ended; a step for every look at it."""
        for moment in self.moments:
            process, flag, until = self._start(), Path(moment, self.number), math.inf
            while time.monotonic() < until:
                if until == math.inf and (flag.exists() if moment in FLAGS else catches(process)):
                    until = time.monotonic() + random.uniform(0, WITHIN[moment])
                if self._ended(process):
                    self.wrong.append(f"ended with status {self.status} before a requeue ({moment})")
                    return
                yield
            os.kill(process, signal.SIGUSR1)
            yield from self._requeued(process, moment)
        process = self._start()
        while not self._ended(process):
            yield
        if self.status:
            self.wrong.append(f"ended with status {self.status}")

    def _requeued(self, process: int, moment: str) -> Iterator[None]:
        """What SLURM does after the signal."""
        asked, since, terminated = Path("requeued", self.number), time.monotonic(), False
        while not self._ended(process):
            if asked.exists() and not terminated:
                time.sleep(random.uniform(0, 0.02))
                os.kill(process, signal.SIGTERM)
                terminated = True
            if time.monotonic() - since > PATIENCE:
                os.kill(process, signal.SIGKILL)
            yield
        if self.status != 128 + signal.SIGUSR1:
            self.wrong.append(f"status {self.status} after a requeue ({moment})")
        if not asked.exists():
            self.wrong.append(f"scontrol was not called at a requeue ({moment})")
        asked.unlink(missing_ok=True)

    def _start(self) -> int:
        for flag in FLAGS:
            Path(flag, self.number).unlink(missing_ok=True)
        os.environ["SLURM_JOB_ID"] = self.number
        return start(self.words)

    def _ended(self, process: int) -> bool:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            self.status = os.waitstatus_to_exitcode(status)
        return bool(found)


def catches(process: int) -> bool:
    """Whether a process has come so far that SIGUSR1 does not simply end it."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1)


def told(flag: str, pause: float) -> Callable[..., None]:
    """A hook that says that a job has come so far, and stays there for a while."""

    def hook(*_: Any) -> None:
        Path(flag, os.environ["SLURM_JOB_ID"]).touch()
        time.sleep(pause)

    return hook


def content(run: Path) -> dict[str, Any]:
    """Everything that must be equal, by name."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return {part: checkpoint.get(part) for part in PARTS} | {"metrics": (run / "metrics.csv").read_text()}


def words_of(name: str, seed: int) -> list[str]:
    """The command of a job, without ``--ckpt_path``."""
    return ["fit", "--config", f"{name}.yaml", "--seed_everything", str(seed)]


def finished(name: str) -> dict[int, Path]:
    """Run folders with a checkpoint, by their seed; fails if there are two of one seed."""
    runs = sorted(path.parents[1] for path in Path("runs", name).glob("*/checkpoints/last.ckpt"))
    found = {facts_of(run)["seed"]: run for run in runs}
    assert len(found) == len(runs), [facts_of(run) for run in runs]
    return found


def prepare(folder: Path) -> None:
    """Write the recipes, an image and scontrol."""
    os.chdir(folder)
    for name, config in RECIPES.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(config))
    write_image(torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8), Path("image.png"))
    for place in ("bin", "requeued", *FLAGS):
        Path(place).mkdir()
    Path("bin/scontrol").write_text(SCONTROL)
    Path("bin/scontrol").chmod(0o755)
    alone = {"NTASKS": 1, "NTASKS_PER_NODE": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0, "JOB_NAME": "train"}
    os.environ |= {f"SLURM_{name}": str(value) for name, value in alone.items()}
    os.environ |= {
        "XDOMAIN_CACHE": f"{folder}/cache",
        "REQUEUED": f"{folder}/requeued",
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
    }


def straight_runs(name: str) -> dict[int, dict[str, Any]]:
    """What the jobs give that nobody stops, by their seed."""
    for number, seed in SEEDS.items():
        job = Job(number, words_of(name, seed), [])
        for _ in job.live():
            time.sleep(0.02)
        if job.wrong:
            raise SystemExit(f"{Path('log').read_text()}\nthe straight run of {name}: {job.wrong}")
    found = {seed: content(run) for seed, run in finished(name).items()}
    shutil.rmtree("runs")
    return found


def requeued_runs(name: str, count: int) -> tuple[list[Job], list[str]]:
    """Both jobs of a recipe, beside each other, and what is wrong with them."""
    straight, ckpt_path = straight_runs(name), ["--ckpt_path", "auto"] if AUTO[name] else []
    jobs = []
    for number, seed in SEEDS.items():
        later = [("any", "validation")[i % 2] for i in range(count - 2)]
        moments = ["start", "batch", *random.sample(later, len(later))]
        jobs.append(Job(number, [*words_of(name, seed), *ckpt_path], moments))
    lives = [job.live() for job in jobs]
    while lives:
        lives = [life for life in lives if next(life, ...) is None]
        time.sleep(0.005)
    wrong = [f"job {job.number}: {fault}" for job in jobs for fault in job.wrong]
    runs = finished(name)
    for seed, expected in straight.items():
        if seed not in runs:
            wrong.append(f"seed {seed} has no run")
        else:
            wrong += [f"seed {seed} differs: {path}" for path in differences(expected, content(runs[seed]))]
    odd = [path for path in Path("runs").rglob("*") if path.name.startswith(".") or path.name == "requeued"]
    odd += [path for path in Path("runs", name).iterdir() if path not in runs.values()]
    return jobs, wrong + [f"left: {path}" for path in odd]


def main() -> None:
    """Requeue the jobs of every recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requeues", type=int, default=10, help="of each job; by default 10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(AUTO), default=list(AUTO), metavar="RECIPE")
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    Method.on_train_batch_end = told("batch", 0.01)  # type: ignore[method-assign]
    Method.on_validation_epoch_start = told("validation", PAUSE)  # type: ignore[method-assign]
    root, what, faults = Path.cwd(), [], []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in options.only:
            jobs, wrong = requeued_runs(name, options.requeues)
            what += [{"recipe": name, "auto": AUTO[name], "job": job.number, "moments": job.moments} for job in jobs]
            faults += [f"{name}: {fault}" for fault in wrong]
            print(f"{name:<8} {'; '.join(wrong) or 'equal'}", flush=True)
            if wrong:
                print(Path("log").read_text()[-3000:])
    os.chdir(root)
    requeues = sum(len(entry["moments"]) for entry in what)
    metrics = {"jobs": len(what), "requeues": requeues, "faults": len(faults)}
    facts = {"metrics": metrics, "commit": git_commit(), "hardware": hardware()}
    write_json(Path("results/benchmarks/requeue.json"), {"recipe": "requeue", **facts, "what": what, "wrong": faults})
    print(f"{len(what)} jobs, {requeues} requeues, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
