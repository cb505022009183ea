"""One picture of several methods that change the same attributes of the same people."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from xdomain.batch import to_channels, to_float, to_uint8
from xdomain.data.attributes import with_and_without
from xdomain.errors import UserError
from xdomain.inference.sizes import square
from xdomain.methods import ContentMethod, Method
from xdomain.methods.editor import AttributeEditor

SMALLEST = 96  # pixels of a cell
TEXT = 14  # pixels of the largest letters
GAP = 4  # pixels between cells
APART = 4 * GAP  # between people
NOT_TRAINED, NEEDS_GUIDE = "not trained", "needs a guide"

Change = Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """One method.

    Attributes:
        label: what stands at the left.
        method: an attribute editor, or a method of content transfer whose domains differ in one attribute.
        rules: maps the method's domains to their rules over attributes; only needed of content transfer.
    """

    label: str
    method: Method
    rules: Mapping[str, str]


def change_of(row: Row, edit: str, rule: str) -> Change | str:
    """How a method makes a single edit of images, or in a few words why it cannot.

    Args:
        row: the method.
        edit: such as ``+Eyeglasses``.
        rule: the rule of that attribute.
    """
    method, (sign, name) = row.method, (edit[0], edit[1:])
    if isinstance(method, AttributeEditor):
        return partial(method.edit, attributes=edit) if name in method.names else NOT_TRAINED
    ends = with_and_without(method.domains, row.rules, rule)
    if not isinstance(method, ContentMethod) or ends is None:
        return NOT_TRAINED
    target, source = ends if sign == "+" else ends[::-1]
    if method.needs_guide("transfer", source, target):
        return NEEDS_GUIDE
    return partial(method.translate, source=source, target=target)


def rules_of(rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    """The rules of attributes by name: those that editors were trained with, else the names themselves.

    Raises:
        UserError: if two editors understand different things by a name.
    """
    rules: dict[str, str] = {}
    owner: dict[str, str] = {}
    for label, method, _ in rows:
        known = method.attributes if isinstance(method, AttributeEditor) else {}
        for name in (name for name in names if name in known):
            if rules.setdefault(name, known[name]) != known[name]:
                which = f"{rules[name]!r} to {owner[name]} and {known[name]!r} to {label}"
                raise UserError(f"{name} is {which}: give methods that mean the same, or leave it out of --attributes.")
            owner.setdefault(name, label)
    return {name: rules.get(name, name) for name in names}


@torch.inference_mode()
def strip(
    rows: Sequence[Row], people: Sequence[Tensor], edits: Sequence[Sequence[str]], device: str = "cpu"
) -> Image.Image:
    """A row per method; for each person the image as the method sees it, and each single edit of it.

    Args:
        rows: the methods; they are moved to the device.
        people: images ``uint8`` [C, H, W] of any size.
        edits: the edits of each person, such as ``+Eyeglasses``; as many for each.
        device: where the methods run.

    Raises:
        UserError: if a method can make none of the edits, or two editors understand different things by a name.
    """
    rules = rules_of(rows, [*dict.fromkeys(edit[1:] for own in edits for edit in own)])
    largest = max(row.method.image_size for row in rows)
    side = largest * -(-SMALLEST // largest)
    drawn: list[list[Tensor | str]] = []
    for row in rows:
        changes = {edit: change_of(row, edit, rules[edit[1:]]) for own in edits for edit in own}
        if not any(callable(change) for change in changes.values()):
            reasons = ", ".join(sorted({str(change) for change in changes.values()}))
            raise UserError(f"{row.label} makes none of the edits {', '.join(changes)} ({reasons}): leave it out.")
        row.method.to(device).eval()
        cells: list[Tensor | str] = []
        for person, own in zip(people, edits, strict=True):
            x = to_channels(to_float(person[None].to(device)), row.method.channels[0])
            seen = square(x, row.method.image_size)
            made = [change(seen) if callable(change) else change for change in (changes[edit] for edit in own)]
            cells += [cell if isinstance(cell, str) else _cell(cell, side) for cell in (seen, *made)]
        drawn.append(cells)
    return _composed([row.label for row in rows], drawn, [["input", *own] for own in edits], side)


def _cell(image: Tensor, side: int) -> Tensor:
    """An image [1, C, h, w] in [-1, 1] as ``uint8`` [side, side, 3]."""
    whole = side % image.shape[-1] == 0
    how = {"mode": "nearest"} if whole else {"mode": "bicubic", "antialias": True}
    large = interpolate(to_channels(image.float(), 3), (side, side), **how)
    return to_uint8(large)[0].permute(1, 2, 0).cpu()


def _composed(
    labels: Sequence[str], drawn: Sequence[Sequence[Tensor | str]], titles: Sequence[Sequence[str]], side: int
) -> Image.Image:
    """The picture of all cells, with labels at the left and titles above."""
    columns = [title for own in titles for title in own]
    size = TEXT
    while size > 6 and max(map(_font(size).getlength, columns)) > side:
        size -= 1
    font, height = _font(size), size + 2 * GAP
    left = round(max(map(_font(TEXT).getlength, labels))) + 3 * GAP
    starts = [
        left + number * (side + GAP) + person * APART
        for number, person in enumerate(person for person, own in enumerate(titles) for _ in own)
    ]
    canvas = Image.new("RGB", (starts[-1] + side, height + len(labels) * (side + GAP) - GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for start, title in zip(starts, columns, strict=True):
        pen.text((start + side / 2, height / 2), title, fill="black", font=font, anchor="mm")
    for number, (label, cells) in enumerate(zip(labels, drawn, strict=True)):
        top = height + number * (side + GAP)
        pen.text((GAP, top + side / 2), label, fill="black", font=_font(TEXT), anchor="lm")
        for start, cell in zip(starts, cells, strict=True):
            if isinstance(cell, str):
                pen.text((start + side / 2, top + side / 2), cell, fill="grey", font=font, anchor="mm")
            else:
                canvas.paste(Image.fromarray(cell.numpy()), (start, top))
    return canvas


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)
