"""What torch.compile gets of every method, and that it changes nothing."""

from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from tests.methods.faces import Faces, make
from tests.methods.single import facts, train
from tests.methods.test_dtn import Pair, dtn
from tests.methods.test_mixed_precision import CASES
from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.callbacks import CompileNetworks
from xdomain.methods import DIDD, Classifier, FaderNetwork, GuidedTransfer, MaskedTransfer
from xdomain.networks import ConvClassifier


def classifier():
    network = ConvClassifier(widths=[4, 4, 6], image_size=16, classes=4)
    return Classifier(network, domains=("plus",), channels=(3,), image_size=16)


FACES = (GuidedTransfer, MaskedTransfer, FaderNetwork, DIDD)
METHODS = {
    **{
        name: (lambda kind=kind, d=data, s=settings: kind(**facts(d()), **s), data)
        for name, (kind, data, settings) in CASES.items()
    },
    **{kind.__name__: (partial(make, kind), Faces) for kind in FACES},
    "DTN": (dtn, Pair),
    "Classifier": (classifier, Faces),
}


@pytest.fixture(autouse=True)
def _limits():
    """Torch's own limit before and after every test."""
    with torch._dynamo.config.patch(recompile_limit=8):
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", METHODS)
def test_all_that_has_weights_is_called_through_what_is_compiled(name, monkeypatch, tmp_path):
    inside, compiled, outside = [], set(), []

    def compile_(network):
        def call(*args, **options):
            compiled.add(network)
            inside.append(network)
            try:
                return network._call_impl(*args, **options)
            finally:
                inside.pop()

        network._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compile_)
    build, data = METHODS[name]
    method = build()
    for path, module in method.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_, path=path: None if inside else outside.append(path))
    options = {"limit_val_batches": 0, "callbacks": [CompileNetworks()]}
    if name in CASES:
        train(method, data(), tmp_path, **options)
    else:
        trainer(max_steps=1, **options).fit(method, datamodule=data())
    assert outside == []
    assert compiled
    assert torch._dynamo.config.recompile_limit >= 128


def test_compiled_networks_learn_the_same(monkeypatch):
    counter, usual, states = CompileCounter(), nn.Module.compile, []
    monkeypatch.setattr(nn.Module, "compile", lambda network: usual(network, backend=counter))
    for callbacks in ([], [CompileNetworks()]):
        torch.manual_seed(0)
        method = ToyGAN()
        trainer(max_steps=2, limit_val_batches=0, callbacks=callbacks).fit(method, datamodule=ToyPair())
        states.append(weights(method))
    assert counter.frame_count >= 2
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-5, atol=1e-6)
