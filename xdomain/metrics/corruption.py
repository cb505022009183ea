"""Errors of a classifier on corrupted images, and their means (Hendrycks and Dietterich, ICLR 2019)."""

import torch
from torch import Tensor
from torchmetrics import Metric

from xdomain.data.corruptions.table import CORRUPTIONS, GROUPS, SEVERITIES
from xdomain.errors import choice, refuse

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""Top-1 errors of AlexNet on ImageNet-C, means over the severities, from the code of AugMix."""
ALEXNET_CLEAN = 0.4348
"""Its error on the clean images, as usually quoted; not in the code above."""


class CorruptionErrors(Metric):
    """Top-1 errors on clean and corrupted images.

    ``compute()`` gives shares in [0, 1], and numbers on the scale of AlexNet, whose own is 100:

    ===========================  ======================================================================
    ``clean_error``              on images of severity 0, if there were any
    ``error/<corruption>``       mean over the severities seen
    ``error/<group>``            mean over the corruptions of ``noise``, ``blur``, ``weather``, ``digital``
    ``mean_corruption_error``    mean over the 15, as CIFAR-C has it; nothing is divided
    ``mce@alexnet``              mCE of ImageNet-C: every error divided by AlexNet's, mean over the 15, times 100
    ``relative_mce@alexnet``     the same of the rises over the clean error; needs clean images
    ===========================  ======================================================================

    Groups and means come only once their corruptions have been seen at all five severities. Every severity counts the
    same, however many images it has. AlexNet's errors are on ImageNet-C, so the last two mean something only there.

    Args:
        official_frost: whether the frost is that of the photographs; else every name that contains its errors ends
            in ``*``: ``error/frost*``, ``error/weather*``, ``mean_corruption_error*``, ``mce*@alexnet``.

    Example:
        >>> errors = CorruptionErrors()
        >>> errors.update(torch.tensor([1, 2, 3, 3]), torch.tensor([1, 2, 3, 4]), "fog", 1)
        >>> {name: round(float(value), 3) for name, value in errors.compute().items()}
        {'error/fog': 0.25}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    wrong: Tensor
    seen: Tensor

    def __init__(self, official_frost: bool = False) -> None:
        super().__init__()
        self.star = "" if official_frost else "*"
        for state in ("wrong", "seen"):  # row 0, column 0 for clean images
            zeros = torch.zeros(1 + len(CORRUPTIONS), 1 + len(SEVERITIES), dtype=torch.int64)
            self.add_state(state, zeros, dist_reduce_fx="sum")

    def update(self, predictions: Tensor, labels: Tensor, corruption: str | None = None, severity: int = 0) -> None:
        """Add answers on images of one corruption and severity.

        Args:
            predictions: classes, int64 [N], or logits [N, K].
            labels: int64 [N].
            corruption: one of the 15; None for clean images.
            severity: 1 to 5; 0 for clean images.

        Raises:
            SettingError: for an unknown corruption or severity.
        """
        if corruption is not None and corruption not in CORRUPTIONS:
            refuse(self, "corruption", corruption, f"give {choice(CORRUPTIONS)}.")
        if severity not in ((0,) if corruption is None else SEVERITIES):
            refuse(self, "severity", severity, "give 1 to 5 with a corruption, and 0 without.")
        row = 0 if corruption is None else 1 + CORRUPTIONS.index(corruption)
        answers = predictions.argmax(1) if predictions.ndim == 2 else predictions
        self.wrong[row, severity] += (answers != labels).sum()
        self.seen[row, severity] += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """What the images allow, scalars by name; see the class."""
        known = self.seen > 0
        errors = self.wrong.double() / self.seen
        found: dict[str, Tensor] = {}
        if known[0, 0]:
            found["clean_error"] = errors[0, 0]
        means = {name: errors[i][known[i]].mean() for i, name in enumerate(CORRUPTIONS, 1) if known[i].any()}
        whole = {name for i, name in enumerate(CORRUPTIONS, 1) if known[i, 1:].all()}
        found |= {f"error/{name}{self.star if name == 'frost' else ''}": mean for name, mean in means.items()}
        for group, names in GROUPS.items():
            if whole.issuperset(names):
                mean = torch.stack([means[name] for name in names]).mean()
                found[f"error/{group}{self.star if 'frost' in names else ''}"] = mean
        if whole.issuperset(CORRUPTIONS):
            ours = torch.stack([means[name] for name in CORRUPTIONS])
            theirs = ours.new_tensor([ALEXNET[name] for name in CORRUPTIONS])
            found[f"mean_corruption_error{self.star}"] = ours.mean()
            found[f"mce{self.star}@alexnet"] = 100 * (ours / theirs).mean()
            if known[0, 0]:
                rises = (ours - errors[0, 0]) / (theirs - ALEXNET_CLEAN)
                found[f"relative_mce{self.star}@alexnet"] = 100 * rises.mean()
        return {name: value.float() for name, value in found.items()}
