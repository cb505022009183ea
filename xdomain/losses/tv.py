"""Total variation."""

from torch import Tensor


def total_variation(images: Tensor, power: float = 1.0, eps: float = 1e-6) -> Tensor:
    """Anisotropy-free total variation: sum over pixels of (dx^2 + dy^2)^(power / 2), mean over channels and batch.

    Taigman et al. 2017, equation 7 (B = ``power``). Summed over pixels, as the published weight 0.05 expects.

    Args:
        images: float [N, C, H, W].
        power: exponent B.
        eps: added under the root; without it flat regions have infinite gradients for B < 2.

    Returns:
        scalar, at least 0.
    """
    dx = images[..., :-1, 1:] - images[..., :-1, :-1]
    dy = images[..., 1:, :-1] - images[..., :-1, :-1]
    variation: Tensor = ((dx.square() + dy.square() + eps) ** (power / 2) - eps ** (power / 2)).sum((2, 3)).mean()
    return variation
