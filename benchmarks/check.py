"""How much planted damage `xdomain data check` finds among many files, and how much it invents.

    python benchmarks/check.py [FILES] [--out DIR]

Twelve kinds of damage in small images; writes results/benchmarks/data_check.json. All should be found, by the right
kind, and nothing else.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the damage is that of the tests

from tests.fakes.damage import KINDS, compare, plant, plant_junk, write_good
from xdomain.commands.check_data import check_folder
from xdomain.running.folder import git_commit, hardware, write_json


def main() -> None:
    """Write, damage, check."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=int, nargs="?", default=10_000)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = write_good(root, options.files)
        plant_junk(root)
        planted = plant(root, names, each=max(1, options.files // 200))
        start = time.perf_counter()
        report = check_folder(root)
        seconds = time.perf_counter() - start
    found = {kind: {frozenset(files) for files, _ in cases} for kind, cases in report.problems.items()}
    right, invented = compare(planted, found)
    metrics = {
        "files": options.files,
        "kinds": len(KINDS),
        "planted": sum(map(len, planted.values())),
        "found": right,
        "invented": invented,
        "seconds": round(seconds, 2),
    }
    print(metrics)
    content = {"recipe": "data_check", "metrics": metrics, "commit": git_commit(), "hardware": hardware()}
    write_json(options.out / "data_check.json", content)


if __name__ == "__main__":
    main()
