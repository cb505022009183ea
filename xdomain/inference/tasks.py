"""The tasks that a method offers, and the options of each task."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor
from torchvision.utils import make_grid

from xdomain.batch import to_uint8
from xdomain.errors import SettingError, UserError, choice, did_you_mean, refuse
from xdomain.methods import Method

ROLES = ("images", "source", "target", "guide", "mask", "task", "count", "size")
"""Arguments of tasks that are not options: images, domains, the task itself, and the number and size of samples."""


def of_images(method: Method) -> dict[str, Callable[..., Any]]:
    """The tasks of a method that work on images."""
    return {name: function for name, function in method.tasks.items() if "images" in parameters(function)}


def of_noise(method: Method) -> dict[str, Callable[..., Any]]:
    """The tasks of a method that generate images from noise."""
    return {name: function for name, function in method.tasks.items() if "images" not in parameters(function)}


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a task by name."""
    return inspect.signature(function).parameters


def chosen(
    method: Method, tasks: Mapping[str, Callable[..., Any]], task: str, given: Collection[str]
) -> Callable[..., Any]:
    """The function of a task.

    Args:
        method: the method, for the error messages.
        tasks: the available tasks.
        task: name of the requested task.
        given: names of the arguments that will be passed.

    Raises:
        SettingError: for an unknown task, an unknown option, or a missing required one.
    """
    kind = type(method).__name__
    if task not in tasks:
        hint = did_you_mean(task, tasks, f": give {choice(tasks)}.")
        refuse(method, "task", task, f", which is nothing that this {kind} can do{hint}")
    takes = parameters(tasks[task])
    for name in given:
        if name not in takes:
            others = [other for other, function in tasks.items() if name in parameters(function)]
            known = [option for option in takes if option not in ("images", "task", "count")]
            why = f"is no option of {task} by this {kind}, which takes {' and '.join(known)}"
            if others:
                why = f"is for {choice(others)}, not for {task}"
            raise SettingError(method, name, f"{why}: leave it out.")
    for name, parameter in takes.items():
        optional = parameter.default is not parameter.empty or name in ("images", "source", "target", "count", "guide")
        if not optional and name not in given:
            what = "give images that are white where the work is to be done" if name == "mask" else "give a value"
            raise SettingError(method, name, f"is needed by {task}: {what}.")
    return tasks[task]


def no_translation(method: Method) -> UserError:
    """The error message for a method without tasks for images."""
    way = " but makes random samples: use xdomain sample" if of_noise(method) else ": give another"
    return UserError(f"a {type(method).__name__} does not translate{way}.")


def pictures(task: str, made: Tensor) -> Iterable[Tensor]:
    """The output of a task as ``uint8`` [C, H, W]: masks in grey, interpolations as grids of tiles.

    Args:
        task: name of the task.
        made: the return value of the task's function: float [N, C, H, W] in [-1, 1], masks [N, 1, H, W] in [0, 1], or
            tiles [N, rows, columns, C, H, W] in [-1, 1].
    """
    if made.ndim == 6:
        return map(_grid, made)
    return to_uint8(2 * made - 1 if task == "mask" else made)


def _grid(tiles: Tensor) -> Tensor:
    """One image, ``uint8``, of tiles [rows, columns, C, H, W] in [-1, 1]."""
    picture: Tensor = make_grid(to_uint8(tiles.flatten(0, 1)), nrow=tiles.shape[1], padding=1)
    return picture[: tiles.shape[2]]  # make_grid converts grey to RGB
