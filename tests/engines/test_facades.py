"""Facades: photo and label map agree, and the label map is what the parameters say."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from xdomain.engines import facades as engine
from xdomain.engines.facades import (
    CLASSES,
    PALETTE,
    SCHEMA,
    draw_parameters,
    labels_to_rgb,
    render,
    render_labels,
    rgb_to_labels,
)

COUNT = 12
SIZE = 64


@pytest.fixture(scope="module")
def u():
    return draw_parameters(torch.arange(COUNT), seed=5)


@pytest.fixture(scope="module")
def labels(u):
    return render_labels(u, SIZE)


@pytest.fixture(scope="module")
def photos(u):
    return render(u, SIZE)


def with_values(u, **values):
    u = u.clone()
    for name, value in values.items():
        parameter = SCHEMA.parameters[SCHEMA.index(name)]
        u[:, SCHEMA.index(name)] = parameter.values.index(value) if parameter.kind == "choice" else value
    return u


def regions(mask):
    return ndimage.label(mask.numpy())[1]


def test_pictures_depend_on_nothing_but_their_parameters(u, labels, photos, monkeypatch):
    order = torch.randperm(COUNT)
    assert torch.equal(draw_parameters(order, seed=5), u[order])
    assert torch.equal(render_labels(u[order], SIZE), labels[order])
    assert torch.equal(render(u[order], SIZE), photos[order])
    assert torch.equal(render(u[3:4], SIZE), photos[3:4])
    monkeypatch.setattr(engine, "CHUNK", 5)
    assert torch.equal(render_labels(u, SIZE), labels)
    assert torch.equal(render(u, SIZE), photos)
    assert len(torch.unique(photos.flatten(1), dim=0)) == COUNT


def test_every_class_occurs(labels):
    many = render_labels(draw_parameters(torch.arange(40), seed=0), SIZE)
    counts = torch.bincount(many.flatten().long(), minlength=13)
    assert counts[0] == 0
    assert len(counts) == len(CLASSES) + 1
    assert (counts[1:] > 0.001 * many.numel()).all()
    assert labels.dtype == torch.uint8


def test_photo_and_labels_are_aligned(u, labels, photos):
    """The classes explain the photo best where they are: any shift of the map explains less of its variance."""

    def explained(dy, dx):
        total = 0.0
        for photo, label in zip(photos.float(), labels.roll((dy, dx), (1, 2)), strict=True):
            inner, classes = photo[:, 3:-3, 3:-3], F.one_hot(label[3:-3, 3:-3].long(), 13).float()
            means = torch.einsum("chw,hwk->ck", inner, classes) / classes.sum((0, 1)).clamp(min=1)
            rest = inner - torch.einsum("ck,hwk->chw", means, classes)
            total += 1 - rest.var().item() / inner.var().item()
        return total / len(photos)

    here = explained(0, 0)
    for shift in ((0, 1), (0, -1), (1, 0), (-1, 0), (0, 2), (2, 0)):
        assert explained(*shift) < here - 0.01


@pytest.mark.parametrize("floors", ["3", "5"])
@pytest.mark.parametrize("columns", ["3", "6"])
def test_windows_and_doors_are_counted(u, floors, columns):
    plain = {"blinds": "none", "balconies": "no", "shops": "no", "cornices": "no", "sills": "no", "deco": "no"}
    labels = render_labels(with_values(u, floors=floors, columns=columns, pillars="no", **plain), 128)
    for label in labels:
        assert regions(label == engine.WINDOW) == int(floors) * int(columns) - 1
        assert regions(label == engine.DOOR) == 1
        assert not torch.isin(label, torch.tensor([5, 6, 7, 8, 9, 11, 12])).any()


def test_options_bring_their_class(u):
    few = u[:4]
    for name, value, label in (
        ("sills", "yes", engine.SILL),
        ("cornices", "yes", engine.CORNICE),
        ("balconies", "every", engine.BALCONY),
        ("blinds", "shutters", engine.BLIND),
        ("pillars", "columns", engine.PILLAR),
        ("shops", "yes", engine.SHOP),
    ):
        assert ((render_labels(with_values(few, **{name: value}), 96) == label).flatten(1).sum(1) > 20).all(), name
    moldings = [
        (render_labels(with_values(few, moldings=value, pillars="no"), 96) == engine.MOLDING).sum()
        for value in ("roof", "ground floor", "every floor")
    ]
    assert moldings[0] < moldings[1] < moldings[2]


def test_where_the_front_is(u):
    straight = with_values(u, tilt=0.0, turn=0.0, pillars="no", moldings="roof")
    size = 200
    front = render_labels(straight, size) != engine.BACKGROUND
    for i in range(COUNT):
        left, right, top, bottom = (
            straight[i, SCHEMA.index(name)].item() for name in ("left", "right", "top", "bottom")
        )
        rows, columns = front[i].any(1).nonzero(), front[i, size // 2 :].any(0).nonzero()
        assert rows.min().item() == pytest.approx(top * size, abs=1.5)
        assert rows.max().item() == pytest.approx(bottom * size, abs=1.5)
        assert columns.min().item() == pytest.approx(max(left * size, 0), abs=2.5)  # the cornice overhangs
        assert columns.max().item() == pytest.approx(min(right * size, size), abs=2.5)


def test_photos_are_anti_aliased(u, photos):
    double = F.avg_pool2d(render(u, 2 * SIZE).float(), 2)
    assert (double - photos.float()).abs().mean((1, 2, 3)).max() < 9
    labels = F.one_hot(render_labels(u, 2 * SIZE).long(), 13).movedim(-1, 1).float()
    same = F.avg_pool2d(labels, 2).gather(1, render_labels(u, SIZE).long()[:, None])
    assert same.mean() > 0.9


def test_labels_and_colours_round_trip(labels):
    painted = labels_to_rgb(labels)
    assert painted.shape == (COUNT, 3, SIZE, SIZE)
    assert torch.equal(rgb_to_labels(painted), labels)
    y, x = (labels[0] == engine.DOOR).nonzero()[0].tolist()
    assert tuple(painted[0, :, y, x].tolist()) == PALETTE[CLASSES.index("door")]


def test_labels_survive_jpeg(u):
    labels = render_labels(u[:4], 256)
    for label, painted in zip(labels, labels_to_rgb(labels), strict=True):
        file = io.BytesIO()
        Image.fromarray(painted.movedim(0, -1).numpy()).save(file, "JPEG", quality=90)
        decoded = torch.from_numpy(np.array(Image.open(file))).movedim(-1, 0)
        assert not torch.equal(decoded, painted)
        right = rgb_to_labels(decoded[None])[0] == label
        assert right.float().mean() > 0.85  # JPEG halves the resolution of colour
        tone = label.float()[None]
        within = (F.max_pool2d(tone, 5, 1, 2) == -F.max_pool2d(-tone, 5, 1, 2))[0]  # more than two pixels from a border
        assert right[within].float().mean() > 0.99
