"""What the methods of content transfer share: common codes, separate codes, and one vocabulary to recombine them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from xdomain.errors import UserError
from xdomain.methods.base import Method

Task = Literal["transfer", "remove", "add", "swap"]
Codes = dict[str, Tensor]
"""``common`` and one code [N, D] for every domain whose content is there; a domain that is missing is empty."""


class ContentMethod(Method):
    """Base of the methods that split an image into what all domains share and what only one domain has.

    A subclass encodes by :meth:`common` and :meth:`content` and recombines by :meth:`decode`; everything that can be
    asked of it then is a choice of codes.

    Attributes:
        contents: the domains that have content of their own; of a pair "with" and "without" only the first.
        guided: whether content comes from a guide image; a method without guides has one content per domain.
        masked: whether the method has masks.
    """

    contents: tuple[str, ...]
    guided = True
    masked = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if len(self.domains) != 2:
            raise UserError(f"{type(self).__name__} needs two domains, but the data has {len(self.domains)}: use two.")
        if len(set(self.channels)) > 1:
            raise UserError(
                f"{type(self).__name__} has one decoder for both domains, but they have {self.channels[0]} and "
                f"{self.channels[1]} channels: set the data's channels to the same number."
            )

    def common(self, images: Tensor) -> Tensor:
        """What all domains share, [N, D]."""
        raise NotImplementedError(f"{type(self).__name__} must implement common()")

    def content(self, images: Tensor, domain: str) -> Tensor:
        """What only images of one domain have, [N, D']."""
        raise NotImplementedError(f"{type(self).__name__} must implement content()")

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] of codes; ``images`` are those that the common code came from."""
        raise NotImplementedError(f"{type(self).__name__} must implement decode()")

    def mask(self, images: Tensor, guide: Tensor | None = None) -> Tensor:
        """Where the content of the first domain is, or that of a guide would be: soft masks [N, 1, H, W] in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no masks")

    def ramped(self, weight: float, ramp: int, start: int = 0) -> float:
        """A weight that is 0 up to the batch ``start`` and grows over the ``ramp`` batches from there; at once if 0."""
        done = self.trainer.global_step - start
        return 0.0 if done < 0 else weight * min(1.0, done / ramp) if ramp else weight

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode, and back."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def codes(self, images: Tensor) -> Codes:
        """All codes of images [N, C, H, W] in [-1, 1]."""
        with self.evaluating():
            return {"common": self.common(images)} | {d: self.content(images, d) for d in self.contents}

    def translate(
        self,
        images: Tensor,
        source: str,
        target: str,
        guide: Tensor | None = None,
        task: Task = "transfer",
        **options: Any,
    ) -> Tensor:
        """Recombine codes.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            guide: images [N, C, H, W] whose content is wanted: of the target domain, for ``swap`` of the source domain.
                From a domain to itself the images guide themselves, which reconstructs them.
            task: ``transfer`` takes the source's content away and gives the target's; ``remove`` only takes, ``add``
                only gives; ``swap`` replaces the source's content by that of another image of the source domain.
            options: none.

        Returns:
            float [N, C, H, W] in [-1, 1].

        Raises:
            UserError: for an unknown task or domain, or where a guide is needed.
        """
        if task not in get_args(Task):
            raise UserError(f"task is {task!r}: give one of {', '.join(get_args(Task))}.")
        for domain in (source, target):
            if domain not in self.domains:
                raise UserError(f"{domain!r} is no domain of this method: it knows {' and '.join(self.domains)}.")
        given = source if task == "swap" else target
        if task == "swap" and source not in self.contents:
            raise UserError(f"images of {source} have no content to swap: take those of {self.contents[0]}.")
        if task == "remove" or given not in self.contents:
            return self.recombine(images, source, None, None, task)
        if guide is None and source == target and task != "swap":
            guide = images
        if guide is None and self.guided:
            raise UserError(f"{task} from {source} to {target} needs a guide: give images of {given}.")
        return self.recombine(images, source, given, guide, task)

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        """Images with the content of a domain from a guide, and with their own where the task is ``add``."""
        with self.evaluating():
            codes = {"common": self.common(images)}
            if task == "add" and source in self.contents:
                codes[source] = self.content(images, source)
            if given is not None and guide is not None:
                codes[given] = self.content(guide, given)
            return self.decode(codes, images)

    def interpolate(self, images: Tensor, others: Tensor, fixed: str, steps: int) -> Tensor:
        """Codes on a grid between two images: one stays, the others run from those of the first to the second's.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            others: likewise.
            fixed: the code of ``images`` that stays: ``common`` or a domain in :attr:`contents`.
            steps: number of values j / (steps - 1) along an axis.

        Returns:
            [N, rows, steps, C, H, W]; one row where a single code is left to vary.

        Raises:
            UserError: for an unknown code.
        """
        first, second = self.codes(images), self.codes(others)
        if fixed not in first:
            raise UserError(f"fixed is {fixed!r}, but the codes are {', '.join(first)}: give one of them.")
        *down, across = [name for name in first if name != fixed]
        weights = torch.linspace(0, 1, steps).tolist()
        rows = []
        for v in weights if down else [0.0]:
            cells = []
            for w in weights:
                codes = {fixed: first[fixed], across: first[across].lerp(second[across], w)}
                codes |= {name: first[name].lerp(second[name], v) for name in down}
                with self.evaluating():
                    cells.append(self.decode(codes, images))
            rows.append(torch.stack(cells, 1))
        return torch.stack(rows, 1)
