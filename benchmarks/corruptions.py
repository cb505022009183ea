"""Images of 64x64 per second that each corruption makes on one thread.

    python benchmarks/corruptions.py [IMAGES] [--picture FILE]

The images are drawn avatars. The rate of a corruption is over all five severities, the same number of images of each;
it is measured in processor time, so that other programs do not count. Two processes on two cores make twice as many: on
64x64 pixels 500 should be reached by all but glass, snow, frost, spatter and elastic, and 50 by these. Writes
results/benchmarks/corruptions.json, and with --picture one avatar under all corruptions at severity 3.
"""

import argparse
import time
from pathlib import Path

import torch
from common import median, report
from PIL import Image, ImageDraw
from torch import Tensor

from xdomain.data.corruptions import NAMES, SEVERITIES, corrupt, own_frost
from xdomain.engines.avatar_schema import draw_parameters
from xdomain.engines.avatars import render

SIZE, ROUNDS = 64, 3
COLUMNS, ZOOM, LABEL = 5, 2, 14  # of the picture; label: height in pixels


def avatars(count: int) -> Tensor:
    """Photos of avatars, uint8 [count, 3, 64, 64]."""
    indices = torch.arange(count)
    return render(draw_parameters(indices, indices, 0), SIZE)


def rate(images: Tensor, corruption: str) -> float:
    """Images per second over all severities."""
    start = time.process_time()
    for severity in SEVERITIES:
        corrupt(images, corruption, severity)
    return len(images) * len(SEVERITIES) / (time.process_time() - start)


def draw_picture(image: Tensor, file: Path) -> None:
    """The image itself and its corruptions at severity 3, each below its name."""
    tiles = {"clean": image} | {name: corrupt(image[None], name, 3)[0] for name in NAMES}
    side = SIZE * ZOOM
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (side + 4) - 4, rows * (side + LABEL)), "white")
    for i, (name, tile) in enumerate(tiles.items()):
        left, top = i % COLUMNS * (side + 4), i // COLUMNS * (side + LABEL)
        picture = Image.fromarray(tile.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top + LABEL))
        ImageDraw.Draw(sheet).text((left + 2, top + 1), "frost*" if name == "frost" else name, fill="black")
    sheet.save(file)


def main() -> None:
    """Measure every corruption after one call that is not measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=int, nargs="?", default=64)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = avatars(options.images)
    own_frost()
    if options.picture:
        draw_picture(images[3], options.picture)
    metrics = {}
    for name in NAMES:
        rate(images[:1], name)
        metrics[f"{name}_per_second"] = median([rate(images, name) for _ in range(ROUNDS)])
    report("corruptions", metrics, images=options.images, image_size=SIZE, rounds=ROUNDS, frost="generated")


if __name__ == "__main__":
    main()
