"""Kills a run with SIGKILL at ten moments, resumes it each time, and compares it with a straight run.

    python benchmarks/resume.py [--kills 10] [--config dtn.yaml]
    python benchmarks/resume.py --config singan_tiny.yaml --set model.iterations=20 --set data.steps_per_epoch=20

The moments alternate between steps, validations and checkpoint writes. Writes results/benchmarks/resume.json, for
another recipe results/benchmarks/resume_<recipe>.json: everything in the final checkpoint but the time spent, and all
of metrics.csv, must be equal.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import report

EVERY = 10


def command(config: str, settings: list[str], run: Path, steps: int) -> list[str]:
    """``xdomain fit``, resuming if the run has a checkpoint."""
    words = [sys.executable, "-m", "xdomain", "fit", "--config", config, "--trainer.run_dir", str(run), *settings]
    words += ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(EVERY)]
    words += ["--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"]
    last = run / "checkpoints" / "last.ckpt"
    return [*words, "--ckpt_path", str(last)] if last.exists() else words


def rows(run: Path) -> int:
    """Rows in metrics.csv."""
    path = run / "metrics.csv"
    return path.read_text().count("\n") if path.exists() else 0


def kill_at(process: subprocess.Popen[bytes], run: Path, moment: str) -> bool:
    """Kill the process at such a moment; False if it ended by itself."""
    before = rows(run)
    while process.poll() is None and rows(run) <= before + random.randint(3, EVERY):
        time.sleep(0.01)
    if moment == "step":
        time.sleep(random.uniform(0.0, 1.0))
    elif moment == "validation":
        while process.poll() is None and not (run / "metrics.csv").read_text().rstrip().endswith(_last_of_ten(run)):
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.1))
    else:
        while process.poll() is None and not list(run.glob("checkpoints/.*.part")):
            time.sleep(0.0005)
    if process.poll() is not None:
        return False
    process.kill()
    process.wait()
    return True


def _last_of_ten(run: Path) -> str:
    """The last row's text if its step is the one before a validation, else something no row ends with."""
    line = (run / "metrics.csv").read_text().rstrip().rpartition("\n")[2]
    step = line.split(",", 1)[0]
    return line if step.isdigit() and int(step) % EVERY == EVERY - 1 else "\0"


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two checkpoints differ, but for the time that was spent."""
    if isinstance(a, dict):
        keys = (a.keys() | b.keys()) - {"wall_seconds"}
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{path}/{k}")]
    if isinstance(a, (list, tuple)):
        return [d for i, pair in enumerate(zip(a, b, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    return [] if same else [path]


def main() -> None:
    """Train straight, train with kills, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--config", default="dtn.yaml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the recipe")
    options = parser.parse_args()
    random.seed(options.seed)
    steps = EVERY * (options.kills + 4)
    settings = [f"--{pair}" for pair in options.set]
    recipe = Path(options.config).stem
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder) / "straight", Path(folder) / "killed"
        subprocess.run(command(options.config, settings, straight, steps), check=True)
        moments = []
        while len(moments) < options.kills:
            process = subprocess.Popen(command(options.config, settings, killed, steps))
            moment = ("step", "validation", "checkpoint")[len(moments) % 3]
            if not kill_at(process, killed, moment):
                break
            moments.append(moment)
            print(f"killed ({moment}) after {rows(killed)} rows of metrics", flush=True)
        subprocess.run(command(options.config, settings, killed, steps), check=True)
        one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (straight, killed))
        found = [d for part in ("state_dict", "optimizer_states", "random_states", "ema", "global_step")
                 for d in differences(one.get(part), other.get(part), part)]  # fmt: skip
        same_metrics = (straight / "metrics.csv").read_text() == (killed / "metrics.csv").read_text()
        leftovers = [str(p) for p in killed.rglob("*") if p.is_file() and p.name.startswith(".")]
    metrics = {"kills": len(moments), "differing_tensors": len(found), "metrics_identical": float(same_metrics)}
    name = "resume" if recipe == "dtn" else f"resume_{recipe}"
    report(name, metrics, moments=moments, steps=steps, differences=found[:5], leftovers=leftovers)
    sys.exit(bool(found) or not same_metrics)


if __name__ == "__main__":
    main()
