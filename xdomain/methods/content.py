"""Base class for content transfer: common codes, separate codes, and the tasks that recombine them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from xdomain.batch import Sample, to_float
from xdomain.errors import SettingError, UserError, choice, did_you_mean, refuse
from xdomain.methods.base import Method
from xdomain.methods.calibration import Calibration

Task = Literal["transfer", "remove", "add", "swap"]
MOST_TILES = 100
"""Largest number of tiles along a side of an interpolation; all tiles are held in memory."""

Codes = dict[str, Tensor]
"""``common`` and one separate code [N, D] per domain; the code of a domain that is left out counts as empty."""
Decode = Callable[[Codes, Tensor], Tensor]
Recombine = Callable[[Tensor, str, str | None, Tensor | None, Task], Tensor]


class Readout(nn.Module):
    """Changes how a trained method of content transfer is used, at inference only; see :mod:`xdomain.methods.readouts`.

    A subclass overrides the steps that it changes. Several read-outs wrap each other, those of higher ``order``
    outermost; they are fitted in order, lowest first.

    Attributes:
        order: position among other read-outs.
        learns: whether it must be fitted to training images.
        fitted_at: number of training batches after which it was fitted; -1 if it was not.
    """

    order = 0
    learns = True
    fitted_at: Tensor

    def __init__(self) -> None:
        super().__init__()
        if self.learns:
            self.register_buffer("fitted_at", torch.tensor(-1))

    @property
    def name(self) -> str:
        """Name of the read-out in checkpoints."""
        return type(self).__name__.lower()

    def build(self, method: "ContentMethod", common: int, separate: int) -> None:
        """Prepare for a method whose common and separate codes have these lengths.

        Raises:
            SettingError: if the method does not support this read-out.
        """

    def fit(self, method: "ContentMethod", common: Callable[[Tensor], Tensor]) -> None:
        """Fit to training images; ``common`` computes common codes as changed by the read-outs before this one."""

    def common(self, code: Tensor) -> Tensor:
        """The common code [N, D] to use instead of the encoder's."""
        return code

    def shown(self, images: Tensor, domain: int) -> Tensor:
        """The input of a domain's separate encoder, in place of images [N, C, H, W]."""
        return images

    def decode(self, decode: Decode, codes: Codes, images: Tensor) -> Tensor:
        """Images [N, C, H, W] of codes."""
        return decode(codes, images)

    def onto(
        self, method: "ContentMethod", images: Tensor, drawn: Tensor, source: str, removed: Tensor | None
    ) -> Tensor:
        """See :meth:`ContentMethod.onto`."""
        return drawn

    def recombine(
        self,
        method: "ContentMethod",
        recombine: Recombine,
        images: Tensor,
        source: str,
        given: str | None,
        guide: Tensor | None,
        task: Task,
    ) -> Tensor:
        """See :meth:`ContentMethod.recombine`."""
        return recombine(images, source, given, guide, task)

    def placed(self, grid: Tensor, images: Tensor, fixed: str) -> Tensor:
        """A grid [N, rows, columns, C, H, W] of interpolations with the code ``fixed`` unchanged."""
        return grid


