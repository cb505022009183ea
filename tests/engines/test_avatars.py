"""Avatars: pictures are pure functions of the parameters, and show what the parameters say."""

import math

import pytest
import torch
from torch.nn import functional as F

from xdomain.engines import avatars as engine
from xdomain.engines.avatar_schema import BEARDS, GLASSES, HAIR_STYLES, HATS
from xdomain.engines.avatars import (
    ATTRIBUTES,
    PARTS,
    SCHEMA,
    attributes,
    draw_parameters,
    render,
    render_masks,
    with_attribute,
)
from xdomain.engines.shapes import Canvas, between, ellipse, rectangle

COUNT = 10
STYLES = ["photo", "emoji"]


def people(count: int, seed: int = 0, index: int = 0) -> torch.Tensor:
    return draw_parameters(torch.arange(count), torch.full((count,), index), seed)


def setting(u: torch.Tensor, **values: float) -> torch.Tensor:
    u = u.clone()
    for name, value in values.items():
        u[:, SCHEMA.index(name)] = value
    return u


def stated(u: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(zip(ATTRIBUTES, attributes(u).bool().unbind(1), strict=True))


def dilated(mask: torch.Tensor, radius: int) -> torch.Tensor:
    return F.max_pool2d(mask.float(), 2 * radius + 1, 1, radius) > 0


@pytest.fixture(scope="module")
def u():
    return people(COUNT)


@pytest.fixture(scope="module", params=STYLES)
def drawn(request, u):
    return request.param, render(u, 32, request.param)


@pytest.mark.parametrize("batch", [1, 5])
def test_pictures_do_not_depend_on_the_batch(u, drawn, batch):
    style, images = drawn
    assert images.shape == (COUNT, 3, 32, 32)
    assert images.dtype == torch.uint8
    parts = torch.cat([render(part, 32, style) for part in u.split(batch)])
    assert torch.equal(parts, images)


def test_pictures_depend_neither_on_order_nor_chunks_nor_random_state(u, drawn, monkeypatch):
    style, images = drawn
    order = torch.randperm(COUNT)
    monkeypatch.setattr(engine, "CHUNK", 7 * 32 * 32)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(render(u[order], 32, style), images[order])
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_leaves_the_number_of_threads(u):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        render(u, 16)
        with pytest.raises(ValueError, match="style"):
            render(u, 16, "oil")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_parameters_are_pure_functions_and_within_range():
    identities, indices = torch.randint(-(2**60), 2**60, (500,)), torch.arange(500)
    u = draw_parameters(identities, indices, seed=5)
    assert u.dtype == torch.float32
    assert u.shape == (500, len(SCHEMA))
    some = torch.randperm(500)[:50]
    assert torch.equal(draw_parameters(identities[some], indices[some], seed=5), u[some])
    for parameter, column in zip(SCHEMA.parameters, u.unbind(1), strict=True):
        assert column.min() >= torch.tensor(parameter.low)
        assert column.max() <= torch.tensor(parameter.high)
        if parameter.kind == "choice":
            assert torch.equal(column, column.round())
            assert len(column.unique()) == len(parameter.values), parameter.name


def test_an_identity_keeps_its_columns_and_nothing_else():
    constant = [*SCHEMA.groups["identity"], SCHEMA.index("presentation")]
    free = [i for i in range(len(SCHEMA)) if i not in constant]
    one, other = people(200, index=0), people(200, index=1)
    assert torch.equal(one[:, constant], other[:, constant])
    assert len(one[:, constant].unique(dim=0)) == 200
    assert not (people(200, seed=1)[:, constant] == one[:, constant]).all(1).any()
    numbers = [i for i in free if SCHEMA.parameters[i].kind == "continuous"]
    assert (one[:, numbers] != other[:, numbers]).float().mean() > 0.95
    shifted = draw_parameters(torch.arange(200) + 1, torch.arange(200), 0)
    assert not (shifted[:, numbers] == draw_parameters(torch.arange(200), torch.arange(200) + 1, 0)[:, numbers]).any()


def test_frequencies():
    shown = {name: column.double() for name, column in stated(people(6000)).items()}
    men = shown["Male"].bool()
    expected = {"Male": 0.5, "Eyeglasses": 0.4, "Smiling": 0.5, "Wearing_Hat": 0.15}
    for name, share in expected.items():  # five standard deviations
        assert shown[name].mean().item() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 6000))
    for name in ("Goatee", "Mustache", "5_o_Clock_Shadow"):
        assert not shown[name][~men].any()
    assert shown["No_Beard"][men].mean().item() == pytest.approx(0.4 + 0.6 / 4, abs=0.05)
    assert not shown["Wearing_Lipstick"][men].any()
    assert min(column.mean().item() for column in shown.values()) > 0.02
    smile = people(2000)[:, SCHEMA.index("smile")]
    assert not ((smile > 0.31) & (smile < 0.64)).any()


