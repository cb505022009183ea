"""Answers that no model has given, in the place of translations: what they reach is not worth anything."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from xdomain.callbacks.measures import ContentChange, HitRate, Measure, Transfers

BLURS = (1.0, 2.0, 3.0, 4.0)
"""Standard deviations of the blurs, in 64ths of the image's height."""

COMPARED = (
    *("hit_rate", "removed", "added", "identity", "identified", "removed_identified", "added_identified"),
    *("l1", "l1_inside", "l1_outside", "kid", "fid", "colour_of_guide", "colour_of_source"),
)

Null = Callable[[Transfers], Tensor]


def blurred(images: Tensor, strength: float) -> Tensor:
    """Images [N, C, H, W], blurred by a Gaussian; its standard deviation is in 64ths of their height."""
    sigma = strength * images.shape[-2] / 64
    size = 2 * max(1, round(3 * sigma)) + 1
    result: Tensor = gaussian_blur(images, [size, size], [sigma, sigma])
    return result


class NullRows:
    """The measures of a direction, of four answers without a model.

    ``untranslated``: the source image; ``blurred``: the source image, with that of several blurs that is best by
    ``removed``, else by ``hit_rate``, else by ``added``; ``random``: an image of the target domain; ``mean``: the mean
    of that domain.

    Args:
        direction: see :class:`xdomain.callbacks.measures.HitRate`.
        build: makes the measures, anew for every answer.
        mean: the mean [C, H, W] of the images of the target domain.
    """

    def __init__(self, direction: str, build: Callable[[], Iterable[Measure]], mean: Tensor) -> None:
        self.direction = direction
        answers: dict[str, Null] = {
            "untranslated": lambda batch: batch.images,
            "random": _of_target,
            "mean": lambda batch: mean.expand(len(batch.images), -1, -1, -1),
        }
        for strength in BLURS:
            answers[f"blurred {strength}"] = partial(_blurred, strength)
        self.rows = {name: (answer, [*build()]) for name, answer in answers.items()}

    def update(self, batch: Transfers) -> None:
        """Add a batch of pairs; its outputs are not looked at."""
        for answer, measures in self.rows.values():
            for measure in measures:
                measure.update(batch._replace(outputs=answer(batch)))

    def compute(self) -> dict[str, Tensor]:
        """The values by metric name, with the answer after the name of the metric, as in ``removed_blurred/D``."""
        blurs = [name for name in self.rows if name.startswith("blurred ")]
        best = max(blurs, key=lambda name: _score(self.rows[name][1]))
        values = {f"blur/{self.direction}": torch.tensor(float(best.split()[1]))}
        for name, (_, measures) in self.rows.items():
            if name == best or name not in blurs:
                suffix = f"_{name.split()[0]}/"
                found = {key: value for measure in measures for key, value in measure.compute().items()}
                compared = {key: value for key, value in found.items() if key.split("/")[0] in COMPARED}
                values |= {key.replace("/", suffix, 1): value for key, value in compared.items()}
        return values


def _score(measures: Sequence[Measure]) -> float:
    """What one of several blurs is chosen by."""
    judged = [measure.compute() for measure in measures if isinstance(measure, (ContentChange, HitRate))]
    found = {key.split("/")[0]: float(value) for values in judged for key, value in values.items()}
    return next((found[key] for key in ("removed", "hit_rate", "added") if key in found), 0.0)


def _blurred(strength: float, batch: Transfers) -> Tensor:
    return blurred(batch.images, strength)


def _of_target(batch: Transfers) -> Tensor:
    assert batch.others is not None
    return batch.others
