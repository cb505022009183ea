"""Domains as subsets of one data set with attributes: rules over binary attributes, and presets of the papers."""

import copy
import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from xdomain.data.base import MOST_DOMAINS, BaseDataModule, ImageData, Split, checked_names
from xdomain.errors import UserError
from xdomain.paths import data_root

_MAN = "Male and not 5_o_Clock_Shadow"
_BEARD = "(Mustache or Goatee or not No_Beard)"

PRESETS: dict[str, dict[str, str]] = {
    # Domain Intersection and Domain Difference: each domain has the content that the other lacks. Images with both or
    # neither are left out.
    "smile_glasses": {
        "smile": "Smiling and not Eyeglasses",
        "glasses": "Eyeglasses and not Smiling",
    },
    "beard_glasses": {
        "beard": f"{_MAN} and {_BEARD} and not Eyeglasses",
        "glasses": f"{_MAN} and not {_BEARD} and Eyeglasses",
    },
    "beard_smile": {
        "beard": f"{_MAN} and {_BEARD} and not Smiling",
        "smile": f"{_MAN} and not {_BEARD} and Smiling",
    },
    "male_female": {"male": "Male", "female": "not Male"},
    "blond_black": {
        "blond": "Blond_Hair and not Wearing_Hat",
        "black": "Black_Hair and not Blond_Hair and not Wearing_Hat",
    },
    # Mask Based Unsupervised Content Transfer and its predecessor: with the content, then without. Only the two presets
    # of hair have content on both sides.
    "glasses": {"glasses": "Eyeglasses", "plain": "not Eyeglasses"},
    "female_glasses": {"glasses": "Eyeglasses and not Male", "plain": "not Eyeglasses and not Male"},
    "male_glasses": {"glasses": "Eyeglasses and Male", "plain": "not Eyeglasses and Male"},
    "mouth": {"open": "Mouth_Slightly_Open", "closed": "not Mouth_Slightly_Open"},
    "beard": {"beard": f"{_MAN} and {_BEARD}", "shaven": f"{_MAN} and not {_BEARD}"},
    "smile": {"smile": "Smiling", "neutral": "not Smiling"},
    "blond_women": {
        "black": "not Male and Black_Hair and not Blond_Hair",
        "blond": "not Male and Blond_Hair and not Black_Hair",
    },
    "bald": {
        "hair": "Male and not Bald and not Wearing_Hat and not Young",
        "bald": "Male and Bald and not Wearing_Hat and not Receding_Hairline and not Gray_Hair",
    },
}
"""Maps a preset to its domains, and a domain to its rule over CelebA's attributes."""

MOST = 12  # attributes in the rules of two domains that are compared


def holds(rule: str, names: Sequence[str], table: np.ndarray) -> np.ndarray:
    """Evaluate a rule for every row of a table of attributes.

    A rule combines attribute names with ``and``, ``or``, ``not`` and brackets; ``not`` binds strongest, ``or`` weakest,
    and ``*`` is always true. ``Male and (Mustache or not No_Beard)`` is one.

    Args:
        rule: the rule.
        names: names of the K attributes.
        table: attributes [N, K] of 0 and 1.

    Returns:
        ``bool`` [N].

    Raises:
        UserError: for a rule that cannot be parsed, or an unknown attribute.
    """
    tokens = re.findall(r"\w+|\S", rule)[::-1]  # next token last

    def taken(token: str) -> bool:
        if tokens and tokens[-1] == token:
            tokens.pop()
            return True
        return False

    def unreadable() -> UserError:
        where = f"at {tokens[-1]!r}" if tokens else "at its end"
        return UserError(
            f"the rule {rule!r} cannot be read {where}: join attribute names by and, or, not and brackets, or write * "
            "for all images."
        )

    def any_of() -> np.ndarray:
        result = all_of()
        while taken("or"):
            result = result | all_of()
        return result

    def all_of() -> np.ndarray:
        result = one()
        while taken("and"):
            result = result & one()
        return result

    def one() -> np.ndarray:
        if taken("not"):
            return ~one()
        if taken("*"):
            return np.ones(len(table), dtype=bool)
        if taken("("):
            result = any_of()
            if not taken(")"):
                raise unreadable()
            return result
        if not tokens or tokens[-1] in ("and", "or") or not re.fullmatch(r"\w+", tokens[-1]):
            raise unreadable()
        if tokens[-1] not in names:
            raise UserError(
                f"the rule {rule!r} asks for the attribute {tokens[-1]!r}, which this data does not have: "
                f"{_instead(tokens[-1], names)}"
            )
        column: np.ndarray = table[:, list(names).index(tokens.pop())] != 0
        return column

    result = any_of()
    if tokens:
        raise unreadable()
    return result


