"""Unpaired cross-domain image translation on PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from xdomain.inference.export import export
    from xdomain.inference.folder import translate_folder
    from xdomain.inference.loading import load

__all__ = ["__version__", "export", "load", "translate_folder"]

_PLACES = {
    "export": "xdomain.inference.export",
    "load": "xdomain.inference.loading",
    "translate_folder": "xdomain.inference.folder",
}


def __getattr__(name: str) -> Any:
    """Import names that need torch at first use: the package itself and ``xdomain list`` do not need it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
