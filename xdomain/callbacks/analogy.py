"""Evaluation of analogies between two images: similarity of the style to one and of the layout to the other."""

import inspect
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics import MeanMetric

from xdomain.batch import Batch, to_uint8
from xdomain.callbacks.evaluation import BatchEvaluation, build_features, ends, fetch_features, method_of
from xdomain.callbacks.pictures import log_image, save_png
from xdomain.data.base import Split
from xdomain.data.video import write_video
from xdomain.errors import UserError
from xdomain.features import Extractor
from xdomain.methods import Method, PyramidMethod
from xdomain.metrics.base import ImageMetric
from xdomain.metrics.layout import LayoutCorrelation
from xdomain.metrics.perceptual import GramStyleDistance
from xdomain.metrics.single import SIFID
from xdomain.networks.pyramid import resize
from xdomain.running.folder import run_dir


class AnalogyQuality(BatchEvaluation):
    """Style and layout of the image a translated into the style of the image b, in validations and the test.

    Validations skip a pyramid whose training has not reached its finest scale.

    ``sifid@F/LAYER`` and ``style@F`` are distances between the result and b (SIFID and Gram matrices); those with
    ``_source`` are between a and b, which a result should beat. ``layout_luminance`` and ``layout_edges`` are
    correlations between the layouts of the result and of a. ``cycle_l1``, for methods that also translate results back,
    is the mean absolute difference in [0, 2] between a and the result translated back. ``n`` is the number of results;
    for a clip, of their frames.

    Writes ``samples/analogy.png``: a, b, the result, and b in the style of a if the method can translate back. For a
    clip it shows the middle frame, and ``samples/analogy.gif`` all frames.

    Args:
        features: the feature network F; see :func:`xdomain.features.build_extractor`.
        layer: layer of F for SIFID; by default the second of its named layers.
        samples: number of results to average over in the test; one if they do not differ, and in a validation.
        options: further arguments of ``translate``, e.g. ``{start: 3}``. A method whose ``translate`` does not have one
            is asked without it, so that an overlay for a pair of images serves all methods.
        seed: seed of the random results.
    """

    def __init__(
        self,
        features: str = "random-conv",
        layer: str | None = None,
        samples: int = 8,
        options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.features, self.layer, self.samples = features, layer, samples
        self.options, self.seed = options or {}, seed
        self._extractor: Extractor | None = None

    def check(self, module: Method, split: Split) -> None:
        if len(module.domains) != 2:
            raise UserError(f"AnalogyQuality needs two images, but the data has {module.domains[0]} only: remove it.")
        self._extractor = self._extractor or build_features(self.features)

    def begin(self, trainer: pl.Trainer, module: Method) -> None:
        network = fetch_features(self._extractor or build_features(self.features), trainer, module)
        layer = self.layer or network.layers[min(1, len(network.layers) - 1)]

        def looks() -> list[ImageMetric]:
            return [SIFID(network, layer).to(module.device), GramStyleDistance(network).to(module.device)]

        self.looks, self.looks_of_source = looks(), looks()
        self.layouts = [LayoutCorrelation("luminance").to(module.device), LayoutCorrelation("edges").to(module.device)]
        self.reversible = ends(module)[::-1] in module.directions
        self.cycles = self.reversible and not module.transductive
        known = inspect.signature(module.translate).parameters
        self.asked = {name: value for name, value in self.options.items() if name in known}
        self.cycle = MeanMetric().to(module.device)
        self.shown: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, module: Method, batch: Batch, testing: bool) -> None:
        if "a" not in batch or (unfinished(module) and not testing):  # the first process has the only sample
            return
        a, b = batch["a"].image[:1], batch["b"].image[:1]
        source, target = ends(module)
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            for _ in range(self.samples if testing else 1):
                before = self.shown.get("result")
                result = module.translate(a, source, target, **self.asked).clamp(-1, 1)
                if before is not None and torch.equal(before, result):
                    break  # nothing random: repeating it would only inflate n
                self.shown["result"] = result
                pictures, originals = frames(result), frames(a)
                for look in self.looks:
                    look.update(b, pictures)
                for layout in self.layouts:  # the result may have the size of the method's finest scale
                    layout.update(originals, resize(pictures, originals.shape[-2:]))
                if self.cycles:
                    back = module.translate(result, target, source, **self.asked)
                    self.cycle.update((back.clamp(-1, 1) - a).abs().mean())
            if self.reversible:
                self.shown["back"] = module.translate(b, target, source, **self.asked)
        for look in self.looks_of_source:
            look.update(b, frames(a))
        self.shown |= {"a": a, "b": b}

    def report(self, trainer: pl.Trainer, testing: bool) -> dict[str, Tensor]:
        if unfinished(method_of(trainer.lightning_module)) and not testing:
            return {}
        self._draw(trainer, testing)
        values = {metric.name: metric.compute() for metric in (*self.looks, *self.layouts)}
        for metric in self.looks_of_source:
            values[metric.name.replace("@", "_source@")] = metric.compute()
        if self.cycles:  # the same on all ranks, also on one without images
            values["cycle_l1"] = self.cycle.compute()
        return values | {"n": torch.tensor(float(self.looks[0].n.fake))}

    def _draw(self, trainer: pl.Trainer, testing: bool) -> None:
        folder = run_dir(trainer)
        if not trainer.is_global_zero or trainer.sanity_checking or folder is None:
            return
        name = "analogy" if testing else f"analogy_{trainer.global_step:07d}"
        picture = row([self.shown[part] for part in ("a", "b", "result", "back") if part in self.shown])
        save_png(picture, Path(folder) / "samples" / f"{name}.png")
        log_image(trainer, "analogy", picture)
        if testing and self.shown["result"].ndim == 5:
            write_video(to_uint8(frames(self.shown["result"])), Path(folder) / "samples" / f"{name}.gif")


def unfinished(module: Method) -> bool:
    """Whether a pyramid has untrained scales: an option such as ``{start: 3}`` may not be valid yet."""
    return isinstance(module, PyramidMethod) and module.finest < module.scales - 1


def frames(images: Tensor) -> Tensor:
    """Images [N, 3, H, W] unchanged; clips [N, 3, T, H, W] as images [N T, 3, H, W]."""
    return images if images.ndim == 4 else images.transpose(1, 2).flatten(0, 1)


def row(parts: list[Tensor]) -> Tensor:
    """Images [1, 3, H, W] of any sizes (middle frames of clips) side by side, ``uint8``, as high as the first."""
    pictures = [images[:, :, images.shape[2] // 2] if images.ndim == 5 else images for images in parts]
    height = pictures[0].shape[2]
    resized = [resize(x, (height, max(1, round(x.shape[3] * height / x.shape[2])))) for x in pictures]
    gap = torch.ones(1, 3, height, 2, device=resized[0].device)
    strip = torch.cat([part for x in resized for part in (x, gap)][:-1], 3)
    return to_uint8(strip)[0]
