"""Processors that compute in bf16 by themselves, by what torch says of them."""

import warnings

import pytest
import torch

from tests.toys import trainer
from xdomain.running import precision
from xdomain.running import trainer as trainers


@pytest.mark.parametrize(
    ("capabilities", "emulated"),
    [
        ({"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": False}, True),
        ({"architecture": "x86_64", "amx_bf16": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
    ids=["plain", "AMX", "AVX512", "ARM"],
)
def test_what_emulates(capabilities, emulated, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.emulates_bf16() == emulated
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not precision.emulates_bf16()


def test_a_training_says_so(monkeypatch):
    monkeypatch.setattr(trainers, "emulates_bf16", lambda: True)
    with pytest.warns(UserWarning, match="bf16 is emulated on this processor and very slow: add --trainer.precision"):
        trainer(precision="bf16-mixed")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "bf16 is emulated")
        trainer(precision="32-true")
