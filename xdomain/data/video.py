"""Reading and writing videos, and data modules for methods that learn from a single one."""

import io
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xdomain.data.images import read_image, write_image
from xdomain.data.single import DRAWN, SingleSample, find_sample, pair_names, read_picture, shrink, worth_learning
from xdomain.engines.clips import KINDS, render_clip
from xdomain.errors import UserError, did_you_mean, refuse
from xdomain.files import whole_file, whole_folder
from xdomain.pixels import ENDINGS, open_image

ANIMATIONS = (".gif", ".webp")  # read by PIL, which composes their frames as the format demands

Frame = Callable[[], Tensor]
"""Converts one frame to ``uint8`` [3, H, W] on demand; skipped frames are not converted."""


def read_video(
    path: Path, start: int = 0, frames: int | None = None, stride: int = 1, size: int | None = None
) -> Tensor:
    """Read frames of a video.

    ==========================  ========================================================================
    .mp4 .avi .mkv .webm ...    what PyAV decodes; the first video stream, turned upright; in .mkv and
                                .webm, which do not announce their length, a cut-off file just ends early
    .gif .webp                  every frame as a viewer shows it, transparent parts over white
    a folder                    its image files by name, numbers as numbers: ``2.png`` before ``10.png``;
                                no subfolders
    ==========================  ========================================================================

    Frame rates and durations are ignored.

    Args:
        path: video file or folder of frames.
        start: index of the first frame to take, from 0.
        frames: number of frames to take, or None for all.
        stride: take every ``stride``-th frame from ``start`` on.
        size: the longer side is shrunk to this many pixels if it is longer, antialiased.

    Returns:
        ``uint8`` [T, 3, H, W].

    Raises:
        UserError: for a video that is missing, damaged, no video, a single image, of varying size or too short.
    """
    _check_window(str(path), start, frames, stride)
    chosen: list[Tensor] = []
    shape, number = None, -1
    try:
        for number, frame in enumerate(_frames(path)):
            if number >= start and (number - start) % stride == 0:
                image = frame()
                if image.shape != (shape := shape or image.shape):
                    raise UserError(
                        f"the frames of {path} differ in size: frame {number} has {image.shape[1]}x{image.shape[2]} "
                        "pixels, make all alike."
                    )
                chosen.append(image if size is None else shrink(image[None], size)[0])
                if len(chosen) == frames:
                    break
    except UserError:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        what = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as a video, replace it: {what}.") from error
    count = number + 1
    if count == 0:
        raise UserError(f"{path} cannot be read as a video, replace it: it holds no whole frame.")
    if count == 1 and frames != 1:
        raise UserError(f"{path} holds one frame only: give a video, or use an image method for a single picture.")
    if start >= count:
        raise UserError(f"{path} holds {count} frames, counted from 0: start {start} is beyond the last.")
    if frames is not None and len(chosen) < frames:
        raise UserError(
            f"{path} holds {count} frames, which gives {len(chosen)} of the {frames} wanted from start {start} with "
            f"stride {stride}: make one of the three smaller."
        )
    return torch.stack(chosen)


def _check_window(path: str, start: int, frames: int | None, stride: int) -> None:
    for name, value, least in (("start", start, 0), ("stride", stride, 1), ("frames", frames, 1)):
        if value is not None and value < least:
            raise UserError(f"{name} of the video {path} is {value}: give at least {least}.")


