"""Names, groups and parameters of the common corruptions.

From the generating scripts of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019: a table for CIFAR-C (32 pixels), one for Tiny-ImageNet-C (64), one for ImageNet-C (224).
"""

from typing import Literal

from xdomain.errors import choice, refuse

Scale = Literal["cifar", "tiny", "imagenet"]
Parameters = tuple[float, ...]

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for names in GROUPS.values() for name in names)
"""The 15 corruptions that numbers are reported on, in the official order."""
VALIDATION = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Four more, to choose settings on."""
NAMES = CORRUPTIONS + VALIDATION
SEVERITIES = (1, 2, 3, 4, 5)
LARGEST = {"cifar": 48, "tiny": 128}
"""Longest side in pixels of an image of these scales; all larger ones are of the scale ``imagenet``."""


def scale_of(height: int, width: int) -> Scale:
    """The table for images of a size."""
    side = max(height, width)
    return "cifar" if side <= LARGEST["cifar"] else "tiny" if side <= LARGEST["tiny"] else "imagenet"


def parameters(name: str, severity: int, scale: Scale) -> Parameters:
    """The parameters of a corruption, in the order of its function's docstring.

    Raises:
        SettingError: for an unknown corruption or severity.
    """
    if name not in NAMES:
        refuse(None, "corruption", name, f"give {choice(NAMES)}.")
    if severity not in SEVERITIES:
        refuse(None, "severity", severity, "give 1, 2, 3, 4 or 5.")
    return TABLE[name][scale][severity - 1]


def _row(*values: float | Parameters) -> tuple[Parameters, ...]:
    assert len(values) == len(SEVERITIES)
    return tuple(value if isinstance(value, tuple) else (value,) for value in values)


def _with(last: float, *values: Parameters) -> tuple[Parameters, ...]:
    return _row(*((*value, last) for value in values))


ZOOMS = _row((7, 0.01), (12, 0.01), (16, 0.01), (21, 0.01), (26, 0.01))
"""Number of factors, and step from one to the next. The scripts write ranges of floats that end at 1.06, 1.11 and so
on; these are the numbers of values that they have."""

TABLE: dict[str, dict[Scale, tuple[Parameters, ...]]] = {
    "gaussian_noise": {
        "cifar": _row(0.04, 0.06, 0.08, 0.09, 0.10),
        "tiny": _row(0.04, 0.08, 0.12, 0.15, 0.18),
        "imagenet": _row(0.08, 0.12, 0.18, 0.26, 0.38),
    },
    "shot_noise": {
        "cifar": _row(500, 250, 100, 75, 50),
        "tiny": _row(250, 100, 50, 30, 15),
        "imagenet": _row(60, 25, 12, 5, 3),
    },
    "impulse_noise": {
        "cifar": _row(0.01, 0.02, 0.03, 0.05, 0.07),
        "tiny": _row(0.01, 0.02, 0.05, 0.08, 0.14),
        "imagenet": _row(0.03, 0.06, 0.09, 0.17, 0.27),
    },
    "defocus_blur": {
        "cifar": _row((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "tiny": _row((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "imagenet": _row((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    },
    "glass_blur": {
        "cifar": _row((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "tiny": _row((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "imagenet": _row((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    },
    "motion_blur": {
        "cifar": _row((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "tiny": _row((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "imagenet": _row((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    },
    "zoom_blur": {
        "cifar": ZOOMS,
        "tiny": ZOOMS,
        "imagenet": _row((12, 0.01), (16, 0.01), (11, 0.02), (13, 0.02), (11, 0.03)),
    },
    "snow": {
        "cifar": _row(
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "tiny": _row(
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "imagenet": _row(
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    },
    "frost": {
        "cifar": _with(0.2, (1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        "tiny": _with(0.3, (1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        "imagenet": _with(1.0, (1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    },
    "fog": {
        "cifar": _row((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "tiny": _row((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "imagenet": _row((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    },
    "brightness": {
        "cifar": _row(0.05, 0.1, 0.15, 0.2, 0.3),
        "tiny": _row(0.1, 0.2, 0.3, 0.4, 0.5),
        "imagenet": _row(0.1, 0.2, 0.3, 0.4, 0.5),
    },
    "contrast": {
        "cifar": _row(0.75, 0.5, 0.4, 0.3, 0.15),
        "tiny": _row(0.4, 0.3, 0.2, 0.1, 0.05),
        "imagenet": _row(0.4, 0.3, 0.2, 0.1, 0.05),
    },
    "elastic_transform": {  # 244 is a slip in the scripts for 224, part of the published images
        "cifar": _with(32, (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        "tiny": _with(64, (0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
        "imagenet": _with(
            244, (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
        ),
    },
    "pixelate": {
        "cifar": _row(0.95, 0.9, 0.85, 0.75, 0.65),
        "tiny": _row(0.9, 0.8, 0.7, 0.6, 0.5),
        "imagenet": _row(0.6, 0.5, 0.4, 0.3, 0.25),
    },
    "jpeg_compression": {
        "cifar": _row(80, 65, 58, 50, 40),
        "tiny": _row(65, 58, 50, 40, 25),
        "imagenet": _row(25, 18, 15, 10, 7),
    },
    "speckle_noise": {
        "cifar": _row(0.06, 0.1, 0.12, 0.16, 0.2),
        "tiny": _row(0.15, 0.2, 0.25, 0.3, 0.35),
        "imagenet": _row(0.15, 0.2, 0.35, 0.45, 0.6),
    },
    "gaussian_blur": {
        "cifar": _row(0.4, 0.6, 0.7, 0.8, 1),
        "tiny": _row(0.5, 0.75, 1, 1.25, 1.5),
        "imagenet": _row(1, 2, 3, 4, 6),
    },
    "spatter": {
        "cifar": _row(
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        "tiny": _row(
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ),
        "imagenet": _row(
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    },
    "saturate": {
        "cifar": _row((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        "tiny": _row((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
        "imagenet": _row((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    },
}
"""The parameters of severity 1 to 5."""
