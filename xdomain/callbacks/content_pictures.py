"""Image grids of content transfer: guides by sources, removals, masks, interpolations."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.batch import to_channels
from xdomain.callbacks.content_checks import guided_method
from xdomain.callbacks.pictures import NamedPictures, grid_of
from xdomain.callbacks.reading import read, spread
from xdomain.data.base import Split
from xdomain.errors import refuse
from xdomain.methods import ContentMethod, Method


class TransferPictures(NamedPictures):
    """Image grids of content transfer at every validation and in the test, in ``samples`` and in the loggers.

    ``transfer_D_*.png``, per direction whose target has content: guides in the top row, sources in the left column.
    ``removal_DOMAIN_*.png``: images, and below them the same without their content. ``union_*.png``, if both domains
    have content: images of the first domain, guides of the second, and the images with both contents. ``masks_*.png``,
    for methods with masks: images, and below them the same with the mask in red. ``interpolation.png``, only in the
    test: from the separate codes of one image to those of another, with the common code of the first; if only one code
    varies, one row per pair of images. Of methods that take styles from guides, only ``transfer``.

    Args:
        count: number of images per domain.
    """

    def __init__(self, count: int = 8) -> None:
        if count < 1:
            refuse(self, "count", count, "give a number of at least 1.")
        self.count = count

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse an unsuitable method before the first batch."""
        if stage != "predict":
            guided_method(pl_module)

    def pictures(self, module: Method, split: Split) -> dict[str, Tensor]:
        module, images = guided_method(module), {}
        for domain in module.domains:
            data = module.data.data(module.data.role_of(domain), split)
            images[domain] = read(data, spread(len(data), self.count), module)
        shown: dict[str, Tensor] = {}
        for source, target in (module.domains, module.domains[::-1]):
            x, y = images[source], images[target]
            if module.guided and target in module.contents:
                targets, guides = x.repeat_interleave(len(y), 0), y.repeat(len(x), 1, 1, 1)
                outputs = module.translate(targets, source, target, guide=guides)
                top, left = torch.cat([torch.ones_like(y[:1]), y]), x[:, None]
                body = torch.cat([left, outputs.view(len(x), len(y), *x.shape[1:])], 1).flatten(0, 1)
                shown[f"transfer_{source}_to_{target}"] = grid_of(torch.cat([top, body]), len(y) + 1)
            if isinstance(module, ContentMethod) and source in module.contents:
                removal = module.translate(x, source, target, task="remove")
                shown[f"removal_{source}"] = grid_of(torch.cat([x, removal]), len(x))
        if not isinstance(module, ContentMethod):
            return shown
        if module.guided and len(module.contents) == 2:
            first, second = module.domains
            x, y = (part[: min(map(len, images.values()))] for part in images.values())
            union = module.translate(x, first, second, guide=y, task="add")
            shown["union"] = grid_of(torch.cat([x, y, union]), len(x))
        x = images[module.contents[0]]
        if module.masked:
            colours = to_channels(x, 3)
            red = colours.new_tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
            shown["masks"] = grid_of(torch.cat([colours, colours.lerp(red, 0.7 * module.mask(x))]), len(x))
        if split == "test":
            others = images[module.contents[-1]].roll(1, 0)
            lines = 1 if len(module.codes(x[:1])) > 2 else min(len(x), len(others))
            cells = module.interpolate(x[:lines], others[:lines], "common", self.count)
            shown["interpolation"] = grid_of(cells.flatten(0, 2), cells.shape[2])
        return shown

    def file(self, name: str, when: str) -> str:
        return f"{name}.png" if name == "interpolation" else super().file(name, when)
