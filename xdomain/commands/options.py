"""Shared by commands with their own options: the parser, options from the methods' tasks, numbers."""

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from xdomain.commands.messages import explain
from xdomain.discover import TaskEntry
from xdomain.errors import SettingError, UserError

ALLOW = "a package beside xdomain and torch whose classes the checkpoint may name"
ALLOW_PROGRAM = f"{ALLOW}, or pt2, for a .pt2 file, which can run any code; can be given again"
TYPES = {"int": int, "float": float, "str": str}
ROLES = ("images", "source", "target", "guide", "mask", "task", "count", "size")
"""Arguments of tasks with options of their own kind: files, domains, sizes."""


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(" ".join(filter(None, explain(self, message))))


def described(tasks: Mapping[str, TaskEntry]) -> str:
    """Description of every task, one line each."""
    width = max(map(len, tasks))
    return "\n".join(f"  {name:<{width}}  {entry.doc}" for name, entry in tasks.items())


def add_task_options(parser: argparse.ArgumentParser, tasks: Mapping[str, TaskEntry]) -> None:
    """Add an option for every argument of the tasks that is a number, a string or a choice."""
    names = dict.fromkeys(name for entry in tasks.values() for name in entry.options if name not in ROLES)
    for name in names:
        of = {task: entry.options[name] for task, entry in tasks.items() if name in entry.options}
        option = next((option for option in of.values() if option.doc), next(iter(of.values())))
        defaults = {option.default for option in of.values()}
        usual = f"; by default {ast.literal_eval(str(option.default))}" if len(defaults) == 1 else ""
        words = re.match(r"Literal\[(.*)\]$", option.annotation)
        parser.add_argument(
            f"--{name}",
            type=TYPES.get(option.annotation, str),
            choices=ast.literal_eval(f"[{words[1]}]") if words else None,
            metavar=None if words else name.upper()[0],
            help=f"{', '.join(of)}: {option.doc.replace('``', '')}{usual}".replace("%", "%%"),
        )


def task_options(options: argparse.Namespace, tasks: Mapping[str, TaskEntry]) -> dict[str, Any]:
    """The task options that were given."""
    names = {name for entry in tasks.values() for name in entry.options if name not in ROLES}
    return {name: value for name, value in vars(options).items() if name in names and value is not None}


@contextmanager
def named_options() -> Iterator[None]:
    """In errors raised inside, name settings as they are typed: with two hyphens."""
    try:
        yield
    except SettingError as error:
        raise error.under(f"--{error.option}") from error


def check_numbers(options: argparse.Namespace, **least: int) -> None:
    """Raise a UserError for a number that is too small."""
    for name, lowest in least.items():
        value = getattr(options, name)
        if value is not None and not lowest <= value < 2**63:
            raise UserError(f"--{name} is {value}: give a whole number of at least {lowest}.")
