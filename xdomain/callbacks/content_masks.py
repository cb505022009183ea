"""Evaluation of masks: how well masks, changes and a classifier's attention locate the content."""

from typing import Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from xdomain.callbacks.content_checks import check_judge_fits, content_method
from xdomain.callbacks.evaluation import DrawnEvaluation, build_judge, fetch_judge
from xdomain.callbacks.reading import limited, pieces, read, spread
from xdomain.data.avatars import CONTENT
from xdomain.data.base import Split
from xdomain.errors import refuse
from xdomain.features.helpers import Helper, helper_targets
from xdomain.methods import ContentMethod, Method
from xdomain.metrics.cam import cam_layer, gradcam
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.masks import MaskIoU

SLACK = 2  # pixels around a true mask in which changes are allowed: blur and outlines


@runtime_checkable
class MaskTruth(Protocol):
    """Data that has true masks of its images' content."""

    @property
    def masked_domains(self) -> tuple[str, ...]:
        """The domains whose content has masks."""

    def content_mask(self, role: str, positions: list[int], split: Split) -> Tensor:
        """True soft masks, ``uint8`` [N, 1, H, W]."""


class ContentMasks(DrawnEvaluation):
    """How well a method's masks, its changes and a classifier's attention locate the content.

    Only in the test and on data with true masks, for every domain D whose content has a mask: ``mask_iou/D`` of the
    method's own masks, ``mask_iou_difference/D`` of the absolute difference between an image and the image without
    content, and ``mask_iou_cam/D`` of Grad-CAM of the classifier. Each is measured at the threshold that is best on
    validation images, ``mask_threshold/D``, ``mask_threshold_difference/D`` and ``mask_threshold_cam/D``.
    ``mask_mean/D`` is the mean of the method's masks, ``n_masks/D`` the number of test images, and
    ``l1_outside_mask/D`` the unwanted change by removal: the mean absolute difference in [0, 2] more than two pixels
    away from the content.

    Args:
        classifier: recipe of a classifier of attributes, for Grad-CAM.
        target: the classifier's target that is the content; smile, glasses, beard and hat are known.
        images: largest number of validation and of test images per domain.
    """

    def __init__(self, classifier: str | None = None, target: str | None = None, images: int = 500) -> None:
        self.classifier, self.target, self.images = classifier, target, images
        self.helper: Helper | None = None
        self.targets: tuple[str, ...] = ()

    def check(self, module: Method, split: Split) -> None:
        domains = _masked_domains(content_method(module))
        if not domains or self.classifier is None:
            return
        if not check_judge_fits(self, "classifier", self.classifier, module.data):
            self.classifier = None
            return
        self.helper = self.helper or build_judge(self.classifier)
        self.targets = self.targets or helper_targets(self.classifier)
        for domain in domains:
            if (target := self.target or CONTENT.get(domain)) not in self.targets:
                known = ", ".join(self.targets)
                refuse(self, "target", target, f", but the classifier has {known}: give one of them.")

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        method, values = content_method(module), dict[str, Tensor]()
        domains = _masked_domains(method) if trainer.testing else []
        if domains and self.helper is not None:
            fetch_judge(self.helper, trainer, method)
        for domain in domains:
            values |= self._masks(trainer, method, domain)
        return values

    def _masks(self, trainer: pl.Trainer, module: ContentMethod, domain: str) -> dict[str, Tensor]:
        """All metrics of one domain, over all processes."""
        data, role, device = module.data, module.data.role_of(domain), module.device
        assert isinstance(data, MaskTruth)
        other = next(d for d in module.domains if d != domain)
        masked = module.masked and domain == module.contents[0]
        suffixes = [*([""] if masked else []), "_difference", *(["_cam"] if self.helper is not None else [])]
        error, mean = CounterfactualError().to(device), MeanMetric().to(device)
        scores: dict[Split, dict[str, MaskIoU]] = {
            split: {suffix: MaskIoU().to(device) for suffix in suffixes} for split in ("val", "test")
        }
        for split, metrics in scores.items():
            images = data.data(role, split)
            count = limited(trainer, min(self.images, len(images)), data.eval_batch_size)
            chosen = spread(len(images), count)[trainer.global_rank :: trainer.world_size]
            for rows in pieces(chosen, data.eval_batch_size):
                x = read(images, rows, module)
                true = data.content_mask(role, rows.tolist(), split).to(device)
                removal = module.translate(x, domain, other, task="remove").float().clamp(-1, 1)
                masks = {"_difference": (removal - x).abs().mean(1, keepdim=True) / 2}
                if masked:
                    masks[""] = module.mask(x).float()
                if self.helper is not None:
                    masks["_cam"] = self._cam(x, domain)
                for suffix, metric in metrics.items():
                    metric.update(masks[suffix], true)
                if split == "test":
                    error.update(removal, x, F.max_pool2d((true > 0).float(), 2 * SLACK + 1, 1, SLACK))
                    if masked:
                        mean.update(masks[""])
        values: dict[str, Tensor] = {}
        for suffix in suffixes:
            threshold = scores["val"][suffix].best_threshold()
            values[f"mask_threshold{suffix}/{domain}"] = torch.tensor(threshold)
            values[f"mask_iou{suffix}/{domain}"] = scores["test"][suffix].iou_at(threshold)
        found = error.compute()
        if "l1_outside" in found:
            values[f"l1_outside_mask/{domain}"] = found["l1_outside"]
        if masked:
            values[f"mask_mean/{domain}"] = mean.compute()
        return {key: value.float() for key, value in (values | {f"n_masks/{domain}": found["n"]}).items()}

    def _cam(self, images: Tensor, domain: str) -> Tensor:
        assert self.helper is not None
        network, seen = self.helper.network, self.helper.prepared(images)
        target = self.targets.index(self.target or CONTENT[domain])
        cam = gradcam(network, seen, cam_layer(network, seen[:1]), target)
        return F.interpolate(cam, images.shape[2:], mode="bilinear", antialias=True)


def _masked_domains(module: ContentMethod) -> list[str]:
    """The domains whose content the data has true masks of."""
    data = module.data
    return [d for d in module.contents if d in data.masked_domains] if isinstance(data, MaskTruth) else []
