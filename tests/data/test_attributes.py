"""Rules, the parts that the papers use, and the common base of attributed data."""

import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn

from xdomain.data import DomainPair, ImageData
from xdomain.data.attributes import PRESETS, AttributeDomains, HorizontalFlip, holds, with_and_without
from xdomain.data.base import _augment
from xdomain.data.celeba import ATTRIBUTES
from xdomain.errors import UserError

LETTERS = ("A", "B", "C", "D")
EVERY = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)


def holds_letters(rule):
    return holds(rule, LETTERS, EVERY).tolist()


@pytest.mark.parametrize(
    "rule",
    [
        "A",
        "not A",
        "not not A",
        "A and B or C and D",
        "A or B and C or D",
        "(A or B) and (C or D)",
        "not A and B",
        "not (A and B)",
        "not A or not B and not (C or not D)",
        "A and not (B or (C and (not D or A)))",
        "((A))",
    ],
)
def test_rules_mean_what_python_means(rule):
    expected = [bool(eval(rule, {}, dict(zip(LETTERS, map(int, row), strict=True)))) for row in EVERY]
    assert holds_letters(rule) == expected
    assert holds_letters(rule.replace("(", " ( ").replace(" ", "\n  ")) == expected


def test_star_holds_always():
    assert holds_letters("*") == [True] * 16
    assert holds_letters("* and A") == holds_letters("A")
    assert not any(holds_letters("not *"))


def test_names_may_begin_with_a_digit_or_with_a_word_of_the_language():
    table = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    names = ("5_o_Clock_Shadow", "not_here", "And")
    assert holds("5_o_Clock_Shadow or And", names, table).tolist() == [True, False, True]
    assert holds("not not_here", names, table).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ("", "at its end"),
        ("A and", "at its end"),
        ("not", "at its end"),
        ("(A or B", "at its end"),
        ("A B", "at 'B'"),
        ("A)", "at ')'"),
        ("()", "at ')'"),
        ("or A", "at 'or'"),
        ("A and or B", "at 'or'"),
        ("A & B", "at '&'"),
        ("A and -B", "at '-'"),
        ("A and not *B", "at 'B'"),
    ],
)
def test_what_cannot_be_read_is_shown(rule, where):
    with pytest.raises(UserError, match=re.escape(f"the rule {rule!r} cannot be read {where}: ")) as caught:
        holds_letters(rule)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("Smilin", "Smiling"), ("EYEGLASSES", "Eyeglasses"), ("glasses", "Eyeglasses"), ("Moustache", "Mustache")],
)
def test_an_unknown_attribute_names_the_nearest(given, nearest):
    with pytest.raises(
        UserError, match=rf"rule 'Male and {given}' asks for the attribute '{given}'.*: did you mean {nearest}\?$"
    ):
        holds(f"Male and {given}", ATTRIBUTES, np.zeros((0, 40)))


def test_an_attribute_like_no_other_shows_what_there_is():
    with pytest.raises(UserError, match=r"rule 'Young' asks for the attribute 'Young'.*: it has A, B, C, D\.$"):
        holds_letters("Young")


# ---------------------------------------------------------------- presets

USED = (
    *("5_o_Clock_Shadow", "Bald", "Black_Hair", "Blond_Hair", "Eyeglasses", "Goatee", "Gray_Hair", "Male"),
    *("Mouth_Slightly_Open", "Mustache", "No_Beard", "Receding_Hairline", "Smiling", "Wearing_Hat", "Young"),
)


