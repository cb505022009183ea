"""Packing: trained weights as small files, in half precision, with only what translations need."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xdomain import __version__
from xdomain.classes import FOR_TRAINING, wanted
from xdomain.errors import UserError
from xdomain.inference.loading import load
from xdomain.inference.tasks import of_images, of_noise, parameters
from xdomain.methods import Method
from xdomain.running.checkpoints import read_checkpoint
from xdomain.running.folder import facts_of, resolve_checkpoint, run_dir_of
from xdomain.running.publishing import RESULTS
from xdomain.running.weights import full_precision, halved, keep_weights


def pack(path: str | os.PathLike[str], output: Path) -> dict[str, Any]:
    """Write the weights of a run and, beside them, a card: JSON that says how they are used and where they come from.

    Networks that no translation depends on are left out, such as discriminators: their weights are made NaN in turn,
    and what then comes out is compared. Weights that half precision cannot hold stay as they are.

    Args:
        path: a checkpoint, or a run folder (its ``best`` checkpoint, else ``last``).
        output: file to write, ending in ``.safetensors``.

    Returns:
        what the card says.

    Raises:
        UserError: if there is no such run, if its method does not translate, or if the files cannot be written.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"output is {output}: give a file that ends in .safetensors.")
    method, file = load(path), resolve_checkpoint(str(path), prefer="best")
    settings = {
        key: value
        for key, value in read_checkpoint(file)["hyper_parameters"].items()
        if key not in ("_class_path", "_instantiator") and not set(wanted(type(method), key)) & set(FOR_TRAINING)
    }
    before, left_out = translations(method), _unused(method)
    if not of_images(method):
        raise UserError(f"a {type(method).__name__} translates no images: its weights cannot be packed.")
    state = {name: value for name, value in method.state_dict().items() if name.split(".")[0] not in left_out}
    state = {name: halved(value) for name, value in state.items()}
    method.load_state_dict({name: full_precision(value) for name, value in state.items()}, strict=False)
    changes = [(a - b).abs().max().item() for a, b in zip(before, translations(method), strict=True)]
    run = run_dir_of(file) or file.parent
    facts, results = facts_of(run), run / RESULTS
    card = {
        "method": read_checkpoint(file)["hyper_parameters"]["_class_path"],
        "settings": settings,
        "left_out": left_out,
        "change_by_half_precision": round(max(changes), 5) if changes else None,
        **{name: facts.get(name) for name in ("recipe", "overrides", "seed", "commit", "steps")},
        "metrics": json.loads(results.read_text())["metrics"] if results.is_file() else {},
        "version": __version__,
    }
    keep_weights(output, state, **card)
    return card


def translations(method: Method) -> list[Tensor]:
    """What a method makes of random images by all its tasks that need nothing but images, in all directions.

    Random numbers are the same in every call.
    """
    made: list[Tensor] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        for source, target in method.directions:
            for function in of_images(method).values():
                torch.manual_seed(0)
                given = {"images": _images(method, source), "source": source, "target": target}
                given |= {
                    "guide": _images(method, target),
                    "mask": torch.ones(2, 1, *_images(method, source).shape[2:]),
                }
                takes = parameters(function)
                needed = {name for name, value in takes.items() if value.default is value.empty}
                if needed <= given.keys():
                    with suppress(UserError):  # a task for another direction, or without a guide
                        made.append(function(**{name: given[name] for name in takes if name in given}).float())
    return made


def _images(method: Method, domain: str) -> Tensor:
    index = method.domains.index(domain)
    return torch.rand(2, method.channels[index], *method.shapes[index]) * 2 - 1


def _unused(method: Method) -> list[str]:
    """The networks that no translation depends on; none where a task needs more than images, or needs none."""
    expected, unused = translations(method), list[str]()
    if not expected or of_noise(method) or any(_needs_more(function) for function in of_images(method).values()):
        return []
    for name, network in method.named_children():
        kept = {key: value.clone() for key, value in network.state_dict().items()}
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.fill_(torch.nan)
        if kept and all(torch.equal(a, b) for a, b in zip(expected, translations(method), strict=True)):
            unused.append(name)
        network.load_state_dict(kept)
    return unused


def _needs_more(function: Callable[..., Any]) -> bool:
    known = {"images", "source", "target", "guide", "mask"}
    return any(value.default is value.empty and name not in known for name, value in parameters(function).items())
