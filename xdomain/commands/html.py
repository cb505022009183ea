"""Pages of one file: every text escaped, pictures inside, nothing fetched from anywhere."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums } img, svg { max-width: 100%; height: auto }
pre { background: #f6f6f6; padding: 1rem; overflow: auto } .wide { overflow-x: auto } input[type=range] { width: 20rem }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd } td, th { border-color: #444 } pre { background: #222 }
  svg { background: #fff }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page; ``parts`` are HTML already."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """A heading of the second level."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """A table of texts; with ``numbers``, all columns but the first are set to the right."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    kind = ' class="number"' if numbers else ""
    lines = [
        "<tr>" + "".join(f"<td{kind if place else ''}>{escape(cell)}</td>" for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{head}</tr>\n' + "\n".join(lines) + "\n</table></div>"


def details(summary: str, text: str) -> str:
    """Text as it is, folded away."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def image(path: Path, label: str) -> str:
    """A PNG file inside the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(label, quote=True)}">'
