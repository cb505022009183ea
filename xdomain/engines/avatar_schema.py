"""What an avatar is made of: the parameters, how they are drawn, which attributes they show, and counterfactuals."""

import torch
from torch import Tensor

from xdomain.engines.drawing import Draws, splitmix64
from xdomain.engines.schema import Parameter, Schema

HAIR_STYLES = ("bald", "buzz", "short", "side_part", "quiff", "fringe", "curly", "afro", "long", "wavy", "bun")
HAIR_COLOURS = ("black", "brown", "blond", "red", "gray")
IRISES = ("dark", "brown", "hazel", "green", "blue", "gray")
GLASSES = ("none", "round", "square", "rectangle", "sunglasses", "aviator")
FRAMES = ("black", "brown", "red", "blue", "gold", "white")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
HATS = ("none", "beanie", "cap", "brim")
HAT_COLOURS = ("red", "navy", "green", "mustard", "black", "gray", "purple", "cream")
LIPSTICKS = ("none", "red", "pink", "plum")
MOLES = ("none", "left", "right", "chin")
BACKGROUNDS = ("plain", "clouds", "panels", "boxes")

# Style of the hair given the presentation; percent, in the order of HAIR_STYLES.
STYLE_SHARES = {"female": (1, 2, 8, 5, 2, 17, 12, 7, 20, 15, 11), "male": (12, 17, 20, 17, 14, 6, 6, 5, 2, 1, 0)}

