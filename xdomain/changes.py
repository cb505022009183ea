"""Changes of attributes by name, such as ``+Eyeglasses,-Smiling``."""

from collections.abc import Sequence

from xdomain.errors import choice, did_you_mean, refuse


def parsed_changes(
    owner: object, kind: str, attributes: str, names: Sequence[str], exclusive: Sequence[Sequence[str]]
) -> dict[str, bool]:
    """Changes by name, such as ``{Eyeglasses: True, Smiling: False}`` for ``+Eyeglasses,-Smiling``.

    Args:
        owner: see :func:`xdomain.errors.refuse`.
        kind: name of the method.
        attributes: the changes as text.
        names: the attributes that there are.
        exclusive: groups of attributes of which an image has at most one.

    Raises:
        SettingError: for other attributes, and for those that exclude each other.
    """
    changes: dict[str, bool] = {}
    for word in (word.strip() for word in attributes.split(",")):
        if word[:1] not in ("+", "-") or not word[1:]:
            refuse(owner, "attributes", attributes, f", but {word!r} lacks its + or -: give +{names[0]} or so.")
        check_attribute(owner, kind, "attributes", name := word[1:], names)
        if name in changes:
            refuse(owner, "attributes", attributes, f", which has {name} twice: give it once.")
        changes[name] = word[0] == "+"
    added = [name for name, value in changes.items() if value]
    for group in exclusive:
        if len(both := [name for name in added if name in group]) > 1:
            refuse(owner, "attributes", attributes, f", but {' and '.join(both)} exclude each other: add one.")
    return changes


def check_attribute(owner: object, kind: str, option: str, name: str, names: Sequence[str]) -> None:
    """Raise a SettingError for the name of an attribute that a method does not change."""
    if name not in names:
        hint = did_you_mean(name, names, f": give {choice(names)}.")
        refuse(owner, option, name, f", which this {kind} does not change{hint}")