def _frames(path: Path) -> Iterator[Frame]:
    if path.is_dir():
        names = [file for file in path.iterdir() if file.suffix.lower() in ENDINGS and not file.name.startswith(".")]
        if not names:
            raise UserError(f"the folder {path} holds no frames: files must end in one of {' '.join(ENDINGS)}.")
        return (partial(read_image, file, 3) for file in sorted(names, key=_natural))
    if not path.is_file():
        raise UserError(f"the video {path} does not exist: give a video file or a folder of frames.")
    return _animation_frames(path) if path.suffix.lower() in ANIMATIONS else _stream_frames(path)


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sorting key in which numbers count as numbers."""
    texts_and_numbers = enumerate(re.split(r"([0-9]+)", file.name))  # in turn
    return [(int(part) if i % 2 else 0, part) for i, part in texts_and_numbers]


def _animation_frames(path: Path) -> Iterator[Frame]:
    with open_image(path) as file:

        def over_white() -> Tensor:
            white = Image.new("RGBA", file.size, "white")
            return _tensor(np.array(Image.alpha_composite(white, file.convert("RGBA")).convert("RGB")))

        for number in range(getattr(file, "n_frames", 1)):
            file.seek(number)
            yield over_white


def _stream_frames(path: Path) -> Iterator[Frame]:
    import av  # imported here, since it loads all of FFmpeg, which only videos need

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"{path} has no video stream: give a video file or a folder of frames.")
        for frame in container.decode(container.streams.video[0]):
            if frame.is_corrupt:
                raise ValueError("a frame is damaged or cut off")
            yield partial(upright, frame)


def upright(frame: Any) -> Tensor:
    """A decoded frame as RGB, rotated and mirrored according to its file.

    The file gives a matrix ((a, b, u), (c, d, v), (x, y, w)) that takes column p and row q to column a p + c q + x and
    row b p + d q + y. Of a, b, c and d the signs are used, and which of them are large.
    """
    pixels = frame.to_ndarray(format="rgb24")
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is not None:
        (a, b, _), (c, d, _), _ = np.frombuffer(bytes(matrix), dtype="<i4").reshape(3, 3).tolist()
        across, down = a, d
        if abs(b) + abs(c) > abs(a) + abs(d):
            pixels, across, down = pixels.transpose(1, 0, 2), c, b
        pixels = pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return _tensor(np.ascontiguousarray(pixels))


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def write_video(video: Tensor, path: Path, fps: float = 10.0) -> None:
    """Write a video atomically; the file extension determines the format.

    ============  =====================================================================================
    .mp4          H.264 (MPEG-4 part 2 where FFmpeg was built without it) with colours at half the
                  resolution, which every player shows; it wants even sides, so that an odd last row or
                  column is repeated
    .gif          a palette of 256 colours per frame; durations are whole hundredths of a second; of
                  equal neighbours the first stands longer
    no ending     a folder of ``00000.png``, ``00001.png`` ..., lossless, without the frame rate
    ============  =====================================================================================

    Args:
        video: ``uint8`` [T, 3, H, W].
        path: file or folder to write or replace; missing parents are made.
        fps: frames per second.

    Raises:
        UserError: for an unknown extension, a folder that holds more than frames, or if writing fails.
        ValueError: for a wrong tensor, or a frame rate that is not positive.
    """
    if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[1] != 3 or len(video) == 0:
        raise ValueError(f"a video is uint8 [T, 3, H, W], not {video.dtype} {list(video.shape)}")
    if fps <= 0:
        raise ValueError(f"the frame rate is {fps}, but must be positive")
    if path.suffix.lower() not in ("", ".gif", ".mp4"):
        raise UserError(f"the video {path} must end in .mp4 or .gif, or in nothing for a folder of frames: rename it.")
    if not path.suffix:
        check_frames(path)
        with whole_folder(path) as folder:
            for number, image in enumerate(video):
                write_image(image, folder / f"{number:05d}.png")
        return
    content = io.BytesIO()
    (_write_gif if path.suffix.lower() == ".gif" else _write_mp4)(video.cpu(), content, fps)
    with whole_file(path) as file:
        file.write(content.getbuffer())


def check_frames(folder: Path) -> None:
    """Raise a UserError for a folder that holds anything except numbered frames: it must not be replaced."""
    if folder.is_dir() and (other := [file for file in folder.iterdir() if not re.fullmatch(r"\d+\.png", file.name)]):
        raise UserError(f"the folder {folder} holds {other[0].name}, which is no frame: give another output.")


def _write_gif(video: Tensor, file: BinaryIO, fps: float) -> None:
    first, *others = (Image.fromarray(image) for image in video.permute(0, 2, 3, 1).numpy())
    first.save(file, "GIF", save_all=True, append_images=others, duration=max(10, round(100 / fps) * 10), loop=0)


def even(video: Tensor) -> np.ndarray:
    """Frames ``uint8`` [T, 3, H, W] as an encoder wants them: [T, H, W, 3], an odd last row or column repeated."""
    rows, columns = (torch.arange(side + side % 2).clamp(max=side - 1) for side in video.shape[-2:])
    frames: np.ndarray = video[:, :, rows][..., columns].permute(0, 2, 3, 1).contiguous().numpy()
    return frames


def _write_mp4(video: Tensor, file: BinaryIO, fps: float) -> None:
    import av

    frames = even(video)
    # Nearly lossless: the frames should be judged, not the compression.
    codec, quality = ("libx264", {"crf": "12"}) if "libx264" in av.codecs_available else ("mpeg4", {"qmax": "3"})
    with av.open(file, "w", format="mp4") as container:
        stream = cast(
            av.VideoStream, container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000), options=quality)
        )
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def _drawn(path: str, start: int, frames: int, stride: int, width: int, seed: int) -> Tensor:
    kind = path.removeprefix(DRAWN)
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS, f": choose from {' '.join(KINDS)}.")
        raise UserError(f"{path} is none of the clips that are drawn{hint}")
    _check_window(path, start, frames, stride)
    clip = render_clip(kind, start + (frames - 1) * stride + 1, round(width * 9 / 16), width, seed)
    return clip[start::stride]


def read_clip(path: str, max_size: int, start: int, frames: int, stride: int, world_seed: int) -> Tensor:
    """A clip to learn from, ``uint8`` [3, T, H, W]; the arguments are those of :class:`SingleVideo`."""
    if frames < 2:
        refuse(None, "frames", frames, "give at least 2.")
    if path.startswith(DRAWN):
        clip = _drawn(path, start, frames, stride, max_size, world_seed)
    else:
        clip = read_video(find_sample(path), start, frames, stride)
    return worth_learning(clip, path, max_size).transpose(0, 1).contiguous()


class SingleVideo(SingleSample):
    """One clip: ``video``, RGB, with its own aspect ratio.

    In a batch, time comes after the channels, as 3D convolutions need it: ``Sample.image`` is [N, 3, T, H, W].

    Args:
        path: a video file or a folder of frames (see :func:`read_video`), or ``engine:water``, ``engine:fire`` or
            ``engine:balloons`` for a clip drawn by :mod:`xdomain.engines.clips`.
        max_size: largest height or width in pixels; a larger video is shrunk, a smaller one keeps its size. Drawn clips
            have this width, at 16:9.
        start: index of the first frame, from 0.
        frames: number of frames T.
        stride: every ``stride``-th frame is taken.
        world_seed: seed of a drawn clip.
    """

    domains = ("video",)
    channels = (3,)

    def __init__(
        self,
        path: str,
        max_size: int = 256,
        start: int = 0,
        frames: int = 13,
        stride: int = 1,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        clip = read_clip(path, max_size, start, frames, stride, world_seed)
        self.samples = {"a": clip}
        self.image_size = max(clip.shape[2:])

    def clip(self) -> Tensor:
        """The frames in order, ``uint8`` [T, 3, H, W]."""
        return self.samples["a"].transpose(0, 1)


class ClipAndImage(SingleSample):
    """One clip, role ``a`` (source), and one image, role ``b`` (target), RGB, each with its own aspect ratio.

    ``Sample.image`` of role ``a`` is [N, 3, T, H, W].

    Args:
        a: source: a video file, a folder of frames or a drawn clip; see :class:`SingleVideo`.
        b: target: an image file or ``scikit-image:<name>``; see :class:`xdomain.data.single.SingleImage`.
        names: names of the two domains; by default the file names without folder and extension.
        max_size: largest height or width in pixels; larger ones are shrunk. Drawn clips have this width.
        start: index of the first frame, from 0.
        frames: number of frames T.
        stride: every ``stride``-th frame is taken.
        world_seed: seed of a drawn clip.
    """

    channels = (3, 3)

    def __init__(
        self,
        a: str,
        b: str,
        names: tuple[str, str] | None = None,
        max_size: int = 250,
        start: int = 0,
        frames: int = 13,
        stride: int = 1,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.domains = pair_names(a, b, names)
        clip = read_clip(a, max_size, start, frames, stride, world_seed)
        self.samples = {"a": clip, "b": read_picture(b, max_size)}
        self.image_size = max(max(shape[-2:]) for shape in self.shapes)
