"""KID and FID of translations, on the toys."""

import pytest
import torch

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_channels, to_float
from xdomain.callbacks import DistributionDistance
from xdomain.methods import Pix2Pix
from xdomain.metrics import FID, KID, build_extractor


class Perfect(ToyGAN):
    """Translates by looking up the target's test images."""

    def translate(self, images, source, target, **options):
        return to_float(torch.from_numpy(ToyPair().data("b", "test").images[: len(images)]))


def distances(model):
    (values,) = trainer(max_steps=1, callbacks=[DistributionDistance()]).test(
        model, ToyPair(eval_batch_size=10), verbose=False
    )
    return values


def test_against_the_metrics_themselves():
    model = ToyGAN()
    values = distances(model)
    network = build_extractor("random-conv")
    a, b = (to_float(torch.from_numpy(ToyPair().data(role, "test").images)) for role in "ab")
    for suffix, fake in (("", model.eval().translate(a, "red", "grey")), ("_untranslated", to_channels(a, 1))):
        kid, fid = KID(network), FID(network)
        for metric in (kid, fid):
            metric.update(b, real=True)
            metric.update(fake.detach(), real=False)
        assert values[f"kid{suffix}@random-conv"] == pytest.approx(float(kid.compute()[0]), rel=1e-4, abs=1e-6)
        assert values[f"fid{suffix}@random-conv"] == pytest.approx(float(fid.compute()), rel=1e-3)
    assert values["n_real@random-conv"] == values["n_fake@random-conv"] == 10


def test_the_target_itself_is_nearest():
    values = distances(Perfect())
    assert values["fid@random-conv"] < 1e-6 < values["fid_untranslated@random-conv"]
    assert values["kid@random-conv"] <= 0


def test_nothing_in_a_validation():
    run = trainer(max_steps=1, callbacks=[DistributionDistance()])
    assert run.validate(ToyGAN(), ToyPair(), verbose=False) == [{}]


def test_a_method_that_translates_the_other_way_only():
    """The source is then the second domain: its images as they are stand as untranslated."""

    class Back(Pix2Pix):
        def translate(self, images, source, target, **options):
            assert (source, target) == ("grey", "red")
            return to_float(torch.from_numpy(ToyPair().data("a", "test").images[: len(images)]))

    networks = {"generator": lambda x, y: torch.nn.Conv2d(x, y, 1), "discriminator": lambda x: torch.nn.Conv2d(x, 1, 1)}
    values = distances(Back(reverse=True, domains=("red", "grey"), channels=(3, 1), image_size=8, **networks))
    assert values["fid@random-conv"] < 1e-6
    network = build_extractor("random-conv")
    a, b = (to_float(torch.from_numpy(ToyPair().data(role, "test").images)) for role in "ab")
    fid = FID(network)
    fid.update(a, real=True)
    fid.update(to_channels(b, 3), real=False)
    assert values["fid_untranslated@random-conv"] == pytest.approx(float(fid.compute()), rel=1e-3)
