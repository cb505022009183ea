"""Pictures of engines and photos of polygons, with the parameters that they were drawn from."""

import numpy as np
import pytest
import torch

from xdomain.data import Avatars, CastDigits, DomainPair, EnginePictures, PolygonPhotos, Street
from xdomain.engines import Emoji, Glyphs, Polygons, avatars, glyphs, polygons
from xdomain.engines.glyphs import CASTS
from xdomain.errors import UserError

SMALL = {"image_size": 16, "train_size": 30, "val_size": 10, "test_size": 12}


@pytest.mark.parametrize("engine", [Emoji(), Glyphs(), Polygons()], ids=lambda engine: engine.name)
def test_pictures_are_those_of_their_parameters(engine):
    data = EnginePictures(engine, **SMALL)
    assert data.domains == (engine.name,)
    assert data.channels == (engine.channels,)
    for split, count in (("train", 30), ("val", 10), ("test", 12)):
        u = data.drawn_from("a", split, engine.schema)
        images = data.data("a", split)
        assert u.shape == (count, len(engine.schema))
        assert np.array_equal(images.images, engine.render(u, 16).numpy())
        if engine.label is None:
            assert images.labels is None
        else:
            assert np.array_equal(images.labels, u[:, engine.schema.index(engine.label)].long().numpy())


def test_photos_show_the_polygons_that_they_were_drawn_from():
    data = PolygonPhotos(**{**SMALL, "image_size": 32})
    u = data.drawn_from("a", "test", polygons.SCHEMA)
    photos = torch.from_numpy(np.array(data.data("a", "test").images)).float()
    inside = (polygons.render(torch.cat([u[:, :5], torch.zeros(12, 3)], 1), 32)[:, :1] == 0).expand_as(photos)
    for photo, mask, wanted in zip(photos, inside, u[:, 5:], strict=True):
        centre = photo.masked_select(mask).view(3, -1).median(1).values / 255
        torch.testing.assert_close(centre, wanted, atol=0.1, rtol=0)


def test_parts_worlds_and_domains_show_other_things():
    def u(data, split):
        return data.drawn_from("a", split, polygons.SCHEMA)[:10]

    found = [
        u(kind, split)
        for kind in (
            EnginePictures(Polygons(), **SMALL),
            EnginePictures(Polygons(), world_seed=1, **SMALL),
            PolygonPhotos(**SMALL),
            PolygonPhotos(world_seed=1, **SMALL),
        )
        for split in ("train", "val", "test")
    ]
    rows = torch.cat(found)
    assert len(rows.unique(dim=0)) == len(rows)


def test_nothing_in_a_photo_but_the_polygon_follows_its_parameters():
    """The hash of what is added must not be that of the parameters."""
    data = PolygonPhotos(**SMALL)
    photos, nuisance = data.seed_of("train", data.stream), data.seed_of("train", data.stream + 1)
    assert photos != nuisance
    same = polygons.render_photo(data.drawn_from("a", "train", polygons.SCHEMA), torch.arange(30), nuisance, 16)
    assert np.array_equal(data.data("a", "train").images, same.numpy())


def test_a_pair_knows_the_parameters_of_both_sides():
    sizes = {"identities": 12, "images_per_identity": 2, "val_identities": 2, "test_identities": 2, "image_size": 16}
    photos = Avatars({"photo": "*"}, **sizes)
    data = DomainPair(photos, EnginePictures(Emoji(), **SMALL))
    schema = Emoji().schema
    u = data.drawn_from("a", "train", schema)
    whole = photos.parameters("train")
    assert torch.equal(u, whole[:, [avatars.SCHEMA.index(name) for name in schema.names]])
    assert torch.equal(data.drawn_from("b", "val", schema), data.modules["b"].drawn_from("a", "val", schema))
    assert data.drawn_from("a", "train", polygons.SCHEMA) is None
    assert data.drawn_from("b", "train", polygons.SCHEMA) is None
    assert Street(train_size=4).drawn_from("a", "train", Glyphs().schema) is None
    men = Avatars({"men": "Male"}, **sizes)
    assert torch.equal(men.drawn_from("a", "train", schema), u[men.rows("a", "train")])


def test_another_world_has_another_fingerprint():
    prints = {
        EnginePictures(Polygons(), **SMALL).fingerprint(),
        EnginePictures(Polygons(), world_seed=1, **SMALL).fingerprint(),
        EnginePictures(Glyphs(), **SMALL).fingerprint(),
        EnginePictures(Polygons(), **{**SMALL, "val_size": 11}).fingerprint(),
        PolygonPhotos(**SMALL).fingerprint(),
    }
    assert len(prints) == 5


def test_sizes_are_checked():
    with pytest.raises(UserError, match="val_size is 0: give a number of at least 1"):
        PolygonPhotos(val_size=0)


def lights(images):
    """Which of the ten colours lies over the ground of every picture: the one that explains its mean colour best."""
    ground = torch.from_numpy(images.images.copy()).float()[:, :, :2].mean((2, 3)) / 255  # no digit reaches the border
    colours = torch.tensor(CASTS)
    shares = torch.linspace(0.2, 0.4, 21).view(-1, 1, 1)
    grey = (ground[None, :, None] - shares[..., None] * colours) / (1 - shares[..., None])  # [shares, n, colours, 3]
    left = grey.var(3).amin(0)
    assert float(left.amin(1).max()) < 5e-4
    return left.argmin(1)


def test_light_follows_the_class_and_shuffled_light_does_not():
    sizes = {"image_size": 24, "train_size": 250, "val_size": 4, "test_size": 4}
    data = CastDigits(correlation=0.8, **sizes)
    images, shuffled = data.data("a", "train"), data.shuffled("train")
    u = data.drawn_from("a", "train", glyphs.SCHEMA)
    assert np.array_equal(images.labels, u[:, glyphs.SCHEMA.index("digit")].long().numpy())
    assert np.array_equal(shuffled.labels, images.labels)
    label = torch.from_numpy(images.labels)
    assert float((lights(images) == label).float().mean()) == pytest.approx(0.8 + 0.2 / 10, abs=0.06)
    assert float((lights(shuffled) == label).float().mean()) == pytest.approx(1 / 10, abs=0.05)
    assert data.fingerprint() != CastDigits(correlation=0.7, **sizes).fingerprint()
    with pytest.raises(UserError, match=r"correlation is 1\.2"):
        CastDigits(correlation=1.2)


def test_shuffled_pictures_show_the_same_digits_in_other_light():
    u, indices = glyphs.draw_parameters(torch.arange(50), 3), torch.arange(50)
    coloured, shuffled = (glyphs.render_cast(u, indices, 7, 24, c).float().mean(1) for c in (1.0, 0.0))
    masks = glyphs.render(u, 24)[:, 0].float()
    for one, other, mask in zip(coloured, shuffled, masks, strict=True):
        rest = (one - one.mean()) - (other - other.mean())
        assert float(rest.abs().max()) <= 1  # rounding: light is added, so only the mean differs
        assert float(torch.corrcoef(torch.stack([one.flatten(), mask.flatten()]))[0, 1]) > 0.7
