"""Images per second in the second epoch: decoded once by this package against torchvision's ImageFolder.

    python benchmarks/decode.py [FILES] [--workers N] [--out DIR]

Both read the same JPEG files of 178x218 pixels, cut out the largest square in the centre, resize it to 64x64 and hand
out uint8 batches in random order with the same number of workers, interleaved. Writes results/benchmarks/decode.json;
the ratio should be at least 3.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torchvision
from common import median
from PIL import Image
from torchvision.transforms import v2

from xdomain.data.folders import UnpairedFolders
from xdomain.running.folder import git_commit, hardware, write_json

WIDTH, HEIGHT, SIZE, BATCH, ROUNDS = 178, 218, 64, 64, 5


def write_pictures(root: Path, count: int) -> None:
    """Smooth noise, about as large as photos of the same size are as JPEG."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for side in "AB":
            (root / f"{split}{side}").mkdir(parents=True)
            for i in range(count if (split, side) == ("train", "A") else 1):
                small = Image.fromarray(rng.integers(0, 256, (27, 22, 3), dtype=np.uint8))
                path = root / f"{split}{side}" / f"{i:05d}.jpg"
                small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)


def seconds(batches: Iterable[torch.Tensor], count: int) -> float:
    """Time for all batches."""
    start, seen = time.perf_counter(), 0
    for batch in batches:
        assert batch.dtype == torch.uint8
        assert batch.shape[1:] == (3, SIZE, SIZE)
        seen += len(batch)
    assert seen == count
    return time.perf_counter() - start


def main() -> None:
    """Alternate the two after a first epoch of each, and compare their medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", type=int, nargs="?", default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    options = parser.parse_args()
    count = options.files - options.files % BATCH
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDOMAIN_CACHE"] = f"{folder}/cache"
        write_pictures(Path(folder, "set"), count)
        data = UnpairedFolders(f"{folder}/set", image_size=SIZE, batch_size=BATCH, num_workers=options.workers)
        ours = data.train_dataloader().iterables["a"]

        resize = v2.Resize((SIZE, SIZE), v2.InterpolationMode.BICUBIC, antialias=True)
        transform = v2.Compose([v2.CenterCrop(WIDTH), resize, v2.PILToTensor()])
        only_train = {"is_valid_file": lambda path: "trainA" in path, "allow_empty": True}
        theirs = torch.utils.data.DataLoader(
            torchvision.datasets.ImageFolder(f"{folder}/set", transform, **only_train),
            batch_size=BATCH,
            shuffle=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        rounds = [
            (seconds((sample.image for sample in ours), count), seconds((images for images, _ in theirs), count))
            for _ in range(1 + ROUNDS)
        ][1:]
    metrics = {
        "images_per_second": median([count / a for a, _ in rounds]),
        "images_per_second_imagefolder": median([count / b for _, b in rounds]),
        "ratio": median([b / a for a, b in rounds]),
    }
    print(metrics)
    facts = {"files": count, "workers": options.workers, "rounds": ROUNDS, "image_size": SIZE}
    content = {"recipe": "decode", "metrics": metrics, "commit": git_commit(), "hardware": hardware(), **facts}
    write_json(options.out / "decode.json", content)


if __name__ == "__main__":
    main()
