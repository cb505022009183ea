"""Synthetic faces: avatars with identities and attributes that need no download, drawn as photos or as emojis."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from xdomain.data.attributes import AttributeDomains
from xdomain.data.base import BaseDataModule, ImageData, Split
from xdomain.data.cache import Arrays, cached_arrays
from xdomain.engines import avatars as engine
from xdomain.engines.avatar_schema import EDITS, HAIR_STYLES
from xdomain.engines.interventions import Interventions
from xdomain.engines.schema import Schema
from xdomain.errors import UserError

IDENTITY = [p for p in engine.SCHEMA.parameters if p.group == "identity" or p.name == "presentation"]
CONTENT = {"smile": "Smiling", "glasses": "Eyeglasses", "beard": "Facial_Hair", "hat": "Wearing_Hat"}
"""Maps the name of a domain to the attribute that is its content; other domains have none."""
PARTS = {"Smiling": "mouth", "Eyeglasses": "glasses", "Facial_Hair": "facial_hair", "Wearing_Hat": "hat"}
SHARED = ("skin_tone", "face_width", "eye_height", "hair_style", "hair_colour", "smile")
"""Parameters that every avatar with hair and without a hat shows."""
SEEN = {
    "Smiling": ("smile",),
    "Eyeglasses": ("glasses", "frame"),
    "Facial_Hair": ("beard",),
    "Wearing_Hat": ("hat", "hat_colour"),
}
"""Parameters of a content that every picture with it shows."""
APART = 10**8  # identities of validation start here, those of the test and of strangers at multiples of it


class Avatars(AttributeDomains):
    """Cartoon faces drawn from seed and index, as photos or as emojis: RGB, domains by attributes.

    Drawn once and memory-mapped from the cache folder. An image is the same in every part and style that contains its
    identity and number. No identity is in two of training, validation and test. Attributes have CelebA's names, of
    which the engine knows :data:`xdomain.engines.avatars.ATTRIBUTES`. Labels are identities, numbered from 0 in each
    part.

    Args:
        domains: name of a preset, or a mapping from domain names to rules; see
            :class:`xdomain.data.attributes.AttributeDomains`. ``{photo: "*"}`` takes all.
        style: ``photo`` (shaded, lit, in front of a wall), ``emoji`` (flat, outlined, upright), or ``both``: the images
            with odd numbers of every identity are emojis.
        image_size: height and width in pixels.
        identities: number of training identities.
        images_per_identity: number of training images per identity.
        val_identities: number of validation identities.
        test_identities: number of test identities.
        eval_images_per_identity: number of validation and test images per identity.
        first_identity: index of the first training identity, so that two modules can train on different people; those
            of validation and test are always the same.
        nuisance: amount of variation that is neither identity nor attribute, from 0 to 1. Below 1, walls are plain, and
            pose, lighting, colours of wall and clothes, noise and blur vary by this share.
        world_seed: seed of the world; with another seed, the same indices are other people.
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
        nuisance: float = 1.0,
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
        if not 0 <= nuisance <= 1:
            raise UserError(f"nuisance is {nuisance}: give a share between 0 and 1.")
        self.style, self.image_size, self.nuisance, self.world_seed = style, image_size, nuisance, world_seed
        self.people: dict[Split, tuple[int, int, int]] = {
            "train": (first_identity, identities, images_per_identity),
            "val": (APART, val_identities, eval_images_per_identity),
            "test": (2 * APART, test_identities, eval_images_per_identity),
        }

    def parameters(self, split: Split) -> Tensor:
        """Engine parameters of a whole part, float32 [N, P]; :meth:`rows` gives positions in it."""
        _, identities, images = self.people[split]
        return self._draw(split, 0, identities * images)[1]

    def drawn_from(self, role: str, split: Split, schema: Schema) -> Tensor | None:
        if not set(schema.names) <= set(engine.SCHEMA.names):
            return None
        return self.parameters(split)[self.rows(role, split)][:, [engine.SCHEMA.index(name) for name in schema.names]]

    def identity_values(self, role: str, split: Split) -> Tensor:
        """Values that define the identities of a role's images, float32 [N, :attr:`identity_size`].

        The parameters of identity and presentation, standardised to mean 0 and standard deviation 1 for equally
        frequent values; a choice among k values takes k columns, which share the deviation.
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

        key = f"{self.people[split]} {self.world_key}"
        arrays = cached_arrays(f"avatars-{self.style}-{split}", key, count, make)  # a new engine version is drawn again
        who, u = self._draw(split, 0, count)
        return ImageData(arrays["images"], (who - first).numpy(), engine.attributes(u).numpy())

    def _draw(self, split: Split, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Identities int64 [n] and parameters float32 [n, P] of some rows of a part, ordered by identity."""
        first, _, images = self.people[split]
        row = torch.arange(begin, end)
        who = first + row // images
        return who, self._calm(engine.draw_parameters(who, row % images, self.world_seed))

    def _calm(self, u: Tensor) -> Tensor:
        """The same avatars [n, P] with variation reduced to ``nuisance``."""
        if self.nuisance == 1:
            return u
        u = u.clone()
        for i in engine.SCHEMA.groups["nuisance"]:
            p = engine.SCHEMA.parameters[i]
            if p.name == "background":
                u[:, i] = p.values.index("plain")
            elif p.name != "noise_seed":
                rest = 0.0 if p.name in ("noise", "blur") else (p.low + p.high) / 2
                u[:, i] = rest + self.nuisance * (u[:, i] - rest)
        return u

    def _render(self, u: Tensor, number: Tensor) -> Tensor:
        """Images ``uint8`` [n, 3, H, W] of parameters [n, P]; ``number`` counts within the identity."""
        return self._in_style(u, number, lambda u, style: engine.render(u, self.image_size, style))

    def _masks(self, u: Tensor, number: Tensor, attributes: list[str]) -> Tensor:
        """Masks ``uint8`` [n, 1, H, W] of where any of some attributes is visible, likewise."""

        def draw(u: Tensor, style: engine.Style) -> Tensor:
            masks = engine.render_masks(u, self.image_size, style)
            return torch.stack([masks[PARTS[name]] for name in attributes]).amax(0)

        return self._in_style(u, number, draw)

    def _in_style(self, u: Tensor, number: Tensor, draw: Callable[[Tensor, engine.Style], Tensor]) -> Tensor:
        """Apply ``draw`` to parameters [n, P] in the style of each image."""
        if self.style != "both":
            return draw(u, self.style)
        emoji = number % 2 == 1
        photos, emojis = draw(u[~emoji], "photo"), draw(u[emoji], "emoji")
        result = photos.new_empty(len(u), *photos.shape[1:])
        result[~emoji], result[emoji] = photos, emojis
        return result

    @property
    def world_key(self) -> str:
        """Everything that the images of given people depend on."""
        calm = "" if self.nuisance == 1 else f"nuisance {self.nuisance} "
        return f"{self.world_seed} {self.image_size} {self.style} {calm}{engine.VERSION}"

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "world": self.world_key, "people": self.people}

    def strangers(self, begin: int, end: int) -> Tensor:
        """One image each of people who are in no part, numbered from 0, ``uint8`` [N, 3, H, W]."""
        who = torch.arange(begin, end)
        number = torch.zeros_like(who)
        return self._render(self._calm(engine.draw_parameters(3 * APART + who, number, self.world_seed)), number)

    def counterparts(self, split: Split, positions: list[int], of: BaseDataModule) -> Tensor:
        """Another module's images at these positions of its first domain, drawn in the style of this module.

        Returns:
            ``uint8`` [N, 3, H, W].

        Raises:
            UserError: if the other module does not hold avatars.
        """
        if not isinstance(of, Avatars):
            raise UserError(f"{type(of).__name__} has no parameters that avatars could be drawn from: use Avatars.")
        u = of.parameters(split)[of.rows("a", split)[positions]]
        return self._render(u, torch.ones(len(u), dtype=torch.int64))

    def counterfactual(
        self,
        source_role: str,
        target_role: str,
        positions: list[int],
        donors: list[int],
        split: Split,
        task: Literal["transfer", "remove", "add", "swap"] = "transfer",
    ) -> tuple[Tensor, Tensor]:
        """The true result of a content transfer: the same images with only the attributes changed.

        :data:`CONTENT` gives the attribute of a domain by its name.

        Args:
            source_role: role of the images that are changed.
            target_role: role of the images that provide the content.
            positions: indices of the source images.
            donors: index of the target image that provides the content for each; for ``swap``, of a source image.
            split: the part of the data.
            task: see :class:`xdomain.methods.content.ContentMethod`.

        Returns:
            ``uint8`` [N, 3, H, W], and soft masks ``uint8`` [N, 1, H, W] of where the content of the images or of the
            true results is visible; for a smile, the mouth.

        Raises:
            UserError: if neither domain has content that the task could change.
        """
        given_role = source_role if task == "swap" else target_role
        lost, given = (CONTENT.get(self.domains[self.roles.index(role)]) for role in (source_role, given_role))
        lost, given = (None if task == "add" else lost), (None if task == "remove" else given)
        if lost is None and given is None:
            raise UserError(
                f"avatars have no counterfactual for {task} between {' and '.join(self.domains)}: a domain with "
                f"content must be called {', '.join(CONTENT)}."
            )
        parameters, rows = self.parameters(split), torch.from_numpy(self.rows(source_role, split))[positions]
        source = truth = parameters[rows]
        if lost is not None:
            truth = engine.with_attribute(truth, lost, False)
        if given is not None:
            donor = parameters[self.rows(given_role, split)[donors]]
            truth = engine.with_attribute(truth, given, True, donor)
        number = rows % self.people[split][2]
        changed = [name for name in (lost, given) if name is not None]
        mask = torch.maximum(self._masks(source, number, changed), self._masks(truth, number, changed))
        return self._render(truth, number), mask

    def interventions(self, role: str, split: Split) -> Interventions | None:
        """What can be changed in a role's images, all photos or all emojis; None if its domain has no known content.

        The changes are the content; the person, with everything that is the same in all images of an identity; and the
        parameters of :data:`SHARED`, one by one. People with a hat, which hides the hair, or without hair are left out,
        unless hats are the content.
        """
        content = CONTENT.get(self.domains[self.roles.index(role)])
        if content is None:
            return None
        u, schema = self.parameters(split)[self.rows(role, split)], engine.SCHEMA
        shared = tuple(name for name in SHARED if name not in SEEN[content])
        hair = u[:, schema.index("hair_style")].round() != HAIR_STYLES.index("bald")
        if content == "Wearing_Hat":
            shared = tuple(name for name in shared if name != "hair_style")
        else:
            hair &= u[:, schema.index("hat")].round() == 0
        decider, _, _, along = EDITS[content]
        changes = {"content": (decider, *along), "person": tuple(p.name for p in IDENTITY)}
        style: engine.Style = "emoji" if self.style == "emoji" else "photo"
        return Interventions(
            schema=schema,
            u=u[hair],
            content=SEEN[content],
            shared=shared,
            changes=changes | {name: (name,) for name in shared},
            draw=lambda u: engine.render(u, self.image_size, style),
            removed=lambda u: engine.with_attribute(u, content, False),
        )

    @property
    def masked_domains(self) -> tuple[str, ...]:
        """Domains whose content is an object with a mask, unlike a smile."""
        return tuple(domain for domain in self.domains if CONTENT.get(domain, "Smiling") != "Smiling")

    def content_mask(self, role: str, positions: list[int], split: Split) -> Tensor:
        """Soft masks ``uint8`` [N, 1, H, W] of where the content of a role's images is visible.

        Raises:
            UserError: if the role's domain is not in :attr:`masked_domains`.
        """
        domain = self.domains[self.roles.index(role)]
        if domain not in self.masked_domains:
            raise UserError(f"avatars have no masks of the domain {domain!r}: use glasses, beard or hat.")
        rows = torch.from_numpy(self.rows(role, split))[positions]
        return self._masks(self.parameters(split)[rows], rows % self.people[split][2], [CONTENT[domain]])
