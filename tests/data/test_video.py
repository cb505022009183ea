"""Videos come back frame by frame from every kind of file, are written whole or not at all, and are served as clips."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes.damage import FullDisk
from tests.fakes.videos import FORMATS, gif_frame, moving_square, turn_mp4, write_gif, write_sound, write_stream
from xdomain.data import video as module
from xdomain.data.images import read_image, write_image
from xdomain.data.single import shrink
from xdomain.data.video import ClipAndImage, SingleVideo, read_video, write_video
from xdomain.engines.clips import KINDS, render_clip
from xdomain.errors import UserError

WHITE, RED, GREEN, BLUE = [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def frames_first(video):
    return torch.from_numpy(video).permute(0, 3, 1, 2)


def difference(video, expected):
    """Mean absolute difference of two videos [T, 3, H, W] of equal shape, for the worst frame."""
    assert video.shape == expected.shape
    assert video.dtype == torch.uint8
    return (video.float() - expected.float()).abs().mean((1, 2, 3)).max().item()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A video of 20 frames in every format."""
    folder = tmp_path_factory.mktemp("videos")
    for ending in FORMATS:
        write_stream(folder / f"x{ending}", moving_square(20))
    return folder


@pytest.fixture
def folder(tmp_path):
    """Twelve lossless frames, 1.png to 12.png."""
    path, video = tmp_path / "frames", noise(12, 3, 16, 20)
    for number, image in enumerate(video, start=1):
        write_image(image, path / f"{number}.png")
    return path, video


# ---------------------------------------------------------------- streams


@pytest.mark.parametrize("ending", FORMATS)
def test_streams(files, ending):
    expected = frames_first(moving_square(20))
    assert (expected[1:].float() - expected[:-1].float()).abs().mean((1, 2, 3)).min() > 20  # what a frame off would be
    assert difference(read_video(files / f"x{ending}"), expected) < 5
    assert difference(read_video(files / f"x{ending}", 3, 4, 5), expected[3::5]) < 5


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_stream_is_turned_and_mirrored_as_it_is_to_be_shown(files, tmp_path, matrix, turned):
    a, b, c, d = matrix
    if turned:  # the directions of columns and rows change places
        a, b, c, d = b, a, d, c
    path = Path(shutil.copy(files / "x.mp4", tmp_path))
    turn_mp4(path, a, b, c, d)
    stored = frames_first(moving_square(20))
    q, p = torch.meshgrid(torch.arange(stored.shape[2]), torch.arange(stored.shape[3]), indexing="ij")
    column, row = a * p + c * q, b * p + d * q
    column, row = column - column.min(), row - row.min()
    expected = torch.empty(20, 3, int(row.max()) + 1, int(column.max()) + 1, dtype=torch.uint8)
    expected[:, :, row, column] = stored
    assert difference(read_video(path), expected) < 5


def test_frames_are_shrunk_while_reading(files):
    small = read_video(files / "x.mkv", size=24)
    assert small.shape == (20, 3, 16, 24)
    assert torch.equal(small, shrink(read_video(files / "x.mkv"), 24))
    assert read_video(files / "x.mkv", frames=2, size=100).shape == (2, 3, 32, 48)


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_streams(files, tmp_path, ending):
    good = (files / f"x{ending}").read_bytes()
    path = tmp_path / f"x{ending}"
    for bad in (b"", b"hello" * 50, good[:100], good[:400]):
        path.write_bytes(bad)
        with pytest.raises(
            UserError, match=rf"^{path} (cannot be read as a video, replace it: [^\n]+|has no video stream: .+)\.$"
        ):
            read_video(path)


