"""Scores of the translation of one image: by a method that answers with its input, the true pair, or anything."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.callbacks.judges import Held
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import OneShotScores
from xdomain.data import FacadeWorld, OneShot
from xdomain.errors import UserError
from xdomain.features import build_extractor

CONTENT, STYLE = "content{}@random-conv/2", "style{}@random-conv"
NULL = ("", "_untranslated", "_random")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own, and no weights."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


class Answer(ToyGAN):
    """Answers with what a function makes of the image."""

    directions = (("photo", "labels"), ("labels", "photo"), ("red", "grey"))
    answer = staticmethod(lambda images: images)

    def translate(self, images, source, target):
        return self.answer(images)


def answering(answer):
    method = Answer(domains=("photo", "labels"), channels=(3, 3))
    method.answer = answer
    return method


def facades(**options):
    world = FacadeWorld(image_size=16, train_size=30, val_size=2, test_size=4)
    return OneShot(world, **{"sample": 1, **options})


def shown(data, role, split="test"):
    return to_float(torch.from_numpy(data.data(role, split).images.copy()))


def result_of(method, data, callback=None):
    (values,) = trainer(callbacks=[callback or OneShotScores()]).test(method, datamodule=data, verbose=False)
    return values


def test_an_untranslated_image_keeps_all_content_and_equals_its_null_row():
    values = result_of(answering(lambda images: images), facades())
    assert values[CONTENT.format("")] == values[CONTENT.format("_untranslated")] == 0
    assert values[CONTENT.format("_random")] > 0
    for name in (STYLE, "l1{}", "ssim{}", "lpips-uniform{}@random-conv"):
        assert values[name.format("")] == values[name.format("_untranslated")]
        assert values[name.format("")] != values[name.format("_random")]
    assert not any("accuracy" in name or "squeeze" in name for name in values)


def test_the_true_pair_is_at_no_distance_from_itself():
    data = facades()
    values = result_of(answering(lambda _: shown(data, "b")), data)
    assert values["l1"] == values["lpips-uniform@random-conv"] == 0
    assert values["ssim"] == pytest.approx(1)
    assert values["l1_untranslated"] == pytest.approx(float((shown(data, "a") - shown(data, "b")).abs().mean()))
    assert values[STYLE.format("")] < values[STYLE.format("_untranslated")]


@pytest.mark.parametrize("reverse", [False, True])
def test_style_is_the_distance_from_the_mean_gram_matrix_of_the_target(reverse):
    data = facades(reverse=reverse)
    values = result_of(answering(lambda images: -images), data)  # the method itself knows its domains in one order
    network = build_extractor("random-conv")
    total = 0
    for layer in network.layers:
        maps = [network.maps(image[None], layer)[0] for image in shown(data, "b", "train")]
        matrices = [torch.einsum("chw,dhw->cd", m, m) / m.numel() for m in maps]
        y = network.maps(-shown(data, "a"), layer)[0]
        total += ((torch.einsum("chw,dhw->cd", y, y) / y.numel() - sum(matrices) / 30) ** 2).mean()
    assert values[STYLE.format("")] == pytest.approx(float(total / len(network.layers)), rel=1e-4)
    x, y = (network.maps(sign * shown(data, "a"), "2") for sign in (1, -1))
    assert values[CONTENT.format("")] == pytest.approx(float(F.mse_loss(x, y)), rel=1e-4)


def test_random_rows_are_means_over_training_images_of_the_target():
    data, network = facades(), build_extractor("random-conv")
    values = result_of(answering(lambda images: images), data, OneShotScores(images=20))
    chosen = [round(i * 29 / 19) for i in range(20)]
    x, others = network.maps(shown(data, "a"), "2"), network.maps(shown(data, "b", "train")[chosen], "2")
    assert values[CONTENT.format("_random")] == pytest.approx(float((others - x).square().mean()), rel=1e-4)
    distance = (shown(data, "b", "train")[chosen] - shown(data, "b")).abs().mean()
    assert values["l1_random"] == pytest.approx(float(distance), rel=1e-4)


class Corner(nn.Module):
    """Sees class 0 in an image whose first pixel is dark, else 2."""

    classes = 3

    def forward(self, images):
        return F.one_hot(2 * (images[:, 0, 0, 0] > 0).long(), 3).float()


def test_the_label_of_the_image_is_looked_for_in_its_translation():
    data = OneShot(ToyPair())
    data.sample = int((data.wrapped.data("a", "test").labels == 2).argmax())
    bright = float((shown(data, "b", "train")[:, 0, 0, 0] > 0).float().mean())
    for value, right in ((1.0, 1), (-1.0, 0)):
        scores = OneShotScores(classifiers={"grey": "handwritten_classifier"}, images=20)
        scores._judges["grey"] = Held(Corner())
        values = result_of(answering(lambda images, value=value: torch.full((1, 1, 8, 8), value)), data, scores)
        assert values["accuracy@handwritten-classifier"] == right
        assert values["accuracy_random@handwritten-classifier"] == pytest.approx(bright)
        first = shown(data, "a")[0, 0, 0, 0] > 0
        assert values["accuracy_untranslated@handwritten-classifier"] == float(first)
        assert not any(name.startswith(("l1", "ssim", "lpips")) for name in values)  # nobody knows a true pair


def test_a_validation_has_no_null_rows():
    (values,) = trainer(callbacks=[OneShotScores()]).validate(
        answering(lambda images: images), datamodule=facades(), verbose=False
    )
    assert {name.partition("/")[2] for name in values} == {
        CONTENT.format(""),
        STYLE.format(""),
        "l1",
        "ssim",
        "lpips-uniform@random-conv",
    }


def test_the_target_is_looked_at_once_for_all_samples(monkeypatch):
    scores, world = OneShotScores(), facades()
    results = []
    for sample in (0, 1):
        world.sample = sample
        results.append(result_of(answering(lambda images: images), world, scores))
        monkeypatch.setattr("xdomain.callbacks.one_shot.gram", scores._target and refused_more_than_random)
    assert results[0] != results[1]
    fresh = facades(sample=1)
    monkeypatch.undo()
    assert results[1] == result_of(answering(lambda images: images), fresh)


def refused_more_than_random(maps):
    assert len(maps) <= 20
    x = maps.flatten(2)
    return x @ x.mT / (x.shape[1] * x.shape[2])


def test_what_cannot_be_judged_is_refused():
    def test(data, **options):
        trainer(callbacks=[OneShotScores(**options)]).test(answering(lambda images: images), datamodule=data)

    with pytest.raises(UserError, match="judges one image of photo, but there are 4: use OneShot data"):
        test(facades().wrapped)
    with pytest.raises(UserError, match="judges grey to red, which this Answer does not do: remove it"):
        test(OneShot(ToyPair(), reverse=True))
    with pytest.raises(UserError, match="unknown domain 'svhn': this data has photo and labels"):
        test(facades(), classifiers={"svhn": "svhn_classifier"})
    with pytest.raises(UserError, match="images is 3: give a number of at least 20"):
        test(facades(), images=3)