def truth(rules: Iterable[str], names: Sequence[str], table: np.ndarray) -> Tensor:
    """Which images match which rules, 0 and 1, ``int64`` [N, R]; see :func:`holds`."""
    columns = [holds(rule, names, table) for rule in rules]
    return torch.from_numpy(np.stack(columns, 1) if columns else np.zeros((len(table), 0))).long()


def attributes_of(rule: str) -> list[str]:
    """Names of the attributes in a rule, without repetition, in order of appearance."""
    words = re.findall(r"\w+", rule)
    return [word for word in dict.fromkeys(words) if word not in ("and", "or", "not")]


def with_and_without(domains: Sequence[str], rules: Mapping[str, str], rule: str) -> tuple[str, str] | None:
    """The domain that has an attribute and the one that lacks it, if two domains differ in nothing else.

    Args:
        domains: names of the domains.
        rules: maps them to their rules over attributes.
        rule: the rule of the attribute, such as ``Mustache or Goatee or not No_Beard``.
    """
    if len(domains) != 2 or not {*domains} <= rules.keys():
        return None
    free = attributes_of(rule)
    names = [*dict.fromkeys([*free, *(name for domain in domains for name in attributes_of(rules[domain]))])]
    if len(names) > MOST:
        return None
    table = np.array([*itertools.product((0, 1), repeat=len(names))], dtype=np.uint8)
    own, (first, second) = holds(rule, names, table), (holds(rules[domain], names, table) for domain in domains)
    either = first | second
    by_others = either.reshape(2 ** len(free), -1)
    if (by_others != by_others[0]).any():  # which people are in a domain at all depends on the attribute
        return None
    for pair, having, lacking in ((domains, first, second), (domains[::-1], second, first)):
        if (having == (either & own)).all() and (lacking == (either & ~own)).all():
            return pair[0], pair[1]
    return None


def _instead(name: str, names: Sequence[str]) -> str:
    by_lower_case = {known.lower(): known for known in names}
    nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    return f"did you mean {by_lower_case[nearest[0]]}?" if nearest else f"it has {', '.join(names)}."


