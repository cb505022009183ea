"""Running a trained method on the frames of a video."""

import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm  # type: ignore[import-untyped]

from xdomain.batch import to_channels, to_float, to_uint8
from xdomain.data.video import even, upright
from xdomain.errors import UserError, choice, refuse
from xdomain.files import whole_file
from xdomain.inference.device import enough_memory, find_device
from xdomain.inference.folder import Size
from xdomain.inference.places import PathLike
from xdomain.inference.sizes import shrunk, square, with_change
from xdomain.inference.tasks import chosen, no_translation, of_images, parameters
from xdomain.methods import Method
from xdomain.metrics.flicker import Flicker
from xdomain.running.outputs import check_new

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
"""Endings of files that are translated as videos."""
WRITTEN = (".mp4", ".mov", ".mkv")


def is_video(path: PathLike) -> bool:
    """Whether a file is translated as a video, by its ending."""
    return Path(path).suffix.lower() in VIDEOS


def translate_video(
    method: Method,
    input: PathLike,
    output: PathLike,
    *,
    task: str = "transfer",
    source: str | None = None,
    target: str | None = None,
    size: Size = "keep",
    overwrite: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    seed: int = 0,
    flicker: Flicker | None = None,
    **options: Any,
) -> int:
    """Translate a video file into a video file, frame by frame, like ``xdomain translate``.

    Frames keep their times, thus frame rate and duration, also where it varies; sound tracks are copied without
    recoding. The video is encoded anew as H.264 (MPEG-4 part 2 where FFmpeg was built without it); an odd last row or
    column is repeated. Frames are turned upright, and seen by the method as images of a folder are.

    Args:
        method: a trained method, such as from :func:`xdomain.load`. It is moved to the device.
        input: video file.
        output: .mp4, .mov or .mkv file for the translation, or a folder, in which it gets the name of the input.
        task: one of ``method.tasks`` that take images, and need neither guides nor masks.
        source: domain of the frames; by default the method's usual one.
        target: domain to translate into; by default the method's usual one.
        size: ``keep`` for the size of the video, ``model`` for that of the method's output. Methods with ``full_size``
            see frames as they are with ``keep``, shrunk to ``image_size`` with ``model``.
        overwrite: replace an existing file.
        batch_size: frames per step; methods that take any size see one at a time.
        device: ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
        seed: seed for methods that draw random numbers, which are the same for every frame.
        flicker: updated with the frames and their translations, if given.
        options: arguments of the task.

    Returns:
        number of frames.

    Raises:
        UserError: if the video cannot be read, or its sound does not fit the format of the output. Nothing is written.
    """
    path, file = Path(input), Path(output)
    if batch_size < 1:
        refuse(None, "batch_size", batch_size, "give a number of frames of at least 1.")
    if not file.suffix:
        file = file / path.with_suffix(path.suffix if path.suffix.lower() in WRITTEN else ".mp4").name
    if file.suffix.lower() not in WRITTEN:
        refuse(None, "output", output, f"give a file that ends in {choice(WRITTEN)}, or a folder.")
    if file.resolve() == path.resolve():
        refuse(None, "output", output, ", which is the input: give another.")
    if not (tasks := of_images(method)):
        raise no_translation(method)
    given = [name for name, value in {"source": source, "target": target}.items() if value is not None]
    function = chosen(method, tasks, task, [*given, *options])
    fit: Callable[[Tensor], Tensor] = partial(square, size=method.image_size)
    if method.any_size:
        if not method.full_size:
            raise UserError(f"{type(method).__name__} translates no video files: give a folder of frames.")
        longest = None if size == "keep" else method.image_size
        fit, batch_size = partial(shrunk, size=longest, factor=None), 1
    ends = dict(zip(("source", "target"), method.direction(task, source, target), strict=True))
    channels = method.channels[method.domains.index(ends["source"])]
    method.to(found := find_device(device))
    takes = parameters(function)
    given_to_all = {name: value for name, value in ends.items() if name in takes} | options
    run = Steady(partial(function, **given_to_all), seed, found)

    def translated(frames: Tensor) -> Tensor:
        """``uint8`` [N, 3, H, W] of frames ``uint8`` [N, 3, H, W]."""
        y = resized(frames)
        if flicker is not None:
            flicker.update(frames, y)
        return y

    def resized(frames: Tensor) -> Tensor:
        seen = fit(to_channels(to_float(frames.to(found)), channels))
        made = run(seen)
        y = to_uint8(to_channels(made, 3)).cpu()
        if size == "model" or y.shape == frames.shape:
            return y
        if method.edits and task != "mask" and made.shape == seen.shape and channels == 3:
            return torch.stack([with_change(*rows) for rows in zip(frames, seen.cpu(), made.cpu(), strict=True)])
        return interpolate(y, frames.shape[2:], mode="bicubic", antialias=True)

    check_new([file], overwrite)
    with torch.inference_mode(), enough_memory():
        return _convert(path, file, translated, batch_size)


