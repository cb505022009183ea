"""Classes that are given by name, in recipes and in checkpoints, which may be untrusted.

A name can be that of any function, which building a method from settings would call. Here only classes of the kinds
that methods need are allowed, and a checkpoint imports only from trusted packages.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from xdomain.errors import SettingError, choice

KINDS: dict[type, str] = {
    nn.Module: "torch.nn.Module",
    Optimizer: "torch.optim.Optimizer",
    LRScheduler: "torch.optim.lr_scheduler.LRScheduler",
    ReduceLROnPlateau: "torch.optim.lr_scheduler.ReduceLROnPlateau",
}
"""What settings may name."""
FOR_TRAINING = (Optimizer, LRScheduler, ReduceLROnPlateau)
TRUSTED = ("xdomain", "torch", "pytorch_lightning.cli")
"""Packages and modules whose classes a checkpoint may name; the last has a schedule that recipes name."""
HOMES = ("xdomain.networks", "xdomain.optim", "xdomain.data", "xdomain.engines")
"""Modules of classes that are named without their module."""


def find_class(owner: object, option: str, path: object, kinds: Sequence[type], allowed: Sequence[str] | None) -> type:
    """Find the class with a name.

    Args:
        owner: the owner of the setting, for the error message.
        option: name of the setting.
        path: the name, with or without the module.
        kinds: allowed classes; it must be one of them or a subclass.
        allowed: packages or modules from which it may come, or None for any; others are not imported.

    Raises:
        SettingError: for anything else, which is not called.
    """
    module, _, name = str(path).rpartition(".")
    homes = [module] if module else HOMES
    if allowed is not None and not all(_below(home, allowed) for home in homes):
        way = f"give a checkpoint that you trust, or allow {module.split('.')[0]}"
        raise SettingError(owner, option, f"names {path}, which is neither of xdomain nor of torch: {way}.")
    found = next((value for home in homes if (value := member(f"{home}.{name}")) is not None), None)
    wanted = choice(KINDS.get(kind, kind.__name__) for kind in kinds)
    if not (isinstance(found, type) and issubclass(found, tuple(kinds))):
        raise SettingError(owner, option, f"is {path}, which is no class that fits there: give a {wanted}.")
    if allowed is not None and not _below(found.__module__, allowed):
        raise SettingError(owner, option, f"names {path}, which comes from {found.__module__}: that is not allowed.")
    return found


def _below(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def member(path: str) -> object:
    """The object with a name such as ``torch.nn.ReLU``, or None."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None


def check_settings(owner: type, settings: dict[str, Any], allowed: Sequence[str] | None, prefix: str = "") -> None:
    """Refuse settings that name anything except classes of the right kind, at any depth.

    Args:
        owner: the class that takes the settings.
        settings: by name, as plain types; classes as ``{"class_path": ..., "init_args": ...}`` or by their path alone.
        allowed: see :func:`find_class`.
        prefix: prefix of the names of settings in the error message.

    Raises:
        SettingError: for the first one that is refused.
    """
    for name, value in settings.items():
        _check(owner, f"{prefix}{name}", value, tuple(wanted(owner, str(name))), allowed)


def _check(owner: type, option: str, value: Any, kinds: tuple[type, ...], allowed: Sequence[str] | None) -> None:
    if isinstance(value, str) and kinds:
        value = {"class_path": value}
    if isinstance(value, dict) and "class_path" in value:
        found = find_class(owner, option, value["class_path"], kinds or tuple(KINDS), allowed)
        for part in ("init_args", "dict_kwargs"):
            if isinstance(inner := value.get(part), dict):
                check_settings(found, inner, allowed, f"{option}.")
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            _check(owner, option, inner, kinds, allowed)
    elif kinds and value is not None and not (isinstance(value, type) and issubclass(value, kinds)):
        wanted_kinds = choice(KINDS.get(kind, kind.__name__) for kind in kinds)
        raise SettingError(owner, option, f"is {value!r}, which is no class: give a {wanted_kinds}.")


def wanted(owner: type, name: str) -> list[type]:
    """The classes that a setting may name, from its annotation; none if it does not name a class."""
    for base in owner.__mro__:
        init = base.__dict__.get("__init__")
        if init is not None and name in inspect.signature(init).parameters:
            try:
                return list(_classes(typing.get_type_hints(init).get(name)))
            except (NameError, TypeError):  # an annotation only for type checkers
                return []
    return []


def _classes(annotation: Any) -> Iterator[type]:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType, list, Sequence):
        for part in inside:
            yield from _classes(part)
    elif origin is Callable:
        results = list(_classes(inside[-1]))
        yield from results or [nn.Module]
    elif isinstance(annotation, type) and issubclass(annotation, tuple(KINDS)):
        yield annotation
