"""Distance of translations from the true results, which only synthetic data knows."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import structural_similarity_index_measure

from xdomain.metrics.masks import unit_masks


class CounterfactualError(Metric):
    """Error of images in [-1, 1] against the true counterfactual: the same scene with one attribute changed.

    ==================================  ============================================================================
    ``l1``                              mean absolute difference, in [0, 2]
    ``psnr``                            10 log10(4 / MSE) in dB of the mean MSE of all images; infinite if it is 0
    ``ssim``                            of Wang et al. 2004 on [0, 1], 11 x 11 Gaussian of 1.5, borders reflected, at
                                        most 1
    ``l1_inside``, ``mse_inside``       inside the mask, where the change belongs: missing change
    ``l1_outside``, ``mse_outside``     outside of it: unwanted change
    ``n``, ``n_inside``, ``n_outside``  images; images with a mask that is not empty; with one that is not full
    ==================================  ============================================================================

    Values are means over images; a soft mask weights the pixels. Values that are defined for no image are left out.

    Example:
        >>> metric = CounterfactualError()
        >>> truth, mask = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
        >>> output = truth.clone()
        >>> output[..., :8, :] += 0.5
        >>> mask[..., :4, :] = 1
        >>> metric.update(output, truth, mask)
        >>> {name: round(value.item(), 3) for name, value in metric.compute().items() if name.startswith(("l1", "n"))}
        {'l1': 0.25, 'n': 1, 'l1_inside': 0.5, 'n_inside': 1, 'l1_outside': 0.167, 'n_outside': 1}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", default=torch.zeros(3, 3), dist_reduce_fx="sum")  # whole, inside, outside: L1, MSE, SSIM
        self.add_state("counts", default=torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, truth: Tensor, mask: Tensor | None = None) -> None:
        """Add images.

        Args:
            output: translated images, float [N, C, H, W]; clamped to [-1, 1].
            truth: true results, likewise.
            mask: where they differ from their sources, [N, 1, H, W] in [0, 1] or ``uint8`` in [0, 255].

        Raises:
            ValueError: for other shapes or integers.
        """
        if output.shape != truth.shape:
            raise ValueError(f"outputs {tuple(output.shape)} and truth {tuple(truth.shape)} differ in shape")
        if not (output.is_floating_point() and truth.is_floating_point()):
            raise ValueError(f"images must be float in [-1, 1], not {output.dtype} and {truth.dtype}")
        if mask is not None and mask.shape != output[:, :1].shape:
            raise ValueError(f"masks {tuple(mask.shape)} do not fit images {tuple(output.shape)}")
        output, truth = output.float().clamp(-1, 1), truth.float().clamp(-1, 1)
        # SSIM compares means as ratios, which needs non-negative values. Its map is averaged here because some versions
        # of torchmetrics leave out the border.
        ssim = structural_similarity_index_measure(
            (output + 1) / 2, (truth + 1) / 2, data_range=1.0, reduction="none", return_full_image=True
        )[1]
        difference = (output - truth).abs().mean(1, keepdim=True)
        square = (output - truth).square().mean(1, keepdim=True)
        maps = torch.cat([difference, square, ssim.mean(1, keepdim=True)], dim=1)
        self._add(0, maps, torch.ones_like(difference))
        if mask is not None:
            weights = unit_masks(mask)
            self._add(1, maps, weights)
            self._add(2, maps, 1 - weights)

    def _add(self, row: int, maps: Tensor, weights: Tensor) -> None:
        total = weights.sum((1, 2, 3))
        means = (maps * weights).sum((2, 3)) / total[:, None]
        self.sums[row] += means[total > 0].sum(0)
        self.counts[row] += (total > 0).sum()

    def compute(self) -> dict[str, Tensor]:
        """The values of the table."""
        means = self.sums / self.counts[:, None]
        l1, mse, ssim = means[0]
        values = {"l1": l1, "psnr": 10 * (4 / mse).log10(), "ssim": ssim, "n": self.counts[0].clone()}
        for row, where in ((1, "inside"), (2, "outside")):
            if self.counts[row] > 0:
                values |= {f"l1_{where}": means[row, 0], f"mse_{where}": means[row, 1]}
                values[f"n_{where}"] = self.counts[row].clone()
        return values
