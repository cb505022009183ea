"""Translates many single images, each by a training of its own, and publishes mean and spread of the scores.

    python benchmarks/one_shot.py --table ost_digits --match '^ost_digits' --samples 100
    python benchmarks/one_shot.py ost_facades cyclegan_one_facade cyclegan_facades --samples 20

A row is a recipe with overlays after ``+``. One with the data OneShot is trained and tested once for every sample. One
with other data is trained once on all images and tested on the same samples; it may be named with ``+reverse``, as the
other rows. Sample by sample all rows have their turn, so that they are always means over the same samples.

What is done is kept in the folder: the script can be stopped at any time and goes on when it is called again. At the
end each row is published as <row>@samples.

Digits are 1.5 times as fast without oneDNN (``--plain``), whose calls take longer than the sums of such small layers.
"""

import argparse
import copy
import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from common import publishing, settings_of, summary

from xdomain.callbacks import OneShotScores
from xdomain.commands.configs import expand_configs
from xdomain.commands.messages import quiet
from xdomain.commands.table import TABLES, recipes
from xdomain.commands.train import Parser, XDomainCLI
from xdomain.data import BaseDataModule, OneShot
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.files import whole_file
from xdomain.methods import Method
from xdomain.running.folder import git_commit, hardware, write_json
from xdomain.running.publishing import publish
from xdomain.running.results import rounded
from xdomain.running.trainer import Trainer

SUFFIX = "@samples"
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "max_epochs": -1,
    "use_distributed_sampler": False,
}


