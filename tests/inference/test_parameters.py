"""Files of an engine's parameters: what is written, what is read, what is drawn from them."""

import json

import pytest
import torch

from xdomain.data.images import read_image
from xdomain.engines import Emoji, Glyphs, Polygons
from xdomain.errors import UserError
from xdomain.inference.parameters import find_engine, read_parameters, render_file, write_parameters

GOOD = {"vertices": "5", "radius": 0.5, "rotation": 1.0, "x": 0, "y": 0.1, "red": 0.1, "green": 0.2, "blue": 0.3}


@pytest.fixture(params=[".json", ".csv"])
def file(request, tmp_path):
    return tmp_path / f"u{request.param}"


@pytest.fixture(params=[Polygons(), Emoji(), Glyphs()], ids=lambda engine: engine.name)
def engine(request):
    return request.param


def test_what_was_written_is_read_and_draws_the_same(engine, file, tmp_path):
    u = engine.sample(torch.arange(5), 3)
    names = ["b.png", "a.jpg", "in a folder/c.png", 'né, "quoted".png', "plain"]
    write_parameters(file, engine.schema, dict(zip(names, u, strict=True)))
    read = read_parameters(file, engine.schema)
    assert [*read] == names
    torch.testing.assert_close(torch.stack([*read.values()]), u, rtol=1e-5, atol=1e-6)
    assert render_file(engine, file, tmp_path / "drawn", size=48) == 5
    for name, row in zip(names, read.values(), strict=True):
        drawn = read_image(tmp_path / "drawn" / (name if "." in name else f"{name}.png"), engine.channels)
        expected = engine.render(row[None], 48)[0]
        loss = (drawn.int() - expected.int()).abs().float().mean()
        assert loss <= (6 if name.endswith("jpg") else 0)


def test_a_file_that_people_can_read(tmp_path):
    u = Polygons().schema.from_names(GOOD)
    write_parameters(tmp_path / "u.json", Polygons.schema, {"a.png": u})
    content = json.loads((tmp_path / "u.json").read_text())
    assert content["a.png"].keys() == GOOD.keys()
    assert content["a.png"]["vertices"] == "5"
    assert content["a.png"]["radius"] == 0.5
    write_parameters(tmp_path / "u.csv", Polygons.schema, {"a.png": u})
    header, row = (tmp_path / "u.csv").read_text().splitlines()
    assert header == "image,vertices,radius,rotation,x,y,red,green,blue"
    assert row == "a.png,5,0.5,1.0,0.0,0.1,0.1,0.2,0.3"


def test_an_edited_value_is_drawn(tmp_path):
    for name, change in (("before", {}), ("after", {"vertices": "3"})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"a.png": {**GOOD, **change}}))
        render_file(Polygons(), tmp_path / f"{name}.json", tmp_path / name, size=32)
    before, after = (read_image(tmp_path / name / "a.png", 3) for name in ("before", "after"))
    assert not torch.equal(before, after)
    row = Polygons.schema.from_names({**GOOD, "vertices": "3"})
    assert torch.equal(after, Polygons().render(row[None], 32)[0])


