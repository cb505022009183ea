"""Which methods, judges and rules an evaluation of content transfer can use."""

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from xdomain.data.attributes import AttributeDomains
from xdomain.data.base import BaseDataModule, DomainPair
from xdomain.errors import UserError, refuse
from xdomain.features.helpers import helper_data
from xdomain.methods import ContentMethod, StyleMethod

GuidedMethod = ContentMethod | StyleMethod
"""Methods whose translations take something from a guide: content, or a style."""

FACIAL_HAIR = "Mustache or Goatee or not No_Beard"  # not an attribute of CelebA


def has_attributes(data: BaseDataModule) -> bool:
    """Whether the images have attributes."""
    modules = data.modules.values() if isinstance(data, DomainPair) else [data]
    return any(isinstance(module, AttributeDomains) for module in modules)


def check_judge_fits(owner: object, option: str, source: str, data: BaseDataModule) -> bool:
    """Whether a judge fits this data: a recipe's judge knows images of the data that the recipe names.

    On images without attributes, such as folders of one's own, it is left out with a warning: it would be trained for
    hours and then judge images unlike its training images. A checkpoint is used as it is.

    Raises:
        UserError: for data with attributes, which has its own judges.
    """
    modules = [data, *(data.modules.values() if isinstance(data, DomainPair) else [])]
    known = helper_data(source)
    if known is None or any(known in {kind.__name__ for kind in type(module).__mro__} for module in modules):
        return True
    here = type(modules[-1]).__name__
    way = "leave it out, or train one on images like these and give its run folder"
    if has_attributes(data):
        refuse(owner, option, source, f", which learns from {known}, but the data is {here}: {way}.")
    rank_zero_warn(
        f"{type(owner).__name__}: {option} is left out: {source} learns from {known}, but the data is {here}. For a "
        "judge of your own, train one on images like these and give its run folder."
    )
    return False


def rule_of(target: str | None, names: tuple[str, ...]) -> str | None:
    """The rule of a content over attributes of these names, or None if they do not determine it."""
    if target in names:
        return target
    return FACIAL_HAIR if target == "Facial_Hair" and "No_Beard" in names else None


def content_method(module: pl.LightningModule) -> ContentMethod:
    """The module as a method of content transfer.

    Raises:
        UserError: if it is none.
    """
    if not isinstance(module, ContentMethod):
        raise UserError(f"{type(module).__name__} transfers no content: remove the callbacks that evaluate that.")
    return module


def guided_method(module: pl.LightningModule) -> GuidedMethod:
    """The module as a method of content transfer, or one that takes styles from guides.

    Raises:
        UserError: if it is neither.
    """
    return module if isinstance(module, StyleMethod) else content_method(module)
