"""Image files of every kind as arrays, and back, without torch."""

import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from xdomain.errors import UserError
from xdomain.files import whole_file

ENDINGS = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""The formats that are read, whatever the file name. PIL knows more, and starts other programs for some."""
JUNK = re.compile(r"\..*|Thumbs\.db|ehthumbs\.db|desktop\.ini|__MACOSX|Icon\r", re.IGNORECASE)
LEFTOVERS = "hidden files and leftovers of an operating system"
UNREAD = f"no ending of an image ({' '.join(ENDINGS)})"
SHOWN = 5  # number of kinds of files named in a warning

ORIENTATION = 0x0112  # tag of EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Maps the value of that tag to the operation that turns the image upright."""
PLANAR, PHOTOMETRIC, BITS = 284, 262, 258  # tags of TIFF
MODES = {1: "L", 3: "RGB"}


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Read an image file, ``uint8`` [H, W, channels].

    ============================  ====================================================================
    8-bit grey or RGB             unchanged
    16-bit grey                   divided by 257 and rounded, so that 65535 becomes 255
    16-bit RGB                    its upper 8 bits; refused where the planes of a TIFF stand apart
    32-bit integers or floats     refused: nothing says which value is white
    transparent (RGBA, LA,        laid over white; in 16-bit grey a transparent value is ignored
    palette, a colour made so)
    palette, black and white,     converted to RGB or grey; colour profiles are ignored
    CMYK, YCbCr
    rotated by its EXIF data      turned upright; where the EXIF data are broken, as stored
    animated, several pages       the first one
    cut off, damaged, empty,      refused
    no image, too many pixels
    ============================  ====================================================================

    RGB becomes grey by the ITU-R 601 luma, grey becomes RGB by repetition.

    Args:
        path: the file.
        channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: for a file that is refused; the message names it.
        MemoryError: if there is too little memory for it.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait forever
            raise ValueError("it is a folder" if path.is_dir() else "it is no regular file")
        with bombs_refused(), open_image(path) as file:
            file.load()
            image = _to_8_bit(file)
            if (turn := UPRIGHT.get(orientation(file))) is not None:
                image = image.transpose(turn)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        pixels = np.array(image.convert(MODES[channels]))
    except FileNotFoundError as error:
        gone = f"is a link to nothing ({os.readlink(path)})" if path.is_symlink() else "does not exist"
        raise UserError(f"the image {path} {gone}.") from error
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise UserError(f"{path} cannot be read as an image, replace or remove it: {_why(path, error)}.") from error
    return pixels.reshape(*pixels.shape[:2], channels)


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Let PIL refuse images with too many pixels, of which it only warns otherwise.

    The setting belongs to the whole process: where several threads read, the block must hold them all, since they would
    undo each other's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(file: Path | BinaryIO) -> Image.Image:
    """Open an image file in one of the :data:`FORMATS`."""
    return Image.open(file, formats=FORMATS)


def check_size(path: Path, most: int) -> None:
    """Raise a UserError for an image of more than ``most`` pixels, by its header alone; what is no image passes."""
    try:
        with bombs_refused(), open_image(path) as file:
            width, height = file.size
    except Exception:  # read_pixels says what is wrong with it
        return
    if width * height > most:
        raise UserError(f"{path} has {width}x{height} pixels, more than {most:,}: give a smaller one.")


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an image, from 1 (upright) to 8; 1 if its metadata are broken."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # any error of a parser: the pixels are not affected
        return 1
    return value if value in range(1, 9) else 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; PIL's own conversion would clip it at 255."""
    tags = getattr(image, "tag_v2", {})  # of TIFF
    if tags.get(PLANAR) == 2 and max(tags.get(BITS, (1,))) > 8:  # PIL reads the two bytes of a value as two values
        raise ValueError("its planes of 16 bits stand one after the other, save it with interleaved or 8-bit pixels")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # PIL stretches PGM to 16 bits
        values = np.asarray(image).astype(np.int64)
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white, which PIL handles only for 8 bits
            values = 65535 - values
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits and no known range, save it with 8 or 16")
    return image


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {Image.MAX_IMAGE_PIXELS} pixels"
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    return str(error) or type(error).__name__


def load_formats() -> None:
    """Load PIL's codecs, before several threads would do so at once."""
    Image.init()


def write_pixels(pixels: np.ndarray, path: Path) -> None:
    """Write an image atomically; the file extension determines the format.

    Args:
        pixels: ``uint8`` [H, W, 1] (grey) or [H, W, 3] (RGB).
        path: file to write or replace; missing folders are made.

    Raises:
        UserError: for an unknown extension, or if the file cannot be written.
    """
    write_content(encoded(pixels, path), path)


def write_content(content: memoryview, path: Path) -> None:
    """Write a file atomically."""
    with whole_file(path) as file:
        file.write(content)


def encoded(pixels: np.ndarray, path: Path) -> memoryview:
    """The content of an image file; see :func:`write_pixels`."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} ends in none of {' '.join(ENDINGS)}: rename it.")
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    content = io.BytesIO()  # in memory first: encoders report a full disk as an error of their own
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], quality=95)  # for JPEG and WebP
    return content.getbuffer()


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[tuple[Path, str]]:
    """All entries of a folder and its subfolders, including linked ones, sorted by name.

    Args:
        folder: folder to start from.
        above: real paths of the folders that lead there.

    Returns:
        every file with the reason not to read it, which is empty for an image file (or a broken link with the name of
        one); folders only if they are not entered.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"folders that cannot be opened ({error.strerror})"
        return
    above |= {os.path.realpath(folder)}
    for entry in entries:
        path = folder / entry.name
        if JUNK.fullmatch(entry.name):
            yield path, LEFTOVERS
        elif path.is_dir() if entry.is_symlink() else entry.is_dir():
            if os.path.realpath(path) in above:
                yield path, "links back to a folder that they lie in"
            else:
                yield from walk(path, above)
        elif path.suffix.lower() not in ENDINGS:
            yield path, UNREAD
        elif entry.is_file() if not entry.is_symlink() else path.is_file() or not path.exists():
            yield path, ""
        else:
            yield path, "no regular files"


def found_images(path: Path) -> tuple[Path, list[Path], str]:
    """The image files at a path: of a folder with all its subfolders, including linked ones, or a single file.

    Names that begin with a dot, and everything below them, are left out.

    Returns:
        the folder, the sorted names of its files relative to it, and a sentence that counts the files that are passed
        over; it is empty if there are none.

    Raises:
        UserError: if there are none.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"the input {path} does not exist: give an image file or a folder of them.")
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"{path} ends in none of {' '.join(ENDINGS)}: give an image file or a folder of them.")
        if not path.is_file():
            raise UserError(f"{path} is no regular file: give an image file or a folder of them.")
        return path.parent, [Path(path.name)], ""
    found: list[Path] = []
    others: Counter[str] = Counter()
    for file, reason in walk(path):
        if not reason:
            found.append(file.relative_to(path))
        elif reason != LEFTOVERS:
            others[file.suffix.lower() or "without an ending" if reason == UNREAD else reason] += 1
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(SHOWN))
    kinds += ", ..." if len(others) > SHOWN else ""
    if not found:
        holds = f", but {kinds}" if kinds else ""
        raise UserError(f"the folder {path} holds no image{holds}: files must end in one of {' '.join(ENDINGS)}.")
    passed = (
        f"{others.total():,} of the files in {path} are passed over ({kinds}): what is read ends in one of "
        f"{' '.join(ENDINGS)}."
    )
    return path, sorted(found), passed if others else ""