def text(**values):
    return json.dumps({"a.png": {**GOOD, **values}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"u.json, line 1, column 2 is no JSON: Expecting property name"),
        ("[" * 100000, "u.json is no JSON: it is nested too deeply"),
        ("3", r'u.json must map images to their parameters: write {"a.png"'),
        ("[1, 2]", "must map images to their parameters"),
        ("{}", "u.json names no image: give at least one"),
        ('{"a.png": 3}', "u.json, a.png: its parameters must be an object"),
        ('{"a.png": {"x": 0, "x": 0.1}}', "u.json, a.png: x is given twice"),
        (f'{{"a.png": {json.dumps(GOOD)}, "a.png": {json.dumps(GOOD)}}}', "names the image a.png twice"),
        (text(radius="big"), "u.json, a.png: radius is 'big': give a number from 0.35 to 0.7"),
        (text(radius=7), "u.json, a.png: radius is 7: give a number from 0.35 to 0.7"),
        (text(radius=float("nan")), "u.json, a.png: radius is nan: give a number"),
        (text(radius=[0.5]), r"u.json, a.png: radius is \[0.5\]: give a number"),
        (text(vertices=7), "u.json, a.png: vertices is 7: give 3, 4, 5 or 6"),
        (text(radios=0.5), "u.json, a.png: radios is no parameter: did you mean radius"),
        ('{"a.png": {"x": 0}}', "u.json, a.png: vertices is missing: give 3, 4, 5 or 6"),
        (f'{{"../a.png": {json.dumps(GOOD)}}}', "names the image '../a.png', which leads out of the output"),
        (f'{{"/a.png": {json.dumps(GOOD)}}}', "names the image '/a.png', which leads out of the output"),
        (f'{{"": {json.dumps(GOOD)}}}', "names the image '', which leads out of the output"),
        (f'{{"a": {json.dumps(GOOD)}, "a.png": {json.dumps(GOOD)}}}', "a and a.png in .* would both be drawn as"),
    ],
    ids=range(19),
)
def test_bad_json_is_named_and_nothing_is_written(tmp_path, content, message):
    (tmp_path / "u.json").write_text(content)
    with pytest.raises(UserError, match=message):
        render_file(Polygons(), tmp_path / "u.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


HEADER = "image,vertices,radius,rotation,x,y,red,green,blue\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "u.csv has no column image: its first line must name the columns"),
        ("name,x\na.png,0\n", "has no column image"),
        (HEADER, "names no image"),
        (HEADER + "a.png,5,0.5,1,0,0,0,0\n", "u.csv, line 2: it must have 9 values"),
        (HEADER + "a.png,5,0.5,1,0,0,0,0,0,0\n", "u.csv, line 2: it must have 9 values"),
        (HEADER + "a.png,5,0.5,1,0,0,0,0,2\n", "u.csv, a.png: blue is '2': give a number from 0 to 0.8"),
        (HEADER + "a.png,5,,1,0,0,0,0,0\n", "u.csv, a.png: radius is ''"),
        (HEADER + 'a.png,"5,0.5,1,0,0,0,0,0\n', "u.csv is no CSV table"),
    ],
    ids=range(8),
)
def test_bad_tables_are_named(tmp_path, content, message):
    (tmp_path / "u.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_parameters(tmp_path / "u.csv", Polygons.schema)


def test_other_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        read_parameters(tmp_path / "none.json", Polygons.schema)
    with pytest.raises(UserError, match=r"u.txt ends in neither .json nor .csv: rename it"):
        write_parameters(tmp_path / "u.txt", Polygons.schema, {})
    (tmp_path / "u.json").write_text(text())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    with pytest.raises(UserError, match=r"a.png exists already"):
        render_file(Polygons(), tmp_path / "u.json", tmp_path / "out")
    assert render_file(Polygons(), tmp_path / "u.json", tmp_path / "out", overwrite=True) == 1
    with pytest.raises(UserError, match="size is 100000: give a number of pixels from 1 to 4,096"):
        render_file(Polygons(), tmp_path / "u.json", tmp_path / "out", size=100000)
    (tmp_path / "in").symlink_to(tmp_path)
    (tmp_path / "far").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "u.json").write_text(json.dumps({"link/a.png": GOOD}))
    with pytest.raises(UserError, match="is a link that leads out of the output folder"):
        render_file(Polygons(), tmp_path / "u.json", tmp_path / "out")


def test_engines_are_found_by_name_or_path():
    assert isinstance(find_engine("avatars"), Emoji)
    assert find_engine("tests.methods.test_tos.Discs").name == "discs"
    with pytest.raises(UserError, match="engine is polygon, which is no engine: did you mean polygons"):
        find_engine("polygon")
    with pytest.raises(UserError, match=r"engine is os\.system, which is no class that fits there: give a Engine"):
        find_engine("os.system")
