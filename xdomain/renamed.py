"""What checkpoints of earlier versions say, in the words of this one: the one place that knows old names."""

from typing import Any

from xdomain.errors import UserError

CLASSES = {
    "ContentDecoder": "CodeDecoder",
    "ContentEncoder": "CodeEncoder",
    "HalfClassifier": "HalfResolutionClassifier",
    "HalfDecoder": "HalfResolutionDecoder",
    "HalfDiscriminator": "HalfResolutionDiscriminator",
}
"""Networks by their names in version 0.1.0 and now."""

_CONFUSION = {"stale_codes": False}
_LEVELS = {"penalty_every": 1}
GONE: dict[str, dict[str, Any]] = {
    "AttributeClassifier": {"balanced": True},
    "ConSinGAN3D": {"critic": "spectral", **_LEVELS},
    "DIDD": {"last_norm": True, "second_norm": True, "slots": "zero", "spectral_axis": 1, **_CONFUSION},
    "FaderNetwork": {"share_codes": False},
    "GuidedTransfer": _CONFUSION,
    "MaskedTransfer": {"removal_zero_content": True, **_CONFUSION},
    "PatchVAEGAN": {
        **{"edges": "zeros", "pool": 0, "rec_from_mean": False, "train_all": False, "vae_noise": False},
        **_LEVELS,
    },
    "SinGAN3D": {"critic": "spectral", **_LEVELS},
    "StructuralAnalogy": {"merged_penalty": False},
}
"""Settings of methods in version 0.1.0 that are no longer there, with the one value that is still what happens."""

STATE = {
    "erasure.": "readouts.erasure.statistics.",
    "regions.": "readouts.regions.statistics.",
}
"""Beginnings of the names of DIDD's weights, likewise."""


def in_new_words(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of any version with the names and settings of this one.

    Raises:
        UserError: if it was trained with a setting that is no longer there.
    """
    settings = checkpoint.get("hyper_parameters")
    if not isinstance(settings, dict):
        return checkpoint
    settings = _renamed(settings)
    method = str(settings.get("_class_path")).rpartition(".")[2]
    for name, usual in GONE.get(method, {}).items():
        if (value := settings.pop(name, usual)) != usual:
            raise UserError(
                f"this {method} was trained with {name} {value}, which is no longer there: version 0.1.0 of xdomain "
                "can read it, or train it anew."
            )
    state = dict(checkpoint.get("state_dict", {}))
    state.pop("pool_seed", None)  # of PatchVAEGAN
    if settings.keys() >= {"erasure", "strength", "regions"}:  # of DIDD, before there were read-outs
        settings["readouts"] = _readouts(settings.pop("erasure"), settings.pop("strength"), settings.pop("regions"))
        state = _state_of_readouts(state, checkpoint.get("global_step", 0))
    return {**checkpoint, "hyper_parameters": settings, "state_dict": state}


def _renamed(settings: Any) -> Any:
    """Settings with the present names of all classes."""
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(_renamed, settings))
    if not isinstance(settings, dict):
        return settings
    renamed = {key: _renamed(value) for key, value in settings.items()}
    if isinstance(path := renamed.get("class_path"), str) and (name := path.rpartition(".")[2]) in CLASSES:
        renamed["class_path"] = f"xdomain.networks.{CLASSES[name]}" if "." in path else CLASSES[name]
    return renamed


def _readouts(erasure: bool, strength: float, regions: float | None) -> list[dict[str, Any]]:
    wanted = {"Erasure": {} if erasure else None, "Strength": None if strength == 1 else {"factor": strength}}
    wanted["Regions"] = None if regions is None else {"share": regions}
    return [
        {"class_path": f"xdomain.methods.{name}", "init_args": options}
        for name, options in wanted.items()
        if options is not None
    ]


def _state_of_readouts(state: dict[str, Any], step: int) -> dict[str, Any]:
    """Weights by their present names; what had learned something counts as fitted to the weights beside it."""
    found: dict[str, Any] = {}
    for name, value in state.items():
        old = next((old for old in STATE if name.startswith(old)), None)
        if old is None:
            found[name] = value
        elif name == "regions.learned":
            found["readouts.regions.fitted_at"] = value.long() * (step + 1) - 1
        else:
            found[name.replace(old, STATE[old], 1)] = value
        if name == "erasure.gap":
            found["readouts.erasure.fitted_at"] = value.any().long() * (step + 1) - 1
    return found
