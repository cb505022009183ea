"""Evaluation and image grids of methods that learn from a single image or clip."""

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.utilities import rank_zero_warn
from torchvision.utils import make_grid

from xdomain.batch import Batch, to_float, to_uint8
from xdomain.callbacks.evaluation import BatchEvaluation, build_features, fetch_features
from xdomain.callbacks.networks import seeded, with_fresh_weights
from xdomain.callbacks.pictures import log_image, save_png
from xdomain.callbacks.reading import spread
from xdomain.data.base import ROLES, Split
from xdomain.data.video import write_video
from xdomain.errors import UserError, refuse
from xdomain.features.base import Extractor
from xdomain.features.classifier import ClassifierExtractor
from xdomain.methods import Method, PyramidMethod
from xdomain.metrics.base import PairMetric
from xdomain.metrics.single import SIFID, SVFID, PatchCopyRate, PixelDiversity
from xdomain.networks.pyramid import resize, resize_clip
from xdomain.running.folder import run_dir

CHUNK = 10  # samples per pass: feature maps of all at once would not fit


class SampleQuality(BatchEvaluation):
    """How random samples compare with the single image or clip that a method was trained on.

    The test reports ``sifid@F`` (for clips ``svfid@F``), ``diversity``, ``copied-11px`` and ``n``, the number of
    samples; a validation the first two, over fewer samples, of the finest scale reached so far. F is the feature
    network with its layer. For clips ``copied-11px`` compares every frame with the real frame of the same index.

    The test also reports the same metrics, with a suffix as in ``sifid_shuffled@F``, for

    - ``_shuffled``: the real image with its square blocks in random order (for clips, the same in all frames): right in
      every detail, wrong as a whole, and copied except for the borders;
    - ``_untrained``: samples of the same method with initial weights and the noise levels of the trained one;
    - ``_mirrored``: the real image mirrored left to right: the score of an image that is as good as the real one but
      not a copy. It is a single image, so it has no diversity.

    Args:
        features: the feature network; see :func:`xdomain.features.build_extractor`. By default
            ``random-conv``, for clips ``random-conv3d``.
        layer: one of its layers; by default the second of these two networks, the first named layer of others.
        count: number of samples in the test; by default 50, or 20 for clips.
        val_count: number of samples in a validation, at least 2.
        patches: sides of the patches, in pixels, that are searched for copies; one metric for each.
        block: side of the shuffled blocks in pixels; by default a quarter of the shorter side.
        seed: seed of samples and shuffles.
    """

    def __init__(
        self,
        features: str | None = None,
        layer: str | None = None,
        count: int | None = None,
        val_count: int = 5,
        patches: tuple[int, ...] = (11,),
        block: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("count", count), ("val_count", val_count)):
            if value is not None and value < 2:
                refuse(self, name, value, "diversity needs at least 2 samples.")
        for name, value in (*(("patches", side) for side in patches), ("block", block)):
            if value is not None and value < 1:
                refuse(self, name, value, "give a number of pixels of at least 1.")
        self.features, self.layer, self.count, self.val_count = features, layer, count, val_count
        self.patches, self.block, self.seed = patches, block, seed
        self._extractor: Extractor | None = None

    def check(self, module: Method, split: Split) -> None:
        clips = learns_clips(pyramid_of(module))
        standard = "random-conv3d" if clips else "random-conv"
        self._extractor = self._extractor or build_features(self.features or standard)
        if self._extractor.dims != 2 + clips:
            what = "clips" if clips else "images"
            way = f", which does not look at {what}: give another, such as {standard}."
            refuse(self, "features", self.features, way)
        height, width = module.shapes[-1][-2:]
        if self.block is not None and (height // self.block) * (width // self.block) < 2:
            refuse(self, "block", self.block, f", too large for {height}x{width} pixels: give a smaller one.")
        if not isinstance(self._extractor, ClassifierExtractor):  # without weights yet
            self._check_layer(self._extractor)

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        clips = learns_clips(pyramid_of(module))
        assert self._extractor is not None
        extractor = fetch_features(self._extractor, trainer, module)
        layer = self._check_layer(extractor)
        kinds = ("", "_shuffled", "_untrained", "_mirrored") if trainer.testing else ("",)
        kind_of_distance = SVFID if clips else SIFID
        self.distances = {kind: kind_of_distance(extractor, layer).to(module.device) for kind in kinds}
        self.diversity = {kind: PixelDiversity().to(module.device) for kind in kinds if kind != "_mirrored"}
        self.copies: dict[tuple[int, str], PatchCopyRate] = {}
        if trainer.testing:
            self.copies = {(p, kind): PatchCopyRate(p).to(module.device) for p in self.patches for kind in kinds}

    def _check_layer(self, extractor: Extractor) -> str:
        """The layer to use, which must exist."""
        layer = self.layer or ("2" if "2" in extractor.layers else extractor.layers[0])
        probe = torch.zeros(1, 3, *((8, 64, 64) if extractor.dims == 3 else (64, 64)))
        try:
            extractor.maps(probe.to(next(extractor.parameters()).device), layer)
        except ValueError as error:
            refuse(self, "layer", layer, f", but {error}: give another.")
        return layer

    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        if (sample := batch.get(ROLES[len(module.domains) - 1])) is None:
            return
        method = pyramid_of(module)
        count = self.val_count if not testing else self.count or (20 if learns_clips(method) else 50)
        samples = draw(method, count, self.seed)
        real = like(sample.image[:1], samples)
        self._update("", real, samples)
        if testing:
            generator = torch.Generator().manual_seed(self.seed)
            side = self.block or max(1, min(real.shape[-2:]) // 4)
            shuffled = torch.cat([shuffle_blocks(real, side, generator) for _ in range(count)])
            self._update("_shuffled", real, shuffled)
            self._update("_untrained", real, draw(untrained(method), count, self.seed))
            self._update("_mirrored", real, real.flip(-1))

    def _update(self, kind: str, real: Tensor, samples: Tensor) -> None:
        copies: dict[int, PairMetric] = {patch: metric for (patch, of), metric in self.copies.items() if of == kind}
        for chunk in torch.split(samples, CHUNK):
            self.distances[kind].update(real, chunk)
            if kind in self.diversity and bool((real == real.flatten()[0]).all()):
                rank_zero_warn("diversity is not measured: the real image is of one colour")
            elif kind in self.diversity:
                self.diversity[kind].update(real, chunk)
            for patch, metric in copies.items():
                if min(real.shape[-2:]) < patch:
                    rank_zero_warn(
                        f"{metric.name} is not measured: samples have {real.shape[-2]}x{real.shape[-1]} pixels"
                    )
                else:
                    metric.update(*_frames(real, chunk))

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for kind, distance in self.distances.items():
            what, _, network = distance.name.partition("@")
            values[f"{what}{kind}@{network}"] = distance.compute()
        metrics = [*self.diversity.items(), *((kind, copied) for (_, kind), copied in self.copies.items())]
        for kind, metric in metrics:
            # A process without a sample has measured nothing, but must take part where another has.
            if trainer.strategy.reduce_boolean_decision(metric.update_called, all=False):
                values[f"{metric.name}{kind}"] = metric.compute()
        return values | ({"n": torch.tensor(float(self.distances[""].n.fake))} if testing else {})


class SampleSheet(pl.Callback):
    """The real image next to random samples at every validation and in the test, in ``samples`` and the loggers.

    Samples are from the finest scale reached so far, with the same noise each time; the real image is shown at their
    size. For clips every row shows frames of one clip, the real one first, and the test writes all clips side by side
    to ``samples/test.gif``.

    Args:
        count: number of samples.
        columns: number of samples per row.
        frames: number of frames of a clip in its row, evenly spaced.
        fps: frames per second of the animation.
        seed: seed of the samples.
    """

    def __init__(self, count: int = 12, columns: int = 4, frames: int = 6, fps: float = 10.0, seed: int = 0) -> None:
        for name, value in (("count", count), ("columns", columns), ("frames", frames), ("fps", fps)):
            if value <= 0:
                refuse(self, name, value, "give more than 0.")
        self.count, self.columns, self.frames, self.fps, self.seed = count, columns, frames, fps, seed

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a method without random samples before the first batch."""
        if stage != "predict":
            pyramid_of(pl_module)

    def samples(self, method: PyramidMethod) -> tuple[Tensor, Tensor]:
        """The real image or clip [1, 3, (T,) H, W] and samples of the same size, ``uint8``."""
        samples = draw(method, self.count, self.seed)
        data = method.data.data(ROLES[len(method.domains) - 1], "val")
        real = to_float(data.__getitems__([0]).image.to(method.device))
        return to_uint8(like(real, samples)), to_uint8(samples)

    def board(self, real: Tensor, samples: Tensor) -> Tensor:
        """An image [1, 3, H, W] to the left of a grid of samples, ``uint8`` [3, H', W']."""
        left, grid = (_bordered(images, self.columns) for images in (real, samples))
        left = F.pad(left, (0, 4, 0, grid.shape[1] - left.shape[1]), value=255)
        return torch.cat([left, grid], 2)

    def _show(self, trainer: pl.Trainer, module: pl.LightningModule, name: str, testing: bool) -> None:
        folder = run_dir(trainer)
        if not trainer.is_global_zero or trainer.sanity_checking or folder is None:
            return
        method = pyramid_of(module)
        real, samples = self.samples(method)
        if learns_clips(method):
            clips = torch.cat([real, samples])
            shown = clips[:, :, spread(clips.shape[2], self.frames)].transpose(1, 2)
            picture = _bordered(shown.flatten(0, 1), shown.shape[1])
            if testing:
                pairs = zip(real.unbind(2), samples.unbind(2), strict=True)
                write_video(torch.stack([self.board(*pair) for pair in pairs]), folder / "samples/test.gif", self.fps)
        else:
            picture = self.board(real, samples)
        save_png(picture, folder / "samples" / f"{name}.png")
        log_image(trainer, "samples", picture)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, f"step_{trainer.global_step:07d}", testing=False)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, pl_module, "test", testing=True)


def pyramid_of(module: pl.LightningModule) -> PyramidMethod:
    """The module, as a method that generates random samples.

    Raises:
        UserError: if it is none.
    """
    if not isinstance(module, PyramidMethod) or type(module).sample is PyramidMethod.sample:
        raise UserError(
            f"{type(module).__name__} makes no random samples: remove the callbacks that show or judge them."
        )
    return module


def learns_clips(method: PyramidMethod) -> bool:
    """Whether the method learns from a clip instead of an image; with two samples the second counts."""
    return len(method.shapes[-1]) == 3


@torch.no_grad()
def draw(method: PyramidMethod, count: int, seed: int) -> Tensor:
    """Random samples, a pure function of weights and seed, float [count, 3, (T,) H, W] in [-1, 1]."""
    with seeded(seed, method.device):
        chunks = [method.sample(min(CHUNK, count - done)) for done in range(0, count, CHUNK)]
    return torch.cat(chunks).clamp(-1, 1)


def like(real: Tensor, samples: Tensor) -> Tensor:
    """The real image or clip at the size of the samples: those of a coarse scale are smaller."""
    size = samples.shape[2:]
    return resize(real, size) if real.ndim == 4 else resize_clip(real, size)


def untrained(method: PyramidMethod, seed: int = 0) -> PyramidMethod:
    """A method of the same settings with fresh weights, in evaluation mode.

    Values that the method has measured or drawn, above all the noise levels of the scales, are copied, so that the
    samples differ only by the weights.
    """
    fresh = pyramid_of(with_fresh_weights(method, seed))
    for name, buffer in method.named_buffers(recurse=False):
        fresh.get_buffer(name).copy_(buffer)
    return fresh


def shuffle_blocks(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Images with their square blocks in random order, the same for all of them and for all frames.

    Rows at the bottom and columns at the right that do not fill a block stay in place.

    Args:
        images: [..., H, W].
        side: side of the blocks in pixels.
        generator: draws the order.

    Raises:
        ValueError: for blocks so large that there are fewer than two.
    """
    height, width = images.shape[-2:]
    rows, columns = height // side, width // side
    if rows * columns < 2:
        raise ValueError(f"blocks of {side} are too large for {height}x{width} pixels")
    whole = images[..., : rows * side, : columns * side]
    blocks = whole.reshape(-1, rows, side, columns, side).transpose(2, 3).flatten(1, 2)  # [..., blocks, side, side]
    order = torch.randperm(rows * columns, generator=generator).to(images.device)
    blocks = blocks[:, order].view(-1, rows, columns, side, side).transpose(2, 3)
    shuffled = images.clone()
    shuffled[..., : rows * side, : columns * side] = blocks.reshape(whole.shape)
    return shuffled


def _frames(real: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
    """Real and sampled images unchanged; clips as pairs of frames."""
    if real.ndim == 4:
        return real, samples
    return tuple(x.transpose(1, 2).flatten(0, 1) for x in (real.expand_as(samples), samples))  # type: ignore[return-value]


def _bordered(images: Tensor, columns: int) -> Tensor:
    """A grid with a border of one pixel around every image; make_grid adds none to a single image."""
    picture: Tensor = make_grid(images, nrow=columns, padding=1)
    return F.pad(picture, (1, 1, 1, 1)) if len(images) == 1 else picture
