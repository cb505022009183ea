"""The embedded faces: avatars with identities and attributes that need no download, drawn as photos or as emojis."""

import inspect
from typing import Any, Literal

import torch
from torch import Tensor

from xdomain.data.attributes import AttributeDomains
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.engines import avatar_face, avatar_schema, avatar_wear, drawing, schema, shapes
from xdomain.engines import avatars as engine
from xdomain.errors import UserError

# Now, when what is imported and the files agree.
SOURCE = "".join(map(inspect.getsource, (engine, avatar_face, avatar_schema, avatar_wear, drawing, schema, shapes)))
IDENTITY = [p for p in engine.SCHEMA.parameters if p.group == "identity" or p.name == "presentation"]
APART = 10**8  # identities of validation begin here, those of the test and strangers at multiples of it


class Avatars(AttributeDomains):
    """Cartoon faces drawn from seed and number, as photos or as emojis: RGB, domains by attributes.

    Drawn once and memory-mapped from the cache folder. An image is the same in every part and style that contains its
    identity and number. No identity is in two of training, validation and test. Attributes have the names of CelebA,
    of which the engine knows :data:`xdomain.engines.avatars.ATTRIBUTES`. Labels are identities, numbered from 0 in each
    part.

    Args:
        domains: name of a preset, or one or two rules by the name of the domain; see
            :class:`xdomain.data.attributes.AttributeDomains`. ``{photo: "*"}`` takes all.
        style: ``photo`` (shaded, lit, before a wall), ``emoji`` (flat, outlined, upright), or ``both``: emojis at the
            odd numbers of every identity.
        image_size: height and width in pixels.
        identities: number of training identities.
        images_per_identity: training images of each.
        val_identities: number of validation identities.
        test_identities: number of test identities.
        eval_images_per_identity: validation and test images of each.
        first_identity: number of the first training identity, so that two modules may train on different people; those
            of validation and test are the same for all.
        world_seed: seed of the world; equal numbers are other people in another world.
    """

    attribute_names = engine.ATTRIBUTES
    identity_size = sum(p.size for p in IDENTITY)

    def __init__(
        self,
        domains: str | dict[str, str] = "smile_glasses",
        style: Literal["photo", "emoji", "both"] = "photo",
        image_size: int = 64,
        identities: int = 1500,
        images_per_identity: int = 10,
        val_identities: int = 100,
        test_identities: int = 300,
        eval_images_per_identity: int = 5,
        first_identity: int = 0,
        world_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(domains, **options)
        for name, value in {
            "image_size": image_size,
            "identities": identities,
            "images_per_identity": images_per_identity,
            "val_identities": val_identities,
            "test_identities": test_identities,
            "eval_images_per_identity": eval_images_per_identity,
        }.items():
            if value < 1:
                raise UserError(f"{name} is {value}: give a number of at least 1.")
        if not 0 <= first_identity <= APART - max(identities, val_identities, test_identities):
            raise UserError(f"first_identity is {first_identity}: give a number between 0 and 99 million.")
        self.style, self.image_size, self.world_seed = style, image_size, world_seed
        self.people: dict[Split, tuple[int, int, int]] = {
            "train": (first_identity, identities, images_per_identity),
            "val": (APART, val_identities, eval_images_per_identity),
            "test": (2 * APART, test_identities, eval_images_per_identity),
        }

    def parameters(self, split: Split) -> Tensor:
        """What the engine draws a whole part from, float32 [N, P]; :meth:`rows` are positions in it."""
        _, identities, images = self.people[split]
        return self._draw(split, 0, identities * images)[1]

    def identity_values(self, role: str, split: Split) -> Tensor:
        """What makes the identities of a role's images, float32 [N, :attr:`identity_size`].

        The parameters of identity and presentation, shifted and scaled to mean 0 and deviation 1 where all values are
        equally frequent; a choice of k values takes k columns, which share the deviation.
        """
        u = self.parameters(split)[self.rows(role, split)]
        v, columns = engine.SCHEMA.one_hot(u), []
        for p in IDENTITY:
            part = v[:, engine.SCHEMA.slices[p.name]]
            mean, deviation = (1 / p.size, (1 - 1 / p.size) ** 0.5) if p.values else (0.5, 12**-0.5)
            columns.append((part - mean) / deviation)
        return torch.cat(columns, 1)

    def load(self, split: Split) -> ImageData:
        first, identities, images = self.people[split]
        count = identities * images

        def make(begin: int, end: int) -> Arrays:
            return {"images": self._render(self._draw(split, begin, end)[1], torch.arange(begin, end) % images).numpy()}

        key = f"{self.people[split]} {self.world_seed} {self.image_size} {self.style} {SOURCE}"
        arrays = cached_arrays(f"avatars-{self.style}-{split}", key, count, make)  # a changed engine draws anew
        who, u = self._draw(split, 0, count)
        return ImageData(arrays["images"], (who - first).numpy(), engine.attributes(u).numpy())

    def _draw(self, split: Split, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Identities int64 [n] and parameters float32 [n, P] of some rows of a part: identity by identity."""
        first, _, images = self.people[split]
        row = torch.arange(begin, end)
        who = first + row // images
        return who, engine.draw_parameters(who, row % images, self.world_seed)

    def _render(self, u: Tensor, number: Tensor) -> Tensor:
        """Images ``uint8`` [n, 3, H, W] of parameters [n, P]; ``number`` of each among those of its identity."""
        if self.style != "both":
            return engine.render(u, self.image_size, self.style)
        emoji = number % 2 == 1
        result = torch.empty(len(u), 3, self.image_size, self.image_size, dtype=torch.uint8)
        result[~emoji] = engine.render(u[~emoji], self.image_size, "photo")
        result[emoji] = engine.render(u[emoji], self.image_size, "emoji")
        return result

    @property
    def world_key(self) -> str:
        """Everything that the pictures of strangers depend on."""
        return f"{self.world_seed} {self.image_size} {self.style} {SOURCE}"

    def strangers(self, begin: int, end: int) -> Tensor:
        """One image each of people who are in no part, numbered from 0, ``uint8`` [N, 3, H, W]."""
        who = torch.arange(begin, end)
        number = torch.zeros_like(who)
        return self._render(engine.draw_parameters(3 * APART + who, number, self.world_seed), number)

    def counterparts(self, split: Split, positions: list[int], of: BaseDataModule) -> Tensor:
        """The images of another module at these positions of its first domain, drawn in the style of this one.

        Returns:
            ``uint8`` [N, 3, H, W].

        Raises:
            UserError: if the other module holds no avatars.
        """
        if not isinstance(of, Avatars):
            raise UserError(f"{type(of).__name__} has no parameters that avatars could be drawn from: use Avatars.")
        u = of.parameters(split)[of.rows("a", split)[positions]]
        return self._render(u, torch.ones(len(u), dtype=torch.int64))