class HorizontalFlip(nn.Module):
    """Mirrors each image left to right with probability 1/2."""

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] to the same shape and range."""
        mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
        return torch.where(mirrored.to(images.device), images.flip(-1), images)


class AttributeDomains(BaseDataModule):
    """Base class of data modules whose domains are subsets of one data set with attributes.

    A subclass loads whole parts by :meth:`load`. Rules select the images of a domain; an image may be
    in several.

    Args:
        domains: name of a preset, or a mapping from domain names to rules, such as ``{bald: Bald, rest: not
            Bald}`` or ``{photo: "*"}`` for all; see :func:`holds`.
        root: folder that holds the data sets; see :func:`xdomain.paths.data_root`.
        limit: use only this many training images per domain, the first ones.
        flip: mirror training images at random.
        augment: random transform of the training images after flipping, float [N, 3, H, W] in [-1, 1] to the same.

    Attributes:
        attribute_names: names of the attributes, in the order of the table's columns.
        rules: maps a domain to its rule.
    """

    attribute_names: tuple[str, ...]
    rules: dict[str, str]

    def __init__(
        self,
        domains: str | dict[str, str] = "smile_glasses",
        root: str | None = None,
        limit: int | None = None,
        flip: bool = True,
        augment: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if limit is not None and limit < 1:
            raise UserError(f"limit is {limit}: give a number of training images of at least 1, or null for all.")
        self._divide(domains)
        self.root, self.limit = data_root(root), limit
        changes = [*([HorizontalFlip()] if flip else []), *([augment] if augment else [])]
        self.augment = nn.Sequential(*changes) if changes else None
        self._parts: dict[Split, ImageData] = {}

    def _divide(self, domains: str | dict[str, str]) -> None:
        """Set domains and rules."""
        if isinstance(domains, str):
            if domains not in PRESETS:
                raise UserError(
                    f"domains is {domains!r}, but the presets are {', '.join(PRESETS)}: give one of them, or "
                    "rules by name."
                )
            domains = PRESETS[domains]
        if not 1 <= len(domains) <= MOST_DOMAINS:
            raise UserError(f"domains has {len(domains)} rules: give from one, for a single domain, to {MOST_DOMAINS}.")
        for rule in domains.values():
            holds(rule, self.attribute_names, np.zeros((0, len(self.attribute_names)), dtype=np.uint8))
        self.rules, self.domains, self.channels = dict(domains), checked_names(domains), (3,) * len(domains)

    def divided(self, domains: str | dict[str, str]) -> Self:
        """The same images in other domains; parts that one of both loads are the other's, too."""
        other = copy.copy(self)
        other._divide(domains)
        return other

    def load(self, split: Split) -> ImageData:
        """Read or draw one whole part, including images of no domain, with identities and attributes."""
        raise NotImplementedError(f"{type(self).__name__} must implement load()")

    def part(self, split: Split) -> ImageData:
        """One whole part, loaded once; :meth:`rows` gives positions in it."""
        if split not in self._parts:
            self._parts[split] = self.load(split)
        return self._parts[split]

    def table(self, split: Split) -> np.ndarray:
        """Attributes of a whole part, ``uint8`` [N, K] of 0 and 1."""
        table = self.part(split).attributes
        assert table is not None
        return table

    def rows(self, role: str, split: Split) -> np.ndarray:
        """Indices of a role's images in the whole part, ``int64``, ascending.

        Raises:
            UserError: if no image matches the rule of the role's domain.
        """
        domain = self.domains[self.roles.index(role)]
        table = self.table(split)
        rows = np.flatnonzero(holds(self.rules[domain], self.attribute_names, table))
        if len(rows) == 0:
            raise UserError(
                f"none of the {len(table):,} images of the {split} part of {type(self).__name__} is in the domain "
                f"{domain}, whose rule is {self.rules[domain]!r}: loosen it, or use more images."
            )
        return rows[: self.limit] if split == "train" else rows

    def contents(self) -> dict[str, Any]:
        return {"rules": self.rules, "limit": self.limit}

    def population(self, split: Split, contents: Sequence[str]) -> np.ndarray:
        """Indices of images that match a domain's rule for some value of the content attributes.

        Domains may also share fixed attributes: beards and smiles are taken from men only. A probe that detects the sex
        of a face would then predict beards in the whole part, but not among these images.

        Args:
            split: the part.
            contents: rules of the contents; their attributes may have any value.

        Returns:
            positions in the whole part, ``int64``, ascending.
        """
        table = self.table(split).copy()
        free = {name for rule in contents for name in attributes_of(rule)}
        columns = [self.attribute_names.index(name) for name in free]
        found = np.zeros(len(table), dtype=bool)
        for values in itertools.product((0, 1), repeat=len(columns)):
            table[:, columns] = values
            for rule in self.rules.values():
                found |= holds(rule, self.attribute_names, table)
        return np.flatnonzero(found)

    def data(self, role: str, split: Split) -> ImageData:
        return self.part(split).keep(self.rows(role, split))

    def augmentation(self, role: str) -> nn.Module | None:
        return self.augment
