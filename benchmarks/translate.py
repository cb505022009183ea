"""Translating a folder of small pictures against the method's forward passes alone.

    python benchmarks/translate.py [--files N] [--rounds N] [--out DIR]

Pictures of 64x64 pixels as PNG are read, translated by a guided transfer of its default width and written again; the
forward passes have the same batches. Both alternate. Beside wall time there is the processor time of the parts, which
does not depend on other work of the machine. Writes translate.json; `rate`, the share of the forward passes' speed,
should be at least 0.9 on two free cores.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from common import median

from xdomain import translate_folder
from xdomain.batch import to_float, to_uint8
from xdomain.data.images import image_files, read_image, write_image
from xdomain.methods import GuidedTransfer
from xdomain.running.folder import git_commit, hardware, write_json

SIZE, BATCH = 64, 64


def seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor time of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Alternate the two, after a first round that counts for nothing, and compare their medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    method = GuidedTransfer(domains=("with", "without"), channels=(3, 3), image_size=SIZE).eval()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(options.files):
            small = torch.from_numpy(rng.integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)).float()
            image = torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bicubic").clamp(0, 255)
            write_image(image[0].to(torch.uint8), folder / "in" / f"{i:05d}.png")
        _, names = image_files(folder / "in")
        batch = torch.rand(BATCH, 3, SIZE, SIZE) * 2 - 1
        picture = to_uint8(batch[0])

        def forward() -> None:
            with torch.inference_mode():
                for start in range(0, options.files, BATCH):
                    method.translate(batch[: options.files - start], "with", "without")

        def through_folder() -> None:
            translate_folder(method, folder / "in", folder / "out", overwrite=True, batch_size=BATCH, device="cpu")

        rounds = [(seconds(forward), seconds(through_folder)) for _ in range(1 + options.rounds)][1:]
        decode = seconds(lambda: [to_float(read_image(folder / "in" / name, 3)) for name in names])
        encode = seconds(lambda: [write_image(picture, folder / "one.png") for _ in names])
    count = options.files / 1000
    metrics = {
        "images_per_second": median([options.files / whole[0] for _, whole in rounds]),
        "images_per_second_forward": median([options.files / alone[0] for alone, _ in rounds]),
        "rate": median([alone[0] / whole[0] for alone, whole in rounds]),
        "processor_ms": median([whole[1] / count for _, whole in rounds]),
        "processor_ms_forward": median([alone[1] / count for alone, _ in rounds]),
        "processor_ms_decode": round(decode[1] / count, 6),
        "processor_ms_encode": round(encode[1] / count, 6),
    }
    print(metrics)
    facts = {"files": options.files, "rounds": options.rounds, "image_size": SIZE, "batch": BATCH}
    content = {"recipe": "translate", "metrics": metrics, "commit": git_commit(), "hardware": hardware(), **facts}
    write_json(options.out / "translate.json", content)


if __name__ == "__main__":
    main()