class ContentMethod(Method):
    """Base class for methods that split an image into what all domains share and what only one domain has.

    A subclass encodes by :meth:`common` and :meth:`separate`, recombines by :meth:`decode`, and ends its constructor by
    :meth:`build_readouts`. Inference goes through the read-outs: :meth:`codes`, :meth:`translate`, :meth:`interpolate`.

    Args:
        readouts: changes to inference with the trained method; see :mod:`xdomain.methods.readouts`.
        options: see :class:`xdomain.methods.base.Method`.

    Attributes:
        contents: domains that have content of their own; for a pair "with" and "without" only the first.
        guided: whether content comes from a guide image; a method without guides has one content per domain.
        masked: whether the method has masks.
        knows_empty: whether the decoder is trained to draw images without content.
    """

    edits = True
    contents: tuple[str, ...]
    guided = True
    masked = False
    knows_empty = True

    def __init__(self, *args: Any, readouts: Sequence[Readout] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        if len(self.domains) != 2:
            raise UserError(f"{type(self).__name__} needs two domains, but the data has {len(self.domains)}: use two.")
        if len(set(self.channels)) > 1:
            raise UserError(
                f"{type(self).__name__} has one decoder for both domains, but they have {self.channels[0]} and "
                f"{self.channels[1]} channels: set the data's channels to the same number."
            )
        ordered = sorted(readouts, key=lambda readout: readout.order)
        self.readouts = nn.ModuleDict({readout.name: readout for readout in ordered})
        if len(self.readouts) < len(readouts):
            raise SettingError(self, "readouts", "names one twice: give each at most once.")
        self._trained_to = 0  # number of batches of a loaded checkpoint

    @property
    def _readouts(self) -> list[Readout]:
        return list(self.readouts.values())  # type: ignore[arg-type]

    def build_readouts(self, common: int, separate: int = 0) -> None:
        """Tell the read-outs the lengths of the common code and of a separate code."""
        for readout in self._readouts:
            readout.build(self, common, separate)

    def configure_callbacks(self) -> list[pl.Callback]:
        callbacks = super().configure_callbacks()
        if any(readout.learns for readout in self._readouts):
            callbacks.append(Calibration(self.readouts, self.calibrate, self.calibrated))
        return callbacks

    def calibrate(self) -> None:
        """Fit the read-outs to training images."""
        step = max(self.trainer.global_step, self._trained_to)
        common: Callable[[Tensor], Tensor] = self.common
        with torch.no_grad(), self.evaluating():
            for readout in self._readouts:
                if readout.learns:
                    readout.fit(self, common)
                    readout.fitted_at.fill_(step)
                common = partial(_chain, common, readout.common)

    def calibrated(self) -> bool:
        """Whether all read-outs were fitted to the current networks."""
        return all(not readout.learns or readout.fitted_at >= self._trained_to for readout in self._readouts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop the state of read-outs that are no longer used; new ones will be fitted."""
        super().on_load_checkpoint(checkpoint)
        own = {f"readouts.{name}": value for name, value in self.readouts.state_dict().items()}
        state = checkpoint["state_dict"]
        kept = {name: value for name, value in state.items() if not name.startswith("readouts.") or name in own}
        checkpoint["state_dict"] = own | kept
        self._trained_to = checkpoint.get("global_step", 0)
        if self._trainer is None and not self.calibrated():  # with a trainer, a callback fits them again
            rank_zero_info("These weights are later than the validation at which their read-outs were fitted.")

    # What a method implements

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
        """The common code [N, D], as in training."""
        raise NotImplementedError(f"{type(self).__name__} must implement common()")

    def separate(self, images: Tensor, domain: str) -> Tensor:
        """The separate code [N, D'] of one domain, as in training."""
        raise NotImplementedError(f"{type(self).__name__} must implement separate()")

    def decode(self, codes: Codes, images: Tensor) -> Tensor:
        """Decode codes to images [N, C, H, W] in [-1, 1]; ``images`` are those that the common code came from."""
        raise NotImplementedError(f"{type(self).__name__} must implement decode()")

    # Guides: the one place that decides when they are used

    def needs_guide(self, task: str, source: str, target: str) -> bool:
        """Whether a task needs guides: it does if it adds content and every image of the domain has its own."""
        if not self.guided or task in ("remove", "mask"):
            return False
        return task == "interpolate" or (source if task == "swap" else target) in self.contents

    def check_guide(self, task: str, source: str, target: str, given: bool) -> None:
        """Raise a SettingError for guides that are missing or that the task does not use."""
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

        ``remove`` and ``swap`` start from a domain with content. With a guide and no domain given, the pair "with" and
        "without" is reversed: content can only be added to images that have none.
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
        """Soft masks [N, 1, H, W] in [0, 1] of the first domain's content, or of where a guide's content would be."""
        raise NotImplementedError(f"{type(self).__name__} has no masks")

    def ramped(self, weight: float, ramp: int, start: int = 0) -> float:
        """A weight that is 0 until batch ``start``, then grows over ``ramp`` batches, or at once if ``ramp`` is 0."""
        done = self.trainer.global_step - start
        return 0.0 if done < 0 else weight * min(1.0, done / ramp) if ramp else weight

    def check_interpolation(self, fixed: str, steps: int) -> None:
        """Raise a SettingError for an unknown code or a wrong number of steps."""
        codes = ("common", *(self.contents if self.guided else ()))
        if fixed not in codes:
            refuse(self, "fixed", fixed, f", which is no code{did_you_mean(fixed, codes, f': give {choice(codes)}.')}")
        if not 2 <= steps <= MOST_TILES:
            refuse(self, "steps", steps, f"give a number of tiles from 2 to {MOST_TILES}.")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode, and back afterwards."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    # Inference, through the read-outs

    def read_common(self, images: Tensor) -> Tensor:
        """The common code [N, D] of images [N, C, H, W] in [-1, 1]."""
        code = self.common(images)
        for readout in self._ready():
            code = readout.common(code)
        return code

    def read_separate(self, images: Tensor, domain: str) -> Tensor:
        """The separate code [N, D'] of one domain of images [N, C, H, W] in [-1, 1]."""
        for readout in self._ready():
            images = readout.shown(images, self.domains.index(domain))
        return self.separate(images, domain)

    def draw(self, codes: Codes, images: Tensor) -> Tensor:
        """Decode codes to images [N, C, H, W] in [-1, 1]; ``images`` are those that the common code came from."""
        decode: Decode = self.decode
        for readout in self._ready():
            decode = partial(readout.decode, decode)
        return decode(codes, images)

    def onto(self, images: Tensor, drawn: Tensor, source: str, removed: Tensor | None = None) -> Tensor:
        """What a translation shows: by default the decoding.

        Args:
            images: the images [N, C, H, W] that are translated.
            drawn: the decoding [N, C, H, W] of their recombined codes.
            source: their domain.
            removed: soft mask [1, 1, H, W] of where the source's content is removed, if that is known.
        """
        for readout in self._ready():
            drawn = readout.onto(self, images, drawn, source, removed)
        return drawn

    def _ready(self) -> list[Readout]:
        """The read-outs.

        Raises:
            UserError: if one of them has not been fitted yet.
        """
        for readout in self._readouts:
            if readout.learns and readout.fitted_at < 0:
                raise UserError(
                    f"{type(readout).__name__} of this {type(self).__name__} has learned nothing yet, as it does at "
                    "every validation and at the end of training: train on, or take a later checkpoint."
                )
        return self._readouts

    def codes(self, images: Tensor) -> Codes:
        """All codes of images [N, C, H, W] in [-1, 1]."""
        with self.evaluating():
            return {"common": self.read_common(images)} | {d: self.read_separate(images, d) for d in self.contents}

    def translate(
        self,
        images: Tensor,
        source: str,
        target: str,
        guide: Tensor | None = None,
        task: Task = "transfer",
    ) -> Tensor:
        """Remove the source's content and add the target's.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            source: name of the domain that the images come from.
            target: name of the domain to translate into.
            guide: images [N, C, H, W] that provide the content: of the target domain, for ``swap`` of the source
                domain. If source equals target, each image is its own guide, which reconstructs it.
            task: which codes to exchange. ``remove`` only removes content, ``add`` only adds it, ``swap`` replaces the
                source's content by that of another image of the source domain.

        Returns:
            float [N, C, H, W] in [-1, 1].

        Raises:
            UserError: for an unknown task or domain, or if a guide is missing.
        """
        if task not in get_args(Task):
            raise UserError(f"task is {task!r}: give one of {', '.join(get_args(Task))}.")
        self.check_domains(source, target)
        given = source if task == "swap" else target
        if task == "swap" and source not in self.contents:
            refuse(self, "source", source, f", which has no content to swap: give {choice(self.contents)}.")
        recombine: Recombine = self.recombine
        for readout in self._ready():
            recombine = partial(readout.recombine, self, recombine)
        if task == "remove" or given not in self.contents:
            return recombine(images, source, None, None, task)
        if guide is None and source == target and task != "swap":
            guide = images
        if guide is None:
            self.check_guide(task, source, target, given=False)
        return recombine(images, source, given, guide, task)

    def predicted(self, sample: Sample) -> Tensor:
        """Translations of source images; guides, where needed, are the target's test images in order."""
        source, target = self.directions[0]
        if not self.needs_guide("transfer", source, target):
            return self.translate(sample.image, source, target)
        others = self.data.data(self.data.role_of(target), "test")
        guides = others.__getitems__((sample.position % len(others)).tolist()).image
        return self.translate(sample.image, source, target, to_float(guides.to(self.device)))

    def remove(self, images: Tensor, source: str) -> Tensor:
        """Remove the source's content."""
        return self.translate(images, source, source, task="remove")

    def add(self, images: Tensor, source: str, target: str, guide: Tensor | None = None) -> Tensor:
        """Add the target's content from a guide and keep the image's own."""
        return self.translate(images, source, target, guide, task="add")

    def swap(self, images: Tensor, source: str, guide: Tensor) -> Tensor:
        """Replace the source's content by that of a guide of the same domain."""
        return self.translate(images, source, source, guide, task="swap")

    def recombine(self, images: Tensor, source: str, given: str | None, guide: Tensor | None, task: Task) -> Tensor:
        """Images with the content of a domain from a guide; they keep their own content if the task is ``add``."""
        with self.evaluating():
            codes = {"common": self.read_common(images)}
            if task == "add" and source in self.contents:
                codes[source] = self.read_separate(images, source)
            if given is not None and guide is not None:
                codes[given] = self.read_separate(guide, given)
            return self.onto(images, self.draw(codes, images), source)

    def interpolate(self, images: Tensor, guide: Tensor | None = None, fixed: str = "common", steps: int = 7) -> Tensor:
        """A grid of interpolations: one code stays fixed, the others go from the image's to the guide's.

        Args:
            images: float [N, C, H, W] in [-1, 1].
            guide: likewise.
            fixed: the code of the image that stays fixed: ``common`` or a domain with content.
            steps: number of tiles along a side.

        Returns:
            [N, rows, steps, C, H, W]; one row if only a single code varies.

        Raises:
            SettingError: for an unknown code, a wrong number of steps, or a missing guide.
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
                    cells.append(self.draw(codes, images))
            rows.append(torch.stack(cells, 1))
        grid = torch.stack(rows, 1)
        for readout in self._ready():
            grid = readout.placed(grid, images, fixed)
        return grid


def _chain(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return second(first(x))
