"""Tables of results in Markdown files."""

import json
import re
from pathlib import Path

import pytest
import yaml

from xdomain.commands.main import main as xdomain
from xdomain.commands.table import TABLES, cell, main, recipes, render, update
from xdomain.discover import find_config
from xdomain.errors import UserError

TABLE = {
    "columns": {"setting": "name", "accuracy": {"metric": "accuracy{of}"}, "n": {"metric": "n", "scale": 1}},
    "rows": [
        {"recipe": "full", "name": "all terms", "of": ""},
        {"recipe": "full", "name": "the worst", "of": "/3"},
        {"recipe": "less", "name": "without", "of": ""},
    ],
}
RESULTS = {"full": {"metrics": {"accuracy": 0.91249, "accuracy/3": 0.5, "n": 2000.0}}}
RENDERED = """| setting | accuracy | n |
|---|---|---|
| all terms | 91.2 | 2000 |
| the worst | 50.0 | 2000 |
| without | not run | not run |
"""


def test_cells():
    assert cell(None, "x") == "not run"
    assert cell({"metrics": {}}, "x") == "not measured"
    assert cell({"metrics": {"x": 0.0}}, "x") == "0.0"
    assert [cell({"metrics": {"x": x}}, "x", 1.0) for x in (16.0, 535.47)] == ["16", "535.5"]
    assert cell({"metrics": {"x": {"mean": 0.5, "std": 0.0123, "n": 3}}}, "x") == "50.0 ± 1.2 (n = 3)"
    assert cell({"metrics": {"x": {"mean": 0.5, "std": 0.0, "n": 1}}}, "x") == "50.0"


def test_a_table():
    assert render(TABLE, RESULTS) == RENDERED


def test_only_marked_places_change():
    text = "before\n<!-- results:one -->\nold\nrows\n<!-- /results:one -->\nafter <!-- results:x --> no marker\n"
    once = update(text, {"one": TABLE}, RESULTS)
    assert once == text.replace("old\nrows\n", RENDERED)
    assert update(once, {"one": TABLE}, RESULTS) == once


def test_an_undefined_table_is_named():
    with pytest.raises(UserError, match="README wants the table 'two'"):
        update("<!-- results:two -->\n<!-- /results:two -->\n", {}, {}, "README")


def test_all_files_are_updated_once(tmp_path, capsys, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "tables.yaml").write_text(json.dumps({"one": TABLE}))
    monkeypatch.setattr("xdomain.commands.table.TABLES", tmp_path / "tables.yaml")
    (tmp_path / "results" / "full.json").write_text(json.dumps(RESULTS["full"]))
    (tmp_path / "README.md").write_text("<!-- results:one -->\n<!-- /results:one -->\n")
    (tmp_path / "docs" / "page.md").write_text("nothing\n")
    assert main(tmp_path) == 0
    assert capsys.readouterr().out == f"updated {tmp_path / 'README.md'}\n"
    assert RENDERED in (tmp_path / "README.md").read_text()
    main(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_column_may_show_another_recipe_than_its_row():
    table = {
        "columns": {"a": {"recipe": "{one}", "metric": "x"}, "b": {"recipe": "{two}", "metric": "x"}},
        "rows": [{"one": "p", "two": "q+less"}, {"one": "p", "two": "r"}],
    }
    results = {"p": {"metrics": {"x": 0.1}}, "q_less": {"metrics": {"x": 0.002}}}
    assert render(table, results).splitlines()[2:] == ["| 10.0 | 0.20 |", "| 10.0 | not run |"]
    assert recipes(table) == ["p", "q+less", "r"]


def test_small_values_show_two_figures():
    values = {1.0: "1", 0.5: "0.50", 0.0123: "0.012", 0.00004: "0.0000", -0.5: "-0.50"}
    assert {x: cell({"metrics": {"x": x}}, "x", 1.0) for x in values} == values


def test_every_recipe_of_the_tables_exists():
    """Or is a benchmark that reports numbers under this name, or one over other inputs, with a suffix for them."""
    benchmarks = "".join(path.read_text() for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py"))
    for table in yaml.safe_load(TABLES.read_text()).values():
        for recipe in recipes(table):
            parts = re.sub("_(photographs|clips)$", "", recipe).split("+")
            assert f'report("{recipe}"' in benchmarks or all(find_config(part) for part in parts)


def test_the_command_prints_a_table(tmp_path, capsys):
    (tmp_path / "dtn.json").write_text(json.dumps({"metrics": {"accuracy@handwritten-classifier": 0.5}}))
    assert xdomain(["table", "dtn", "--results", str(tmp_path)]) == 0
    assert "| `dtn` | 50.0 | not measured |" in capsys.readouterr().out
    assert xdomain(["table", "dtm", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "xdomain: error: there is no table 'dtm': did you mean dtn?\n"
