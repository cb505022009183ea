"""Memory layout of convolutions."""

import pytest
import torch

from tests.methods.faces import Faces, make
from tests.toys import trainer
from xdomain.callbacks import ChannelsLast
from xdomain.methods import DIDD, GuidedTransfer


def fitted(kind, callbacks, **settings):
    torch.manual_seed(0)
    method = make(kind, **settings)
    trainer(max_steps=3, limit_val_batches=0, callbacks=callbacks).fit(method, datamodule=Faces())
    return method


def is_last(network):
    """Whether the channels of all convolutions are last, or those of none."""
    weights = [p for p in network.parameters() if p.ndim == 4]
    (answer,) = {w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights}
    return answer


@pytest.mark.parametrize(
    ("kind", "settings", "last"),
    [
        (GuidedTransfer, {"norm": "batch"}, {"E_1": True, "E_2": True, "D": True}),
        (GuidedTransfer, {"norm": "instance"}, {"E_1": False, "E_2": False, "D": False}),
        (DIDD, {"norm": "batch", "separate_norm": "instance"}, {"E_c": True, "E_a": False, "E_b": False, "G": True}),
    ],
    ids=str,
)
def test_only_the_layout_of_networks_without_instance_norm_differs(kind, settings, last):
    plain, changed = fitted(kind, [], **settings), fitted(kind, [ChannelsLast()], **settings)
    assert {name: is_last(getattr(changed, name)) for name in last} == last
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, changed.state_dict()[name], atol=1e-5), name