def planted():
    """A table of 40 columns with every combination of the used attributes once, shuffled; the others are noise."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, 2, (2 ** len(USED), 40), dtype=np.uint8)
    combinations = np.array(list(itertools.product((0, 1), repeat=len(USED))), dtype=np.uint8)
    table[:, [ATTRIBUTES.index(name) for name in USED]] = rng.permutation(combinations)
    return table


def of_the_papers(name, x):
    """The domain of one image, as the papers' lists are made: one question after the other; None where it is left out.

    Args:
        x: from attribute to 0 or 1.
    """
    bearded = x["Mustache"] or x["Goatee"] or not x["No_Beard"]
    if name in ("beard_glasses", "beard_smile", "beard") and (not x["Male"] or x["5_o_Clock_Shadow"]):
        return None
    if name in ("smile_glasses", "beard_glasses", "beard_smile"):
        has = {"smile": x["Smiling"], "glasses": x["Eyeglasses"], "beard": bearded}
        first, second = name.split("_")
        return None if bool(has[first]) == bool(has[second]) else first if has[first] else second
    if name == "male_female":
        return "male" if x["Male"] else "female"
    if name == "blond_black":
        if x["Blond_Hair"] and not x["Wearing_Hat"]:
            return "blond"
        return "black" if x["Black_Hair"] and not x["Wearing_Hat"] and not x["Blond_Hair"] else None
    if name == "glasses":
        return "glasses" if x["Eyeglasses"] else "plain"
    if name in ("female_glasses", "male_glasses"):
        if bool(x["Male"]) != (name == "male_glasses"):
            return None
        return "glasses" if x["Eyeglasses"] else "plain"
    if name == "mouth":
        return "open" if x["Mouth_Slightly_Open"] else "closed"
    if name == "beard":
        return "beard" if bearded else "shaven" if x["No_Beard"] else None
    if name == "smile":
        return "smile" if x["Smiling"] else "neutral"
    if name == "blond_women":
        if x["Male"] or x["Black_Hair"] == x["Blond_Hair"]:
            return None
        return "black" if x["Black_Hair"] else "blond"
    assert name == "bald"
    if not x["Male"] or x["Wearing_Hat"]:
        return None
    if x["Bald"]:
        return "bald" if not x["Receding_Hairline"] and not x["Gray_Hair"] else None
    return "hair" if not x["Young"] else None


TABLE = planted()
PEOPLE = [dict(zip(ATTRIBUTES, row, strict=True)) for row in TABLE.tolist()]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_choose_what_the_papers_chose(name):
    expected = [of_the_papers(name, x) for x in PEOPLE]
    for domain, rule in PRESETS[name].items():
        ours = holds(rule, ATTRIBUTES, TABLE)
        assert len(TABLE) // 64 <= ours.sum() < len(TABLE)
        assert ours.tolist() == [found == domain for found in expected]


def test_shadows_and_doubtful_beards():
    """The mixed cases of the papers' lists, one by one."""

    def domain_of(preset, *present):
        table = np.array([[name in present for name in ATTRIBUTES]])
        return [domain for domain, rule in PRESETS[preset].items() if holds(rule, ATTRIBUTES, table)[0]]

    assert domain_of("beard", "Male", "5_o_Clock_Shadow") == []
    assert domain_of("beard", "Male") == ["beard"]  # no word of a beard, nor of none
    assert domain_of("beard", "Male", "No_Beard") == ["shaven"]
    assert domain_of("beard", "Male", "No_Beard", "Mustache") == ["beard"]
    assert domain_of("beard_glasses", "Male", "No_Beard", "Eyeglasses") == ["glasses"]
    assert domain_of("beard_glasses", "Male", "Eyeglasses") == []
    assert domain_of("blond_black", "Blond_Hair", "Black_Hair") == ["blond"]
    assert domain_of("blond_women", "Blond_Hair", "Black_Hair") == []
    assert domain_of("bald", "Male", "Bald", "Young") == ["bald"]


def test_presets_have_two_domains_and_the_first_has_the_content():
    assert list(PRESETS["smile_glasses"]) == ["smile", "glasses"]
    assert list(PRESETS["glasses"]) == ["glasses", "plain"]
    assert list(PRESETS["bald"]) == ["hair", "bald"]
    assert all(len(rules) == 2 for rules in PRESETS.values())


# ---------------------------------------------------------------- flip


def test_half_of_the_images_are_mirrored_each_by_itself():
    torch.manual_seed(3)
    images = torch.rand(400, 3, 4, 5)
    result = HorizontalFlip()(images)
    same = (result == images).all((1, 2, 3))
    mirrored = (result == images.flip(3)).all((1, 2, 3))
    assert torch.equal(same, ~mirrored)
    assert 160 < mirrored.sum() < 240  # 200 with a deviation of 10
    assert len(set(mirrored.view(20, 20).sum(1).tolist())) > 3


