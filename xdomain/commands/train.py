"""The command line on LightningCLI: bare class names, configs by name, one sentence for bad input."""

import argparse
import itertools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import xdomain.callbacks
import xdomain.data
import xdomain.losses
import xdomain.methods
import xdomain.networks  # noqa: F401 - importing makes the bare class names known
from xdomain.callbacks import PredictionWriter
from xdomain.classes import check_settings, find_class
from xdomain.commands.configs import expand_configs, overrides, plain, read_config
from xdomain.commands.messages import explain, mark, quiet
from xdomain.commands.runs import settled
from xdomain.data import BaseDataModule
from xdomain.errors import SettingError, UserError, refusal
from xdomain.features.helpers import FRESH
from xdomain.files import whole_file
from xdomain.methods import Method
from xdomain.running.folder import CHECKPOINTS, newest_config, resolve_checkpoint, run_dir
from xdomain.running.publishing import changed
from xdomain.running.trainer import Trainer

CALLBACKS = "trainer.callbacks"
NULLS = ("", "~", "null", "Null", "NULL")
LINKED = ("domains", "channels", "image_size", "shapes")
AUTO = "auto"
"""What ``--ckpt_path`` calls the newest run with the same config, or a new run if there is none."""


class Parser(LightningArgumentParser):
    """Parser whose errors are one sentence that names the key."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)  # else --trainer.max_step would be read as max_steps

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        key, what = explain(self, message)
        if key.startswith(f"{CALLBACKS}.init_args."):  # from the command line, which says whose setting it is
            option = key.rsplit(".", 1)[-1]
            words = (word.partition("=")[0] for word in sys.argv if word.startswith(f"--{CALLBACKS}."))
            key = next((word[2:] for word in words if word.rsplit(".", 1)[-1] == option), key)
        if not self.exit_on_error:  # the parser of a nested class: its finding is passed outwards
            super().error(mark(key, what), ex)
        raise UserError(f"{key} {what}".lstrip())

    def _check_value_key(
        self, action: argparse.Action, value: Any, key: str, cfg: Namespace | None, append: bool = False
    ) -> Any:
        if action.dest == CALLBACKS and isinstance(value, list | dict):
            value = self._merged(action, value, key, cfg, append)
        return super()._check_value_key(action, value, key, cfg, append)

    def _merged(
        self, action: argparse.Action, value: list[Any] | dict[str, Any], key: str, cfg: Namespace | None, append: bool
    ) -> dict[str, Any]:
        """Merge a config's callbacks with those of earlier configs: jsonargparse would replace the whole mapping."""
        if append:
            raise TypeError(
                f'Parser key "{key}": {mark("", "needs no +: give every callback a name, NAME: CALLBACK.")}'
            )
        if isinstance(value, list):  # a list, as in Lightning and in runs from before callbacks had names
            return {f"callback_{number}": callback for number, callback in enumerate(value)}
        for name, callback in value.items():
            try:
                super()._check_value_key(action, {name: deepcopy(callback)}, key, cfg)
            except TypeError as error:  # say whose setting it is
                raise TypeError(str(error).replace(f'"{key}"', f'"{key}.{name}"', 1)) from error
        earlier = cfg.get(CALLBACKS) if cfg else None
        return {**(earlier or {}), **value}

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:
        super().validate(namespace, *args, **kwargs)
        for action in self._actions:  # jsonargparse accepts null for any setting; a method would fail later
            if action.default not in (None, argparse.SUPPRESS) and namespace.get(action.dest, ...) is None:
                self._check_value_key(action, None, action.dest, None)