SCHEMA = Schema(
    [
        Parameter("face_width", "continuous", 0.37, 0.48, group="identity"),
        Parameter("chin", "continuous", 0.49, 0.63, group="identity"),
        Parameter("skull", "continuous", 0.48, 0.58, group="identity"),
        Parameter("jaw_square", "continuous", 0.0, 0.6, group="identity"),
        Parameter("jaw_taper", "continuous", 0.0, 0.32, group="identity"),
        Parameter("neck_width", "continuous", 0.17, 0.28, group="identity"),
        Parameter("skin_tone", "continuous", 0.0, 1.0, group="identity"),
        Parameter("skin_warmth", "continuous", -1.0, 1.0, group="identity"),
        Parameter("ear_size", "continuous", 0.06, 0.12, group="identity"),
        Parameter("eye_spacing", "continuous", 0.155, 0.21, group="identity"),
        Parameter("eye_height", "continuous", -0.07, 0.01, group="identity"),
        Parameter("eye_width", "continuous", 0.068, 0.1, group="identity"),
        Parameter("eye_opening", "continuous", 0.03, 0.062, group="identity"),
        Parameter("eye_tilt", "continuous", -0.25, 0.25, group="identity"),
        Parameter("iris", "choice", values=IRISES, group="identity"),
        Parameter("brow_thickness", "continuous", 0.01, 0.034, group="identity"),
        Parameter("brow_angle", "continuous", -0.3, 0.25, group="identity"),
        Parameter("brow_arch", "continuous", 0.0, 0.05, group="identity"),
        Parameter("brow_height", "continuous", 0.085, 0.14, group="identity"),
        Parameter("brow_shade", "continuous", 0.45, 1.0, group="identity"),
        Parameter("nose_width", "continuous", 0.045, 0.095, group="identity"),
        Parameter("nose_length", "continuous", 0.13, 0.23, group="identity"),
        Parameter("mouth_width", "continuous", 0.11, 0.18, group="identity"),
        Parameter("lip_fullness", "continuous", 0.016, 0.045, group="identity"),
        Parameter("mouth_height", "continuous", 0.36, 0.56, group="identity"),  # 0: tip of the nose, 1: chin
        Parameter("cheeks", "continuous", 0.0, 1.0, group="identity"),
        Parameter("freckles", "continuous", 0.0, 1.0, group="identity"),
        Parameter("mole", "choice", values=MOLES, group="identity"),
        Parameter("hair_style", "choice", values=HAIR_STYLES, group="identity"),
        Parameter("hair_colour", "choice", values=HAIR_COLOURS, group="identity"),
        Parameter("hair_shade", "continuous", 0.75, 1.2, group="identity"),
        Parameter("hair_volume", "continuous", 0.6, 1.4, group="identity"),
        Parameter("hair_side", "continuous", -1.0, 1.0, group="identity"),
        Parameter("presentation", "choice", values=("female", "male"), group="attribute"),
        Parameter("smile", "continuous", 0.0, 1.0, group="attribute"),
        Parameter("mouth_open", "continuous", 0.0, 1.0, group="attribute"),
        Parameter("glasses", "choice", values=GLASSES, group="attribute"),
        Parameter("frame", "choice", values=FRAMES, group="attribute"),
        Parameter("beard", "choice", values=BEARDS, group="attribute"),
        Parameter("beard_length", "continuous", 0.0, 1.0, group="attribute"),
        Parameter("hat", "choice", values=HATS, group="attribute"),
        Parameter("hat_colour", "choice", values=HAT_COLOURS, group="attribute"),
        Parameter("lipstick", "choice", values=LIPSTICKS, group="attribute"),
        Parameter("shift_x", "continuous", -0.1, 0.1, group="nuisance"),
        Parameter("shift_y", "continuous", -0.08, 0.08, group="nuisance"),
        Parameter("scale", "continuous", 1.0, 1.25, group="nuisance"),
        Parameter("tilt", "continuous", -0.14, 0.14, group="nuisance"),
        Parameter("yaw", "continuous", -0.06, 0.06, group="nuisance"),
        Parameter("gaze", "continuous", -0.3, 0.3, group="nuisance"),
        Parameter("light_x", "continuous", -0.8, 0.8, group="nuisance"),
        Parameter("light_y", "continuous", -0.8, 0.2, group="nuisance"),
        Parameter("light_strength", "continuous", 0.25, 0.75, group="nuisance"),
        Parameter("background", "choice", values=BACKGROUNDS, group="nuisance"),
        *(
            Parameter(f"{what}_{channel}", "continuous", 0.0, 1.0, group="nuisance")
            for what in ("wall", "object", "clothes")
            for channel in ("red", "green", "blue")
        ),
        Parameter("exposure", "continuous", 0.75, 1.1, group="nuisance"),
        Parameter("warmth", "continuous", -1.0, 1.0, group="nuisance"),
        Parameter("noise", "continuous", 0.0, 0.04, group="nuisance"),
        Parameter("blur", "continuous", 0.0, 0.8, group="nuisance"),
        Parameter("noise_seed", "continuous", 0.0, 2.0**24, group="nuisance"),
    ]
)
"""The parameters. Unit of length: half of the picture at scale 1, y points down, origin between the eyes and the nose.
Angles are in radians or slopes, colours in [0, 1]. `noise_seed` is a whole number."""

PALE = 0.15  # skin tones below show as Pale_Skin
OPEN = 0.25  # a mouth opened wider shows as Mouth_Slightly_Open
GRIN = 0.7  # a smile that is wider shows the teeth

ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "No_Beard",
    "Pale_Skin",
    "Smiling",
    "Wearing_Hat",
    "Wearing_Lipstick",
)
"""The attributes of CelebA that the engine states exactly, alphabetically."""

# What `with_attribute` changes: the deciding column, its values when absent and by default, and what goes along.
EDITS: dict[str, tuple[str, float, float, tuple[str, ...]]] = {
    "Eyeglasses": ("glasses", 0.0, float(GLASSES.index("square")), ("frame",)),
    "Smiling": ("smile", 0.15, 0.85, ()),
    "Facial_Hair": ("beard", 0.0, float(BEARDS.index("full")), ("beard_length",)),
    "Wearing_Hat": ("hat", 0.0, float(HATS.index("beanie")), ("hat_colour",)),
}


