"""Runs side by side and as pages: what is averaged, what is refused, and that no text of a run becomes code."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from PIL import Image

from xdomain.commands.main import main
from xdomain.commands.runs import flat
from xdomain.running.metrics_file import read_metrics

CONFIG = {
    "seed_everything": 0,
    "model": {"class_path": "xdomain.methods.DTN", "init_args": {"alpha": 15, "view": [2, 3]}},
    "data": {"class_path": "xdomain.data.DomainPair", "init_args": {"seed": 0, "a": {"init_args": {"test_size": 500}}}},
    "trainer": {
        "max_steps": 100,
        "run_dir": "somewhere",
        "callbacks": {
            "accuracy": {"class_path": "xdomain.callbacks.GuidedAccuracy", "init_args": {"pairs": 400}},
            "pictures": {"class_path": "xdomain.callbacks.SampleGrid", "init_args": {"count": 8}},
        },
    },
}


def change(config, key, value):
    first, *rest = key.split(".")
    return {**config, first: change(config[first], ".".join(rest), value) if rest else value}


def write_run(folder, metrics=None, seed=0, recipe="dtn", **changes):
    """A run folder as ``fit`` and ``test`` leave it."""
    config = change(change(CONFIG, "seed_everything", seed), "trainer.run_dir", str(folder))
    for key, value in changes.items():
        config = change(config, key.replace("__", "."), value)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"recipe": recipe, "seed": seed, "steps": 100, "commit": "abc"}
    (folder / "run.json").write_text(json.dumps(facts))
    if metrics is not None:
        (folder / "results.json").write_text(json.dumps({**facts, "metrics": metrics}))
    return str(folder)


def table(text, title):
    """Rows of one of the printed tables: first cell to the others."""
    block = text.split(f"{title}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return {cells[0]: cells[1:] for cells in ([c.strip() for c in line.split("  ") if c.strip()] for line in block)}


def test_seeds_share_a_column(tmp_path, capsys):
    values = [0.71, 0.75, 0.70]
    seeds = [write_run(tmp_path / f"dtn/{n}", {"accuracy@judge": v}, seed=n) for n, v in enumerate(values)]
    other = write_run(tmp_path / "dtn/9", {"accuracy@judge": 0.5}, model__init_args__alpha=20)
    assert main(["compare", *seeds, other]) == 0
    shown = capsys.readouterr().out
    assert "dtn, 3 seeds" in shown
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert table(shown, "test metrics") == {"accuracy@judge": [f"{mean:.4g} ± {deviation:.4g}", "0.5"]}
    assert table(shown, "settings that differ") == {"model.alpha": ["15", "20"]}


def test_judges_keep_rows_of_their_own(tmp_path, capsys):
    one = write_run(tmp_path / "dtn/1", {"accuracy@street": 0.9, "accuracy@digits": 0.1})
    two = write_run(tmp_path / "dtn/2", {"accuracy@street": 0.8}, trainer__max_steps=50)
    assert main(["compare", one, two]) == 0
    rows = table(capsys.readouterr().out, "test metrics")
    assert rows == {"accuracy@street": ["0.9", "0.8"], "accuracy@digits": ["0.1"]}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trainer__callbacks__accuracy__init_args__pairs": 100}, "trainer.callbacks.accuracy.pairs"),
        ({"data__init_args__a__init_args__test_size": 50}, "data.a.test_size"),
        ({"data__class_path": "xdomain.data.Avatars"}, "data.class_path"),
    ],
)
def test_other_tests_are_refused(changes, named, tmp_path, capsys):
    runs = [write_run(tmp_path / "dtn/1", {"x": 1.0}), write_run(tmp_path / "dtn/2", {"x": 2.0}, **changes)]
    assert main(["compare", *runs]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert "--anyway" in told
    assert main(["compare", *runs, "--anyway"]) == 0


def test_other_pictures_are_not_refused(tmp_path):
    one = write_run(tmp_path / "dtn/1", {"x": 1.0})
    assert (
        main(["compare", one, write_run(tmp_path / "dtn/2", {}, trainer__callbacks__pictures__init_args__count=2)]) == 0
    )


def test_a_run_without_a_test_is_named(tmp_path, capsys):
    assert main(["compare", write_run(tmp_path / "dtn/1"), write_run(tmp_path / "dtn/2", {"x": 1.0}, seed=1)]) == 0
    assert f"not tested yet: {tmp_path / 'dtn/1'}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["compare", "report"])
def test_no_run(command, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, told in (("nothing", "is no run folder"), ("empty", "has no config.yaml")):
        assert main([command, str(tmp_path / folder)]) == 2
        assert told in capsys.readouterr().err


def test_the_same_seed_twice(tmp_path, capsys):
    runs = [write_run(tmp_path / f"dtn/{n}", {"x": 1.0}) for n in (1, 2)]
    assert main(["compare", *runs]) == 2
    assert "the same run with the same seed" in capsys.readouterr().err


def test_flat_settings():
    assert flat({"a": {"class_path": "X", "init_args": {"b": [1, {"c": 2}], "d": {}}}}) == {
        "a.class_path": "X",
        "a.b.0": 1,
        "a.b.1.c": 2,
        "a.d": {},
    }


class Page(HTMLParser):
    """Tags, texts and where pictures come from."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.sources, self.handlers = [], [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [
            value for name, value in attrs if name in ("src", "href", "srcset") and not value.startswith("#")
        ]

    def handle_data(self, data):
        self.texts.append(data)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"


