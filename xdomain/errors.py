"""The exceptions that users are meant to read, and helpers to word them."""

import difflib
import textwrap
from collections.abc import Iterable
from typing import NoReturn


class UserError(Exception):
    """Bad input, described in one sentence that names the file, key or value and the way out.

    The command line prints its text and exits with status 2; no traceback is shown.
    """


class SettingError(UserError):
    """An invalid setting of a class.

    Args:
        owner: the object or class that was given the setting, or None for a function.
        option: name of the setting; for a nested setting, both names joined by a dot.
        problem: the rest of the sentence.
    """

    def __init__(self, owner: object, option: str, problem: str) -> None:
        kind = owner if isinstance(owner, type) else type(owner)
        self.owner = "" if owner is None else kind.__name__
        self.option, self.problem = option, problem
        super().__init__(f"{f'{self.owner}: ' if self.owner else ''}{option} {problem}")

    def under(self, key: str) -> UserError:
        """The same error with the setting's key in a config."""
        return UserError(f"{key} {self.problem}")


def refuse(owner: object, option: str, value: object, way: str) -> NoReturn:
    """Refuse a setting by the name that its caller used: its name in Python, its key on the command line.

    Args:
        owner: see :class:`SettingError`.
        option: see :class:`SettingError`.
        value: the given value.
        way: the way out, such as ``give a number above 0``; it may begin with a comma and a reason.

    Raises:
        SettingError: always.
    """
    raise SettingError(owner, option, f"is {value}{way if way.startswith(',') else f': {way}'}")


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """End of a sentence about an unknown word: the nearest known one, or else the given text."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {nearest[0]}?" if nearest else otherwise or "."


def choice(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else last


def refusal(error: BaseException) -> UserError:
    """Why a class refused its settings, extracted from the error of a parser."""
    while error.__cause__ is not None and not isinstance(error, UserError):
        error = error.__cause__
    if isinstance(error, UserError):
        return error
    return UserError(f"a setting is refused: {textwrap.shorten(str(error), 300, placeholder=' ...').rstrip('.')}.")
