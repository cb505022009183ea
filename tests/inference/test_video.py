"""Videos through a method: pixels, times, sound, formats, and what is refused."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch import nn

from tests.fakes.videos import moving_square, write_sound, write_stream
from xdomain.commands.main import main
from xdomain.data.video import read_video
from xdomain.errors import UserError
from xdomain.inference import loading
from xdomain.inference.video import is_video, translate_video
from xdomain.methods import Method
from xdomain.metrics.flicker import Flicker


class Negative(Method):
    """Turns 16x16 images into their negatives, and notes how many it has seen at once."""

    def __init__(self, channels=(3, 3)):
        super().__init__(("day", "night"), channels, 16)
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    directions = (("day", "night"), ("night", "day"))

    def build_optimizers(self):
        return {}

    def translate(self, images, source, target):
        assert images.shape[1:] == (self.channels[self.domains.index(source)], 16, 16)
        self.seen.append(len(images))
        return -images


def write_clip(path, size=(16, 16), frames=10, rate=12, times=None, sound="aac"):
    """A video of flat frames, brighter and brighter, with a tone."""
    kind = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=kind) as container:
        video = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "4"})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream(sound, rate=48000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 20 * number, np.uint8), format="rgb24")
            if times is not None:
                video.codec_context.time_base = frame.time_base = Fraction(1, 1000)
                frame.pts = times[number]
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for number in range(40 if audio else 0):
            wave = np.sin(np.arange(1024) * 0.05 + number).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.rate, frame.pts = 48000, 1024 * number
            container.mux(audio.encode(frame))
        if audio:
            container.mux(audio.encode())


def facts(path):
    """Times of the frames in seconds, the rate, and the bytes of the sound."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        times, sound = [], []
        for packet in container.demux():
            if packet.stream.type == "audio":
                sound.append(bytes(packet))
            else:
                times += [float(frame.time) for frame in packet.decode()]
    return times, rate, sound


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_pixels_times_and_sound(ending, tmp_path):
    write_clip(tmp_path / f"in{ending}")
    method = Negative()
    assert translate_video(method, tmp_path / f"in{ending}", tmp_path / f"new/out{ending}", batch_size=4) == 10
    assert method.seen == [4, 4, 2]
    before, after = (facts(tmp_path / name) for name in (f"in{ending}", f"new/out{ending}"))
    assert after[0] == pytest.approx(before[0], abs=2e-3)
    assert after[1] == before[1] == 12
    assert after[2] == before[2]
    assert len(after[2]) > 30
    pixels = read_video(tmp_path / f"new/out{ending}").float()
    wanted = 255 - 20 * torch.arange(10.0)
    assert (pixels.mean((1, 2, 3)) - wanted).abs().max() < 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"out{ending}"]