def test_flips_are_a_function_of_the_seed():
    images = torch.rand(50, 1, 2, 3)
    first, again, other = (_augment(HorizontalFlip(), images, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---------------------------------------------------------------- the data module


class Letters(AttributeDomains):
    """All combinations of four attributes thrice (train) or once; the value of an image is its row."""

    attribute_names = LETTERS
    image_size = 2

    def __init__(self, domains, **options):
        super().__init__(domains, **options)
        self.loads = 0

    def load(self, split):
        self.loads += 1
        table = np.tile(EVERY, (3 if split == "train" else 1, 1))
        images = np.broadcast_to(np.arange(len(table), dtype=np.uint8)[:, None, None, None], (len(table), 3, 2, 2))
        return ImageData(images, np.arange(len(table)) // 4, table)


def test_domains_roles_and_rows():
    module = Letters({"first": "A and not B", "second": "C"})
    assert module.domains == ("first", "second")
    assert module.channels == (3, 3)
    assert module.roles == ("a", "b")
    for split, times in {"train": 3, "val": 1, "test": 1}.items():
        for role, expected in {"a": (EVERY[:, 0] == 1) & (EVERY[:, 1] == 0), "b": EVERY[:, 2] == 1}.items():
            rows = module.rows(role, split)
            assert rows.tolist() == np.flatnonzero(np.tile(expected, times)).tolist()
            data = module.data(role, split)
            assert len(data) == len(rows)
            assert data.images[:, 0, 0, 0].tolist() == rows.tolist()
            assert data.labels.tolist() == (rows // 4).tolist()
            assert np.array_equal(data.attributes, module.table(split)[rows])
            sample = data.__getitems__([2, 0])
            assert sample.image[:, 0, 0, 0].tolist() == rows[[2, 0]].tolist()
            assert sample.attributes.tolist() == EVERY[rows[[2, 0]] % 16].tolist()
    assert module.loads == 3


@pytest.mark.parametrize(
    ("rules", "contents"),
    [
        ({"first": "A and B and not C", "second": "A and not B and C"}, ["B", "C"]),
        ({"first": "A and (B or C) and not D", "second": "A and not (B or C) and D"}, ["B or C", "D"]),
        ({"first": "A and B", "second": "not A and (C or D)"}, ["(B)"]),
        ({"first": "A and B", "second": "C and not B"}, []),
        ({"first": "A", "second": "not A"}, ["A"]),
        ({"first": "A and B and (C or not D)"}, ["not B and not (C or D)"]),
        ({"first": "A and B and C"}, ["C"]),
    ],
)
def test_population_differs_from_the_domains_in_contents_alone(rules, contents):
    module = Letters(rules)
    kept = [i for i, name in enumerate(LETTERS) if name not in "".join(contents)]
    inside = np.concatenate([EVERY[holds_letters(rule)] for rule in rules.values()])[:, kept].tolist()
    expected = [row[kept].tolist() in inside for row in EVERY]
    assert module.population("test", contents).tolist() == np.flatnonzero(expected).tolist()
    assert module.table("test").tolist() == EVERY.tolist()


def test_limit_is_for_each_domain_and_for_training_only():
    module = Letters({"first": "A", "rest": "not A"}, limit=5)
    assert [len(module.data(role, split)) for role in "ab" for split in ("train", "val", "test")] == [5, 8, 8] * 2
    assert module.rows("a", "train").tolist() == [8, 9, 10, 11, 12]
    with pytest.raises(UserError, match="limit is 0"):
        Letters({"first": "A"}, limit=0)


class Darken(nn.Module):
    def forward(self, images):
        return images - 5


def test_flip_and_augmentation():
    images = torch.arange(60.0).view(20, 3, 1, 1) + torch.tensor([0.0, 0.25])
    assert Letters({"all": "*"}, flip=False).augmentation("a") is None
    assert torch.equal(Letters({"all": "*"}, flip=False, augment=Darken()).augmentation("a")(images), images - 5)
    for options, change in (({}, 0), ({"augment": Darken()}, 5)):
        result = Letters({"all": "*"}, **options).augmentation("a")(images) + change
        mirrored = (result == images.flip(3)).all((1, 2, 3))
        assert torch.equal(mirrored, ~(result == images).all((1, 2, 3)))
        assert 0 < mirrored.sum() < 20


def test_one_domain_and_pairs_of_them():
    one, two = Letters({"all": "*"}), Letters({"some": "A and D"}, flip=False)
    assert one.domains == ("all",)
    assert one.channels == (3,)
    assert one.roles == ("a",)
    assert len(one.data("a", "test")) == 16
    pair = DomainPair(one, two)
    assert pair.domains == ("all", "some")
    assert len(pair.data("b", "test")) == 4
    assert pair.augmentation("a") is not None
    assert pair.augmentation("b") is None


def test_an_empty_domain_is_refused():
    module = Letters({"first": "A", "nobody": "A and not A"})
    assert len(module.data("a", "val")) == 8
    with pytest.raises(
        UserError, match=r"none of the 16 images of the val part of Letters is in the domain nobody, .*'A and not A'"
    ):
        module.data("b", "val")


def test_any_number_of_domains():
    module = Letters({"one": "A", "two": "B", "three": "A and B", "four": "*"})
    assert module.roles == ("a", "b", "c", "d")
    table = module.table("val")
    for role, wanted in {"b": table[:, 1] == 1, "c": table[:, :2].all(1), "d": table[:, 0] >= 0}.items():
        assert np.array_equal(module.rows(role, "val"), np.flatnonzero(wanted))
    batch, _, _ = next(iter(module.train_dataloader()))
    assert {*batch} == {"a", "b", "c", "d"}


def test_wrong_domains_are_refused_at_once():
    with pytest.raises(UserError, match=r"domains is 'smile_glases', but the presets are smile_glasses, .* by name\.$"):
        Letters("smile_glases")
    with pytest.raises(UserError, match="domains has 27 rules"):
        Letters({f"domain {i}": "A" for i in range(27)})
    with pytest.raises(UserError, match="domains has 0 rules"):
        Letters({})
    with pytest.raises(UserError, match=r"rule 'A and E' asks for the attribute 'E'"):
        Letters({"one": "A and E"})
    with pytest.raises(UserError, match=r"rule 'Smiling and not Eyeglasses' asks for the attribute 'Smiling'"):
        Letters("smile_glasses")


def test_the_same_images_in_other_domains():
    module = Letters({"all": "*"})
    other = module.divided({"with": "B", "without": "not B"})
    assert (module.domains, other.domains) == (("all",), ("with", "without"))
    assert (module.roles, other.channels) == (("a",), (3, 3))
    assert other.rows("a", "val").tolist() == np.flatnonzero(EVERY[:, 1]).tolist()
    assert module.part("val") is other.part("val")
    assert module.loads + other.loads == 1
    assert np.array_equal(module.rows("a", "val"), np.arange(16))
    with pytest.raises(UserError, match="domains is 'x', but the presets"):
        module.divided("x")


BEARD = "Mustache or not No_Beard"


@pytest.mark.parametrize(
    ("rules", "rule", "expected"),
    [
        ({"a": "Eyeglasses", "b": "not Eyeglasses"}, "Eyeglasses", ("a", "b")),
        ({"a": "not Eyeglasses and Male", "b": "Male and Eyeglasses"}, "Eyeglasses", ("b", "a")),
        ({"a": "Male and (Mustache or not No_Beard)", "b": "Male and not Mustache and No_Beard"}, BEARD, ("a", "b")),
        ({"a": "Mustache", "b": "not Mustache"}, BEARD, None),
        ({"a": "Smiling and not Eyeglasses", "b": "Eyeglasses and not Smiling"}, "Smiling", None),
        ({"a": "Smiling", "b": "not Smiling"}, "Eyeglasses", None),
        ({"a": "Smiling", "b": "Eyeglasses"}, "Smiling", None),
        ({}, "Smiling", None),
    ],
    ids=["plain", "men, reversed", "rule", "part of a rule", "two contents", "another", "not opposite", "unknown"],
)
def test_domains_that_differ_in_one_attribute(rules, rule, expected):
    assert with_and_without(("a", "b"), rules, rule) == expected
