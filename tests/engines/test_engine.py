"""What every engine promises: parameters and pictures that depend on nothing but seed, index and parameters."""

import json
import re
from pathlib import Path

import pytest
import torch

from xdomain.engines import Emoji, Glyphs, Polygons, avatars, glyphs, polygons
from xdomain.networks.parameters import activated

ENGINES = [Emoji(), Glyphs(), Polygons()]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request):
    return request.param


def test_rows_depend_on_seed_and_index_alone(engine):
    u = engine.sample(torch.arange(12), 3)
    assert u.shape == (12, len(engine.schema))
    assert u.dtype == torch.float32
    assert torch.equal(engine.sample(torch.tensor([7, 2]), 3), u[[7, 2]])
    assert not torch.equal(engine.sample(torch.arange(12), 4), u)
    pictures = engine.render(u, 32)
    assert pictures.dtype == torch.uint8
    assert pictures.shape == (12, engine.channels, 32, 32)
    assert torch.equal(engine.render(u[5:6], 32)[0], pictures[5])
    assert len({picture.numpy().tobytes() for picture in pictures}) == 12


def test_samples_are_within_their_ranges(engine):
    u = engine.sample(torch.arange(300), 1)
    for i, p in enumerate(engine.schema.parameters):
        assert p.low <= u[:, i].min()
        assert u[:, i].max() <= p.high
        if p.kind == "choice":
            assert torch.equal(u[:, i], u[:, i].round())


def test_one_hot_form_draws_the_same_picture(engine):
    u = engine.sample(torch.arange(20), 2)
    back = engine.schema.from_one_hot(engine.schema.one_hot(u))
    difference = (engine.render(back, 32).int() - engine.render(u, 32).int()).abs()
    assert difference.max() <= 2
    read = torch.stack([engine.schema.from_names(engine.schema.named(row)) for row in u])
    assert (engine.render(read, 32).int() - engine.render(u, 32).int()).abs().max() <= 2


def test_activated_vectors_are_valid(engine):
    v = activated(3 * torch.randn(50, engine.schema.size), engine.schema.layout)
    for p in engine.schema.parameters:
        part = v[:, engine.schema.slices[p.name]]
        if p.kind == "choice":
            torch.testing.assert_close(part.sum(1), torch.ones(50))
        elif p.kind == "periodic":
            torch.testing.assert_close(part.norm(dim=1), torch.ones(50))
        assert part.abs().max() <= 1 + 1e-6


def test_emojis_are_those_of_the_avatars():
    who, number = torch.arange(6), torch.arange(6)
    whole = avatars.draw_parameters(who, number, 5)
    engine = Emoji()
    own = whole[:, [avatars.SCHEMA.index(name) for name in engine.schema.names]]
    assert torch.equal(engine.render(own, 32), avatars.render(whole, 32, "emoji"))
    assert not {p.group for p in engine.schema.parameters} & {"nuisance"}


def test_engines_are_those_of_their_modules():
    u = polygons.draw_parameters(torch.arange(3), 1)
    assert torch.equal(Polygons().render(u, 16), polygons.render(u, 16))
    u = glyphs.draw_parameters(torch.arange(3), 1)
    assert torch.equal(Glyphs().render(u, 16), glyphs.render(u, 16))
    assert Glyphs().schema.parameters[Glyphs().schema.index(Glyphs().label)].values == tuple("0123456789")


def test_attributes_are_those_that_the_avatars_show():
    whole = avatars.draw_parameters(torch.arange(60), torch.zeros(60, dtype=torch.int64), 5)
    engine = Emoji()
    found = engine.attributes(whole[:, [avatars.SCHEMA.index(name) for name in engine.schema.names]])
    shown = dict(zip(avatars.ATTRIBUTES, avatars.attributes(whole).bool().T, strict=True))
    for name in ("Eyeglasses", "Smiling", "Wearing_Hat"):
        assert torch.equal(found[name], shown[name])
        assert 0 < found[name].float().mean() < 1
    assert torch.equal(found["Facial_Hair"], ~shown["No_Beard"] | shown["5_o_Clock_Shadow"])
    assert Polygons().attributes(Polygons().sample(torch.arange(2), 0)) == {}


def test_the_engine_of_the_docs_is_one():
    """The file that the page about engines shows, and the values that it puts into a text editor."""
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    engine = names["Discs"]()
    u = engine.sample(torch.arange(30), 0)
    pictures = engine.render(u, 32)
    assert pictures.shape == (30, 1, 32, 32)
    assert pictures.dtype == torch.uint8
    assert torch.equal(engine.render(u[3:4], 32)[0], pictures[3])
    covered = (pictures.float() / 255).mean((1, 2, 3)) * 4
    disc = u[:, 0] == 0
    torch.testing.assert_close(covered[disc], torch.pi * u[disc, 1] ** 2, rtol=0.05, atol=0)
    values = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])["me.png"]
    assert Polygons.schema.from_names(values).shape == (8,)
