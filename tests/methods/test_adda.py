"""ADDA against its formulas: two phases, two networks."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.methods.adaptation import Digits, assert_slopes, batches, fitted, make, slopes, told_apart, updates
from tests.methods.faces import moved
from tests.running.test_resume import differences
from xdomain.errors import UserError
from xdomain.methods import ADDA

GOLDEN = {"ADDA": lambda: (make(ADDA), Digits())}


def test_updates_are_those_of_the_formulas():
    found, m = updates(make(ADDA), 4), make(ADDA)
    assert [update.name for update in found] == ["c", "c", "d", "t", "d", "t"]
    data = [*batches(4)]
    for update, (x_a, _, label) in zip(found[:2], data[:2], strict=True):
        m.load_state_dict(update.state)
        assert_slopes(update.gradients, slopes(F.cross_entropy(m.network(x_a), label), m.network, "network"))
    for d, t, (x_a, x_b, _) in ((*found[2:4], data[2]), (*found[4:], data[3])):
        m.load_state_dict(d.state)
        assert_slopes(d.gradients, slopes(told_apart(m.d(m.source(x_a)), m.d(m.network(x_b))), m.d, "d"))
        m.load_state_dict(t.state)
        flipped = F.softplus(m.d(m.network(x_b))).mean()  # d should say that they are of the source
        assert_slopes(t.gradients, slopes(flipped, m.network, "network"))


@pytest.mark.parametrize(("steps", "trained"), [(2, {"network"}), (4, {"network", "source", "d"})])
def test_phases_train_what_they_should(steps, trained):
    method = make(ADDA)
    before = copy.deepcopy(method.state_dict())
    run = fitted(method, steps)
    assert moved(method, before) == trained
    assert run.global_step == steps
    assert (method.phase_at(1).name, method.phase_at(2).name) == ("source", "adaptation")


def test_the_source_keeps_the_network_of_phase_one():
    one, two, images = make(ADDA), make(ADDA), torch.rand(2, 3, 16, 16)
    fitted(one, 2), fitted(two, 4)
    assert differences(one.network.state_dict(), two.source.state_dict()) == []
    assert differences(two.network.state_dict(), two.source.state_dict()) != []
    assert one.network_of("a") is one.network_of("b") is one.network
    assert two.network_of("a") is two.source
    assert two.network_of("b") is two.network
    assert torch.equal(two(images), two.network(images))  # what a user asks
    assert torch.equal(two.judged(images, "a"), two.source(images))


def test_a_checkpoint_knows_that_there_are_two_networks(tmp_path):
    """... and a new training that begins with its weights begins with phase one."""
    method = make(ADDA)
    fitted(method, 4, run_dir=str(tmp_path / "run"))
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    again = make(ADDA)
    again.load_state_dict(state)
    assert again.network_of("a") is again.source
    fitted(again, 1)
    assert again.network_of("a") is again.network


@pytest.mark.parametrize("option", ["source_steps", "steps"])
def test_a_phase_without_batches_is_refused(option):
    with pytest.raises(UserError, match=f"{option} is 0: give a number of batches of at least 1"):
        make(ADDA, **{option: 0})


def test_a_training_ends_with_phase_two():
    assert fitted(make(ADDA), steps=-1).global_step == 4
