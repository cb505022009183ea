"""Agreement of soft masks with true masks."""

import torch
from torch import Tensor
from torchmetrics import Metric

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))


def unit_masks(masks: Tensor) -> Tensor:
    """Masks as float32 in [0, 1]: ``uint8`` is divided by 255, everything else is clamped."""
    return masks.float() / 255 if masks.dtype == torch.uint8 else masks.float().clamp(0, 1)


class MaskIoU(Metric):
    """Jaccard index in [0, 1] of soft masks against true ones, for every threshold from 0.05 to 0.95.

    Intersection and union are summed over the data set before the division, so that every pixel has the same weight and
    images without the object are no special case. The mean over per-image indices, of images with the object, is also
    reported. Choose a threshold with :meth:`best_threshold` on validation images, report :meth:`iou_at` that threshold
    on test images.

    Example:
        >>> metric = MaskIoU()
        >>> metric.update(torch.tensor([[[[0.9, 0.6], [0.3, 0.0]]]]), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]))
        >>> metric.best_threshold(), metric.iou_at(0.5), metric.iou_at(0.1)
        (0.5, tensor(1.), tensor(0.6667))
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    intersections: Tensor
    unions: Tensor
    ratios: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, dtype in (("intersections", torch.int64), ("unions", torch.int64), ("ratios", torch.float32)):
            self.add_state(name, default=torch.zeros(len(THRESHOLDS), dtype=dtype), dist_reduce_fx="sum")
        self.add_state("counts", default=torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, masks: Tensor, truth: Tensor) -> None:
        """Add soft masks and true masks, both [N, 1, H, W] in [0, 1] or ``uint8`` in [0, 255].

        Soft masks are binarised at the thresholds, true masks at 0.5.
        """
        if masks.shape != truth.shape:
            raise ValueError(f"masks {tuple(masks.shape)} and true masks {tuple(truth.shape)} differ in shape")
        soft, true = unit_masks(masks).flatten(1), unit_masks(truth).flatten(1) > 0.5
        shown = true.any(1)
        for i, threshold in enumerate(THRESHOLDS):
            predicted = soft > threshold
            intersection, union = (predicted & true).sum(1), (predicted | true).sum(1)
            self.intersections[i] += intersection.sum()
            self.unions[i] += union.sum()
            self.ratios[i] += (intersection / union)[shown].sum()
        self.counts += torch.stack([shown.new_tensor(len(shown), dtype=torch.int64), shown.sum()])

    def compute(self) -> dict[str, Tensor]:
        """The indices at all thresholds, and the numbers of images.

        Returns:
            ``iou@0.05`` .. ``iou@0.95`` over the data set, ``per_image@0.05`` .. ``per_image@0.95`` the mean over
            images whose true mask is not empty, ``n`` images and ``n_shown`` with a true mask that is not empty. 0 / 0
            gives NaN.
        """
        ious, means = self.intersections / self.unions, self.ratios / self.counts[1]
        values = {f"iou@{threshold:.2f}": iou for threshold, iou in zip(THRESHOLDS, ious, strict=True)}
        values |= {f"per_image@{threshold:.2f}": mean for threshold, mean in zip(THRESHOLDS, means, strict=True)}
        return values | {"n": self.counts[0].clone(), "n_shown": self.counts[1].clone()}

    def best_threshold(self) -> float:
        """The threshold with the highest index over the data set; if tied, the one closest to 0.5."""
        values = self.compute()
        return max(THRESHOLDS, key=lambda t: (values[f"iou@{t:.2f}"].nan_to_num(-1).item(), -abs(t - 0.5)))

    def iou_at(self, threshold: float) -> Tensor:
        """Index over the data set at one of the thresholds.

        Raises:
            ValueError: for any other threshold.
        """
        if (key := f"iou@{threshold:.2f}") not in (values := self.compute()) or round(threshold, 2) != threshold:
            raise ValueError(f"{threshold} is none of the thresholds {', '.join(map(str, THRESHOLDS))}")
        iou: Tensor = values[key]
        return iou