def test_frames_at_odd_times_keep_them(tmp_path):
    times = [0, 40, 80, 200, 220, 500, 540, 580, 700, 1000]
    write_clip(tmp_path / "in.mkv", times=times, sound=None)
    translate_video(Negative(), tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert facts(tmp_path / "out.mkv")[0] == pytest.approx([time / 1000 for time in times], abs=2e-3)


@pytest.mark.parametrize(("size", "wanted"), [("keep", (32, 48)), ("model", (16, 16))])
def test_sizes(size, wanted, tmp_path):
    write_stream(tmp_path / "in.avi", moving_square(5))
    assert translate_video(Negative(), tmp_path / "in.avi", tmp_path / "folder", size=size) == 5
    assert read_video(tmp_path / "folder/in.mp4").shape == (5, 3, *wanted)


def test_grey_domains(tmp_path):
    write_stream(tmp_path / "in.mp4", moving_square(5))
    translate_video(Negative((1, 3)), tmp_path / "in.mp4", tmp_path / "out.mp4")
    pixels = read_video(tmp_path / "out.mp4").float()
    assert (pixels - pixels.mean(1, keepdim=True)).abs().mean() < 4


def test_the_given_direction(tmp_path):
    write_stream(tmp_path / "in.mp4", moving_square(3))
    translate_video(Negative((1, 3)), tmp_path / "in.mp4", tmp_path / "out.mp4", source="night", target="day")
    with pytest.raises(UserError, match="which is no domain of this Negative"):
        translate_video(Negative(), tmp_path / "in.mp4", tmp_path / "other.mp4", target="noon")


def test_what_is_refused_leaves_nothing(tmp_path):
    write_stream(tmp_path / "in.mp4", moving_square(3))
    write_sound(tmp_path / "sound.avi")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "there.mp4").write_text("old")
    cut = (tmp_path / "in.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    before = sorted(path.name for path in tmp_path.iterdir())
    for name, output, said in (
        ("nobody.mp4", "out.mp4", "which does not exist: give a video file"),
        ("text.mp4", "out.mp4", "text.mp4 cannot be turned into"),
        ("cut.mp4", "out.mp4", "cut.mp4 cannot be"),
        ("sound.avi", "out.mp4", "has no video stream"),
        ("in.mp4", "out.webm", "give a file that ends in"),
        ("in.mp4", "in.mp4", "which is the input"),
        ("in.mp4", "there.mp4", "exists already: give another output, or overwrite"),
    ):
        with pytest.raises(UserError, match=said):
            translate_video(Negative(), tmp_path / name, tmp_path / output)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.mp4").read_text() == "old"
    translate_video(Negative(), tmp_path / "in.mp4", tmp_path / "there.mp4", overwrite=True)
    assert len(read_video(tmp_path / "there.mp4")) == 3


def test_videos_by_their_endings():
    assert is_video("a/CLIP.MP4")
    assert not is_video("a/picture.png")
    assert not is_video("a/folder")


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    write_stream(tmp_path / "in.mp4", moving_square(5))
    monkeypatch.setattr(loading, "load", lambda *_: Negative())
    words = ["translate", "--ckpt_path", "run", "--input", str(tmp_path / "in.mp4")]
    assert main([*words, "--output", str(tmp_path / "out.mp4"), "--source", "night", "--target", "day"]) == 0
    assert "translated 5 frames" in capsys.readouterr().out
    assert len(read_video(tmp_path / "out.mp4")) == 5
    assert main([*words, "--output", str(tmp_path / "b.mp4"), "--guide", str(tmp_path)]) != 0
    assert "a video takes none" in capsys.readouterr().err


class WideNegative(Negative):
    """Takes frames of any size as they are."""

    any_size = full_size = True

    def translate(self, images, source, target):
        self.seen.append((*images.shape,))
        return -images


@pytest.mark.parametrize(("size", "seen"), [("keep", (1, 3, 20, 48)), ("model", (1, 3, 7, 16))])
def test_methods_of_full_size_see_frames_as_they_are(tmp_path, size, seen):
    write_clip(tmp_path / "in.mp4", (20, 48), 3, sound=None)
    method = WideNegative()
    assert translate_video(method, tmp_path / "in.mp4", tmp_path / "out.mp4", size=size) == 3
    assert method.seen == [seen] * 3
    height, width = read_video(tmp_path / "out.mp4").shape[-2:]
    assert (height, width) == ((20, 48) if size == "keep" else (8, 16))  # an odd last row is repeated


class Speckled(Negative):
    """Adds noise to images of one colour, the other for every image of a batch."""

    def translate(self, images, source, target):
        self.seen.append(len(images))
        return images / 2 + 0.2 * torch.randn(len(images), 1, 1, 1)


def test_every_frame_gets_the_same_random_numbers(tmp_path):
    write_clip(tmp_path / "in.mp4", frames=3)
    method = Speckled()
    translate_video(method, tmp_path / "in.mp4", tmp_path / "out.mkv", seed=5)
    assert method.seen == [3, 1, 1, 1]  # the first try shows that it draws
    torch.manual_seed(5)
    noise = 0.2 * torch.randn(1).item()
    frames = read_video(tmp_path / "out.mkv")
    levels = frames.float().flatten(1).mean(1)
    wanted = torch.tensor([((2 * 20 * n / 255 - 1) / 2 + noise + 1) * 127.5 for n in range(3)])
    assert torch.allclose(levels, wanted, atol=3)


def test_flicker_where_nothing_moves(tmp_path, monkeypatch, capsys):
    with av.open(str(tmp_path / "in.mkv"), "w", format="matroska") as container:
        video = container.add_stream("ffv1", rate=12)
        video.height, video.width, video.pix_fmt = 16, 16, "bgr0"
        for number in range(4):
            picture = np.full((16, 16, 3), 100, np.uint8)
            picture[:, 8:] = 60 * number  # one half moves
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())

    class Blinking(Negative):
        """Brighter by 0.2, thus 25.5 levels, in every other frame."""

        def translate(self, images, source, target):
            self.seen.append(len(images))
            return images / 2 + 0.2 * (len(self.seen) % 2)

    flicker = Flicker()
    options = {"batch_size": 1, "flicker": flicker}
    assert translate_video(Blinking(), tmp_path / "in.mkv", tmp_path / "out.mkv", **options) == 4
    values = flicker.compute()
    assert values["still"] == 0.5
    assert values["flicker"] == pytest.approx(25.5, abs=0.5)
    assert values["flicker_input"] == 0

    monkeypatch.setattr(loading, "load", lambda *_: Blinking())
    words = ["translate", "--ckpt_path", "x", "--input", str(tmp_path / "in.mkv"), "--output", str(tmp_path / "o.mkv")]
    assert main([*words, "--report", "--batch_size", "1"]) == 0
    assert "still, 50% of it, the translation changes by 25" in capsys.readouterr().out
    assert main([*words[:4], str(tmp_path), *words[5:], "--report"]) == 2


def test_flicker_of_a_video_that_moves_everywhere_is_unknown():
    flicker = Flicker()
    frames = torch.arange(0, 120, 30, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    flicker.update(frames, frames[..., :4, :4])
    assert flicker.compute()["flicker"].isnan()
    assert flicker.compute()["still"] == 0
    flicker.reset()
    flicker.update(frames[:1], frames[:1])
    flicker.update(frames[:1], frames[:1] + 4)
    assert flicker.compute() == {"flicker": 4, "flicker_input": 0, "still": 1}