def test_one_hot_and_back():
    u = people(300)
    v = SCHEMA.one_hot(u)
    assert v.shape == (300, SCHEMA.size)
    assert v.min() >= -1e-6  # a float32 at the end of its range
    assert v.max() <= 1 + 1e-6
    torch.testing.assert_close(SCHEMA.from_one_hot(v), u, atol=1e-6, rtol=1e-6)
    seed = SCHEMA.index("noise_seed")
    assert torch.equal(SCHEMA.from_one_hot(v)[:, seed], u[:, seed])


def test_attributes_state_the_parameters(u):
    assert list(ATTRIBUTES) == sorted(ATTRIBUTES)
    bare = setting(u, hat=0, mouth_open=0, smile=0.1)

    def has(name, **values):
        column = stated(setting(bare, **values))[name]
        assert column.all() or not column.any()
        return bool(column[0])

    beards = {kind: i for i, kind in enumerate(BEARDS)}
    # CelebA's beard, as the guided-disentanglement experiments read it: Mustache or Goatee or not No_Beard
    for kind, i in beards.items():
        bearded = has("Mustache", beard=i) or has("Goatee", beard=i) or not has("No_Beard", beard=i)
        assert bearded == (kind in ("moustache", "goatee", "full"))
        assert has("5_o_Clock_Shadow", beard=i) == (kind == "stubble")
    assert [kind for kind, i in beards.items() if has("Mustache", beard=i)] == ["moustache", "full"]
    for i, style in enumerate(HAIR_STYLES):
        assert has("Bald", hair_style=i) == (style == "bald") == (not has("Black_Hair", hair_style=i, hair_colour=0))
        assert has("Bangs", hair_style=i) == (style == "fringe")
        assert not has("Bangs", hair_style=i, hat=1)
    assert [has("Eyeglasses", glasses=i) for i in range(len(GLASSES))] == [False] + [True] * (len(GLASSES) - 1)
    assert [has("Wearing_Hat", hat=i) for i in range(len(HATS))] == [False] + [True] * (len(HATS) - 1)
    for smile, opened, smiling, mouth in ((0.3, 0, 0, 0), (0.65, 0, 1, 0), (0.9, 0, 1, 1), (0.1, 0.5, 0, 1)):
        assert has("Smiling", smile=smile, mouth_open=opened) == smiling
        assert has("Mouth_Slightly_Open", smile=smile, mouth_open=opened) == mouth
    assert has("Pale_Skin", skin_tone=0.0)
    assert not has("Pale_Skin", skin_tone=0.5)