def draw_parameters(identities: Tensor, indices: Tensor, seed: int) -> Tensor:
    """Draws random avatars, with realistic frequencies of their features.

    Args:
        identities: int64 [n], the persons. Equal identities of one seed share the columns of the group ``identity`` and
            ``presentation``.
        indices: int64 [n], number of the picture within the identity; together with the identity it determines all
            other columns.
        seed: seed of the population.

    Returns:
        u: float32 [n, P], P = len(SCHEMA). Row i is a pure function of (seed, identities[i], indices[i]).

    Example:
        >>> u = draw_parameters(torch.tensor([7, 7, 8]), torch.tensor([0, 1, 0]), seed=0)
        >>> torch.equal(u[0, :33], u[1, :33]), torch.equal(u[0, :33], u[2, :33])
        (True, False)
    """
    person = Draws(identities, seed)
    male = person.chance(0.5)
    picture = Draws(splitmix64(identities) + indices, seed)
    columns = _identity(person, male) | {"presentation": male} | _attributes(picture, male) | _nuisance(picture)
    u = torch.stack([columns[name] for name in SCHEMA.names], dim=1).float()
    low, high = (u.new_tensor([getattr(p, end) for p in SCHEMA.parameters]) for end in ("low", "high"))
    return torch.minimum(torch.maximum(u, low), high)


def _uniform(draw: Draws, group: str) -> dict[str, Tensor]:
    """Uniform values of all continuous parameters of a group."""
    parameters = [SCHEMA.parameters[i] for i in SCHEMA.groups[group]]
    return {p.name: draw.uniform(p.low, p.high) for p in parameters if p.kind == "continuous"}


def _share(draw: Draws, shares: Tensor) -> Tensor:
    """A choice with the given shares [k] or [n, k]: float64 [n]."""
    limits = shares.double().cumsum(-1) / shares.double().sum(-1, keepdim=True)
    return (draw.uniform(0.0, 1.0)[:, None] >= limits[..., :-1]).sum(1).double()


def _identity(draw: Draws, male: Tensor) -> dict[str, Tensor]:
    made = _uniform(draw, "identity")
    sign = 2 * male - 1
    made["jaw_square"] += 0.2 * sign
    made["jaw_taper"] -= 0.1 * sign
    made["chin"] += 0.03 * sign
    made["neck_width"] += 0.04 * sign
    made["brow_thickness"] += 0.009 * sign
    made["lip_fullness"] -= 0.009 * sign
    made["eye_opening"] -= 0.005 * sign
    made["cheeks"] *= 1 - 0.6 * male
    made["freckles"] = (made["freckles"] * 2 - 1).clamp(min=0) * (made["skin_tone"] < 0.5)
    shares = torch.tensor([STYLE_SHARES["female"], STYLE_SHARES["male"]], device=male.device)
    made["hair_style"] = _share(draw, shares[male.long()])
    light = torch.tensor([20, 32, 24, 12, 12], device=male.device)
    dark = torch.tensor([64, 22, 3, 1, 10], device=male.device)
    made["hair_colour"] = _share(draw, torch.where((made["skin_tone"] > 0.55)[:, None], dark, light))
    eyes_dark = torch.tensor([50, 35, 10, 3, 1, 1], device=male.device)
    eyes_light = torch.tensor([8, 22, 15, 18, 25, 12], device=male.device)
    made["iris"] = _share(draw, torch.where((made["skin_tone"] > 0.55)[:, None], eyes_dark, eyes_light))
    made["mole"] = _share(draw, torch.tensor([70, 10, 10, 10], device=male.device))
    return made


def _attributes(draw: Draws, male: Tensor) -> dict[str, Tensor]:
    made = _uniform(draw, "attribute")
    made["smile"] = torch.where(draw.chance(0.5).bool(), 0.65 + 0.35 * made["smile"], 0.3 * made["smile"])
    opened = draw.chance(0.25).bool()
    made["mouth_open"] = torch.where(opened, 0.4 + 0.6 * made["mouth_open"], 0.1 * made["mouth_open"])
    made["glasses"] = draw.chance(0.4) * (1 + draw.integers(len(GLASSES) - 1))
    made["frame"] = draw.integers(len(FRAMES)).double()
    made["beard"] = male * draw.chance(0.6) * (1 + draw.integers(len(BEARDS) - 1))
    made["hat"] = draw.chance(0.15) * (1 + draw.integers(len(HATS) - 1))
    made["hat_colour"] = draw.integers(len(HAT_COLOURS)).double()
    made["lipstick"] = (1 - male) * draw.chance(0.55) * (1 + draw.integers(len(LIPSTICKS) - 1))
    return made


