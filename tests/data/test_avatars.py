"""The embedded faces: identities without overlap, attributes that are true of the picture, and pairs of styles."""

import numpy as np
import pytest
import torch

from xdomain.data import DomainPair
from xdomain.data import avatars as module
from xdomain.data.attributes import PRESETS
from xdomain.data.avatars import Avatars
from xdomain.engines import avatars as engine
from xdomain.errors import UserError

SPLITS = ("train", "val", "test")
SMALL = {
    **{"image_size": 16, "identities": 24, "images_per_identity": 3},
    **{"val_identities": 12, "test_identities": 14, "eval_images_per_identity": 2},
}
SIZES = {"train": 72, "val": 24, "test": 28}
PERSON = engine.SCHEMA.groups["identity"]


def avatars(domains=None, **options):
    return Avatars(domains or {"photo": "*"}, **{**SMALL, **options})


def people(data, split):
    """What makes the person of every row, as hashable values."""
    return [tuple(row) for row in data.parameters(split)[:, list(PERSON)].tolist()]


def column(u, name):
    return u[:, engine.SCHEMA.index(name)].round().long()


def test_parts_hold_identities_and_pictures_of_each():
    data = avatars()
    assert data.domains == ("photo",)
    assert data.channels == (3,)
    for split in SPLITS:
        part = data.data("a", split)
        each = 3 if split == "train" else 2
        assert part.images.shape == (SIZES[split], 3, 16, 16)
        assert part.images.dtype == part.attributes.dtype == np.uint8
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == [i // each for i in range(SIZES[split])]
        assert part.attributes.shape == (SIZES[split], len(data.attribute_names))
        person = people(data, split)
        assert [person.index(p) // each for p in person] == part.labels.tolist()
        assert len(set(person)) == SIZES[split] // each
    every = np.concatenate([data.part(split).images for split in SPLITS]).reshape(sum(SIZES.values()), -1)
    assert len(np.unique(every, axis=0)) == len(every)


def test_no_person_is_in_two_parts():
    shifted = avatars(first_identity=24)
    parts = [set(people(data, split)) for data, split in ((avatars(), s) for s in SPLITS)]
    parts.append(set(people(shifted, "train")))
    assert len(set.union(*parts)) == sum(map(len, parts)) == 24 + 12 + 14 + 24
    assert people(shifted, "val") == people(avatars(), "val")
    assert people(shifted, "test") == people(avatars(), "test")
    overlapping = avatars(first_identity=20)
    assert len(set(people(overlapping, "train")) & parts[0]) == 4


def test_rules_are_true_of_the_parameters():
    data = avatars("smile_glasses", identities=60)
    u = data.parameters("train")
    smile, glasses = u[:, engine.SCHEMA.index("smile")] > 0.5, column(u, "glasses") > 0
    expected = {"a": smile & ~glasses, "b": glasses & ~smile}
    for role, wanted in expected.items():
        assert wanted.any()
        assert data.rows(role, "train").tolist() == wanted.nonzero().flatten().tolist()


def test_images_are_those_of_the_parameters():
    for style in ("photo", "emoji"):
        data = avatars("glasses", style=style)
        rows = data.rows("b", "test")
        drawn = engine.render(data.parameters("test")[rows], 16, style)
        assert np.array_equal(data.data("b", "test").images, drawn.numpy())
    assert not np.array_equal(avatars().part("val").images, avatars(style="emoji").part("val").images)


def test_both_styles_in_turn():
    """Of every identity photos at even numbers and emojis at odd ones."""
    data, photo, emoji = (avatars(style=style).part("train").images for style in ("both", "photo", "emoji"))
    odd = np.arange(72) % 3 == 1
    assert np.array_equal(data[odd], emoji[odd])
    assert np.array_equal(data[~odd], photo[~odd])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_whose_attributes_the_engine_has(name):
    if name == "bald":
        with pytest.raises(
            UserError, match="asks for the attribute 'Young', which this data does not have: it has 5_o_"
        ):
            avatars(name)
    else:
        data = avatars(name, identities=150)
        assert data.domains == tuple(PRESETS[name])
        assert all(len(data.data(role, "train")) > 3 for role in "ab")


def test_a_longer_part_begins_with_the_shorter_and_another_world_has_other_people():
    longer = avatars(val_identities=15)
    assert np.array_equal(longer.part("val").images[:24], avatars().part("val").images)
    assert not set(people(avatars(world_seed=1), "val")) & set(people(avatars(), "val"))
    assert not (avatars(world_seed=1).part("val").images == avatars().part("val").images).all((1, 2, 3)).any()


def test_drawn_once_unless_something_differs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    first = avatars().part("val").images
    monkeypatch.setattr(module.engine, "render", None)  # drawing again would fail
    assert np.array_equal(avatars("smile").part("val").images, first)
    assert np.array_equal(avatars(first_identity=99).part("val").images, first)
    for change in ({"style": "emoji"}, {"image_size": 17}, {"world_seed": 1}, {"eval_images_per_identity": 3}):
        with pytest.raises(TypeError):
            avatars(**change).part("val")
    monkeypatch.setattr(module.engine, "VERSION", 0)
    with pytest.raises(TypeError):
        avatars().part("val")


def test_pair_of_photos_and_emojis():
    """Different people for training, the same for validation and test, at the same positions."""
    photos, emojis = avatars(), avatars({"emoji": "*"}, style="emoji", first_identity=24, identities=10)
    pair = DomainPair(photos, emojis)
    assert pair.domains == ("photo", "emoji")
    assert pair.channels == (3, 3)
    assert pair.image_size == 16
    assert [len(pair.data(role, "train")) for role in "ab"] == [72, 30]
    assert not set(people(photos, "train")) & set(people(emojis, "train"))
    assert torch.equal(photos.parameters("test"), emojis.parameters("test"))
    assert np.array_equal(pair.data("a", "test").labels, pair.data("b", "test").labels)
    batch = next(iter(pair.val_dataloader()))[0]
    assert batch["a"].image.shape == batch["b"].image.shape == (24, 3, 16, 16)
    assert torch.equal(batch["a"].label, batch["b"].label)


def test_counterparts_are_the_same_people_in_this_style():
    photos, emojis = avatars("smile"), avatars({"emoji": "*"}, style="emoji")
    positions = [3, 0, 5]
    drawn = emojis.counterparts("test", positions, of=photos)
    rows = photos.rows("a", "test")[positions]
    assert np.array_equal(drawn.numpy(), emojis.part("test").images[rows])
    pair = DomainPair(avatars(), avatars({"emoji": "*"}, style="emoji"))
    with pytest.raises(UserError, match="DomainPair has no parameters"):
        emojis.counterparts("test", positions, of=pair)


def test_strangers_are_in_no_part():
    data = avatars()
    strangers = data.strangers(0, 40).numpy().reshape(40, -1)
    assert len(np.unique(strangers, axis=0)) == 40
    assert np.array_equal(data.strangers(10, 20).numpy().reshape(10, -1), strangers[10:20])
    every = np.concatenate([data.part(split).images for split in SPLITS]).reshape(-1, strangers.shape[1])
    assert len(np.unique(np.concatenate([every, strangers]), axis=0)) == len(every) + 40


@pytest.mark.parametrize("name", [*SMALL])
def test_no_size_is_zero(name):
    with pytest.raises(UserError, match=f"^{name} is 0: give a number of at least 1"):
        avatars(**{name: 0})


def test_first_identity_stays_below_those_of_validation():
    for first in (-1, 10**8 - 23):
        with pytest.raises(UserError, match=f"first_identity is {first}: "):
            avatars(first_identity=first)
    data = avatars(first_identity=10**8 - 24)
    assert len({*people(data, "train")} | {*people(data, "val")}) == 36


def row_of(data, role, positions, split="test"):
    return torch.from_numpy(data.rows(role, split))[positions]


@pytest.mark.parametrize("style", ["photo", "emoji", "both"])
def test_to_get_ones_own_content_changes_nothing(style):
    data = avatars("glasses", style=style)
    positions = list(range(len(data.rows("a", "test"))))
    truth, mask = data.counterfactual("a", "b", positions, positions, "test", task="swap")
    assert np.array_equal(truth.numpy(), data.data("a", "test").images)
    assert torch.equal(mask, data.content_mask("a", positions, "test"))
    assert mask.dtype == torch.uint8
    assert (mask.amax((1, 2, 3)) > 0).all()


def test_a_transfer_takes_the_kind_from_the_donor_and_nothing_else():
    data = avatars("smile_glasses", test_identities=20)
    positions, donors = [3, 0, 1], [0, 2, 2]
    truth, _ = data.counterfactual("a", "b", positions, donors, "test")
    u, given = data.parameters("test")[row_of(data, "a", positions)], data.parameters("test")[row_of(data, "b", donors)]
    for name in ("glasses", "frame"):
        u[:, engine.SCHEMA.index(name)] = given[:, engine.SCHEMA.index(name)]
    kept = engine.render(u, 16)
    u[:, engine.SCHEMA.index("smile")] = 0.15
    assert torch.equal(truth, engine.render(u, 16))
    added, _ = data.counterfactual("a", "b", positions, donors, "test", task="add")
    assert torch.equal(added, kept)
    assert not torch.equal(added, truth)


def test_outside_of_the_mask_the_truth_is_the_source():
    data = avatars("glasses", image_size=32)
    positions = list(range(8))
    for source, target in ("ab", "ba"):
        truth, mask = data.counterfactual(source, target, positions, positions[::-1], "test")
        images = torch.from_numpy(data.data(source, "test").images[positions])
        near = torch.nn.functional.max_pool2d(mask.float(), 3, 1, 1) > 0
        differs = (truth != images).any(1, keepdim=True)
        assert not (differs & ~near).any()
        assert (differs & (mask > 0)).flatten(1).any(1).all()
    removed, mask = data.counterfactual("a", "b", positions, positions, "test", task="remove")
    assert torch.equal(removed, data.counterfactual("a", "b", positions, positions, "test")[0])
    assert torch.equal(mask, data.content_mask("a", positions, "test"))


def test_masks_are_those_of_source_and_truth():
    data = avatars("beard_smile", test_identities=60)
    _, mask = data.counterfactual("a", "b", [0, 1], [1, 0], "test")
    u = data.parameters("test")[row_of(data, "a", [0, 1])]
    before = engine.render_masks(u, 16)
    assert (mask >= torch.maximum(before["facial_hair"], before["mouth"])).all()
    assert torch.equal(data.content_mask("a", [1], "test"), before["facial_hair"][1:])
    assert data.masked_domains == ("beard",)


def test_domains_without_content():
    data = avatars("male_female")
    with pytest.raises(UserError, match=r"no counterfactual for transfer between male and female: .*called smile, gl"):
        data.counterfactual("a", "b", [0], [0], "test")
    data = avatars("smile")
    with pytest.raises(UserError, match="no counterfactual for add between smile and neutral"):
        data.counterfactual("a", "b", [0], [0], "test", task="add")
    with pytest.raises(UserError, match="no masks of the domain 'smile': use glasses"):
        data.content_mask("a", [0], "test")
    assert data.masked_domains == ()


def test_less_nuisance_keeps_the_person_and_the_attributes():
    wild, calm, still = (Avatars({"photo": "*"}, **{**SMALL, "nuisance": share}) for share in (1.0, 0.25, 0.0))
    u, v, w = (data.parameters("test") for data in (wild, calm, still))
    kept = [*engine.SCHEMA.groups["identity"], *engine.SCHEMA.groups["attribute"], engine.SCHEMA.index("noise_seed")]
    assert torch.equal(u[:, kept], v[:, kept])
    middle = (-0.1 + 0.1) / 2
    shift = engine.SCHEMA.index("shift_x")
    assert torch.allclose(v[:, shift], middle + 0.25 * (u[:, shift] - middle))
    assert torch.allclose(v[:, engine.SCHEMA.index("noise")], 0.25 * u[:, engine.SCHEMA.index("noise")])
    moving = [i for i in engine.SCHEMA.groups["nuisance"] if engine.SCHEMA.names[i] != "noise_seed"]
    assert (w[:, moving] == w[0, moving]).all()
    assert len({data.world_key for data in (wild, calm, still)}) == 3
    with pytest.raises(UserError, match="nuisance is 2: give a share between 0 and 1"):
        Avatars(nuisance=2)


def test_interventions_change_what_they_say_and_nothing_else():
    data = avatars("glasses", image_size=32, nuisance=0, test_identities=40)
    known, u_of = data.interventions("a", "test"), engine.SCHEMA.index
    u, donors = known.u[:12], known.u[12:24]
    assert data.interventions("b", "test") is None
    assert (known.u[:, u_of("hat")] == 0).all()
    assert (known.u[:, u_of("glasses")] > 0).all()
    for name, parameters in known.changes.items():
        other = known.given(u, donors, parameters)
        columns = [u_of(parameter) for parameter in parameters]
        assert torch.equal(other[:, columns], donors[:, columns])
        assert (other != u).sum(1).max() <= len(columns), name
        kept = [i for i in range(len(engine.SCHEMA)) if i not in columns]
        assert torch.equal(other[:, kept], u[:, kept])
        assert not torch.equal(known.draw(other), known.draw(u))
    rows = data.rows("a", "test")
    assert np.array_equal(known.draw(data.parameters("test")[rows[:5]]).numpy(), data.data("a", "test").images[:5])
    person = known.given(u, donors, known.changes["person"])
    assert torch.equal(known.given(person, donors, known.changes["content"])[:, PERSON], donors[:, PERSON])


def test_changed_glasses_are_seen_at_the_glasses_alone():
    data = avatars("glasses", image_size=32, nuisance=0, test_identities=40)
    known = data.interventions("a", "test")
    u, donors = known.u[:20], known.u.roll(1, 0)[:20]
    for other in (known.given(u, donors, known.changes["content"]), known.removed(u)):
        masks = torch.maximum(*(engine.render_masks(x, 32)["glasses"] for x in (u, other)))
        near = torch.nn.functional.max_pool2d(masks.float(), 3, 1, 1) > 0
        changed = (known.draw(u) != known.draw(other)).any(1, keepdim=True)
        assert changed.any()
        assert not (changed & ~near).any()
        assert engine.attributes(other)[:, engine.ATTRIBUTES.index("Eyeglasses")].float().mean() in (0, 1)


@pytest.mark.parametrize(
    ("domains", "content"), [("smile_glasses", "smile"), ("beard", "beard"), ("male_female", None)]
)
def test_the_content_of_a_domain(domains, content):
    known = avatars(domains, test_identities=60).interventions("a", "test")
    assert (known is None) == (content is None)
    if known is not None:
        assert known.content == (content,)
        assert content not in known.shared
        assert [*known.changes][:2] == ["content", "person"]
