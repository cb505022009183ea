"""Evaluation of adaptation by classifiers whose answers are known."""

import pytest
import torch
from PIL import Image
from torch import nn

from tests.callbacks.test_accuracy import Reader, Shades
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.callbacks import AdaptationScores
from xdomain.errors import UserError
from xdomain.methods import Classifier
from xdomain.methods.adaptation import AdaptationMethod
from xdomain.metrics import proxy_a_distance

FACTS = {"domains": Shades.domains, "channels": Shades.channels, "image_size": 8}


class Two(AdaptationMethod):
    """Answers 0 to everything in the first domain, reads the second."""

    def __init__(self):
        super().__init__(Reader(), **FACTS)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        nn.init.zeros_(self.first[1].weight)
        with torch.no_grad():
            self.first[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))

    def network_of(self, role):
        return self.first if role == "a" else self.network

    def judged(self, images, role):
        return images.mean((1, 2, 3))[:, None] + (role == "b")


def measured(method, data=None, **options):
    run = trainer(callbacks=[AdaptationScores()], **options)
    run.test(method, datamodule=data or Shades(eval_batch_size=2), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def shades(role):
    return torch.tensor([[shade] for shade, _ in getattr(Shades, role)]).mul(127.5).round() / 127.5


def test_scores_of_known_answers(tmp_path):
    """Source: answers 0 0 0 2 1 1 2, labels 2 2 0 0 1 2 0; target: answers 0 1 2, labels 0 1 1."""
    found = measured(Classifier(Reader(), **FACTS), run_dir=str(tmp_path / "run"))
    distance = found.pop("proxy_a_distance")
    assert found == pytest.approx(
        {
            "accuracy_source": 2 / 7,
            "accuracy_target": 2 / 3,
            "accuracy_target/0": 1.0,
            "accuracy_target/1": 0.5,
            "class_shift": 1 / 3,  # predicted 1/3 1/3 1/3, true 1/3 2/3 0
            "class_shift_domains": (2 / 21 + 11 / 21 + 9 / 21) / 2,  # 3/7 1/7 3/7 in the source
            "n_source": 7,
            "n_target": 3,
        }
    )
    a, b = shades("a"), shades("b")
    assert distance == pytest.approx(proxy_a_distance(a, b, a, b).item(), abs=1e-6)
    assert Image.open(tmp_path / "run/samples/confusion.png").width > 100


def test_each_domain_is_classified_by_its_own_network():
    found = measured(Two())
    assert found["accuracy_source"] == pytest.approx(3 / 7)  # the share of zeros
    assert found["accuracy_target"] == pytest.approx(2 / 3)
    assert found["accuracy_unadapted"] == pytest.approx(1 / 3)


def test_the_distance_is_of_what_the_method_judges():
    class Far(Two):
        def judged(self, images, role):
            return super().judged(images, role) + 100 * (role == "b")

    assert measured(Far())["proxy_a_distance"] == pytest.approx(2.0)


def test_a_validation_measures_both_accuracies():
    run = trainer(callbacks=[AdaptationScores()])
    run.validate(Two(), datamodule=Shades(), verbose=False)
    found = {name: value.item() for name, value in run.callback_metrics.items()}
    assert found == pytest.approx({"val/accuracy_source": 3 / 7, "val/accuracy_target": 2 / 3})


def test_what_cannot_be_evaluated_is_refused():
    unlabelled = Shades()
    unlabelled.labelled = False

    class OneDomain(Shades):
        domains, channels = ("red",), (3,)

    one = Classifier(Reader(), domains=("red",), channels=(3,), image_size=8)
    for method, data, said in (
        (ToyGAN(), ToyPair(), "AdaptationScores is for classifiers, not for ToyGAN: remove it"),
        (one, OneDomain(), "AdaptationScores compares two domains, but the data has 1: use a pair"),
        (Two(), unlabelled, "AdaptationScores needs labels, but red has none"),
    ):
        with pytest.raises(UserError, match=said):
            measured(method, data)
