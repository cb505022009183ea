"""Paths on disk, each with one setting and one order of precedence."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder for everything that can be regenerated: drawn data sets and helper networks.

    ``$XDOMAIN_CACHE``, else ``$XDG_CACHE_HOME/xdomain``, else ``~/.cache/xdomain``.
    """
    if own := os.environ.get("XDOMAIN_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xdomain"


def data_root(root: str | None = None) -> Path:
    """Folder that holds the downloaded data sets: the argument, else ``$XDOMAIN_DATA``, else ``<cache>/data``."""
    chosen = root or os.environ.get("XDOMAIN_DATA")
    return Path(chosen).expanduser() if chosen else cache_dir() / "data"
