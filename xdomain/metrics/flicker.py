"""How much a translated video flickers."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchmetrics import Metric

STILL = 3
"""A pixel of the input stands still between two frames if no channel changes by as many of 255 levels."""


class Flicker(Metric):
    """Mean absolute changes from frame to frame where the input stands still, in levels from 0 to 255.

    ``flicker`` is that of the translation, ``flicker_input`` that of the input at the same places, and ``still`` the
    share of pixels that stand still; flicker is NaN where none does. No optical flow is needed, and what moves is not
    measured.
    """

    totals: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("totals", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self._last: tuple[Tensor, Tensor] | None = None

    def update(self, before: Tensor, after: Tensor) -> None:
        """Add the frames that follow those of earlier calls.

        Args:
            before: frames of the input, ``uint8`` [N, 3, H, W].
            after: their translations, ``uint8`` [N, 3, h, w]; frames of the input are brought to this size.
        """
        x, y = before.float(), after.float()
        if x.shape[2:] != y.shape[2:]:
            x = interpolate(x, y.shape[2:], mode="bilinear", antialias=True)
        kept = (x[-1:], y[-1:])
        if self._last is not None:
            x, y = (torch.cat(pair) for pair in zip(self._last, (x, y), strict=True))
        self._last = kept
        changes, made = x.diff(dim=0).abs(), y.diff(dim=0).abs().mean(1)
        still = changes.amax(1) < STILL
        sums = [made[still].sum(), changes.mean(1)[still].sum(), still.sum(), torch.tensor(still.numel())]
        self.totals += torch.stack([value.double() for value in sums])

    def compute(self) -> dict[str, Tensor]:
        made, own, still, count = self.totals
        return {"flicker": made / still, "flicker_input": own / still, "still": still / count}

    def reset(self) -> None:
        super().reset()
        self._last = None
