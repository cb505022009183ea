import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import EpsImagePlugin, Image
from PIL.PngImagePlugin import PngInfo

from tests.fakes.damage import FullDisk
from xdomain.data.images import image_files, read_image, write_image
from xdomain.errors import UserError
from xdomain.pixels import ENDINGS

SIXTEEN_BITS = np.array([[0, 257, 65535, 32768, 300]], dtype=np.uint16)
SCALED = [0, 1, 255, 128, 1]
WHITE, RED = [255, 255, 255], [255, 0, 0]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


def pixel(path, x=0, y=0, channels=3):
    return read_image(path, channels)[:, y, x].tolist()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_rgb16(path, pixels):
    """An RGB PNG of 16 bits, which PIL reads but cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


# ---------------------------------------------------------------- kinds of files


def test_8_bit_images_come_back_exactly(tmp_path):
    rgb, grey = noise(5, 7, 3), noise(5, 7)
    path = save(tmp_path / "rgb.png", Image.fromarray(rgb))
    image = read_image(path, 3)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    np.testing.assert_array_equal(image.permute(1, 2, 0), rgb)
    path = save(tmp_path / "grey.png", Image.fromarray(grey))
    np.testing.assert_array_equal(read_image(path, 1)[0], grey)


def test_channels_are_converted(tmp_path):
    rgb = save(tmp_path / "rgb.png", Image.new("RGB", (2, 2), (200, 100, 50)))
    assert pixel(rgb, channels=1) == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]
    assert pixel(save(tmp_path / "grey.png", Image.new("L", (2, 2), 77))) == [77, 77, 77]


@pytest.mark.parametrize("name", ["x.png", "x.tif", "big_endian.tif", "x.pgm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_is_scaled_not_cut_off(tmp_path, name, channels):
    path, big_endian = tmp_path / name, SIXTEEN_BITS.astype(">u2").tobytes()
    if name == "x.pgm":
        path.write_bytes(b"P5 5 1 65535\n" + big_endian)
    elif name == "big_endian.tif":
        save(path, Image.frombytes("I;16B", (5, 1), big_endian))
    else:
        save(path, Image.fromarray(SIXTEEN_BITS))
    assert read_image(path, channels)[:, 0].tolist() == [SCALED] * channels


def test_16_bit_rgb_keeps_the_upper_bits(tmp_path):
    path = write_rgb16(tmp_path / "x.png", np.array([[[0, 257, 65535], [32768, 256, 65279]]]))
    assert [pixel(path, 0), pixel(path, 1)] == [[0, 1, 255], [128, 1, 254]]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path, kind):
    path = save(tmp_path / "x.tif", Image.fromarray(np.ones((2, 2), dtype=kind)))
    with pytest.raises(UserError, match=r"x\.tif .*32 bits"):
        read_image(path, 1)


@pytest.mark.parametrize("depth", [8, 16])
def test_planes_that_stand_apart(tmp_path, depth):
    pixels = noise(3, 4, 5).astype(f"u{depth // 8}")
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", planarconfig="separate")
    if depth == 8:
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif", 3), pixels)
    else:
        with pytest.raises(UserError, match=r"x\.tif .*16 bits stand one after the other, save it"):
            read_image(tmp_path / "x.tif", 3)


def test_transparency_is_laid_over_white(tmp_path):
    half_red = save(tmp_path / "rgba.png", Image.new("RGBA", (1, 1), (255, 0, 0, 128)))
    assert pixel(half_red) == [255, 127, 127]
    assert pixel(save(tmp_path / "la.png", Image.new("LA", (1, 1), (0, 64)))) == [191] * 3
    assert pixel(tmp_path / "la.png", channels=1) == [191]
    keyed = save(tmp_path / "key.png", Image.new("RGB", (1, 1), (9, 8, 7)), transparency=(9, 8, 7))
    assert pixel(keyed) == WHITE
    keyed_grey = save(tmp_path / "grey.png", Image.new("L", (1, 1), 9), transparency=9)
    assert pixel(keyed_grey, channels=1) == [255]


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palette(tmp_path, ending):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    opaque = save(tmp_path / f"opaque.{ending}", image)
    assert [pixel(opaque, 0), pixel(opaque, 1)] == [RED, [0, 255, 0]]
    hole = save(tmp_path / f"hole.{ending}", image, transparency=1)
    assert [pixel(hole, 0), pixel(hole, 1)] == [RED, WHITE]


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk(tmp_path, ending):
    path = save(tmp_path / f"x.{ending}", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    assert pixel(path) == RED


def test_black_and_white(tmp_path):
    assert pixel(save(tmp_path / "x.png", Image.new("1", (1, 1), 1)), channels=1) == [255]


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_exif_rotation_is_applied(tmp_path, ending):
    pixels = noise(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"x.{ending}", Image.fromarray(pixels), exif=exif, **options)
    np.testing.assert_array_equal(read_image(path, 3).permute(1, 2, 0), np.rot90(pixels, -1))


ROTATED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))  # to be turned by 90 degrees clockwise


def exif_of(*entries):
    """EXIF data out of tags with their types, counts and four bytes of value, right or wrong."""
    packed = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)


BROKEN = {
    "bytes for a fraction": exif_of(ROTATED, (282, 7, 4, b"abcd")),
    "text for a width": exif_of((256, 2, 3, b"ab\0\0"), (259, 2, 2, b"a\0\0\0"), ROTATED),
    "beyond the end": exif_of(ROTATED, (271, 2, 100, b"\xff\xff\xff\x0f")),
    "an unknown type": exif_of(ROTATED, (271, 99, 1, b"abcd")),
}


@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_metadata_do_not_keep_an_image_from_being_turned(tmp_path, ending, kind):
    pixels = np.kron(noise(2, 3), np.ones((8, 8), np.uint8))
    path = save(tmp_path / f"x{ending}", Image.fromarray(pixels), exif=BROKEN[kind], quality=100, lossless=True)
    np.testing.assert_allclose(read_image(path, 1)[0], np.rot90(pixels, -1), atol=5)


def test_where_nothing_says_how_to_turn_an_image_its_pixels_are_taken(tmp_path):
    pixels, info = noise(2, 3, 3), PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n    8\nno hexadecimal numbers\n")
    path = save(tmp_path / "x.png", Image.fromarray(pixels), pnginfo=info)
    np.testing.assert_array_equal(read_image(path, 3).permute(1, 2, 0), pixels)


def test_no_exif_data_keep_an_image_from_being_read(tmp_path):
    whole, rng = BROKEN["bytes for a fraction"], np.random.default_rng(0)
    for _ in range(100):
        broken = np.frombuffer(whole, dtype=np.uint8).copy()
        broken[rng.integers(6, len(broken), 3)] = rng.integers(0, 256, 3)
        path = save(tmp_path / "x.jpg", Image.fromarray(noise(8, 8)), exif=broken.tobytes())
        assert read_image(path, 1).shape == (1, 8, 8)


def test_16_bit_grey_of_which_0_is_white(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", SIXTEEN_BITS, photometric="miniswhite")
    assert read_image(tmp_path / "x.tif", 1)[0, 0].tolist() == [255 - value for value in SCALED]


def test_first_frame_of_an_animation(tmp_path):
    second = Image.new("RGB", (2, 2), (0, 0, 255))
    path = save(tmp_path / "x.gif", Image.new("RGB", (2, 2), "red"), save_all=True, append_images=[second])
    assert pixel(path) == RED


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_file_is_refused(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    write_image(torch.from_numpy(noise(3, 64, 64)), path)
    assert read_image(path, 3).shape == (3, 64, 64)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"x\{ending} cannot be read as an image"):
        read_image(path, 3)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "it is empty"), (b"hello", "no known image format"), (b"\x89PNG\r\n\x1a\n", "image")]
)
def test_what_is_no_image_is_refused(tmp_path, content, reason):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.png .*{reason}"):
        read_image(tmp_path / "x.png", 3)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"absent\.png does not exist"):
        read_image(tmp_path / "absent.png", 3)
    with pytest.raises(UserError, match="cannot be read as an image"):
        read_image(tmp_path, 3)


@pytest.mark.parametrize("limit", [80, 40])  # PIL only warns up to twice its limit
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "x.png", Image.new("L", (10, 10)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UserError, match=rf"x\.png .*more than {limit} pixels"):
        read_image(path, 1)


def test_no_program_is_started_for_a_file_of_another_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("it was"))
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="no known image format"):
        read_image(tmp_path / "x.png", 3)


def test_pipes_and_devices_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(UserError, match=rf"{name} .*it is no regular file"):
            read_image(tmp_path / name, 3)
        with pytest.raises(UserError, match=rf"{name} .*no regular file"):
            image_files(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name} is a device, pipe or socket, and not replaced"):
            write_image(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / name)


def test_a_lack_of_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError

    path = save(tmp_path / "x.png", Image.new("L", (2, 2)))
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        read_image(path, 3)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["deep/er/x.png", "x.PNG", "x.bmp", "x.tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_written_images_come_back(tmp_path, name, channels):
    image = torch.from_numpy(noise(channels, 4, 6))
    write_image(image, tmp_path / name)
    assert torch.equal(read_image(tmp_path / name, channels), image)
    with Image.open(tmp_path / name) as file:
        assert file.mode == {1: "L", 3: "RGB"}[channels]
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    monkeypatch.setattr("xdomain.files.os.fdopen", lambda descriptor, mode: FullDisk(descriptor, mode))
    with pytest.raises(UserError, match=r"x\.png cannot be written: No space left on device\."):
        write_image(torch.zeros(3, 2, 2, dtype=torch.uint8), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_and_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_image(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / "file" / "x.png")
    with pytest.raises(UserError, match=r"x\.xyz ends in none of"):
        write_image(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / "x.xyz")


# ---------------------------------------------------------------- folders


def test_a_folder_is_listed_with_its_subfolders(tmp_path):
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/notes.txt", ".hidden.png", ".cache/d.png", "sub/.e/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    with pytest.warns(UserWarning, match=r"1 of the files in .* are passed over \(1 \.txt\): what is read ends in"):
        assert image_files(tmp_path) == (tmp_path, [Path("a.JPG"), Path("b.png"), Path("sub/c.png")])


def test_links_are_followed_but_not_in_circles(tmp_path):
    for name in ("in/a.png", "in/sub/b.png", "out/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "sub" / "up").symlink_to("..")
    (tmp_path / "in" / "self").symlink_to("self")
    (tmp_path / "in" / "d.png").symlink_to("nothing")
    (tmp_path / "in" / "e.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "in" / "f.png")
    with pytest.warns(
        UserWarning, match=r"passed over \(2 no regular files, 2 links back to a folder .*, 1 without an e"
    ):
        found = image_files(tmp_path / "in")[1]
    assert found == [Path(name) for name in ("a.png", "d.png", "linked/c.png", "sub/b.png")]


def test_a_folder_below_a_hidden_one_is_listed(tmp_path):
    folder = tmp_path / ".data"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    assert image_files(folder) == (folder, [Path("a.png")])


def test_one_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert image_files(tmp_path / "a.png") == (tmp_path, [Path("a.png")])


def test_nothing_to_list(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path, reason in {
        "": r"holds no image, but 1 \.txt: files must end",
        "absent": "does not exist",
        "notes.txt": "ends in none of",
    }.items():
        with pytest.raises(UserError, match=reason):
            image_files(tmp_path / path)