@pytest.fixture
def evil_run(tmp_path):
    folder = tmp_path / "dtn" / "0001"
    metrics = {f"accuracy/{EVIL}@{EVIL}": 0.5, "kid@inception": 0.00001234}
    write_run(folder, metrics, recipe=f"dtn{EVIL.replace('/', '')}", model__init_args__alpha=EVIL)
    rows = ["step,epoch,l_d,l_g", *(f"{n},0,{1 / (n + 1)},{n}" for n in range(50))]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    (folder / "samples").mkdir()
    for step in range(30):
        Image.new("RGB", (4, 4), (step, 0, 0)).save(folder / "samples" / f"step_{step:07d}.png")
    Image.new("RGB", (4, 4)).save(folder / "samples" / "test.png")
    return folder


def test_report_is_one_file_and_escapes_all_text(evil_run, capsys):
    assert main(["report", str(evil_run)]) == 0
    page = Page(evil_run / "report.html")
    assert page.tags.count("script") == 1  # its own
    assert page.handlers == []
    pictures = [source for source in page.sources if source.startswith("data:image/png;base64,")]
    assert len(pictures) == 16  # every second of 30 steps, and the test's
    assert page.sources == pictures
    text = "".join(page.texts)
    assert EVIL in text
    assert "1.23e-05" in text
    assert "Content-Security-Policy" in (evil_run / "report.html").read_text()
    assert page.tags.count("svg") == 1
    names = set(read_metrics(evil_run / "metrics.csv")[0]) - {"step", "epoch"}
    assert all(name in text for name in names)


def test_report_says_what_differs_from_the_recipe(tmp_path):
    run = tmp_path / "gram_style_tiny" / "0001"
    write_run(run, recipe="gram_style_tiny", model__class_path="xdomain.methods.GramStyleTransfer")
    recipe = {
        "model": {"class_path": "GramStyleTransfer", "init_args": {"iterations": 7}},
        "trainer": {"max_steps": 100},
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text(yaml.safe_dump(recipe))
    (run / "run.json").write_text(json.dumps({"recipe": "mine"}))
    config = change(
        CONFIG, "model", {"class_path": "xdomain.methods.GramStyleTransfer", "init_args": {"iterations": 9}}
    )
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["report", str(run)]) == 0
    html = (run / "report.html").read_text()
    assert "<td>model.iterations</td><td>7</td><td>9</td>" in html
    assert "<td>trainer.max_steps</td>" not in html.split("<h2>Test</h2>")[0]
    assert "<td>model.class_path</td>" not in html.split("<h2>Test</h2>")[0]


def test_comparison_as_a_page(evil_run, tmp_path):
    two = write_run(tmp_path / "dtn/2", {"kid@inception": 2.0})
    target = tmp_path / "deep" / "compare.html"
    assert main(["compare", str(evil_run), two, "--html", str(target)]) == 0
    page = Page(target)
    assert "script" not in page.tags
    assert page.sources == page.handlers == []
    assert EVIL in "".join(page.texts)