class SaveConfig(SaveConfigCallback):
    """Saves the whole config in the run folder; a resumed run adds a file instead of replacing one."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Does nothing: until training starts, a checkpoint that does not fit may still end the run."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if (folder := run_dir(trainer)) is None:
            return
        config = self.config.clone()
        config.trainer.recipe = None  # the run's name is in run.json; here it would be kept in copies of the config
        text, newest = self.parser.dump(config, skip_none=False), newest_config(folder)
        if newest.exists():
            if newest.read_text() == text:
                return
            newest = (
                folder / f"config_resumed_{int(newest.stem.rpartition('_')[2]) + 1 if '_' in newest.stem else 1}.yaml"
            )
        with whole_file(newest) as file:
            file.write(text.encode())


class XDomainCLI(LightningCLI):
    """LightningCLI in which the data module sets the method's domains, channels and size.

    Args:
        name: name of the run, from the names of its configs.
        args: arguments of LightningCLI.
        kwargs: likewise.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only the command that is called: building the parsers of the others takes most of a second."""
        every = LightningCLI.subcommands()
        return {name: skip for name, skip in every.items() if name in sys.argv[1:2]} or every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        (callbacks,) = (action for action in parser._actions if action.dest == CALLBACKS)
        callbacks._typehint = dict[str, pl.Callback | None] | None  # type: ignore[attr-defined]  # lists are given names
        for action in parser._actions:
            if re.fullmatch(
                r"trainer\.limit_\w+_batches", action.dest
            ):  # Lightning's type makes 1 to 1.0, which is all
                action._typehint = int | float | None  # type: ignore[attr-defined]
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Does nothing: the config and the command line override settings in a checkpoint."""

    def before_instantiate_classes(self) -> None:
        for name in LINKED:
            if self._get(self.config, "model").init_args.get(name) is not None:
                raise UserError(f"model.init_args.{name} is set by the data: leave it out of config and command line.")
        model = self._get(self.config, "model")
        try:
            check_settings(
                find_class(Method, "model", model.class_path, [Method], None), model.init_args.as_dict(), None
            )
        except SettingError as error:
            raise self._named(error) from error
        trainer = self._get(self.config, "trainer")
        for name, ours, usual in (("gradient_clip_val", "clip", None), ("accumulate_grad_batches", "accumulate", 1)):
            if trainer[name] not in (None, usual):
                raise UserError(f"trainer.{name} does not work with these methods: set model.init_args.{ours} instead.")

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(*args, **kwargs)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        given, built = (self._get(config, "trainer") for config in (self.config, self.config_init))
        if isinstance(callbacks := built.callbacks, dict):  # LightningCLI supports only lists
            kwargs["callbacks"] = [callback for callback in callbacks.values() if callback is not None]
        return super().instantiate_trainer(recipe=self.name if given.recipe is None else given.recipe, **kwargs)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except SettingError as error:
            raise self._named(error) from error
        except (ValueError, MisconfigurationException) as error:
            found = refusal(error)
            raise (self._named(found) if isinstance(found, SettingError) else found) from error
        assert isinstance(self.trainer, Trainer)
        self.trainer.seed = self._get(self.config, "seed_everything")
        self.trainer.overrides = overrides(sys.argv[1:])
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if self.subcommand == "predict" and not any(isinstance(c, PredictionWriter) for c in callbacks):
            callbacks.append(PredictionWriter())

    def after_fit(self) -> None:
        assert isinstance(self.trainer, Trainer)
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", 0):
            print(f"run:      {self.trainer.run_dir}{changed(self.trainer.overrides)}")

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except SettingError as error:
            raise self._named(error) from error

    def _named(self, error: SettingError) -> UserError:
        """The error about a refused setting, with its key in the config."""
        if error.owner == Trainer.__name__:
            return error.under(f"trainer.{error.option}")
        config = self.config[self.subcommand].as_dict()
        key = next(keys_of(error, {name: config[name] for name in ("data", "model", "trainer")}), None)
        return error.under(key) if key else error

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        assert isinstance(self.trainer, Trainer)
        if kwargs.get("ckpt_path") == AUTO:
            if subcommand != "fit":
                raise UserError(f"--ckpt_path {AUTO} is for xdomain fit, not for {subcommand}: give last or best.")
            kwargs["ckpt_path"] = self._newest_alike()
        if path := kwargs.get("ckpt_path"):
            prefer = "last" if subcommand == "fit" else "best"
            kwargs["ckpt_path"] = self.trainer.continue_from(resolve_checkpoint(path, prefer, self.trainer.runs_dir))
        kwargs["weights_only"] = True
        if subcommand == "test":
            kwargs["verbose"] = False  # the Results callback prints the table
        return kwargs

    def _newest_alike(self) -> str | None:
        """The newest run folder with this very config and a checkpoint; None begins a new run."""
        assert isinstance(self.trainer, Trainer)
        own = settled(yaml.safe_load(self._parser("fit").dump(self.config["fit"], skip_none=False)))
        for checkpoint in sorted(self.trainer.runs_dir.glob(f"[0-9]*/{CHECKPOINTS}/last.ckpt"), reverse=True):
            folder = checkpoint.parents[1]
            if (config := newest_config(folder)).is_file() and settled(read_config(config)) == own:
                return str(folder)
        return None


