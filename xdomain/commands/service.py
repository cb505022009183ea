"""What ``xdomain serve`` does with the images of a request: exactly what ``xdomain translate`` does with files."""

import inspect
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from xdomain.commands.options import ROLES, check_numbers, task_options
from xdomain.commands.translate import image_tasks, opened, translate_parser, translated
from xdomain.discover import TaskOption
from xdomain.errors import UserError, choice, did_you_mean, refuse
from xdomain.inference.places import kept
from xdomain.inference.program import Program
from xdomain.inference.tasks import no_translation, of_images, parameters
from xdomain.methods import Method
from xdomain.pixels import check_size
from xdomain.running.outputs import MOST_PIXELS

FILES = ("image", "guide", "mask")
"""Parts of a request that are image files; all others are short texts."""
ENDS = ("source", "target")


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        size: bytes of a request, with all that it holds.
        pixels: of an image.
        seconds: until a request has arrived, its header and its body each.
        waiting: requests at a time, with the one that is worked on.
    """

    size: int = 32 * 2**20
    pixels: int = MOST_PIXELS
    seconds: int = 60
    waiting: int = 8


class Service:
    """A trained method, or an exported program, for one request after the other.

    Args:
        path: as ``--ckpt_path`` of ``xdomain translate``.
        allow: likewise.
        device: likewise.
        limits: of a request.

    Attributes:
        facts: what a page must know to offer it, as JSON.

    Raises:
        UserError: if it cannot be loaded, or translates no images.
    """

    def __init__(self, path: str, allow: tuple[str, ...] = (), device: str = "auto", limits: Limits | None = None):
        self.limits, self._device = limits or Limits(), device
        self._known = image_tasks()
        self._parser = translate_parser(self._known)
        self._model = opened(path, allow)
        if isinstance(self._model, Program) and device != "auto":
            refuse(None, "device", device, ", but an exported program has no such option: leave it out.")
        if isinstance(self._model, Method) and not of_images(self._model):
            raise no_translation(self._model)
        tasks = self._program(self._model) if isinstance(self._model, Program) else self._method(self._model)
        kind = self._model.facts["method"] if isinstance(self._model, Program) else type(self._model).__name__
        self.facts = {
            "method": kind,
            "from": path,
            "tasks": tasks,
            "bytes": self.limits.size,
            "pixels": self.limits.pixels,
        }

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of short texts that a request may have: options of ``xdomain translate`` that are no paths."""
        of_tasks = {name for entry in self._known.values() for name in entry.options if name not in ROLES}
        return (*ENDS, "task", "size", "seed", *sorted(of_tasks))

    def translate(self, files: Mapping[str, BinaryIO], texts: Mapping[str, str]) -> bytes:
        """Translate an image, as ``xdomain translate`` would a PNG file of its pixels.

        Args:
            files: by names in :data:`FILES`; the image itself must be there.
            texts: by names in :attr:`fields`.

        Returns:
            the content of a PNG file.

        Raises:
            UserError: if the image cannot be translated.
        """
        for name in texts:
            if name not in self.fields:
                raise UserError(
                    f"{name} is no option{did_you_mean(name, self.fields, f': give {choice(self.fields)}.')}"
                )
        if "image" not in files:
            raise UserError("image is missing: give an image file.")
        with TemporaryDirectory(prefix="xdomain-") as name:
            folder = Path(name)
            try:
                return self._translate(folder, files, texts)
            except UserError as error:  # a client knows nothing of the folder
                raise UserError(re.sub(rf"{re.escape(name)}/\w+/(\w+)\.png", r"the \1", str(error))) from error

    def _translate(self, folder: Path, files: Mapping[str, BinaryIO], texts: Mapping[str, str]) -> bytes:
        words = [f"--{name}={text}" for name, text in texts.items()]
        for role, content in files.items():
            path = folder / role / f"{role}.png"
            path.parent.mkdir()
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
            check_size(path, self.limits.pixels)
            words.append(f"--{'input' if role == 'image' else role}={path}")
        words += ["--ckpt_path=", f"--output={folder / 'made'}", f"--device={self._device}"]
        options = self._parser.parse_args(words)
        check_numbers(options, seed=0)
        with kept() as reasons:
            try:
                translated(self._model, options, task_options(options, self._known))
            except UserError:  # a file that is skipped says why, what follows from that need not be said
                if not reasons:
                    raise
        if reasons:
            raise reasons[0]
        return (folder / "made" / "image.png").read_bytes()

    def _method(self, method: Method) -> list[dict[str, Any]]:
        """The tasks of a method, with the domains between which they work and what they take."""
        found = []
        for task, function in of_images(method).items():
            takes = parameters(function)
            directions: list[dict[str, str]] = []
            for pair in method.directions:
                ends = {end: name for end, name in zip(ENDS, pair, strict=True) if end in takes}
                if ends not in [{end: way[end] for end in ends} for way in directions] and (
                    guide := _guide(method, task, ends, takes)
                ):
                    directions.append({**ends, "guide": guide})
            entry = self._known.get(task)
            found.append(
                {
                    "name": task,
                    "doc": entry.doc if entry else "",
                    "directions": directions,
                    "mask": "mask" in takes,
                    "options": [
                        _option(name, entry.options[name], value.default)
                        for name, value in takes.items()
                        if name not in ROLES and entry and name in entry.options
                    ],
                }
            )
        return found

    def _program(self, program: Program) -> list[dict[str, Any]]:
        """Likewise for the one task of a program."""
        facts, options = program.facts, []
        entry = self._known[facts["task"]]
        if facts["attributes"]:
            options.append(_option("attributes", entry.options["attributes"], inspect.Parameter.empty))
        ends = {end: facts[end] for end in ENDS}
        direction = {**ends, "guide": "needed" if facts["guide"] else "none"}
        return [{"name": facts["task"], "doc": entry.doc, "directions": [direction], "mask": False, "options": options}]


def _guide(method: Method, task: str, ends: Mapping[str, str], takes: Mapping[str, inspect.Parameter]) -> str:
    """Whether a guide is ``needed``, ``optional`` or taken by ``none``; empty for domains that the task refuses."""
    ways = []
    for guided in (False, True):
        with suppress(UserError):
            method.direction(task, guided=guided, **ends)
            ways.append(guided)
    if "guide" not in takes:
        return "none" if False in ways else ""
    return {(False, True): "optional", (True,): "needed", (False,): "none"}.get(tuple(ways), "")


def _option(name: str, option: TaskOption, default: object) -> dict[str, Any]:
    """An option of a task as a field of a form."""
    words = re.match(r"Literal\[(.*)\]$", option.annotation)
    return {
        "name": name,
        "doc": option.doc.replace("``", ""),
        "kind": {"int": "whole", "float": "number"}.get(option.annotation, "text"),
        "choices": re.findall(r"'([^']*)'", words[1]) if words else [],
        "default": None if default is inspect.Parameter.empty else default,
    }
