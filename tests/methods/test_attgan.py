"""AttGAN against its formulas, and what all attribute editors share: edits by name, targets, refusals, resuming."""

import re

import pytest
import torch

from tests.methods.editors import NAMES, Heads, Order, assert_updates, cross_entropy, heads, make, penalty, run
from tests.methods.faces import fitted
from tests.running.test_resume import differences
from tests.toys import ToyPair
from xdomain.errors import SettingError, UserError
from xdomain.methods import STGAN, AttGAN, StarGAN
from xdomain.optim import GANAdam

GOLDEN = {"AttGAN": lambda: (make(AttGAN, critic_updates=1, optimizer=GANAdam), Heads())}
KINDS = [AttGAN, STGAN, StarGAN]


def losses(m, x, own, target, of_target, of_own):
    """D's and G's, with a pass of its own for every term; G is told ``of_target`` and ``of_own``."""

    def d():
        fake = m.G(x, of_target).detach()
        scores = m.D(fake)[0].mean() - m.D(x)[0].mean()
        return scores + 10 * penalty(m.D, x, fake) + cross_entropy(m.D(x)[1], own).mean()

    def g():
        wanted = cross_entropy(m.D(m.G(x, of_target))[1], target).mean()
        again = (m.G(x, of_own) - x).abs().mean()
        return -m.D(m.G(x, of_target))[0].mean() + 10 * wanted + 100 * again

    return d, g


@pytest.mark.parametrize(("step", "name"), [(0, "d"), (1, "d"), (2, "g"), (3, "d"), (5, "g")])
def test_gradients_of_a_batch_in_64_bits(step, name):
    m = make(AttGAN)

    def naive(x, own, target):
        d, g = losses(m, x, own, target, target - 0.5, own - 0.5)
        return [(name, d if name == "d" else g)]

    assert_updates(m, naive, step)


def test_five_updates_of_the_critic_on_fresh_batches_before_each_of_the_generator():
    method = make(AttGAN, critic_updates=5)
    order = Order(method)
    fitted(method, steps=12, data=Heads())
    assert order.names == [(i, "g" if i in (5, 11) else "d") for i in range(12)]


def test_targets_are_the_attributes_of_other_images():
    method = make(AttGAN)
    method.own = lambda table: table[:, :3].double()
    sample, own, target = heads(24)
    torch.manual_seed(5)
    _, found, drawn = method.sampled(sample)
    assert torch.equal(found, own)
    assert torch.equal(drawn, target)
    assert not torch.equal(own, target)
    assert torch.equal(own.sum(0), target.sum(0))
    assert not (target[:, 0] * target[:, 1]).any()  # a real combination


# ---------------------------------------------------------------- edits by name, of all three


class Told:
    """What the generator of a method is told."""

    def __init__(self, method):
        self.labels = []
        method.G.register_forward_pre_hook(lambda _, inputs: self.labels.append(inputs[1]))


def test_edits_change_what_they_name_and_what_it_excludes():
    method = make(StarGAN, exclusive=[["Black", "Blond"]])
    own = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    method.read = lambda images: own
    told, x = Told(method), torch.zeros(3, 3, 16, 16)
    method.edit(x, "+Blond")
    method.edit(x, "-Glasses, +Black")
    method.edit(x, "-Black")
    expected = [
        [[0, 1, 0], [0, 1, 1], [0, 1, 1]],
        [[1, 0, 0], [1, 0, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 1, 1], [0, 0, 1]],
    ]
    assert [label.tolist() for label in told.labels] == expected
    flipped = method.flipped(own, "Blond")
    assert flipped.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5, -1.0])
def test_strength_goes_from_the_reconstruction_through_the_edit_and_beyond(strength):
    """Of an image without glasses, the third attribute: 1.5 doubles the target of AttGAN, as its authors' tests do."""
    expected = {AttGAN: strength - 0.5, STGAN: strength, StarGAN: strength}
    for kind, value in expected.items():
        method = make(kind)
        method.read = lambda images: torch.tensor([[1.0, 0, 0]])
        told, x = Told(method), torch.randn(1, 3, 16, 16)
        method.edit(x, "+Glasses", strength)
        rest = {AttGAN: [0.5, -0.5], STGAN: [0, 0], StarGAN: [1, 0]}[kind]
        assert told.labels[0][0].tolist() == pytest.approx([*rest, value])