def _nuisance(draw: Draws) -> dict[str, Tensor]:
    made = _uniform(draw, "nuisance")
    for name in ("shift_x", "shift_y", "tilt", "yaw", "noise", "blur"):
        made[name] *= draw.uniform(0.0, 1.0)  # large ones are rare
    made["background"] = draw.integers(len(BACKGROUNDS)).double()
    made["noise_seed"] = made["noise_seed"].floor()
    return made


def attributes(u: Tensor) -> Tensor:
    """Attributes that a picture shows.

    As in CelebA, only visible attributes count: a hat hides a bald head and a fringe. Stubble is a shadow, not a beard;
    a moustache alone is facial hair, hence not ``No_Beard``; a full beard includes a moustache.

    Args:
        u: parameters [n, P].

    Returns:
        uint8 [n, len(ATTRIBUTES)], 0 or 1.
    """

    def choice(name: str, *values: str) -> Tensor:
        column = SCHEMA.index(name)
        wanted = [SCHEMA.parameters[column].values.index(value) for value in values]
        return torch.isin(u[:, column].round().long(), torch.tensor(wanted, device=u.device))

    bare = choice("hat", "none")
    hair = ~choice("hair_style", "bald")
    shown = {
        "5_o_Clock_Shadow": choice("beard", "stubble"),
        "Bald": ~hair & bare,
        "Bangs": choice("hair_style", "fringe") & bare,
        **{f"{name.title()}_Hair": choice("hair_colour", name) & hair for name in ("black", "blond", "brown", "gray")},
        "Eyeglasses": ~choice("glasses", "none"),
        "Goatee": choice("beard", "goatee"),
        "Male": choice("presentation", "male"),
        "Mouth_Slightly_Open": opening(u) > OPEN,
        "Mustache": choice("beard", "moustache", "full"),
        "No_Beard": choice("beard", "none", "stubble"),
        "Pale_Skin": u[:, SCHEMA.index("skin_tone")] < PALE,
        "Smiling": u[:, SCHEMA.index("smile")] > 0.5,
        "Wearing_Hat": ~bare,
        "Wearing_Lipstick": ~choice("lipstick", "none"),
    }
    return torch.stack([shown[name] for name in ATTRIBUTES], dim=1).byte()


def opening(u: Tensor) -> Tensor:
    """How far the mouth is open, [n] in [0, 1]: on its own, or because of a wide smile."""
    smile, mouth_open = u[:, SCHEMA.index("smile")], u[:, SCHEMA.index("mouth_open")]
    return torch.maximum(mouth_open, ((smile - GRIN) * 2).clamp(min=0) + 0.3 * (smile > GRIN))


def with_attribute(u: Tensor, name: str, value: bool | Tensor, donor: Tensor | None = None) -> Tensor:
    """The counterfactual: the same avatars with one attribute changed and everything else equal.

    Rows that already have the value are unchanged, unless a donor with the attribute provides its own.

    Args:
        u: parameters [n, P].
        name: ``Eyeglasses``, ``Smiling``, ``Facial_Hair`` or ``Wearing_Hat``; ``Facial_Hair`` includes stubble.
        value: with or without; one for all or bool [n].
        donor: parameters [n, P] whose kind, colour and amount are copied; a default is used if a donor lacks the
            attribute.

    Returns:
        A new tensor [n, P].
    """
    if name not in EDITS:
        raise ValueError(f"no counterfactual for {name!r}, only for {', '.join(EDITS)}")
    decider, absent, default, along = EDITS[name]
    column = SCHEMA.index(decider)
    u = u.clone()
    wanted = torch.as_tensor(value, dtype=torch.bool, device=u.device).expand(len(u))
    has = u[:, column] > 0.5
    u[~wanted & has, column] = absent
    u[wanted & ~has, column] = default
    if donor is not None:
        given = wanted & (donor[:, column] > 0.5)
        for i in (column, *(SCHEMA.index(extra) for extra in along)):
            u[given, i] = donor[given, i]
    return u
