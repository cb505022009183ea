"""``xdomain push``: trained weights on the Hugging Face Hub."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from xdomain.commands.options import Parser
from xdomain.commands.table import TABLES, recipe_of, render

DESCRIPTION = """\
Packs the weights of a run, as xdomain pack does, and uploads them to a repository of the Hugging Face Hub together
with config.json (the card that pack writes) and README.md, a page that says how they are used, how they were trained
and what their test has measured. Everyone then gives hf:OWNER/NAME to --ckpt_path. Log in by `hf auth login` first."""


def push_command(args: list[str]) -> int:
    """Run ``xdomain push``; returns the exit status, 0.

    Raises:
        UserError: if the run cannot be packed, or if the Hub refuses it.
    """
    parser = Parser("xdomain push", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder (its best checkpoint), checkpoint, or packed weights")
    parser.add_argument("repository", metavar="OWNER/NAME", help="repository; it is made if it does not exist")
    parser.add_argument("--private", action="store_true", help="a new repository is for you alone")
    parser.add_argument("--revision", metavar="BRANCH", default="main", help="by default main")
    options = parser.parse_args(args)

    from xdomain.inference.hub import CARD, PAGE, WEIGHTS, check_login, pushed
    from xdomain.inference.packed import card_of, is_packed, packed_file, read_packed
    from xdomain.inference.packing import pack

    check_login(options.repository)
    with TemporaryDirectory(prefix="xdomain-") as name:
        folder = Path(name)
        if is_packed(options.run):
            read_packed(options.run)
            file = packed_file(options.run)
            shutil.copyfile(file, folder / WEIGHTS)
            shutil.copyfile(card_of(file), folder / CARD)
        else:
            pack(options.run, folder / WEIGHTS)
            card_of(folder / WEIGHTS).rename(folder / CARD)
        card = json.loads((folder / CARD).read_text())
        (folder / PAGE).write_text(page(card, options.repository), encoding="utf-8")
        commit = pushed(folder, options.repository, options.private, options.revision)
    print(f"pushed {options.run}: --ckpt_path hf:{options.repository}@{commit}")
    return 0


def page(card: dict[str, Any], repository: str) -> str:
    """The page of a repository, Markdown with metadata, from a card of ``xdomain pack``."""
    method, settings = card["method"].rpartition(".")[2], card["settings"]
    domains = ", ".join(map(str, settings.get("domains", [])))
    facts = {name: card.get(name) for name in ("recipe", "seed", "steps", "commit", "version")}
    facts |= {f"`{key}`": value for key, value in (card.get("overrides") or {}).items()}
    metadata = {"library_name": "xdomain", "pipeline_tag": "image-to-image", "tags": ["xdomain", method.lower()]}
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# {repository.partition('/')[2]}",
        "",
    ]
    lines += [f"{method} of xdomain, at {settings.get('image_size')} pixels. Domains: {domains}.", "", "## Use", ""]
    lines += ["```sh", f"xdomain translate --ckpt_path hf:{repository} --input photos --output translated"]
    lines += [f"xdomain serve hf:{repository}", "```", "", "## Training", "", *_table("", facts), ""]
    if card["metrics"]:
        lines += ["## Test", "", *_row(card), *_table("metric", card["metrics"]), ""]
    without = f", without {', '.join(card['left_out'])}, which only a training needs" if card["left_out"] else ""
    lines += [
        "## Files",
        "",
        f"`model.safetensors` holds the weights in half precision{without}. `config.json` says how",
    ]
    lines += ["they are used; only classes of xdomain and torch are built from it. Nothing is a pickle.", ""]
    return "\n".join(lines)


def _row(card: dict[str, Any]) -> list[str]:
    """The row of the recipe in the first table of results that has one, with the numbers of the card."""
    recipe = card.get("recipe")
    if card.get("overrides"):  # it is another method
        return []
    for table in yaml.safe_load(TABLES.read_text(encoding="utf-8")).values():
        for row in table["rows"]:
            columns = {
                title: source
                for title, source in table["columns"].items()
                if isinstance(source, str) or recipe_of(source, row) == recipe
            }
            if row["recipe"] == recipe and any(isinstance(source, dict) for source in columns.values()):
                return [render({"columns": columns, "rows": [row]}, {recipe: card})]
    return []


def _table(title: str, values: dict[str, Any]) -> list[str]:
    return [f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())]
