"""Memory layout of convolutions."""

import torch

from tests.methods.faces import Faces, make
from tests.toys import trainer
from xdomain.callbacks import ChannelsLast
from xdomain.methods import GuidedTransfer


def fitted(callbacks):
    torch.manual_seed(0)
    method = make(GuidedTransfer)
    trainer(max_steps=3, limit_val_batches=0, callbacks=callbacks).fit(method, datamodule=Faces())
    return method


def test_only_the_layout_differs():
    plain, last = fitted([]), fitted([ChannelsLast()])
    weights = [m.weight for m in last.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert not all(w.is_contiguous() for w in weights)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, last.state_dict()[name], atol=1e-4), name
