"""Label maps: classes read off colours, and the scores of the fully convolutional networks."""

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from xdomain.batch import UNKNOWN, to_uint8

Palette = Sequence[tuple[int, int, int]]
"""RGB in 0 to 255 of every class, in the order of their numbers from 0."""


def nearest_classes(images: Tensor, palette: Palette) -> Tensor:
    """The class whose colour is nearest to each pixel.

    Args:
        images: float [N, 3, H, W] in [-1, 1].
        palette: colours of the classes.

    Returns:
        ``int64`` [N, H, W].
    """
    colours = torch.tensor(palette, dtype=torch.int32, device=images.device)
    pixels = to_uint8(images).int()
    distances = torch.stack([(pixels - colour.view(1, 3, 1, 1)).square().sum(1) for colour in colours])
    return distances.argmin(0)


class SegmentationScores(Metric):
    """Pixel accuracy, class accuracy and mean IoU of label maps (Long, Shelhamer, Darrell, CVPR 2015).

    One confusion matrix over the data set. Class accuracy and IoU are means over the classes that are in the truth.
    ``relabelled`` is the pixel accuracy under the best one-to-one renaming of the classes: an unpaired method may
    exchange two classes and still be a perfect bijection. Pixels of the truth whose class is
    :data:`xdomain.batch.UNKNOWN` are left out.

    Args:
        classes: number of classes.

    Example:
        >>> scores = SegmentationScores(2)
        >>> scores.update(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1, 1]]))
        >>> {name: round(float(value), 3) for name, value in scores.compute().items()}
        {'pixel_accuracy': 0.75, 'class_accuracy': 0.833, 'miou': 0.583, 'relabelled': 0.75}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor) -> None:
        """Add label maps, integers of one shape with values from 0 to classes - 1; also UNKNOWN in the truth."""
        known = truth != UNKNOWN
        pairs = truth[known].long() * self.classes + found[known].long()
        self.confusion += torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def iou(self) -> Tensor:
        """Intersection over union of every class, [classes] in [0, 1]; NaN for classes that are not in the truth."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):  # of all ranks, as compute() is
            counts = self.confusion.double()
        hits, truths, answers = counts.diagonal(), counts.sum(1), counts.sum(0)
        return torch.where(truths > 0, hits / (truths + answers - hits), torch.nan).float()

    def largest(self) -> dict[str, Tensor]:
        """The scores of the most frequent class of the truth everywhere."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            truths, constant = self.confusion.sum(1), torch.zeros_like(self.confusion)
        constant[:, truths.argmax()] = truths
        return _scores(constant)

    def compute(self) -> dict[str, Tensor]:
        """The four scores, scalars in [0, 1]; NaN without any pixel."""
        return _scores(self.confusion)


def _scores(confusion: Tensor) -> dict[str, Tensor]:
    """The four scores of a confusion matrix [truths, answers]."""
    counts = confusion.double()
    hits, truths, answers = counts.diagonal(), counts.sum(1), counts.sum(0)
    there = truths > 0
    rows, columns = linear_sum_assignment(-confusion.cpu().numpy())
    return {
        "pixel_accuracy": (hits.sum() / counts.sum()).float(),
        "class_accuracy": (hits / truths)[there].mean().float(),
        "miou": (hits / (truths + answers - hits))[there].mean().float(),
        "relabelled": (counts[rows, columns].sum() / counts.sum()).float(),
    }