@pytest.mark.parametrize("kind", KINDS)
def test_edits_are_made_in_evaluation_mode_from_what_the_discriminator_reads(kind):
    method, x = make(kind), torch.randn(2, 3, 16, 16)
    fitted(method, steps=3, data=Heads())
    own = (method.D(x)[1] > 0).float()
    assert torch.equal(method.read(x), own)
    method.train()
    edited = method.edit(x, "+Glasses,-Black", 1.5)
    assert method.training
    method.eval()
    target = own.clone()
    target[:, 2], target[:, 0] = 1, 0
    target = own + 1.5 * (target - own)
    label = {AttGAN: target - 0.5, STGAN: target - own, StarGAN: target}[kind]
    torch.testing.assert_close(edited, method.G(x, label))
    torch.testing.assert_close(method.translate(x, "head", "head"), method.edited(x, own, own))
    assert list(method.tasks) == ["edit"]


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ("Glasses", "attributes is Glasses, but 'Glasses' lacks its + or -: give +Black or so"),
        ("+Black,", "but '' lacks its + or -"),
        ("+", "but '+' lacks its"),
        ("+Glases", "attributes is Glases, which this AttGAN does not change: did you mean Glasses"),
        ("+Grin", "attributes is Grin, which this AttGAN does not change: give Black, Blond or Glasses"),
        ("+Black,-Black", "which has Black twice: give it once"),
        ("+Black,+Blond", "but Black and Blond exclude each other: add one"),
    ],
)
def test_bad_edits_are_refused(attributes, said):
    method = make(AttGAN, exclusive=[["Black", "Blond"]])
    with pytest.raises(SettingError, match=re.escape(said)):
        method.edit(torch.zeros(1, 3, 16, 16), attributes)
    with pytest.raises(SettingError, match="strength is nan: give a finite number"):
        method.edit(torch.zeros(1, 3, 16, 16), "+Black", float("nan"))


# ---------------------------------------------------------------- settings and data


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attributes": []}, r"attributes is \[\]: give at least one attribute"),
        ({"critic_updates": 0}, "critic_updates is 0: give a number of at least 1"),
        ({"accumulate": 2}, "accumulate is 2, but not every batch updates all networks: set it to 1"),
        ({"exclusive": [["Black", "Blonde"]]}, "exclusive is Blonde, which this AttGAN does not change: did you mean"),
        ({"domains": ("a", "b"), "channels": (3, 3)}, "edits the images of one domain, but the data has 2: use one"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        make(AttGAN, **options)


def test_attributes_may_be_rules():
    method = make(AttGAN, attributes={"Fair": "Blond or not Black", "Grin": "Grin"})
    fitted(method, data=Heads())
    assert method.names == ("Fair", "Grin")
    assert method.own(torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0]])).tolist() == [[0, 1], [1, 0]]


class AllGrin(Heads):
    """Nobody is without a grin."""

    def load(self, split):
        data = super().load(split)
        data.attributes[:, 3] = 1
        return data


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [
        ({"attributes": ["Black", "Grey"]}, Heads, "asks for the attribute 'Grey', which this data does not have"),
        ({"attributes": ["Grin"]}, AllGrin, "the attribute Grin holds for 100% of the training images: leave it out"),
        ({}, ToyPair, "AttGAN needs data with attributes such as Avatars or CelebA, not ToyPair"),
    ],
)
def test_data_that_do_not_fit_are_refused(options, data, said):
    with pytest.raises(UserError, match=said):
        fitted(make(AttGAN, **options), data=data())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_resumes_bit_for_bit(kind, tmp_path):
    straight = run(kind, tmp_path / "straight", 5)
    run(kind, tmp_path / "stopped", 2)
    resumed = run(kind, tmp_path / "stopped", 5, resume=True)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def test_the_names_are_in_the_checkpoint(tmp_path):
    saved = run(AttGAN, tmp_path, 1)
    assert saved["hyper_parameters"]["attributes"] == NAMES
