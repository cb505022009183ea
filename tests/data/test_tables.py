"""Tables of attributes of one's own: the rules choose the right files, whatever the columns are called."""

import pytest

from tests.fakes.folders import write_flat
from xdomain.commands.check_data import check_data
from xdomain.data import AttributeTable
from xdomain.errors import UserError

SPLITS = ("train", "val", "test")
RULES = {"smile": "Big_smile and not Größe", "rest": "not Big_smile"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def write(tmp_path, rows, head="name,Big smile,Größe,age"):
    for i in range(30):
        write_flat(tmp_path / "faces" / f"{i:02d}.png", 8 * i)
    path = tmp_path / "people.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return str(path)


def plain(count=30, signs=("0", "1")):
    return [f"faces/{i:02d}.png,{signs[i % 2]},{signs[i % 3 == 0]},{20 + i}" for i in range(count)]


def numbers(data, role, split):
    return [int(image[0, 0, 0]) // 8 for image in data.data(role, split).images]


@pytest.mark.parametrize("signs", [("0", "1"), ("-1", "1"), (" 0", "1 ")])
def test_rules_choose_files_by_columns_of_any_name(tmp_path, signs):
    data = AttributeTable(write(tmp_path, plain(signs=signs)), RULES, 8, val_share=0.3, test_share=0.3)
    assert data.attribute_names == ("Big_smile", "Größe")
    found = {role: sorted(n for split in SPLITS for n in numbers(data, role, split)) for role in "ab"}
    assert found == {"a": [i for i in range(30) if i % 2 and i % 3], "b": [i for i in range(30) if i % 2 == 0]}
    attributes = data.data("a", "train").attributes
    assert (attributes == [1, 0]).all()
    assert {split: len(data.part(split)) for split in SPLITS} == {"train": 12, "val": 9, "test": 9}
    assert sum(facts["files"] for facts in check_data(data).groups.values()) == 25


def test_a_column_of_parts(tmp_path):
    rows = [f"{row},{SPLITS[i % 3 if i < 20 else 0]}" for i, row in enumerate(plain())]
    data = AttributeTable(write(tmp_path, rows, "name,a b,c,age,split"), {"x": "a_b", "y": "not a_b"}, image_size=8)
    assert sorted(numbers(data, "a", "val") + numbers(data, "b", "val")) == [i for i in range(20) if i % 3 == 1]
    assert data.attribute_names == ("a_b", "c")


def test_bad_files_are_left_out_with_their_attributes(tmp_path):
    table = write(tmp_path, plain())
    (tmp_path / "faces" / "04.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"04\.png cannot be read"):
        [AttributeTable(table, RULES, image_size=8).part(split) for split in SPLITS]
    data = AttributeTable(table, RULES, image_size=8, on_bad_file="skip")
    with pytest.warns(UserWarning, match=r"1 of the .* left out: faces/04\.png"):
        found = [n for split in SPLITS for n in numbers(data, "b", split)]
    assert sorted(found) == [i for i in range(0, 30, 2) if i != 4]


@pytest.mark.parametrize(
    ("head", "rows", "match"),
    [
        ("name,a b,a-b", ["faces/00.png,0,1"], r"people\.csv has two columns that a rule would call a_b: rename one"),
        ("name,x", ["faces/00.png,0", "faces/00.png,1"], r"line 3: faces/00\.png stands in line 2 already"),
        ("name,x", ["faces/99.png,0"], r"line 2: the file .*faces/99\.png does not exist; the first column names"),
        ("name,x", ["faces/00.png,2"], r"has no column of 0 and 1, or -1 and 1: add one"),
        ("name", ["faces/00.png"], r"has no column of 0 and 1"),
        ("name,x", [], r"the table .*people\.csv names no images"),
        (
            "name,Big smile,y",
            ["faces/00.png,maybe,1"],
            r"has 'maybe' in the column Big smile in line 2: an attribute is 0",
        ),
        ("name,Big smile,y", ["faces/00.png,0,1", "faces/01.png,-1,1"], r"has '0' in the column Big smile in line 2"),
        (
            "name,Big smile,y",
            ["faces/00.png,0", "faces/01.png,0,1,1,1"],
            r"asks for the attribute 'Größe'.* it has Big",
        ),
        (
            "name,Big smile,Größe,split",
            ["faces/00.png,0,1,all"],
            r"line 2: unknown split 'all', expected train, val or test",
        ),
        ("name,Big smile,Größe,split", ["faces/00.png,0,1,val"], r"has no training images"),
        ("name,Big smile,Größe", ["faces/00.png,0,1"], r"people\.csv has only 1 training images, too few"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path, head, rows, match):
    with pytest.raises(UserError, match=match):
        AttributeTable(write(tmp_path, rows, head), RULES)


def test_tables_that_cannot_be_read(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for name, match in {"no.csv": "does not exist", "x.csv": "cannot be read as CSV", "": "no regular file"}.items():
        with pytest.raises(UserError, match=f"the table .*{match}"):
            AttributeTable(str(tmp_path / name), RULES)


def test_the_table_is_part_of_the_fingerprint(tmp_path):
    table = write(tmp_path, plain())
    first = AttributeTable(table, RULES).fingerprint()
    assert AttributeTable(table, RULES, flip=False).fingerprint() == first
    assert AttributeTable(table, RULES, fit="pad").fingerprint() != first
    assert AttributeTable(table, dict(reversed(RULES.items()))).fingerprint() != first
    assert AttributeTable(write(tmp_path, plain(29)), RULES).fingerprint() != first
