"""Linear probes of the codes of a method of content transfer."""

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from xdomain.callbacks.reading import limited, part_of, pieces, read, spread
from xdomain.data.attributes import AttributeDomains, holds
from xdomain.data.base import ImageData, Split
from xdomain.methods import ContentMethod
from xdomain.metrics.probes import ROWS, probe_balanced_accuracy


def probe_domains(trainer: pl.Trainer, module: ContentMethod, seed: int) -> dict[str, Tensor]:
    """How well a probe tells the domains apart by the common code (``probe/common``); the same on every process."""
    data, tested = module.data, part_of(trainer)
    codes, truth = {}, {}
    for split in _parts(trainer):
        sides = [_codes(trainer, module, data.data(role, split), ROWS // 2)[0]["common"] for role in data.roles]
        codes[split] = torch.cat(sides)
        truth[split] = torch.arange(2).repeat_interleave(torch.tensor([len(side) for side in sides]))
    score = probe_balanced_accuracy(codes["train"], truth["train"], codes[tested], truth[tested], seed=seed)
    return {"probe/common": score}


def probe_contents(trainer: pl.Trainer, module: ContentMethod, rules: dict[str, str], seed: int) -> dict[str, Tensor]:
    """How well a probe reads the other domain's content from a separate code (``probe/DOMAIN/OTHER``).

    Args:
        trainer: the trainer.
        module: the method, whose data must have attributes.
        rules: maps a domain to the rule of its content.
        seed: see :func:`xdomain.metrics.probe_balanced_accuracy`.
    """
    data = module.data
    if not isinstance(data, AttributeDomains) or not rules:
        return {}
    (x, fit), (y, tested) = (
        _population_codes(trainer, module, data, split, [*rules.values()]) for split in _parts(trainer)
    )
    tables = data.table("train")[fit], data.table(part_of(trainer))[tested]
    values = {}
    for domain in module.contents:
        for other, rule in rules.items():
            if other != domain and domain in x:
                seen, unseen = (torch.from_numpy(holds(rule, data.attribute_names, table)) for table in tables)
                score = probe_balanced_accuracy(x[domain], seen, y[domain], unseen, seed=seed)
                values[f"probe/{domain}/{other}"] = score
    return values


def _parts(trainer: pl.Trainer) -> tuple[Split, Split]:
    """The parts of the data that probes are fitted to and tested on."""
    return "train", part_of(trainer)


def _codes(
    trainer: pl.Trainer, module: ContentMethod, data: ImageData, limit: int
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Codes [N, D] of some images, and their positions."""
    size = module.data.eval_batch_size
    rows = spread(len(data), min(limit, limited(trainer, len(data), size)))
    parts = [module.codes(read(data, piece, module)) for piece in pieces(rows, size)]
    return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}, rows


def _population_codes(
    trainer: pl.Trainer, module: ContentMethod, data: AttributeDomains, split: Split, contents: list[str]
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Codes of images from the population of the domains, and their positions in the whole part."""
    rows = data.population(split, contents)
    codes, positions = _codes(trainer, module, data.part(split).keep(rows), ROWS)
    return codes, rows[positions]
