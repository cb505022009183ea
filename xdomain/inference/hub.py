"""Trained weights on the Hugging Face Hub: packed weights with their card, of which nothing is a pickle."""

import importlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdomain.errors import UserError
from xdomain.paths import cache_dir

HUB = "hf:"
WEIGHTS, CARD, PAGE = "model.safetensors", "config.json", "README.md"
LARGEST = {WEIGHTS: 4 * 2**30, CARD: 2**20}
"""The files that are downloaded, and the bytes that each may have."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def fetched(path: str) -> Path:
    """The weights of ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``, downloaded into the cache folder if need be.

    A revision is a branch, a tag or a commit; only a commit stays what it is. Names and sizes of the files are checked
    before they are downloaded. Without a connection, what was downloaded before is used.

    Returns:
        the file of weights; its card lies beside it.

    Raises:
        UserError: if huggingface_hub is missing, if there is no such repository or revision, if it holds no packed
            weights, or if it cannot be reached.
    """
    repository, _, revision = path.removeprefix(HUB).partition("@")
    revision = revision or "main"
    check_repository(repository)
    library = _library(path)
    api, cache = library.HfApi(endpoint=_endpoint()), cache_dir() / "hub"
    where = {"repo_id": repository, "cache_dir": cache, "endpoint": _endpoint()}
    with _in_words(library, path, repository, revision):
        try:
            info = api.model_info(repository, revision=revision, files_metadata=True)
        except Exception as error:
            if _status(error) is not None or not (old := _cached(library, where, revision)):
                raise
            return old
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        for name, largest in LARGEST.items():
            if name not in sizes:
                raise UserError(f"{path} holds no {name}, so that it is no repository of `xdomain push`: give another.")
            if sizes[name] is None or sizes[name] > largest:
                raise UserError(f"{path} is refused: its {name} has more than {largest:,} bytes.")
        files = [Path(library.hf_hub_download(filename=name, revision=info.sha, **where)) for name in LARGEST]
    for file in files:
        if file.stat().st_size != sizes[file.name]:
            raise UserError(f"{path} is refused: its {file.name} has not the size that the Hub tells.")
    return files[0]


def pushed(folder: Path, repository: str, private: bool = False, revision: str = "main") -> str:
    """Upload packed weights, their card and a page, all in one commit; returns the commit.

    Args:
        folder: holds :data:`WEIGHTS`, :data:`CARD` and :data:`PAGE`.
        repository: ``OWNER/NAME``; it is made if it does not exist.
        private: for a new repository.
        revision: the branch; it is made if it does not exist.

    Raises:
        UserError: if nobody is logged in, or if the Hub refuses it.
    """
    library = check_login(repository)
    api = library.HfApi(endpoint=_endpoint())
    with _in_words(library, f"{HUB}{repository}", repository, revision):
        api.create_repo(repository, private=private or None, exist_ok=True)
        if revision != "main":
            api.create_branch(repository, branch=revision, exist_ok=True)
        operations = [
            library.CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
            for name in (WEIGHTS, CARD, PAGE)
        ]
        done = api.create_commit(repository, operations, commit_message="Upload by xdomain", revision=revision)
    return str(done.oid)


def check_login(repository: str) -> Any:
    """The module huggingface_hub, if a push to a repository can begin.

    Raises:
        UserError: for a name that is none, or if the module is missing, or if nobody is logged in.
    """
    check_repository(repository)
    library = _library("xdomain push")
    if library.get_token() is None:
        raise UserError("you are not logged in to the Hub: run `hf auth login`, or set HF_TOKEN.")
    return library


def check_repository(name: str) -> None:
    """Raise a UserError for what is no name of a repository."""
    if not REPOSITORY.fullmatch(name):
        raise UserError(f"{name or 'an empty name'} is no repository of the Hub: give OWNER/NAME.")


def installed() -> Any:
    """The module huggingface_hub, or None."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        return None


def _library(what: str) -> Any:
    if (library := installed()) is None:
        raise UserError(f"{what} needs huggingface_hub, which is not installed: run `pip install huggingface_hub`.")
    return library


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")  # the library reads it once, when it is imported


def _cached(library: Any, where: dict[str, Any], revision: str) -> Path | None:
    """The weights of a revision that was downloaded before."""
    cached = {"repo_id": where["repo_id"], "cache_dir": where["cache_dir"], "revision": revision}
    files = [library.try_to_load_from_cache(filename=name, **cached) for name in LARGEST]
    return Path(files[0]) if all(isinstance(file, str) for file in files) else None


def _status(error: Exception) -> int | None:
    """The status of HTTP with which the Hub has answered, if it has."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


@contextmanager
def _in_words(library: Any, path: str, repository: str, revision: str) -> Iterator[None]:
    """Turn errors of the Hub and of the connection into one sentence."""
    errors = library.errors
    try:
        yield
    except UserError:
        raise
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{path} does not exist: {repository} has no revision {revision}.") from error
    except errors.RepositoryNotFoundError as error:
        way = "check the name, and log in by `hf auth login` if it is private"
        raise UserError(f"{path} does not exist, or you may not see it: {way}.") from error
    except Exception as error:  # of requests or httpx, by the version of huggingface_hub
        status = _status(error)
        if status in (401, 403):
            raise UserError(
                f"{path} is refused by the Hub: log in by `hf auth login` with a token that may."
            ) from error
        why = f"status {status}" if status else type(error).__name__
        raise UserError(f"the Hub cannot be used for {path} ({why}): try again later.") from error