class Row:
    """A recipe with overlays, built once; every sample begins with the same weights and the same order of batches.

    Args:
        name: the recipe, with overlays after ``+``.
        settings: further words of the command line.
        folder: where weights are kept that all samples share.
        known: data that other rows have built, by its settings; completed here.
    """

    def __init__(self, name: str, settings: Sequence[str], folder: Path, known: dict[str, BaseDataModule]) -> None:
        self.name, (recipe, *overlays) = name, name.split("+")
        data = yaml.safe_load(find_config(recipe).read_text())["data"]["class_path"]
        self.alone, self.reverse = data == OneShot.__name__, "reverse" in overlays
        parts = [recipe, *(word for word in overlays if self.alone or word != "reverse")]
        self.weights = folder / f"{'+'.join(parts)}.pt"
        words, title = expand_configs([*(word for part in parts for word in ("--config", part)), *settings])
        with quiet():
            self.cli = XDomainCLI(
                title,
                model_class=Method,
                datamodule_class=BaseDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                trainer_class=Trainer,
                seed_everything_default=0,
                save_config_callback=None,
                parser_class=Parser,
                auto_configure_optimizers=False,
                args=words,
                run=False,
            )
        if self.alone:
            inner = json.dumps(self.cli.config.data.init_args.data.as_dict(), default=str)
            self.cli.datamodule.wrapped = known.setdefault(inner, self.cli.datamodule.wrapped)

        self.initial = {name: value.clone() for name, value in self.cli.model.state_dict().items()}

    @property
    def scores(self) -> OneShotScores | None:
        """The recipe's own."""
        return next((c for c in self.cli.trainer.callbacks if isinstance(c, OneShotScores)), None)

    def trainer(self, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
        """A trainer that writes nothing."""
        given = self.cli.config.trainer
        asked = {name: given[name] for name in ("max_steps", "accelerator", "devices", "precision")}
        return pl.Trainer(**QUIET, **asked, callbacks=list(callbacks))

    def fit(self, data: BaseDataModule) -> None:
        """Train with the recipe's seed."""
        pl.seed_everything(self.cli.config.seed_everything, verbose=False)
        self.trainer().fit(self.cli.model, datamodule=data)

    def data(self, sample: int) -> OneShot:
        """The data of one sample."""
        if not self.alone:
            return OneShot(self.cli.datamodule, sample, self.reverse)
        data = copy.copy(self.cli.datamodule)
        data.sample = sample
        return data

    @cached_property
    def of_all_images(self) -> Method:
        """The method trained on all images; kept in the folder."""
        method: Method = self.cli.model
        if self.weights.is_file():
            method.load_state_dict(torch.load(self.weights, weights_only=True))
        else:
            self.fit(self.cli.datamodule)
            with whole_file(self.weights) as file:
                torch.save(method.state_dict(), file)
        return method

    def run(self, sample: int, scores: OneShotScores) -> dict[str, Any]:
        """One sample, in the format of a result."""
        data, began = self.data(sample), time.monotonic()
        if self.alone:
            method: Method = self.cli.model
            method.load_state_dict(self.initial)
            self.fit(data)
        else:
            method = self.of_all_images
        seconds = time.monotonic() - began
        (values,) = self.trainer([scores]).test(method, datamodule=data, verbose=False)
        return {"metrics": {name: rounded(value) for name, value in values.items()}, "wall_seconds": round(seconds, 1)}


class State:
    """What is done, in a JSON file: for every row the result of every sample.

    Args:
        path: the file.
        given: ``--set`` of this call, which must be that of all.
    """

    def __init__(self, path: Path, given: list[str]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"set": given, "rows": {}}
        if path.is_file():
            self.content = json.loads(path.read_text())
        if self.content["set"] != given:
            before = " ".join(self.content["set"]) or "none"
            raise UserError(f"{path} was made with other --set ({before}): give the same, or another folder.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.commit = git_commit()

    def of(self, row: str, sample: int) -> dict[str, Any]:
        """The result of one sample."""
        result: dict[str, Any] = self.content["rows"][row][str(sample)]
        return result

    def has(self, row: str, sample: int) -> bool:
        """Whether a sample is done."""
        return str(sample) in self.content["rows"].get(row, {})

    def add(self, row: str, sample: int, result: dict[str, Any]) -> None:
        """Keep the result of one sample."""
        self.content["rows"].setdefault(row, {})[str(sample)] = {**result, "commit": self.commit}
        write_json(self.path, self.content)

    def result(self, row: str, samples: int) -> dict[str, Any]:
        """The first samples as one result."""
        overrides = {key: value for key, _, value in (pair.partition("=") for pair in self.content["set"])}
        same = {"recipe": f"{row}{SUFFIX}", "seed": 0, "hardware": hardware(), "overrides": overrides}
        results = [{**same, **self.of(row, sample)} for sample in range(samples)]
        return summary(results, "samples", list(range(samples)))


def main(args: Sequence[str] | None = None) -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--table", help="all rows of a table")
    parser.add_argument("--match", default="", help="of these only rows in which this regular expression is found")
    parser.add_argument("--samples", type=int, default=100, help="number of samples, from test image 0 on")
    parser.add_argument("--folder", type=Path, default=Path("runs/one_shot"), help="what is done, to go on from")
    parser.add_argument(
        "--plain", action="store_true", help="without oneDNN: faster for layers as small as those of digits"
    )
    publishing(parser)
    options = parser.parse_args(args)
    torch.backends.mkldnn.enabled = not options.plain
    table = yaml.safe_load(TABLES.read_text())[options.table] if options.table else {"columns": {}, "rows": []}
    names = list(dict.fromkeys([*options.rows, *(name.removesuffix(SUFFIX) for name in recipes(table))]))
    names = [name for name in names if re.search(options.match, name)]
    settings = settings_of(options, [f"{name}{SUFFIX}" for name in names], options.samples)
    state = State(options.folder / "samples.json", options.set)

    known: dict[str, BaseDataModule] = {}
    rows = [Row(name, settings, options.folder, known) for name in names]
    own = next((row.scores for row in rows if row.scores is not None), OneShotScores())
    scores = {row.name: copy.deepcopy(row.scores or own) for row in rows}
    for sample in range(options.samples):
        missing = [row for row in rows if not state.has(row.name, sample)]
        for row in missing:
            with quiet():
                state.add(row.name, sample, row.run(sample, scores[row.name]))
        if missing:
            print(
                f"sample {sample}: {sum(state.of(row.name, sample)['wall_seconds'] for row in missing):.0f} s",
                flush=True,
            )
    for name in names:
        result = state.result(name, options.samples)
        print(f"published {publish(result, options.results, options.anyway)}", flush=True)


if __name__ == "__main__":
    words, sys.argv = sys.argv[1:], sys.argv[:1]  # Lightning's command line warns of words that it was not given
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)  # of every training and test
    try:
        main(words)
    except UserError as error:
        raise SystemExit(str(error)) from error
