"""Street scenes in the official layouts of GTA5 and Cityscapes; the class of a pixel tells which file it came from."""

from pathlib import Path

import numpy as np
from PIL import Image

IDS = (0, 7, 8, 11, 26, 33, 29, 255)
"""Numbers in the files: unlabelled, road, sidewalk, building, car, bicycle; a caravan and an unknown one."""


def write_scene(image: Path, label_map: Path, number: int, size: tuple[int, int], palette: bool = False) -> np.ndarray:
    """An image of noise and its label map, which is returned, ``uint8`` [H, W] of numbers in the files."""
    rng = np.random.default_rng(number)
    numbers = rng.choice(np.array(IDS, np.uint8), size)
    for file in (image, label_map):
        file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
    picture = Image.fromarray(numbers)
    if palette:
        picture.putpalette([*range(256)] * 3)
    picture.save(label_map)
    return numbers


def write_gta5(root: Path, count: int, size: tuple[int, int] = (12, 20)) -> list[np.ndarray]:
    """Label maps are pictures with a palette, as in the official files."""
    folder, names = root / "gta5", [f"{number + 1:05d}.png" for number in range(count)]
    return [write_scene(folder / "images" / n, folder / "labels" / n, i, size, True) for i, n in enumerate(names)]


def write_cityscapes(root: Path, train: int, val: int, size: tuple[int, int] = (16, 32)) -> dict[str, list[np.ndarray]]:
    """Files of two towns in each part."""
    found: dict[str, list[np.ndarray]] = {}
    for split, count in {"train": train, "val": val}.items():
        found[split] = []
        for i in range(count):
            town = ("aachen", "bonn")[2 * i // count]
            stem = f"{town}_{i:06d}_000019"
            parts = [root / "cityscapes" / kind / split / town for kind in ("leftImg8bit", "gtFine")]
            files = parts[0] / f"{stem}_leftImg8bit.png", parts[1] / f"{stem}_gtFine_labelIds.png"
            found[split].append(write_scene(*files, 100 * len(split) + i, size))
    return found
