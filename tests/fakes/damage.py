"""Plants twelve kinds of damage among good image files."""

import errno
import io
import os
import struct
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

FOLDERS = ("trainA", "trainB", "testA", "testB")
KINDS = (
    "empty",
    "truncated",
    "damaged",
    "no image",
    "mislabelled",
    "too large",
    "unsupported",
    "broken link",
    "tiny",
    "one colour",
    "duplicate",
    "leak",
)


class FullDisk(io.FileIO):
    """A file of which the disk takes a half."""

    def write(self, content):
        super().write(bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


Found = dict[str, set[frozenset[str]]]
"""From kind to what is damaged: the names of one file, or of all copies of one content."""


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int = 60_000) -> bytes:
    """A PNG of some bytes that announces side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"")), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def write_good(root: Path, count: int, seed: int = 0, size: int = 32) -> list[str]:
    """Noise images in the folders in turn, every third a PNG and the others JPEG; returns their names below root."""
    rng = np.random.default_rng(seed)
    names = []
    for i in range(count):
        name = f"{FOLDERS[i % len(FOLDERS)]}/{i:06d}.{'png' if i % 3 == 0 else 'jpg'}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(root / name, quality=90)
        names.append(name)
    return names


def plant(root: Path, names: list[str], each: int, seed: int = 0) -> Found:
    """Damage ``each`` files in every one of the :data:`KINDS`; no file twice.

    Args:
        root: folder of the files.
        names: good files as from :func:`write_good`.
        each: number of planted cases per kind; a copy is a case that replaces one file by the content of another.
        seed: which files.
    """
    rng = np.random.default_rng([seed, 1])
    free = [names[i] for i in rng.permutation(len(names))]
    planted: Found = defaultdict(set)

    def taken(ending: str = "", folders: tuple[str, ...] = FOLDERS) -> Path:
        name = next(name for name in free if name.endswith(ending) and name.startswith(folders))
        free.remove(name)
        return root / name

    for kind in KINDS:
        for _ in range(each):
            ending = {"truncated": "jpg", "damaged": "png", "mislabelled": "jpg"}.get(kind, "")
            path, files = taken(ending), set()
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            match kind:
                case "empty":
                    path.write_bytes(b"")
                case "truncated":
                    os.truncate(path, int(path.stat().st_size * rng.uniform(0.6, 0.9)))
                case "damaged":
                    content = bytearray(path.read_bytes())
                    content[len(content) // 2] ^= 0xFF
                    path.write_bytes(content)
                case "no image":
                    path.write_text("<html><body>404 Not Found</body></html>" + path.name)
                case "mislabelled":
                    Image.fromarray(pixels).save(path, "PNG")
                case "too large":
                    path.write_bytes(bomb())
                case "unsupported":
                    path.unlink()
                    path = path.with_suffix(".tif")
                    Image.fromarray(pixels[:, :, 0].astype(np.float32)).save(path)
                case "broken link":
                    path.unlink()
                    path.symlink_to("nowhere.jpg")
                case "tiny":
                    Image.fromarray(pixels[: rng.integers(1, 8), : rng.integers(2, 32)]).save(path)
                case "one colour":
                    Image.new("RGB", (32, 32), tuple(pixels[0, 0].tolist())).save(path)
                case "duplicate" | "leak":
                    folder = path.parent.name
                    # a copy in the same folder; in any folder of the other split
                    others = (folder,) if kind == "duplicate" else tuple(f for f in FOLDERS if f[:4] != folder[:4])
                    copy = taken(path.suffix, others)
                    copy.write_bytes(path.read_bytes())
                    files.add(str(copy.relative_to(root)))
            planted[kind].add(frozenset({str(path.relative_to(root)), *files}))
    return planted


def plant_junk(root: Path) -> set[str]:
    """What operating systems leave behind, and a text: nothing that is wrong."""
    names = {
        "trainA/._000000.png",
        "trainA/.DS_Store",
        "testB/Thumbs.db",
        "desktop.ini",
        "__MACOSX",
        "trainB/notes.txt",
    }
    for name in names:
        if name == "__MACOSX":
            (root / name).mkdir()
            (root / name / "._x.jpg").write_bytes(b"junk")
        else:
            (root / name).write_bytes(b"junk")
    return names


def compare(planted: Found, found: Found) -> tuple[int, int]:
    """How many planted cases were found by their right kind, and how many findings were planted by nobody."""
    right = sum(len(cases & found.get(kind, set())) for kind, cases in planted.items())
    return right, sum(len(cases - planted.get(kind, set())) for kind, cases in found.items())