@pytest.mark.parametrize("style", STYLES)
def test_masks_show_what_is_there(u, style):
    absent = setting(u, glasses=0, beard=0, hat=0, hair_style=HAIR_STYLES.index("bald"))
    none = render_masks(absent, 48, style)
    assert tuple(none) == PARTS
    for part in ("glasses", "facial_hair", "hair", "hat"):
        assert not none[part].any()
    for i in range(1, len(GLASSES)):
        both_lenses = render_masks(setting(absent, glasses=i), 48, style)["glasses"]
        area = (both_lenses.float() / 255).flatten(1).sum(1) / 48**2
        assert area.min() > 0.015
        assert area.max() < 0.12
    for part, column, count in (("facial_hair", "beard", 5), ("hat", "hat", 4), ("hair", "hair_style", 11)):
        for i in range(1, count):
            mask = render_masks(setting(absent, **{column: i}), 48, style)[part]
            assert (mask.flatten(1).amax(1) > 100).all(), (part, i)
    assert (none["mouth"].flatten(1).amax(1) > 100).all()
    total = sum(mask.int() for mask in render_masks(u, 48, style).values())
    assert total.max() <= 255 + 3  # parts of one pixel never exceed it, but for rounding


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["Eyeglasses", "Facial_Hair", "Wearing_Hat", "Smiling"])
def test_counterfactuals_change_their_part_only(u, name, style):
    without, with_it = (with_attribute(u, name, value) for value in (False, True))
    shown = "No_Beard" if name == "Facial_Hair" else name
    assert (stated(with_it)[shown] == (shown != "No_Beard")).all() or name == "Facial_Hair"
    assert (stated(without)[shown] == (shown == "No_Beard")).all()
    size = 64
    change = (render(without, size, style).int() - render(with_it, size, style).int()).abs().amax(1, keepdim=True)
    if name == "Smiling":
        # Eyes, cheeks, mouth and chin move: inside of the head, below the brows.
        assert not change[:, :, : size // 4].any()
        assert not change[..., : size // 6].any()
        assert not change[..., -(size // 6) :].any()
        part = render_masks(with_it, size, style)["mouth"] > 128
    else:
        parts = {"Eyeglasses": ["glasses"], "Facial_Hair": ["facial_hair"], "Wearing_Hat": ["hat", "hair"]}[name]
        masks = [
            m[part] for m in (render_masks(without, size, style), render_masks(with_it, size, style)) for part in parts
        ]
        allowed = dilated(torch.cat(masks, dim=1).amax(1, keepdim=True) > 0, 2)
        assert not change[~allowed].any()
        part = render_masks(with_it, size, style)[parts[0]] > 128
    inside = (change * part).flatten(1).sum(1) / part.flatten(1).sum(1).clamp(min=1)
    assert (inside > 4).all(), inside


def test_counterfactuals_copy_the_donor():
    u, donor = people(200), people(200, seed=1)
    has, gives = (stated(rows)["Eyeglasses"] for rows in (u, donor))
    kind, frame = SCHEMA.index("glasses"), SCHEMA.index("frame")
    moved = with_attribute(u, "Eyeglasses", True, donor)
    assert torch.equal(moved[gives][:, [kind, frame]], donor[gives][:, [kind, frame]])
    assert torch.equal(moved[has & ~gives], u[has & ~gives])
    assert (moved[~has & ~gives][:, kind] == GLASSES.index("square")).all()
    others = [i for i in range(len(SCHEMA)) if i not in (kind, frame)]
    assert torch.equal(moved[:, others], u[:, others])
    rows = torch.arange(200) % 2 == 0
    half = stated(with_attribute(u, "Smiling", rows, donor))["Smiling"]
    assert torch.equal(half, rows)
    with pytest.raises(ValueError, match="no counterfactual for 'Young', only for Eyeglasses"):
        with_attribute(u, "Young", True)


def test_emojis_ignore_the_nuisances(u):
    other = u.clone()
    nuisance = list(SCHEMA.groups["nuisance"])
    other[:, nuisance] = people(COUNT, seed=8)[:, nuisance]
    assert torch.equal(render(other, 32, "emoji"), render(u, 32, "emoji"))
    changed = (render(other, 32).int() - render(u, 32).int()).abs().float().flatten(1).mean(1)
    assert (changed > 10).all()


def test_noise_is_the_only_use_of_its_level_and_has_it():
    u = setting(people(COUNT), noise=0.0, exposure=0.8, warmth=0.0)
    noisy = setting(u, noise=0.03)
    gap = render(noisy, 64).float() - render(u, 64).float()
    clean = render(u, 64)
    gap = gap[(clean > 40) & (clean < 215)]  # nothing clipped
    assert gap.std().item() / 255 == pytest.approx(0.03, rel=0.05)
    assert torch.equal(render(noisy, 64), render(noisy, 64))


@pytest.mark.parametrize("style", STYLES)
def test_pictures_are_anti_aliased(style):
    u = setting(people(8, seed=2), noise=0.0, blur=0.0)
    usual = render(u, 64, style).float()
    reduced = F.avg_pool2d(render(u, 192, style).float(), 3)  # nine samples per pixel instead of one
    gap = (usual - reduced).abs()
    contrast = (usual[..., 1:] - usual[..., :-1]).abs().mean()
    assert gap.mean() < 0.25 * contrast
    assert gap.mean() < 2.5
    assert (gap > 64).float().mean() < 0.003


@pytest.mark.parametrize("style", STYLES)
def test_drawing_in_windows_loses_nothing(style, monkeypatch):
    u = people(64, seed=6)
    for column, parameter in enumerate(SCHEMA.parameters):  # extremes go furthest
        if parameter.kind == "continuous" and parameter.name != "noise_seed":
            u[:, column] = torch.tensor([parameter.low, parameter.high])[torch.randint(2, (64,))]
        elif parameter.name in ("glasses", "beard", "hat", "mole"):
            u[:, column] = torch.randint(len(parameter.values), (64,)).float()
    windowed, masks = render(u, 48, style), render_masks(u, 48, style)
    monkeypatch.setattr(engine, "_window", lambda *_: (slice(None), slice(None)))
    assert torch.equal(render(u, 48, style), windowed)
    whole = render_masks(u, 48, style)
    assert all(torch.equal(whole[part], masks[part]) for part in PARTS)


@pytest.mark.parametrize(("name", "style"), [("Eyeglasses", "photo"), ("Eyeglasses", "emoji"), ("Smiling", "emoji")])
def test_attributes_can_be_seen_by_a_linear_probe(name, style):
    # Smiles in photos shift too far from picture to picture for something linear.
    u = setting(people(400, seed=11), hat=0)
    x = render(u, 32, style).float().mean(1).flatten(1).double()
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    train, test = slice(0, 300), slice(300, 400)
    gram = x @ x.T
    y = stated(u)[name].double() * 2 - 1
    weights = torch.linalg.solve(gram[train, train] + 100 * torch.eye(300), y[train] - y[train].mean())
    score = gram[test, train] @ weights
    right, wrong = score[y[test] > 0], score[y[test] < 0]
    ranking = (right[:, None] > wrong).double().mean()  # area under the ROC curve: 0.5 by chance, one sigma is 0.06
    assert ranking > 0.7


def test_emojis_of_an_identity_look_alike():
    one, other = (render(people(30, index=i), 32, "emoji").float().flatten(1) for i in (0, 1))
    nearest = torch.cdist(one, other).argmin(1)
    assert (nearest == torch.arange(30)).float().mean() > 0.5  # chance: 1 in 30


def test_enlarging_is_torchs_interpolation():
    grid = torch.rand(3, 1, 5, 5)
    for mode in ("bilinear", "bicubic"):
        torch.testing.assert_close(engine.enlarged(grid, 64, mode), F.interpolate(grid, size=(64, 64), mode=mode))


@pytest.mark.parametrize("size", [32, 100])
def test_other_sizes_show_the_same_scene(u, size):
    small = F.adaptive_avg_pool2d(render(u, size).float(), 16).flatten(1)
    usual = F.adaptive_avg_pool2d(render(u, 64).float(), 16).flatten(1)
    assert torch.equal(torch.cdist(small, usual).argmin(1), torch.arange(COUNT))


def test_bad_requests_are_refused(u):
    with pytest.raises(ValueError, match="style must be 'photo' or 'emoji', not 'oil'"):
        render(u, 32, "oil")
    with pytest.raises(ValueError, match="size must be between 1 and 512, not 1000"):
        render(u, 1000)


def test_areas_of_shapes():
    size = 64
    pixel = torch.full((1, 1, 1, 1), 2 / size)
    canvas = Canvas(size, pixel, None)
    axis = (2 * torch.arange(size) + 1) / size - 1
    x, y = axis.view(1, 1, 1, -1).expand(1, 1, size, size), axis.view(1, 1, -1, 1).expand(1, 1, size, size)

    def area(cover):
        return cover.sum().item() * (2 / size) ** 2

    x, y = x - 0.013, y + 0.007
    assert area(canvas.cover(ellipse(x, y, 0.5, 0.3))) == pytest.approx(math.pi * 0.15, rel=0.01)
    assert area(canvas.cover(ellipse(x, y, 0.5, 0.3, 1.0))) == pytest.approx(0.6, rel=0.03)
    rounded = 4 * 0.5 * 0.3 - (4 - math.pi) * 0.1**2
    assert area(canvas.cover(rectangle(x, y, 0.5, 0.3, 0.1))) == pytest.approx(rounded, rel=0.01)
    for thickness in (0.004, 0.1):  # a tenth of a pixel, and some
        assert area(between(y, 0.1, 0.1 + thickness, pixel)) == pytest.approx(2 * thickness, rel=1e-3)


def test_a_canvas_composes_colours_and_parts():
    pixel = torch.ones(1, 1, 1, 1)
    cover, half = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    red, blue = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([0, 0, 1.0]).view(1, 3, 1, 1)
    picture, masks = Canvas(1, pixel, None), Canvas(1, pixel, None, ("a", "b"))
    for canvas in (picture, masks):
        canvas.paint(half, red, part="a")
        canvas.paint(cover, blue, 0.25, "b")
    assert picture.colour.flatten().tolist() == [0.375, 0.0, 0.25]
    assert picture.opacity.item() == 0.625
    assert masks.colour.flatten().tolist() == [0.375, 1.0]  # all of b counts, although it can be looked through
