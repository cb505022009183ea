import os
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.fakes.folders import write_picture
from xdomain.data import decode
from xdomain.data.decode import Geometry, decode_image, decoded_images
from xdomain.data.images import read_image
from xdomain.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """Nine pictures of 12x10 pixels, as written, by name."""
    folder = tmp_path / "pictures"
    return folder, {f"{i}.png": write_picture(folder / f"{i}.png", i) for i in range(9)}


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, while it lasts."""
    names = []

    def read(path, channels):
        names.append(path.name)
        return read_image(path, channels)

    monkeypatch.setattr(decode, "read_image", read)
    return names


def area_mean(pixels, size):
    """Resizing by a whole factor with the box filter: the mean of every cell."""
    height, width, channels = pixels.shape
    cells = pixels.reshape(size, height // size, size, width // size, channels)
    return cells.mean((1, 3)).transpose(2, 0, 1)


# ---------------------------------------------------------------- geometry


def test_images_come_in_the_order_of_the_names(pictures):
    folder, written = pictures
    names = sorted(written, reverse=True)
    images, good = decoded_images("x", folder, names, 3, Geometry(10, "centre"))
    assert images.shape == (9, 3, 10, 10)
    assert images.dtype == np.uint8
    assert good.all()
    for image, name in zip(images, names, strict=True):  # 10 of 12 columns, the middle ones, not resized
        np.testing.assert_array_equal(image, written[name][:, 1:11].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("box", "part"),
    [
        (None, np.s_[:, :]),
        ((0.0, 0.0, 0.5, 1.0), np.s_[:, :6]),
        ((0.5, 0.0, 1.0, 1.0), np.s_[:, 6:]),
        ((1 / 12, 0.3, 11 / 12, 0.7), np.s_[3:7, 1:11]),
    ],
)
def test_a_box_is_cut_out_to_the_pixel_and_squashed(tmp_path, box, part):
    pixels = write_picture(tmp_path / "x.png", 0)
    image = decode_image(tmp_path / "x.png", 3, Geometry(2, box, "box"))
    np.testing.assert_allclose(image, area_mean(pixels[part], 2), atol=1.0)


def test_a_box_that_rounds_to_nothing_keeps_a_pixel(tmp_path):
    pixels = write_picture(tmp_path / "x.png", 0)
    for share, x, y in ((0.0, 0, 0), (1.0, 11, 9)):
        image = decode_image(tmp_path / "x.png", 3, Geometry(1, (share, share, share, share)))
        np.testing.assert_array_equal(image[:, 0, 0], pixels[y, x])


def test_the_centre_of_a_high_image(tmp_path):
    pixels = write_picture(tmp_path / "x.png", 0, width=4, height=9)
    image = decode_image(tmp_path / "x.png", 3, Geometry(4, "centre"))
    np.testing.assert_array_equal(image, pixels[2:6].transpose(2, 0, 1))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box"])
def test_shrinking_does_not_alias(tmp_path, interpolation):
    board = np.indices((64, 64)).sum(0) % 2 * 255  # a sampler without a wide filter would see black or white
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "x.png")
    image = decode_image(tmp_path / "x.png", 1, Geometry(8, interpolation=interpolation))
    assert image.shape == (1, 8, 8)
    assert np.abs(image.astype(int) - 127.5).max() <= 4


def test_interpolations_differ(tmp_path):
    write_picture(tmp_path / "x.png", 0, 64, 64)
    images = [decode_image(tmp_path / "x.png", 1, Geometry(8, None, name)).tobytes() for name in decode.FILTERS]
    assert len(set(images)) == 4


@pytest.mark.parametrize(("width", "fits"), [(20, True), (21, False), (19, False)])
def test_a_wrong_shape_is_refused(tmp_path, width, fits):
    write_picture(tmp_path / "x.png", 0, width, 10)
    geometry = Geometry(4, aspect=2.0)
    if fits:
        assert decode_image(tmp_path / "x.png", 3, geometry).shape == (3, 4, 4)
    else:
        with pytest.raises(UserError, match=rf"x\.png has {width}x10 pixels, but its width must be 2 times"):
            decode_image(tmp_path / "x.png", 3, geometry)


# ---------------------------------------------------------------- the cache


def test_files_are_decoded_once(pictures, reads):
    folder, written = pictures
    first, _ = decoded_images("x", folder, list(written), 3, Geometry(8))
    again, _ = decoded_images("x", folder, list(written), 3, Geometry(8))
    assert sorted(reads) == sorted(written)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    np.testing.assert_array_equal(first, again)


def test_changes_are_seen(pictures, reads):
    folder, written = pictures
    names = list(written)
    seen = [decoded_images("x", folder, names, 3, Geometry(8))[0]]
    for channels, geometry in ((1, Geometry(8)), (3, Geometry(8, "centre")), (3, Geometry(8, None, "box"))):
        seen.append(decoded_images("x", folder, names, channels, geometry)[0])
    seen.append(decoded_images("x", folder, names[::-1], 3, Geometry(8))[0])
    path = folder / "3.png"
    status = path.stat()
    write_picture(path, 100)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # what is written within the clock's tick counts
    seen.append(decoded_images("x", folder, names, 3, Geometry(8))[0])
    assert len(reads) == len(seen) * 9
    assert len({image.tobytes() for image in seen}) == len(seen)


def test_folders_of_the_same_names_are_kept_apart(pictures, tmp_path):
    folder, _ = pictures
    os.utime(folder / "0.png", ns=(0, 0))
    other = tmp_path / "other"
    other.mkdir()
    content = (folder / "0.png").read_bytes()
    (other / "0.png").write_bytes(content[::-1])
    os.utime(other / "0.png", ns=(0, 0))
    decoded_images("x", folder, ["0.png"], 3, Geometry(8))
    with pytest.raises(UserError, match=r"other/0\.png"):
        decoded_images("x", other, ["0.png"], 3, Geometry(8))


# ---------------------------------------------------------------- bad files


@pytest.fixture
def damaged(pictures):
    folder, written = pictures
    (folder / "2.png").write_bytes(b"")
    (folder / "5.png").unlink()
    write_picture(folder / "7.png", 7, 13, 10)
    return folder, written, Geometry(10, "centre", aspect=1.2)


def test_the_first_bad_file_is_named(damaged):
    folder, written, geometry = damaged
    with pytest.raises(UserError, match=r"pictures/2\.png cannot be read .*it is empty"):
        decoded_images("x", folder, list(written), 3, geometry)


def test_bad_files_are_skipped_with_a_warning(damaged, monkeypatch):
    folder, written, geometry = damaged
    text = (
        r"3 of the 9 images in .*pictures cannot be used and are left out: 2\.png, 5\.png, 7\.png; `xdomain data check`"
    )
    for _ in range(2):  # the second time nothing is decoded
        with pytest.warns(UserWarning, match=text):
            images, good = decoded_images("x", folder, list(written), 3, geometry, "skip")
    assert np.flatnonzero(~good).tolist() == [2, 5, 7]
    for i, name in enumerate(written):
        expected = written[name][:, 1:11].transpose(2, 0, 1) if good[i] else 0
        np.testing.assert_array_equal(images[i], np.broadcast_to(expected, (3, 10, 10)))
    with pytest.raises(UserError, match=r"2\.png"):  # what was skipped before is not passed on
        decoded_images("x", folder, list(written), 3, geometry)
    monkeypatch.setattr(decode, "SHOWN", 1)
    with pytest.warns(UserWarning, match=r"left out: 2\.png and 2 more;"):
        decoded_images("x", folder, list(written), 3, geometry, "skip")


@pytest.mark.parametrize("failure", [MemoryError(), OSError(24, "Too many open files")])
def test_what_fails_for_a_passing_reason_is_not_kept_as_bad(pictures, monkeypatch, failure):
    folder, written = pictures

    def fail(path, channels):
        if path.name != "3.png":
            return read_image(path, channels)
        if isinstance(failure, MemoryError):
            raise failure
        raise UserError("x") from failure

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_image", fail)
        with pytest.raises((MemoryError, UserError)):
            decoded_images("x", folder, list(written), 3, Geometry(8), "skip")
    assert decoded_images("x", folder, list(written), 3, Geometry(8), "skip")[1].all()


def test_a_decompression_bomb_is_refused_while_another_thread_is_done(pictures, monkeypatch):
    """The reader's warning filter is the process's: the thread that leaves it first must not undo the other's."""
    folder, _ = pictures
    write_picture(folder / "1.png", 1, 15, 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 130)  # PIL only warns up to twice as many
    first_inside, second_inside, first_done = (threading.Event() for _ in range(3))
    filters = list(warnings.filters)

    def read(path, channels):
        if path.name == "1.png":
            assert first_inside.wait(10)
        try:
            return read_image(path, channels)
        finally:
            first_done.set()

    def opened(path, **options):
        if path.name == "0.png":
            first_inside.set()
            assert second_inside.wait(10)
        else:
            second_inside.set()
            assert first_done.wait(10)
        return pil_open(path, **options)

    pil_open = Image.open
    monkeypatch.setattr(decode, "read_image", read)
    monkeypatch.setattr(Image, "open", opened)
    with pytest.warns(UserWarning, match="1 of the 2"):
        _, good = decoded_images("x", folder, ["0.png", "1.png"], 3, Geometry(8), "skip")
    assert good.tolist() == [True, False]
    assert list(warnings.filters) == filters