def keys_of(error: SettingError, config: Any, key: str = "") -> Iterator[str]:
    """The keys in a config of the setting that an error is about."""
    if isinstance(config, list):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return
    if isinstance(settings := config.get("init_args"), dict):
        first, *rest = error.option.split(".")
        if first in settings and error.owner in ("", str(config.get("class_path")).rsplit(".", 1)[-1]):
            yield ".init_args.".join([key, first, *rest])
    for name, value in config.items():
        yield from keys_of(error, value, f"{key}.{name}".lstrip("."))


def run(args: list[str]) -> None:
    """Run ``fit``, ``validate``, ``test`` or ``predict``."""
    command, rest = args[0], [word for word in args[1:] if word != "--fresh"]
    _check_values(rest)
    rest, name = expand_configs(rest)
    if command != "fit" and "--trainer.weights" in rest:
        raise UserError(f"--weights is for xdomain fit, not for {command}: give --ckpt_path.")
    asks = any(word in ("-h", "--help") or word.startswith("--print_config") or word.endswith(".help") for word in rest)
    if "--config" not in rest and not asks:
        raise UserError(f"xdomain {command} needs a recipe: add --config NAME (`xdomain list` shows them).")
    words = [command, *map(_literal, rest, ["", *rest])]
    with _command_line(words), _fresh_helpers("--fresh" in args), quiet():
        XDomainCLI(
            name,
            model_class=Method,
            datamodule_class=BaseDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            trainer_class=Trainer,
            trainer_defaults={"num_sanity_val_steps": 0},
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            parser_class=Parser,
            auto_configure_optimizers=False,
        )


def _literal(word: str, before: str) -> str:
    """A word of the command line, with ``./`` added to a path that YAML would not read as text.

    Raises:
        UserError: for a word that YAML reads as null, if there is no file of that name.
    """
    key, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
    read = plain(value)
    if (
        key == "--config"
        or value in NULLS
        or (word.startswith("--") and not equals)
        or isinstance(read, int | float | str)
    ):
        return word
    if key == "--ckpt_path" or Path(value).exists():
        return f"{key}=./{value}" if equals else f"./{value}"
    if read is None:
        raise UserError(f"{key.removeprefix('--')} {value} reads as nothing in YAML: write ./{value} if it is a path.")
    return word


def _check_values(args: list[str]) -> None:
    """Refuse a setting without a value here: the parser would name only the first part of its key."""
    for word, following in itertools.pairwise([*args, "--"]):
        alone = word in ("--help", "--print_config") or "=" in word
        if word.startswith("--") and following.startswith("--") and not alone:
            raise UserError(f"{word} needs a value.")


@contextmanager
def _command_line(args: list[str]) -> Iterator[None]:
    """Set the arguments of the process: the launcher of a multi-process strategy starts other ranks with them."""
    before = sys.argv
    sys.argv = [before[0], *args]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _fresh_helpers(fresh: bool) -> Iterator[None]:
    """Have helpers trained here, also by the processes of other ranks and by the helpers' own trainings."""
    before = os.environ.get(FRESH)
    if fresh:
        os.environ[FRESH] = "1"
    try:
        yield
    finally:
        os.environ.pop(FRESH, None)
        if before is not None:
            os.environ[FRESH] = before