@pytest.mark.parametrize("ending", [".mp4", ".avi"])
def test_a_stream_cut_off_near_its_end(files, tmp_path, ending):
    good = (files / f"x{ending}").read_bytes()
    path = tmp_path / f"x{ending}"
    path.write_bytes(good[: len(good) * 9 // 10])
    with pytest.raises(UserError, match="cannot be read as a video, replace it: "):
        read_video(path)


@pytest.mark.parametrize("ending", [".mkv", ".webm"])
def test_a_stream_of_unknown_length_ends_where_it_is_cut(files, tmp_path, ending):
    good = (files / f"x{ending}").read_bytes()
    (tmp_path / f"x{ending}").write_bytes(good[: len(good) * 9 // 10])
    video = read_video(tmp_path / f"x{ending}")
    assert 2 <= len(video) < 20
    whole = read_video(files / f"x{ending}")[: len(video)].float()
    assert (video.float() - whole).abs().mean() < 2  # the frame at the cut may lack a part of its bits


def test_sound_without_a_picture(tmp_path):
    write_sound(tmp_path / "x.wav")
    with pytest.raises(UserError, match=r"x\.wav has no video stream: give a video file or a folder of frames"):
        read_video(tmp_path / "x.wav")


# ---------------------------------------------------------------- animations


def pixels(video):
    """Frames as nested lists [T][H][W] of colours."""
    return video.permute(0, 2, 3, 1).tolist()


def test_frames_of_a_gif_are_laid_over_each_other(tmp_path):
    palette = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    write_gif(
        tmp_path / "x.gif",
        (2, 3),
        palette,
        [
            gif_frame(np.array([[0, 0, 0], [0, 0, 3]]), 0, 0, transparent=3, disposal=1),
            gif_frame(np.array([[1, 3]]), 1, 0, transparent=3, disposal=2),
            gif_frame(np.array([[2]]), 0, 1, transparent=None, disposal=1),
        ],
    )
    first, second, third = pixels(read_video(tmp_path / "x.gif"))
    assert first == [[RED, RED, RED], [RED, RED, WHITE]]
    assert second == [[RED, GREEN, RED], [RED, RED, WHITE]]
    assert third == [[RED, WHITE, WHITE], [BLUE, RED, WHITE]]  # the rectangle of the second was cleared


def test_a_lossless_webp(tmp_path):
    video = moving_square(5)
    first, *others = map(Image.fromarray, video)
    first.save(tmp_path / "x.webp", save_all=True, append_images=others, lossless=True)
    assert torch.equal(read_video(tmp_path / "x.webp", 1, 2, 2), frames_first(video)[[1, 3]])


def test_damaged_animations(tmp_path):
    path = tmp_path / "x.gif"
    write_gif(path, (8, 8), [(0, 0, 0)] * 4, [gif_frame(np.full((8, 8), i % 4), 0, 0, None, 1) for i in range(3)])
    assert len(read_video(path)) == 3
    good = path.read_bytes()
    for bad in (b"", b"hello", good[:40], good[:-20]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"x\.gif cannot be read as a video, replace it: .+\.$"):
            read_video(path)


# ---------------------------------------------------------------- folders


def test_a_folder_in_the_order_of_numbers(folder):
    path, video = folder
    (path / "notes.txt").write_text("")
    (path / "sub").mkdir()
    write_image(video[0], path / "sub" / "0.png")
    write_image(video[0], path / "hidden.png")
    (path / "hidden.png").rename(path / ".0.png")
    assert torch.equal(read_video(path), video)
    assert torch.equal(read_video(path, 2, 3, 4), video[[2, 6, 10]])


def test_names_of_frames(tmp_path):
    order = ["a1b2.png", "a1b10.png", "a02b1.png", "a²1.png", "b1.png"]
    video = noise(5, 3, 4, 4)
    for name, image in zip(order, video, strict=True):
        write_image(image, tmp_path / "x" / name)
    assert torch.equal(read_video(tmp_path / "x"), video)


def test_wrong_folders(folder, tmp_path):
    path, video = folder
    write_image(video[0, :, :10], path / "8.png")
    with pytest.raises(UserError, match=r"the frames of .*frames differ in size: frame 7 has 10x20 pixels, make all"):
        read_video(path)
    write_image(shrink(video[:1], 10)[0], path / "8.png")
    with pytest.raises(UserError, match="differ in size: frame 7 has 8x10 pixels"):
        read_video(path, size=10)  # they would be of one size after shrinking
    (path / "8.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"8\.png cannot be read as an image"):
        read_video(path)
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    write_image(video[0], tmp_path / "empty" / "sub" / "1.png")
    with pytest.raises(UserError, match=r"the folder .*empty holds no frames: files must end in one of \.avif \.bmp"):
        read_video(tmp_path / "empty")


# ---------------------------------------------------------------- what is missing or too short


def test_missing_files():
    with pytest.raises(UserError, match=r"the video absent\.mp4 does not exist: give a video file or a folder"):
        read_video(Path("absent.mp4"))


def test_one_frame_is_no_video(tmp_path, folder):
    path, video = folder
    write_stream(tmp_path / "x.mp4", moving_square(1))
    write_image(video[0], tmp_path / "one" / "1.png")
    write_image(video[0], tmp_path / "x.gif")
    for one in (tmp_path / "x.mp4", tmp_path / "x.gif", path / "1.png", tmp_path / "one"):
        with pytest.raises(UserError, match=f"{one} holds one frame only: give a video"):
            read_video(one)


def test_a_start_beyond_the_end(folder):
    path, video = folder
    assert torch.equal(read_video(path, start=11), video[11:])
    with pytest.raises(UserError, match=r"frames holds 12 frames, counted from 0: start 12 is beyond the last\."):
        read_video(path, start=12)


def test_too_few_frames(folder):
    path, _ = folder
    assert len(read_video(path, 1, 6, 2)) == 6
    with pytest.raises(
        UserError, match="holds 12 frames, which gives 5 of the 6 wanted from start 2 with stride 2: make one of the"
    ):
        read_video(path, 2, 6, 2)


@pytest.mark.parametrize(("option", "value", "least"), [("start", -1, 0), ("stride", 0, 1), ("frames", 0, 1)])
def test_wrong_windows(folder, option, value, least):
    with pytest.raises(UserError, match=f"{option} of the video .* is {value}: give at least {least}"):
        read_video(folder[0], **{option: value})


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("with_x264", [True, False])
def test_written_mp4(tmp_path, monkeypatch, with_x264):
    if not with_x264:
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    video = frames_first(moving_square(10))
    write_video(video, tmp_path / "new" / "x.mp4", fps=12.5)
    assert difference(read_video(tmp_path / "new" / "x.mp4"), video) < 5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.mp4"]
    with av.open(str(tmp_path / "new" / "x.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == ("h264" if with_x264 else "mpeg4")
        assert (stream.average_rate, stream.frames, stream.pix_fmt) == (12.5, 10, "yuv420p")


@pytest.mark.parametrize(("height", "width"), [(31, 48), (32, 47), (31, 47)])
def test_odd_sides_of_an_mp4_repeat_their_border(tmp_path, height, width):
    video = frames_first(moving_square(5, height, width))
    write_video(video, tmp_path / "x.mp4")
    back = read_video(tmp_path / "x.mp4")
    assert difference(back[..., :height, :width], video) < 5
    assert back.shape[2:] == (height + height % 2, width + width % 2)
    padded = torch.nn.functional.pad(video.float(), (0, width % 2, 0, height % 2), mode="replicate")
    assert difference(back, padded) < 5


def test_written_gif(tmp_path):
    video = frames_first(moving_square(6))
    write_video(video, tmp_path / "x.gif", fps=20)
    assert difference(read_video(tmp_path / "x.gif"), video) < 2
    with Image.open(tmp_path / "x.gif") as file:
        assert (file.n_frames, file.info["duration"], file.info["loop"]) == (6, 50, 0)


def test_written_folder(tmp_path):
    video = noise(12, 3, 5, 7)
    write_video(video, tmp_path / "x")
    assert torch.equal(read_video(tmp_path / "x"), video)
    assert torch.equal(read_image(tmp_path / "x" / "00011.png", 3), video[11])
    (tmp_path / "empty").mkdir()
    write_video(video, tmp_path / "empty")
    assert torch.equal(read_video(tmp_path / "empty"), video)


def test_a_folder_with_something_in_it_stays(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"the folder .*x holds mine.txt, which is no frame"):
        write_video(noise(2, 3, 4, 4), tmp_path / "x")
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "mine.txt"]


def test_frames_are_replaced(tmp_path):
    for count in (5, 2):
        write_video(noise(count, 3, 4, 4), tmp_path / "x")
    assert len(list((tmp_path / "x").iterdir())) == 2


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x"])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, name):
    if name != "x":
        (tmp_path / name).write_bytes(b"old")
        monkeypatch.setattr("xdomain.files.os.fdopen", lambda descriptor, mode: FullDisk(descriptor, mode))
    else:
        written = []

        def fail_later(image, path):
            if written:
                raise OSError(28, "No space left on device")
            written.append(write_image(image, path))

        monkeypatch.setattr(module, "write_image", fail_later)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=rf"{name} cannot be written: No space left on device\."):
        write_video(noise(3, 3, 16, 16), tmp_path / name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_places_and_names_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file/x.mp4", "file/x.gif", "file/x"):
        with pytest.raises(UserError, match="cannot be written: "):
            write_video(noise(2, 3, 4, 4), tmp_path / name)
    with pytest.raises(UserError, match=r"x\.avi must end in \.mp4 or \.gif, or in nothing"):
        write_video(noise(2, 3, 4, 4), tmp_path / "x.avi")


@pytest.mark.parametrize("video", [noise(3, 4, 4), noise(2, 1, 4, 4), noise(0, 3, 4, 4), torch.zeros(2, 3, 4, 4)])
def test_only_rgb_bytes_are_written(tmp_path, video):
    with pytest.raises(ValueError, match=r"a video is uint8 \[T, 3, H, W\], not"):
        write_video(video, tmp_path / "x.gif")


def test_frame_rates_are_positive(tmp_path):
    with pytest.raises(ValueError, match="the frame rate is 0"):
        write_video(noise(2, 3, 4, 4), tmp_path / "x.gif", fps=0)


# ---------------------------------------------------------------- one clip as data


def test_a_clip_from_a_folder(folder):
    path, video = folder
    data = SingleVideo(str(path), start=1, frames=5, stride=2, steps_per_epoch=4)
    assert torch.equal(data.clip(), video[1:10:2])
    assert (data.shapes, data.image_size) == (((5, 16, 20),), 20)
    assert (data.domains, data.channels) == (("video",), (3,))
    batches = [batch["a"] for batch, *_ in data.train_dataloader()]
    assert len(batches) == 4
    for batch in batches:
        assert torch.equal(batch.image, video[1:10:2].transpose(0, 1)[None])  # [1, 3, T, H, W]
    for split in ("val", "test"):
        assert data.data("a", split).images.shape == (1, 3, 5, 16, 20)
    transferred = data.on_after_batch_transfer({"a": batches[0]}, 0)["a"].image
    torch.testing.assert_close(transferred, batches[0].image / 127.5 - 1)


def test_a_clip_is_shrunk(files):
    data = SingleVideo(str(files / "x.mp4"), max_size=24)
    assert data.shapes == ((13, 16, 24),)
    assert torch.equal(data.clip(), read_video(files / "x.mp4", frames=13, size=24))


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_clips(kind):
    data = SingleVideo(f"engine:{kind}", max_size=40, start=1, frames=2, stride=2, world_seed=1)
    assert data.shapes == ((2, 22, 40),)
    assert torch.equal(data.clip(), render_clip(kind, 4, 22, 40, 1)[1::2])
    assert not torch.equal(data.clip(), SingleVideo(f"engine:{kind}", 40, 1, 2, 2).clip())


def test_wrong_clips(folder, tmp_path):
    path, _ = folder
    with pytest.raises(UserError, match=r"engine:watr is none of the clips that are drawn: did you mean water\?"):
        SingleVideo("engine:watr")
    with pytest.raises(UserError, match=r"engine:xyz is none of .*: choose from water fire balloons\."):
        SingleVideo("engine:xyz")
    with pytest.raises(UserError, match="start of the video engine:fire is -1: give at least 0"):
        SingleVideo("engine:fire", start=-1)
    with pytest.raises(UserError, match="frames is 1: give at least 2"):
        SingleVideo(str(path), frames=1)
    with pytest.raises(UserError, match="gives 12 of the 13 wanted"):
        SingleVideo(str(path))
    with pytest.raises(UserError, match=r"frames with 16x20 pixels becomes 8x10 at max_size 10: both sides"):
        SingleVideo(str(path), frames=5, max_size=10)
    write_video(torch.full((3, 3, 16, 16), 7, dtype=torch.uint8), tmp_path / "dark")
    with pytest.raises(UserError, match="dark is of one colour"):
        SingleVideo(str(tmp_path / "dark"), frames=3)


# ---------------------------------------------------------------- a clip and an image


def test_a_clip_beside_an_image(folder, tmp_path):
    path, video = folder
    write_image(noise(3, 30, 24), tmp_path / "still.png")
    data = ClipAndImage(str(path), str(tmp_path / "still.png"), frames=3, start=2, stride=4, max_size=24)
    assert data.domains == ("frames", "still")
    assert data.channels == (3, 3)
    assert data.shapes == ((3, 16, 20), (24, 20))
    assert data.image_size == 24
    batch, _, _ = next(iter(data.train_dataloader()))
    assert torch.equal(batch["a"].image, video[2::4][:3].transpose(0, 1)[None])
    assert batch["b"].image.shape == (1, 3, 24, 20)
    assert ClipAndImage("engine:fire", "scikit-image:coffee", frames=2, max_size=32).domains == ("fire", "coffee")
    write_image(noise(3, 30, 24), tmp_path / "frames.png")
    with pytest.raises(UserError, match="both sides of the pair are called frames"):
        ClipAndImage(str(path), str(tmp_path / "frames.png"), frames=2)
    with pytest.raises(UserError, match="frames is 1: give at least 2"):
        ClipAndImage(str(path), str(tmp_path / "still.png"), frames=1)
