"""Image files: what every kind becomes, and writing them whole or not at all."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from xdomain.errors import UserError
from xdomain.files import whole_file

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, channels: int) -> Tensor:
    """Read an image file, ``uint8`` [channels, H, W].

    ============================  ====================================================================
    8-bit grey or RGB             as it is
    16-bit grey                   divided by 257 and rounded, so that 65535 becomes 255
    16-bit RGB                    its upper 8 bits
    32-bit integers or floats     refused: nothing says which value is white
    transparent (RGBA, LA,        laid over white; in 16-bit grey a transparent value is ignored
    palette, a colour made so)
    palette, black and white,     converted to RGB or grey; colour profiles are ignored
    CMYK, YCbCr
    rotated by its EXIF data      turned upright
    animated, several pages       the first one
    cut off, damaged, empty,      refused
    no image, too many pixels
    ============================  ====================================================================

    RGB becomes grey by the ITU-R 601 luma, grey becomes RGB by repetition.

    Args:
        path: the file.
        channels: 1 for grey, 3 for RGB.

    Raises:
        UserError: for a file that is refused; the sentence names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = _to_8_bit(ImageOps.exif_transpose(file), file.format)
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        pixels = np.array(image.convert(MODES[channels]))
    except FileNotFoundError as error:
        raise UserError(f"the image {path} does not exist.") from error
    except Exception as error:  # decoders raise whatever they stumble over in a damaged file
        raise UserError(f"{path} cannot be read as an image, replace or remove it: {_why(path, error)}.") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def _to_8_bit(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale 16-bit grey, which PIL's own conversion would cut off at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):  # PIL stretches any PGM to 16 bits
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits and no known range, save it with 8 or 16")
    return image


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {Image.MAX_IMAGE_PIXELS} pixels"
    if path.is_dir():
        return "it is a folder"
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    return str(error) or type(error).__name__


def write_image(image: Tensor, path: Path) -> None:
    """Write an image, whole or not at all; the ending of the name chooses the format.

    Args:
        image: ``uint8`` [1, H, W] (grey) or [3, H, W] (RGB).
        path: file to write or replace; missing folders are made.

    Raises:
        UserError: for an unknown ending, or where the file cannot be written.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} ends in none of {' '.join(ENDINGS)}: rename it.")
    pixels = image.permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels)
    content = io.BytesIO()  # first: encoders report a full disk as an error of their own
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], quality=95)  # for JPEG and WebP
    with whole_file(path) as file:
        file.write(content.getbuffer())


def image_files(path: Path) -> tuple[Path, list[Path]]:
    """The image files meant by a path: a folder with all its subfolders, or one file.

    Names that begin with a dot, and what is below them, are left out.

    Returns:
        the folder, and the files in it by sorted names relative to it.

    Raises:
        UserError: if there are none.
    """
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"{path} ends in none of {' '.join(ENDINGS)}: give an image file or a folder of them.")
        return path.parent, [Path(path.name)]
    if not path.is_dir():
        raise UserError(f"the input {path} does not exist: give an image file or a folder of them.")
    names = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    if not (found := sorted(name for name in names if not any(part.startswith(".") for part in name.parts))):
        raise UserError(f"the folder {path} holds no image: files must end in one of {' '.join(ENDINGS)}.")
    return path, found
