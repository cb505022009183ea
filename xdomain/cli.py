"""The command line on LightningCLI: bare class names, configs by name, one sentence for bad input."""

import difflib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import yaml
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import xdomain.callbacks
import xdomain.data
import xdomain.losses
import xdomain.methods
import xdomain.networks  # noqa: F401 - importing makes the bare class names known
from xdomain.data import BaseDataModule
from xdomain.discover import find_config
from xdomain.errors import UserError
from xdomain.methods import Method
from xdomain.runs import CHECKPOINTS, resolve_checkpoint
from xdomain.trainer import Trainer

LINKED = ("domains", "channels", "image_size")
OPTION = re.compile(r"(--config|-c|--ckpt_path)(?:=(.*))?$", re.DOTALL)


class Parser(LightningArgumentParser):
    """Parser whose errors are one sentence with the nearest known key."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(condense(message))


def condense(message: str) -> str:
    """Turn a parser's nested report into its innermost reason, with the nearest key for a misspelt one."""
    text = re.sub(r"\s+", " ", message).strip()
    if unknown := re.search(r"(?:Key|Option|Group key) '([\w.]+)' is not (?:accepted|expected|valid)", text):
        key = unknown.group(1)
        known = re.search(r"(?:[Aa]ccepted|[Vv]alid|[Pp]ossible)[^:]*: ([\w., '\[\]]+)", text)
        near = difflib.get_close_matches(key, re.findall(r"\w+", known.group(1)), n=1) if known else []
        return f"unknown setting {key!r}{f': did you mean {near[0]!r}?' if near else '.'}"
    return text


class SaveConfig(SaveConfigCallback):
    """Saves the whole config in the run's own folder; a resumed run adds a file instead of replacing one."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        assert isinstance(trainer, Trainer)
        text = self.parser.dump(self.config, skip_none=False)
        for number in range(1000):
            path = trainer.run_dir / (f"config_resumed_{number}.yaml" if number else "config.yaml")
            if path.exists() and path.read_text() == text:
                return
            if not path.exists():
                partial = path.with_suffix(".part")
                partial.write_text(text)
                partial.replace(path)
                return


class XDomainCLI(LightningCLI):
    """LightningCLI in which the data module tells the method its domains, channels and size."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: the config and the command line beat what a checkpoint remembers."""

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        assert isinstance(self.trainer, Trainer)
        self.trainer.seed = self._get(self.config, "seed_everything")
        self.trainer.overrides = overrides(sys.argv[1:])

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        assert isinstance(self.trainer, Trainer)
        if path := kwargs.get("ckpt_path"):
            prefer = "last" if subcommand == "fit" else "best"
            kwargs["ckpt_path"] = self.trainer.continue_from(resolve_checkpoint(path, prefer, self.trainer.runs_dir))
        kwargs["weights_only"] = True
        if subcommand == "test":
            kwargs["verbose"] = False  # the Results callback prints the table
        return kwargs


def overrides(args: list[str]) -> dict[str, Any]:
    """The settings that a command line changes: all ``--key value`` but configs, checkpoint and places on disk."""
    found: dict[str, Any] = {}
    words = iter(args)
    for word in words:
        if not word.startswith("--"):
            continue
        key, equals, value = word[2:].partition("=")
        value = value if equals else next(words, "")
        if key not in ("config", "ckpt_path", "trainer.run_dir", "trainer.default_root_dir", "trainer.results_dir"):
            found[key] = yaml.safe_load(value)
    return found


def expand_configs(args: list[str]) -> tuple[list[str], str]:
    """Replace config names by paths, and name the recipe after them.

    Without any ``--config`` the config of the run folder that ``--ckpt_path`` names is taken.

    Returns:
        the arguments, and the recipe's name: the stems of all configs joined by ``_``.
    """
    expanded, stems, checkpoint = [], [], None
    words = iter(args)
    for word in words:
        option = OPTION.match(word)
        if option is None:
            expanded.append(word)
            continue
        value = option.group(2) if option.group(2) is not None else next(words, None)
        if value is None:
            raise UserError(f"{word} needs a value.")
        if option.group(1) == "--ckpt_path":
            checkpoint = value
            expanded += ["--ckpt_path", value]
        else:
            path = find_config(value)
            stems.append(_recipe_of(path))
            expanded += ["--config", str(path)]
    if not stems and checkpoint is not None and args[0] != "--help":
        config = _run_config(checkpoint)
        stems.append(_recipe_of(config))
        expanded += ["--config", str(config)]
    return expanded, "_".join(stems) or "run"


def _run_config(checkpoint: str) -> Path:
    given = Path(checkpoint)
    folder = given if given.is_dir() else given.parent.parent if given.parent.name == CHECKPOINTS else None
    if folder is None or not (folder / "config.yaml").is_file():
        raise UserError(f"{checkpoint} has no run folder with a config.yaml around it: add --config RECIPE.")
    return folder / "config.yaml"


def _recipe_of(config: Path) -> str:
    """A config's stem; for the config of a run folder, the recipe that the run came from."""
    facts = config.with_name("run.json")
    if config.name == "config.yaml" and facts.is_file():
        return str(yaml.safe_load(facts.read_text())["recipe"])
    return config.stem


def run(args: list[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    command, rest = args[0], args[1:]
    rest, recipe = expand_configs(rest)
    if not any(word == "--config" for word in rest) and not {"-h", "--help", "--print_config"} & set(rest):
        raise UserError(f"xdomain {command} needs a recipe: add --config NAME (`xdomain list` shows them).")
    with _command_line([command, *rest]):
        XDomainCLI(
            model_class=Method,
            datamodule_class=BaseDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            trainer_defaults={"recipe": recipe, "num_sanity_val_steps": 0},
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_class=Parser,
            auto_configure_optimizers=False,
        )


@contextmanager
def _command_line(args: list[str]) -> Iterator[None]:
    """Make these the words of the process: the launcher of a multi-process strategy starts other ranks with them."""
    before = sys.argv
    sys.argv = [before[0], *args]
    try:
        yield
    finally:
        sys.argv = before
