"""Gram style transfer against its formulas, and what it refuses."""

import pytest
import torch
from torch.optim import Adam

from tests.methods.single import OneImage, TwoImages, facts, train
from tests.methods.test_singan import Watch, assert_gradients, sgd
from xdomain.batch import to_float
from xdomain.errors import UserError
from xdomain.methods import GramStyleTransfer
from xdomain.metrics import build_extractor


def make(data=TwoImages, **options):
    return GramStyleTransfer(**{"iterations": 4, **facts(data()), **options})


GOLDEN = {"GramStyleTransfer": lambda: (make(start="noise", optimizer=sgd, beta=1e4), TwoImages())}


def real(role):
    return to_float(TwoImages().samples[role][None])


def loss_of(picture, alpha, beta, content, styles):
    """Gatys et al. 2016, (1), (4), (5) and (7), as means."""
    network = build_extractor("random-conv")
    total = 0
    for layer in styles:
        grams = []
        for x in (picture, real("b")):
            maps = network.activations(x, [layer])[0][0].flatten(1)
            grams.append(torch.einsum("cp,dp->cd", maps, maps) / maps.numel())
        total = total + ((grams[0] - grams[1]) ** 2).mean() / len(styles)
    x, y = (network.activations(images, [content])[0] for images in (picture, real("a")))
    return alpha * ((x - y) ** 2).mean() + beta * total


@pytest.mark.parametrize(
    ("options", "layers"),
    [({}, ("3", ["1", "2", "3", "4"])), ({"content_layer": "2", "style_layers": ["1", "4"]}, ("2", ["1", "4"]))],
    ids=str,
)
def test_one_update_equals_the_formulas(options, layers, tmp_path):
    watch = Watch(step=1)
    run = make(alpha=2.0, beta=1e4, optimizer=sgd, start="noise", **options)
    train(run, TwoImages(), tmp_path, callbacks=[watch])
    m = make()
    ((name, _, state),) = watch.updates
    m.load_state_dict(state)
    assert name == "picture"
    assert_gradients(watch.updates[0], loss_of(m.picture, 2.0, 1e4, *layers), m)


def test_the_picture_comes_nearer_to_the_look_of_b_and_stays_in_range(tmp_path):
    m = make(iterations=30, optimizer=lambda parameters: Adam(parameters, lr=0.05))
    train(m, TwoImages(), tmp_path, max_epochs=-1)
    assert m.trainer.global_step == 30
    settings = (1.0, 1e6, "3", ["1", "2", "3", "4"])
    assert loss_of(m.picture, *settings) < 0.9 * loss_of(real("a"), *settings)
    assert m.picture.abs().max() <= 1
    result = m.translate(real("a").expand(2, -1, -1, -1), "left", "right")
    assert torch.equal(result, m.picture.expand(2, -1, -1, -1))
    assert not result.requires_grad


@pytest.mark.parametrize("start", ["content", "noise"])
def test_where_the_picture_begins(start, tmp_path):
    watch = Watch(step=0)
    torch.manual_seed(3)
    m = make(start=start)
    noise = m.picture.clone()
    train(m, TwoImages(), tmp_path, callbacks=[watch], max_steps=1)
    assert torch.equal(watch.updates[0][2]["picture"], real("a") if start == "content" else noise)


def test_a_checkpoint_holds_the_picture_and_not_the_network(tmp_path):
    checkpoint = train(make(), TwoImages(), tmp_path)
    assert set(checkpoint["state_dict"]) == {"picture", "real_a"}
    m = make()
    m.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(m.translate(real("a"), "left", "right"), m.picture)


def test_other_images_and_directions_are_refused(tmp_path):
    m = make()
    train(m, TwoImages(), tmp_path)
    for images, ends in (
        (real("b"), ("left", "right")),
        (-real("a"), ("left", "right")),
        (real("a"), ("right", "left")),
    ):
        with pytest.raises(UserError, match="has made one picture, of the image left in the style of right"):
            m.translate(images, *ends)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: make(OneImage), "GramStyleTransfer works on a pair of images"),
        (lambda: make(iterations=0), "iterations is 0: give a number of updates"),
    ],
)
def test_what_cannot_be_done_is_refused(call, sentence):
    with pytest.raises(UserError, match=sentence):
        call()


@pytest.mark.parametrize("layers", [{"content_layer": "x"}, {"style_layers": ["1", "x"]}], ids=str)
def test_unknown_layers_are_named_before_training(layers, tmp_path):
    with pytest.raises(UserError, match="random-conv has no layer 'x'; it has 1, 2, 3, 4: change content_layer or"):
        train(make(**layers), TwoImages(), tmp_path)