class Steady:
    """A task that sees every frame with the same random numbers, if it draws any.

    Args:
        run: makes images of images.
        seed: seed of the random numbers.
        device: where they may be drawn, besides the CPU.
    """

    def __init__(self, run: Callable[[Tensor], Tensor], seed: int, device: str) -> None:
        self._run, self._seed, self._device = run, seed, device
        self._draws = False

    def __call__(self, images: Tensor) -> Tensor:
        """The translations of images [N, C, H, W]; one by one if they would get different random numbers."""
        if self._draws and len(images) > 1:
            return torch.cat([self(image) for image in images.unsqueeze(1)])
        torch.manual_seed(self._seed)
        before = self._states()
        made = self._run(images)
        self._draws = not all(map(torch.equal, before, self._states()))
        return self(images) if self._draws and len(images) > 1 else made

    def _states(self) -> list[Tensor]:
        cuda = [torch.cuda.get_rng_state(self._device)] if self._device.startswith("cuda") else []
        return [torch.get_rng_state(), *cuda]


def _convert(path: Path, file: Path, translated: Any, batch_size: int) -> int:
    """Decode, translate and encode; the number of frames."""
    import av  # imported here, since it loads all of FFmpeg, which only videos need

    if not path.is_file():
        refuse(None, "input", path, ", which does not exist: give a video file.")
    kind = {".mkv": "matroska"}.get(file.suffix.lower(), file.suffix.lower()[1:])
    codec, quality = ("libx264", {"crf": "16"}) if "libx264" in av.codecs_available else ("mpeg4", {"qmax": "4"})
    done = 0
    try:
        with av.open(str(path)) as reading, whole_file(file) as raw, av.open(raw, "w", format=kind) as writing:
            if not reading.streams.video:
                raise UserError(f"{path} has no video stream: give another file.")
            seen = reading.streams.video[0]
            rate = seen.average_rate or Fraction(25)
            made = cast(av.VideoStream, writing.add_stream(codec, rate=rate, options=quality))
            made.pix_fmt = "yuv420p"
            tracks = {track.index: writing.add_stream_from_template(track) for track in reading.streams.audio}
            waiting: list[tuple[Tensor, Any]] = []
            sound: list[Any] = []  # until the size of the picture is known, no header can be written

            def flush() -> None:
                nonlocal done
                if not waiting:
                    return
                pixels = even(translated(torch.stack([image for image, _ in waiting])))
                if done == 0:
                    made.height, made.width = pixels.shape[1:3]
                    made.codec_context.time_base = seen.time_base or 1 / rate
                for image, (_, time) in zip(pixels, waiting, strict=True):
                    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                    frame.pts, frame.time_base = time, made.codec_context.time_base
                    writing.mux(made.encode(frame))
                for packet in sound:
                    writing.mux(packet)
                sound.clear()
                done += len(waiting)
                bar.update(len(waiting))
                waiting.clear()

            with tqdm(total=seen.frames or None, unit="frame", disable=None, file=sys.stderr) as bar:
                for packet in reading.demux(seen, *reading.streams.audio):
                    if packet.stream.index in tracks:
                        if packet.dts is not None:
                            packet.stream = tracks[packet.stream.index]
                            sound.append(packet)
                        continue
                    for frame in cast(list[av.VideoFrame], packet.decode()):
                        if frame.is_corrupt:
                            raise UserError(f"{path} cannot be read as a video: a frame is damaged or cut off.")
                        waiting.append((upright(frame), frame.pts))
                        if len(waiting) == batch_size:
                            flush()
                flush()
                if done == 0:
                    raise UserError(f"{path} cannot be read as a video: it holds no whole frame.")
                writing.mux(made.encode())
    except (av.FFmpegError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be turned into {file}: {what}.") from error
    return done
