"""Tables of results in Markdown files."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from xdomain.commands.main import main as xdomain
from xdomain.commands.table import TABLES, cell, main, read_results, recipes, render, update
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.running.publishing import result_file

TABLE = {
    "columns": {"setting": "name", "accuracy": {"metric": "accuracy{of}"}, "n": {"metric": "n", "scale": 1}},
    "rows": [
        {"recipe": "full", "name": "all terms", "of": ""},
        {"recipe": "full", "name": "the worst", "of": "/3"},
        {"recipe": "less", "name": "without", "of": ""},
    ],
}
RESULTS = {"full": {"recipe": "full", "metrics": {"accuracy": 0.91249, "accuracy/3": 0.5, "n": 2000.0}}}
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
    assert cell({"metrics": {"x": {"mean": 0.5, "std": 0.1, "n": 25}}}, "x", error=True) == "50.0 ± 2.0 (n = 25)"
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
    results = {"p": {"metrics": {"x": 0.1}}, "q+less": {"metrics": {"x": 0.002}}}
    assert render(table, results).splitlines()[2:] == ["| 10.0 | 0.20 |", "| 10.0 | not run |"]
    assert recipes(table) == ["p", "q+less", "r"]


def test_small_values_show_two_figures():
    values = {1.0: "1", 0.5: "0.50", 0.0123: "0.012", 0.00004: "0.0000", -0.5: "-0.50"}
    assert {x: cell({"metrics": {"x": x}}, "x", 1.0) for x in values} == values


def test_every_recipe_of_the_tables_exists():
    """Or is a benchmark that reports numbers under this name; after ``@`` stand the inputs of one over several."""
    benchmarks = "".join(path.read_text() for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py"))
    for table in yaml.safe_load(TABLES.read_text()).values():
        for recipe in recipes(table):
            parts = recipe.partition("@")[0].split("+")
            assert re.search(rf'report\(\s*"{recipe}"', benchmarks) or all(find_config(part) for part in parts)


def test_the_command_prints_a_table(tmp_path, capsys):
    result = {"recipe": "dtn", "metrics": {"accuracy@handwritten-classifier": 0.5}}
    (tmp_path / "dtn.json").write_text(json.dumps(result))
    assert xdomain(["table", "dtn", "--results", str(tmp_path)]) == 0
    assert "| `dtn` | 50.0 | not measured |" in capsys.readouterr().out
    assert xdomain(["table", "dtm", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "xdomain: error: there is no table 'dtm': did you mean dtn?\n"


def refused(capsys, *words):
    assert xdomain(["table", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.removeprefix("xdomain: error: ").rstrip()


def test_a_run_is_published(capsys):
    run = Path("runs/dtn+no_tid/0001")
    run.mkdir(parents=True)
    assert refused(capsys, "--collect", str(run)) == (
        f"{run} holds no results.json: run xdomain test --ckpt_path {run} first."
    )
    result = {"recipe": "dtn+no_tid", "metrics": {"x": 1.0}, "commit": "0123", "overrides": {"seed_everything": 3}}
    (run / "results.json").write_text(json.dumps(result))
    assert refused(capsys, "--collect", str(run)).endswith("line: seed_everything 3: add --anyway.")
    assert not Path("results").exists()
    assert xdomain(["table", "--collect", str(run), "--anyway"]) == 0
    assert capsys.readouterr().out == "published results/dtn/dtn+no_tid.json\n"
    assert json.loads(Path("results/dtn/dtn+no_tid.json").read_text()) == result


def test_a_table_without_a_name(capsys):
    assert refused(capsys).startswith("xdomain table needs a name, or --collect RUN: there are dtn, ")


def test_a_broken_result_and_two_of_one_name_are_named(capsys):
    Path("results/a").mkdir(parents=True)
    Path("results/x.json").write_text("{")
    assert refused(capsys, "dtn") == ("results/x.json cannot be read as JSON: restore it, or test the run again.")
    for folder in ("results", "results/a"):
        Path(folder, "x.json").write_text('{"recipe": "x", "metrics": {}}')
    assert refused(capsys, "dtn") == "results/a/x.json and results/x.json are both the result of x: remove one."


def test_the_published_results_bear_their_names_and_lie_where_they_are_looked_for():
    folder = Path(__file__).parents[2] / "results"
    results = read_results(folder)
    assert len(results) > 80
    for path in folder.rglob("*.json"):
        assert results[path.stem]["recipe"] == path.stem
        if path.parent.name != "benchmarks":
            assert path == result_file(path.stem, folder)
            assert all(find_config(part) for part in path.stem.partition("@")[0].split("+"))


def test_recipes_without_a_result_are_run_and_published(monkeypatch, capsys):
    """In a folder of their own, which no other run's checkpoint can stand in."""
    calls = []

    def fake(words, stdout):
        calls.append(words[3:])
        if words[3] == "test":
            content = {"recipe": "dtn", "metrics": {"accuracy@handwritten-classifier": 0.5}, "commit": "0123"}
            Path(words[-1], "results.json").write_text(json.dumps(content))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr("xdomain.commands.table.subprocess.run", fake)
    monkeypatch.setattr("xdomain.commands.table.git_commit", lambda: "0123+")
    assert refused(capsys, "dtn", "--run").startswith("the code of dtn is not committed")
    assert calls == []
    monkeypatch.setattr("xdomain.commands.table.git_commit", lambda: "0123")
    assert xdomain(["table", "dtn", "--run"]) == 0
    run = "runs/dtn/0001"
    assert calls == [
        ["fit", "--config", str(find_config("dtn")), "--trainer.run_dir", run],
        ["test", "--ckpt_path", run],
    ]
    assert "| `dtn` | 50.0 |" in capsys.readouterr().out
    assert Path("results/dtn/dtn.json").is_file()
    assert refused(capsys, "photographs", "--run").startswith("singan_tiny@photographs has no result: benchmarks/")
