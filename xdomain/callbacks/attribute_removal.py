"""Evaluation of removals by attribute editors, as those of content transfer."""

from collections.abc import Callable, Sequence

import pytorch_lightning as pl
from torch import Tensor

from xdomain.callbacks.attribute_edits import editor
from xdomain.callbacks.content import ContentTransfer
from xdomain.callbacks.content_masks import ContentMasks
from xdomain.callbacks.evaluation import DrawnEvaluation
from xdomain.callbacks.reading import thorough
from xdomain.data.attributes import AttributeDomains, with_and_without
from xdomain.data.base import Split
from xdomain.errors import choice, refuse
from xdomain.methods import ContentMethod, Method
from xdomain.methods.content import Task
from xdomain.methods.editor import AttributeEditor


class AttributeRemoval(DrawnEvaluation):
    """Removals by an attribute editor, measured as those by methods of content transfer on the same images.

    Each of ``domains`` divides the editor's images into those with an attribute and those without; the editor takes it
    away from the former. The metrics are those of :class:`xdomain.callbacks.ContentTransfer` in that direction, such as
    ``kid/glasses_to_plain@random-conv`` and ``removed/glasses_to_plain``, and those of
    :class:`xdomain.callbacks.ContentMasks`; a method that was trained on these two domains has the same pairs. Only in
    the test, and by the command ``validate``.

    Args:
        domains: presets of two domains that differ in one attribute of the method, such as ``glasses``.
        attributes: recipe of a classifier of attributes.
        embedder: recipe of a network whose features encode identity.
        strength: strength of the edits.
        pairs: see :class:`xdomain.callbacks.ContentTransfer`.
        images: see :class:`xdomain.callbacks.ContentMasks`.
    """

    def __init__(
        self,
        domains: Sequence[str],
        attributes: str,
        embedder: str | None = None,
        strength: float = 1.0,
        pairs: int = 1000,
        images: int = 500,
    ) -> None:
        self.domains, self.strength = tuple(domains), strength
        self.transfers = {
            preset: ContentTransfer(attributes=attributes, embedder=embedder, pairs=pairs) for preset in self.domains
        }
        self.masks = ContentMasks(attributes, images=images)

    def check(self, module: Method, split: Split) -> None:
        for preset, transfer in self.transfers.items():
            removal = self._removal(module, preset)
            transfer.directions = [[removal.contents[0], next(d for d in removal.domains if d not in removal.contents)]]
            transfer.check(removal, split)
            transfer.probing = False  # an editor has no codes
            self.masks.check(removal, split)

    def measure(self, trainer: pl.Trainer, module: Method) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for preset, transfer in self.transfers.items() if thorough(trainer) else ():
            removal = self._removal(module, preset)
            values |= transfer.measure(trainer, removal) | self.masks.measure(trainer, removal)
        return values

    def _removal(self, module: Method, preset: str) -> "Removal":
        method = editor(self, module)
        data = method.attributed().divided(preset)
        found = {name: with_and_without(data.domains, data.rules, rule) for name, rule in method.attributes.items()}
        name, ends = next(((name, ends) for name, ends in found.items() if ends), ("", None))
        if ends is None:
            reason = f", whose domains do not differ in {choice(method.names)} alone: leave it out."
            refuse(self, "domains", preset, reason)
        return Removal.by(method, data, ends[0], lambda x: method.edit(x, f"-{name}", self.strength))


class Removal(ContentMethod):
    """An attribute editor in the place of a method of content transfer that can do one thing: remove."""

    guided = False
    images: AttributeDomains
    remover: Callable[[Tensor], Tensor]

    @classmethod
    def by(
        cls, method: AttributeEditor, data: AttributeDomains, content: str, remover: Callable[[Tensor], Tensor]
    ) -> "Removal":
        """The removal of a domain's content.

        Args:
            method: the editor.
            data: its data, divided into the domain with the content and one without it.
            content: name of the domain with the content.
            remover: what the editor does to its images.
        """
        removal = cls(domains=data.domains, channels=data.channels, image_size=data.image_size)
        removal.to(method.device)
        removal.contents, removal.images, removal.remover = (content,), data, remover
        return removal

    @property
    def data(self) -> AttributeDomains:
        """The images of both domains."""
        return self.images

    def translate(
        self, images: Tensor, source: str, target: str, guide: Tensor | None = None, task: Task = "transfer"
    ) -> Tensor:
        return self.remover(images)
