"""What the methods of content transfer share: common codes, separate codes, and one vocabulary to recombine them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from xdomain.errors import SettingError, UserError, choice, did_you_mean, refuse
from xdomain.methods.base import Method

Task = Literal["transfer", "remove", "add", "swap"]
MOST_TILES = 100
"""Along a side of an interpolation; the pictures of all tiles are in memory."""

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

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        first, second = self.domains
        return (first, second), (second, first)

    @property
    def tasks(self) -> dict[str, Callable[..., Any]]:
        own: dict[str, Callable[..., Any]] = {"transfer": self.translate, "remove": self.remove, "add": self.add}
        if self.guided:
            own |= {"swap": self.swap}
        own |= {"interpolate": self.interpolate}
        return own | {"mask": self.mask} if self.masked else own

    def common(self, images: Tensor) -> Tensor:
        """What all domains share, [N, D]."""
        raise NotImplementedError(f"{type(self).__name__} must implement common()")

    def content(self, images: Tensor, domain: str) -> Tensor:
        """What only images of one domain have, [N, D']."""
        raise NotImplementedError(f"{type(self).__name__} must implement content()")

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        """Images [N, C, H, W] in [-1, 1] of codes; ``images`` are those that the common code came from."""
        raise NotImplementedError(f"{type(self).__name__} must implement decode()")

    # Guides: the one place that knows when they are of use

    def needs_guide(self, task: str, source: str, target: str) -> bool:
        """Whether a task needs guides: where it gives content, and every image of a domain has content of its own."""
        if not self.guided or task in ("remove", "mask"):
            return False
        return task == "interpolate" or (source if task == "swap" else target) in self.contents

    def check_guide(self, task: str, source: str, target: str, given: bool) -> None:
        """Raise a SettingError for guides that are missing or of no use."""
        needed = self.needs_guide(task, source, target)
        if needed and not given:
            way, giver = f" from {source} to {target}", f" of {target}"
            if task not in ("transfer", "add"):
                way, giver = "", "" if task == "interpolate" else f" of {source}"
            raise SettingError(self, "guide", f"is needed by {task}{way}: give images{giver}.")
        if not given or needed or (task == "mask" and self.guided):
            return
        if not self.guided:
            raise SettingError(self, "guide", f"is given, but a {type(self).__name__} takes none: leave it out.")
        if task == "remove":
            raise SettingError(self, "guide", "is given, but remove takes nothing from it: leave it out.")
        way = f"leave it out, or set target to {choice(self.contents)}"
        raise SettingError(self, "guide", f"is given, but images of {target} have no content to take from it: {way}.")

    def direction(
        self, task: str, source: str | None = None, target: str | None = None, guided: bool = False
    ) -> tuple[str, str]:
        """See :meth:`xdomain.methods.base.Method.direction`.

        ``remove`` and ``swap`` begin where there is content. A guide turns the pair "with" and "without" around, unless
        a domain is given: its content can only be wanted in images that have none.
        """
        if task in ("remove", "swap"):
            source = source or self.contents[0]
        elif guided and not (source or target) and self.domains[-1] not in self.contents:
            target = self.contents[0]
        source, target = super().direction(task, source, target, guided)
        if task == "swap" and source not in self.contents:
            refuse(self, "source", source, f", which has no content to swap: give {choice(self.contents)}.")
        self.check_guide(task, source, target, guided)
        return source, target

    def mask(self, images: Tensor, guide: Tensor | None = None) -> Tensor:
        """Where the content of the first domain is, or that of a guide would be: soft masks [N, 1, H, W] in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} has no masks")

    def ramped(self, weight: float, ramp: int, start: int = 0) -> float:
        """A weight that is 0 up to the batch ``start`` and grows over the ``ramp`` batches from there; at once if 0."""
        done = self.trainer.global_step - start
        return 0.0 if done < 0 else weight * min(1.0, done / ramp) if ramp else weight

    def check_interpolation(self, fixed: str, steps: int) -> None:
        """Raise a SettingError for a code that is not there, or for too few steps."""
        codes = ("common", *(self.contents if self.guided else ()))
        if fixed not in codes:
            refuse(self, "fixed", fixed, f", which is no code{did_you_mean(fixed, codes, f': give {choice(codes)}.')}")
        if not 2 <= steps <= MOST_TILES:
            refuse(self, "steps", steps, f"give a number of tiles from 2 to {MOST_TILES}.")

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
    ) -> Tensor:
        """Take the source's content away and give the target's.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            guide: images [N, C, H, W] whose content is wanted: of the target domain, for ``swap`` of the source domain.
                If source equals target, each image is its own guide, which reconstructs it.
            task: another choice of codes: ``remove`` only takes, ``add`` only gives;
                ``swap`` replaces the source's content by that of another image of the source domain.

        Returns:
            float [N, C, H, W] in [-1, 1].

        Raises:
            UserError: for an unknown task or domain, or where a guide is needed.
        """
        if task not in get_args(Task):
            raise UserError(f"task is {task!r}: give one of {', '.join(get_args(Task))}.")
        self.check_domains(source, target)
        given = source if task == "swap" else target
        if task == "swap" and source not in self.contents:
            refuse(self, "source", source, f", which has no content to swap: give {choice(self.contents)}.")
        if task == "remove" or given not in self.contents:
            return self.recombine(images, source, None, None, task)
        if guide is None and source == target and task != "swap":
            guide = images
        if guide is None:
            self.check_guide(task, source, target, given=False)
        return self.recombine(images, source, given, guide, task)

    def remove(self, images: Tensor, source: str) -> Tensor:
        """Take the source's content away."""
        return self.translate(images, source, source, task="remove")

    def add(self, images: Tensor, source: str, target: str, guide: Tensor | None = None) -> Tensor:
        """Give the target's content, out of a guide, and keep the image's own."""
        return self.translate(images, source, target, guide, task="add")

    def swap(self, images: Tensor, source: str, guide: Tensor) -> Tensor:
        """Replace the source's content by that of a guide from the same domain."""
        return self.translate(images, source, source, guide, task="swap")

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        """Images with the content of a domain from a guide, and with their own where the task is ``add``."""
        with self.evaluating():
            codes = {"common": self.common(images)}
            if task == "add" and source in self.contents:
                codes[source] = self.content(images, source)
            if given is not None and guide is not None:
                codes[given] = self.content(guide, given)
            return self.decode(codes, images)

    def interpolate(self, images: Tensor, guide: Tensor | None = None, fixed: str = "common", steps: int = 7) -> Tensor:
        """A grid of tiles: one code stays, the others run from the image's to the guide's.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            guide: likewise.
            fixed: the code of the image that stays, common or a domain with content.
            steps: number of tiles along a side.

        Returns:
            [N, rows, steps, C, H, W]; one row where a single code is left to vary.

        Raises:
            SettingError: for an unknown code, too few steps, or a guide that is missing.
        """
        self.check_interpolation(fixed, steps)
        if guide is None:
            self.check_guide("interpolate", self.domains[0], self.domains[1], given=False)
        first, second = self.codes(images), self.codes(images if guide is None else guide)
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
