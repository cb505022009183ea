"""``xdomain report``: one run as one page."""

import io
from pathlib import Path

import yaml

from xdomain.commands import html
from xdomain.commands.options import Parser
from xdomain.commands.runs import Run, flat, number, shown
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.files import whole_file
from xdomain.running.folder import newest_config
from xdomain.running.metrics_file import read_metrics

DESCRIPTION = """\
One run as one HTML file that needs nothing else: its facts, what differs from the recipe, learning curves, samples by
step, test metrics with what they were measured by, and the whole config."""
MOST_PICTURES = 24
SLIDER = """
<p><input type="range" id="step" min="0" max="{last}" value="{last}"> <output id="name"></output></p>
<div id="samples">
{images}
</div>
<script>
const pictures = [...document.querySelectorAll("#samples img")], step = document.getElementById("step");
function show() {{
  pictures.forEach((picture, place) => {{ picture.hidden = place != step.value }});
  document.getElementById("name").textContent = pictures[step.value].alt;
}}
step.addEventListener("input", show);
show();
</script>"""


def report_command(args: list[str]) -> int:
    """Run ``xdomain report``; returns the exit status."""
    parser = Parser(prog="xdomain report", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder, such as runs/dtn/0001")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page; by default report.html in the run folder"
    )
    options = parser.parse_args(args)
    run = Run(options.run)
    target = options.output or run.folder / "report.html"
    with whole_file(target) as file:
        file.write(report(run).encode())
    print(f"page:     {target}")
    return 0


def report(run: Run) -> str:
    """The page of a run, as HTML."""
    facts = [[name, shown(value)] for name, value in run.facts.items() if not isinstance(value, dict | list)]
    parts = [html.table(["fact", ""], facts), html.heading("What differs from the recipe"), *_changes(run)]
    parts += [html.heading("Test"), *_test(run)]
    parts += [html.heading("Samples"), *_samples(run), html.heading("Learning curves"), _curves(run)]
    parts += [html.heading("Config"), html.details("every setting", newest_config(run.folder).read_text())]
    return html.page(run.name, parts)


def _changes(run: Run) -> list[str]:
    """Settings of the run that its recipe, with its overlays, has otherwise."""
    recipe: dict[str, object] = {}
    try:
        for name in str(run.facts.get("recipe") or "").split("+"):
            recipe |= flat(yaml.safe_load(find_config(name).read_text(encoding="utf-8")))
    except (UserError, yaml.YAMLError, UnicodeDecodeError):
        return [html.paragraph("The recipe of this run is not among those known here.")]
    rows = [
        [key, shown(value), shown(run.settings[key])]
        for key, value in recipe.items()
        if key in run.settings and shown(run.settings[key]) != shown(value) and not _equal(run.settings[key], value)
    ]
    return [html.table(["setting", "recipe", "this run"], rows) if rows else html.paragraph("Nothing.")]


def _equal(left: object, right: object) -> bool:
    """Whether two values are one number, such as 1 and 1.0."""
    return isinstance(left, int | float) and isinstance(right, int | float) and left == right


def _test(run: Run) -> list[str]:
    if run.result is None:
        return [html.paragraph("Not tested yet: xdomain test --ckpt_path RUN.")]
    rows = []
    for name, value in run.metrics.items():
        metric, _, judge = name.partition("@")
        rows.append([metric, judge, number(value)])
    callbacks = [
        [key.removeprefix("trainer.callbacks."), shown(value)]
        for key, value in run.settings.items()
        if key.startswith("trainer.callbacks.") and value is not None
    ]
    return [
        html.table(["metric", "judge", ""], rows),
        html.paragraph("Measured by (counts are images, pairs or samples per direction):"),
        html.table(["callback", ""], callbacks),
    ]


def _samples(run: Run) -> list[str]:
    """Pictures of the training behind a slider, and those of the test."""
    found = run.pictures
    every = -(-len(found) // MOST_PICTURES)
    kept = found[::-1][::every][::-1] if found else []
    parts = [html.paragraph(f"{len(kept)} of {len(found)} pictures.")] if len(kept) < len(found) else []
    if kept:
        images = "\n".join(html.image(path, f"step {step}") for step, path in kept)
        parts.append(SLIDER.format(last=len(kept) - 1, images=images))
    others = sorted(set(run.folder.glob("samples/*.png")) - {path for _, path in found})
    for path in others[:MOST_PICTURES]:
        parts += [html.paragraph(path.stem), html.image(path, path.stem)]
    return parts or [html.paragraph("None.")]


def _curves(run: Run) -> str:
    path = run.folder / "metrics.csv"
    from matplotlib import rc_context

    from xdomain.running.plots import curves_figure

    figure = curves_figure(read_metrics(path)) if path.exists() else None
    if figure is None:
        return html.paragraph("None.")
    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # texts, not outlines of letters
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]
