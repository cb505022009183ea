"""What ``xdomain translate`` can ask of a method: to translate, to move content, to work out of a single image."""

import inspect
from argparse import Namespace
from collections.abc import Iterable

from torch import Tensor
from torchvision.utils import make_grid

from xdomain.batch import to_uint8
from xdomain.errors import UserError, choice, did_you_mean
from xdomain.methods import Method, PyramidMethod
from xdomain.methods.content import ContentMethod

SINGLE = ("paint", "harmonise", "edit", "super_resolve")
"""Tasks of methods that have learned from a single image; but for the first, each is a function of the method."""
NO_GUIDES = "which takes no guides: leave --guide out"


def direction(method: Method, options: Namespace) -> tuple[str, str]:
    """Source and target: those of the options, otherwise the method's first and last domain.

    ``remove`` and ``swap`` begin where there is content. A guide turns the pair "with" and "without" around, unless the
    options name a domain: its content can only be wanted in the images that have none.
    """
    first, last = method.domains[0], method.domains[-1]
    if isinstance(method, ContentMethod):
        if options.task in ("remove", "swap"):
            first = method.contents[0]
        elif options.task in ("transfer", "add") and options.guide and not (options.source or options.target):
            first, last = (first, last) if last in method.contents else (last, first)
    return options.source or first, options.target or last


def check_task(method: Method, options: Namespace, source: str, target: str) -> None:
    """Raise a UserError if the method cannot do the task, or for a guide that is missing or of no use."""
    task, holder = options.task, f"{options.ckpt_path} holds a {type(method).__name__}"
    _check_single(method, options, holder)
    if isinstance(method, PyramidMethod):
        method.finest  # noqa: B018 - refuses one without training
    if not isinstance(method, ContentMethod):
        if task not in ("transfer", *SINGLE):
            raise UserError(f"{holder}, which knows no content to {task}: leave --task out.")
        if options.guide:
            raise UserError(f"{holder}, {NO_GUIDES}.")
        return
    if task == "mask" and not method.masked:
        raise UserError(f"{holder}, which has no masks: give another --task.")
    if task == "swap" and not method.guided:
        raise UserError(f"{holder}, which takes no guides, but --task swap needs them: give another --task.")
    if task == "swap" and source not in method.contents:
        raise UserError(f"images of {source} have no content to swap: give --source {choice(method.contents)}.")
    codes = ("common", *(method.contents if method.guided else ()))
    if task == "interpolate" and options.fixed not in codes:
        hint = did_you_mean(options.fixed, codes, f": give {choice(codes)}.")
        raise UserError(f"--fixed {options.fixed} is no code of {options.ckpt_path}{hint}")
    _check_guide(method, options, source, target)


def _check_single(method: Method, options: Namespace, holder: str) -> None:
    """What methods that have learned from a single image can do, and others cannot."""
    task, pyramid = options.task, isinstance(method, PyramidMethod)
    translates = type(method).translate is not Method.translate
    if task in SINGLE and not (pyramid and translates if task == "paint" else hasattr(method, task)):
        raise UserError(f"{holder}, which knows no task {task}: give another --task or checkpoint.")
    if task not in SINGLE and not translates:
        hint = " but makes random samples: use xdomain sample" if pyramid else ": give another"
        raise UserError(f"{holder}, which does not translate{hint}.")
    work = getattr(method, task) if task in SINGLE[1:] else method.translate
    start = inspect.signature(work).parameters.get("start")
    if options.start is not None and start is None:
        raise UserError(f"{holder}, which has no scales to start at: leave --start out.")
    if options.start is None and start is not None and start.default is start.empty:
        raise UserError(f"--task {task} needs --start: give the number of a scale.")


def _check_guide(method: ContentMethod, options: Namespace, source: str, target: str) -> None:
    task = options.task
    giving = task in ("transfer", "add")  # content of the target
    needed = method.guided and (task in ("swap", "interpolate") or (giving and target in method.contents))
    if needed and not options.guide:
        way = f" from {source} to {target}" if giving else ""
        images = "images" if task == "interpolate" else f"images of {target if giving else source}"
        raise UserError(f"--task {task}{way} needs a guide: give {images} with --guide.")
    if needed or not options.guide:
        return
    if not method.guided:
        raise UserError(f"{options.ckpt_path} holds a {type(method).__name__}, {NO_GUIDES}.")
    if not giving:
        raise UserError(f"--task {task} takes nothing from a guide: leave --guide out.")
    hint = f"leave --guide out, or give --target {choice(method.contents)}."
    raise UserError(f"images of {target} have no content that a guide could give: {hint}")


def pictures(
    method: Method, images: Tensor, guides: Tensor | None, options: Namespace, source: str, target: str
) -> Iterable[Tensor]:
    """What the task makes of images.

    Args:
        method: the method.
        images: float [N, C, H, W] in [-1, 1].
        guides: as many as images, likewise, or None; where the task needs them, masks [N, 1, H, W] in [0, 1].
        options: with ``task``, and with ``fixed``, ``steps``, ``start`` and ``factor``, where it needs them.
        source: name of the domain of the images.
        target: name of the domain to translate into.

    Returns:
        N pictures, ``uint8`` [C, H, W]: masks have one channel, interpolations are grids of tiles.
    """
    start = {} if options.start is None else {"start": options.start}
    if options.task in ("harmonise", "edit"):
        return to_uint8(getattr(method, options.task)(images, guides, **start))
    if options.task == "super_resolve":
        return to_uint8(getattr(method, options.task)(images, options.factor))
    if not isinstance(method, ContentMethod):
        return to_uint8(method.translate(images, source, target, **start))
    if options.task == "mask":
        return to_uint8(2 * method.mask(images) - 1)
    if options.task == "interpolate":
        others = images if guides is None else guides  # a method without guides ignores them
        return map(_grid, method.interpolate(images, others, options.fixed, options.steps))
    return to_uint8(method.translate(images, source, target, guide=guides, task=options.task))


def _grid(tiles: Tensor) -> Tensor:
    """One picture, ``uint8``, of tiles [rows, columns, C, H, W] in [-1, 1]."""
    picture: Tensor = make_grid(to_uint8(tiles.flatten(0, 1)), nrow=tiles.shape[1], padding=1)
    return picture[: tiles.shape[2]]  # make_grid turns grey into RGB
