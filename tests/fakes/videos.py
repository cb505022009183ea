"""Fake videos: streams of every kind, a phone's rotated file, an animation byte by byte, sound without picture."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FORMATS = {
    ".mp4": ("mp4", "libx264", {"crf": "10"}),
    ".avi": ("avi", "mpeg4", {"qmax": "3"}),
    ".mkv": ("matroska", "libx264", {"crf": "10"}),
    ".webm": ("webm", "libvpx-vp9", {"crf": "10", "b": "0"}),
}


def moving_square(frames: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A square that moves right by two pixels per frame over a flickering slope: ``uint8`` [T, H, W, 3]."""
    slope = np.linspace(20, 120, width, dtype=np.uint8)
    video = np.zeros((frames, height, width, 3), np.uint8)
    video[..., 2] = slope
    video[1::2, ..., 1] = 60
    for t in range(frames):
        video[t, 8:20, 2 * t : 2 * t + 12] = (230, 200, 40)
    return video


def write_stream(path: Path, video: np.ndarray) -> None:
    """A video file in the format of its ending."""
    kind, codec, options = FORMATS[path.suffix]
    with av.open(str(path), "w", format=kind, options={"movflags": "faststart"} if kind == "mp4" else {}) as container:
        stream = container.add_stream(codec, rate=Fraction(12), options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for pixels in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def turn_mp4(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write into an mp4 that column p and row q are to be shown at column a p + c q and row b p + d q, but for a shift.

    ``0, 1, -1, 0`` is a turn by 90 degrees clockwise, as a phone held upright writes it.
    """
    data = bytearray(path.read_bytes())
    begin = data.find(b"tkhd") + 4 + 40  # the matrix of the track header
    data[begin : begin + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def write_sound(path: Path) -> None:
    """A wav file of silence."""
    header = b"RIFF" + struct.pack("<I", 36 + 800) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    path.write_bytes(header + b"data" + struct.pack("<I", 800) + bytes([128]) * 800)


def gif_frame(pixels: np.ndarray, left: int, top: int, transparent: int | None, disposal: int) -> bytes:
    """One frame of a GIF: palette indices 0-3 [h, w] at a place; disposal 1 keeps it, 2 clears its rectangle."""
    height, width = pixels.shape
    control = bytes([0x21, 0xF9, 4, disposal << 2 | (transparent is not None), 10, 0, transparent or 0, 0])
    codes = []
    for i, value in enumerate(pixels.ravel()):  # cleared every second pixel, codes stay at three bits: no compression
        codes += [4, int(value)] if i % 2 == 0 else [int(value)]
    bits = sum(code << 3 * i for i, code in enumerate([*codes, 5]))
    data = bits.to_bytes(-(-3 * (len(codes) + 1) // 8), "little")
    blocks = b"".join(bytes([len(part)]) + part for part in (data[i : i + 255] for i in range(0, len(data), 255)))
    return control + b"\x2c" + struct.pack("<4HB", left, top, width, height, 0) + b"\x02" + blocks + b"\0"


def write_gif(path: Path, size: tuple[int, int], palette: list[tuple[int, int, int]], frames: list[bytes]) -> None:
    """A GIF of the given height and width, with a palette of four colours."""
    height, width = size
    header = b"GIF89a" + struct.pack("<2H3B", width, height, 0x80 | 1, 0, 0)
    path.write_bytes(header + bytes(value for colour in palette for value in colour) + b"".join(frames) + b";")
