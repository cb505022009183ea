"""Recovery of parameters: against values computed picture by picture, and its refusals."""

import numpy as np
import pytest
import torch

from tests.methods.test_reader import Pictures, reader
from tests.methods.test_tos import Discs, Pair, tos
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float
from xdomain.callbacks import ParameterRecovery
from xdomain.data import ImageData
from xdomain.errors import UserError

SCHEMA = Discs.schema
SPLIT = {"val": 1, "test": 2}


class Drawn(Pair):
    """The same with images of the first domain that the engine has drawn, too, in colour."""

    def drawn_from(self, role, split, schema):
        if role == "b":
            return super().drawn_from(role, split, schema)
        return Discs().sample(torch.arange(20), 9)

    def data(self, role, split):
        if role == "b":
            return super().data(role, split)
        images = Discs().render(self.drawn_from("a", split, SCHEMA), 16).numpy()
        return ImageData(np.repeat(images, 3, 1))


def evaluated(method, data, testing=True):
    run = trainer(callbacks=[ParameterRecovery()], logger=False, enable_checkpointing=False)
    (values,) = (run.test if testing else run.validate)(method, datamodule=data, verbose=False)
    return values


def images_of(data, role, split):
    return to_float(torch.from_numpy(np.array(data.data(role, split).images)))


def large(u, truth):
    return ((u[:, 1] > 0.4) == (truth[:, 1] > 0.4)).float().mean().item()


def squares(a, b):
    return ((a - b) ** 2).mean().item()


@pytest.mark.parametrize("testing", [True, False])
def test_values_of_tied_outputs(testing):
    method, data = tos().eval(), Drawn()
    found = evaluated(method, data, testing)
    split, prefix = ("test", "") if testing else ("val", "val/")
    x, truth = images_of(data, "a", split), data.drawn_from("a", split, SCHEMA)
    tied = method.tied(x)
    errors = SCHEMA.errors(tied.parameters, truth).mean(0)
    pictures, u = images_of(data, "b", split), data.drawn_from("b", split, SCHEMA)
    features = method.features(x)
    expected = {
        "right/kind": 1 - errors[0].item(),
        "error/size": errors[1].item(),
        "degrees/angle": 360 * errors[2].item(),
        "tie/free_imitated": squares(tied.free, tied.imitated),
        "tie/imitated_drawn": squares(tied.imitated, tied.drawn),
        "tie/free_drawn": squares(tied.free, tied.drawn),
        "undecided": (tied.soft[:, :4].amax(1) < 0.9).float().mean().item(),
        "psnr_e": 10 * np.log10(4 / squares(method.imitator(SCHEMA.one_hot(u)), pictures)),
        "f_distance": squares(method.features(tied.drawn), features),
        "attribute/Large": large(tied.parameters, truth),
    }
    if testing:
        mean = SCHEMA.from_one_hot(SCHEMA.one_hot(data.drawn_from("b", "train", SCHEMA)).mean(0, True)).expand(20, -1)
        for suffix, row in (("_random", torch.cat([u[10:], u[:10]])), ("_mean", mean)):
            errors = SCHEMA.errors(row, truth).mean(0)
            expected[f"right{suffix}/kind"] = 1 - errors[0].item()
            expected[f"error{suffix}/size"] = errors[1].item()
            expected[f"degrees{suffix}/angle"] = 360 * errors[2].item()
            expected[f"attribute{suffix}/Large"] = large(row, truth)
            expected[f"f_distance{suffix}"] = squares(method.features(method.draw(row)), features)
        expected["f_distance_true"] = squares(method.features(method.draw(truth)), features)
        expected["n"] = 20
    assert found == pytest.approx({f"{prefix}{name}": value for name, value in expected.items()}, rel=1e-4, abs=1e-6)


def test_random_parameters_are_not_those_of_the_photo_where_both_domains_show_the_same():
    class Same(Drawn):
        def drawn_from(self, role, split, schema):
            return super().drawn_from("b", split, schema)

    found = evaluated(tos().eval(), Same())
    assert found["right_random/kind"] < 1
    assert found["error_random/size"] > 0.1


def test_labels_are_the_truth_of_the_choice_that_they_name():
    method, data = tos().eval(), Pair()
    found = evaluated(method, data)
    labels = torch.from_numpy(data.data("a", "test").labels)
    read = method.read(images_of(data, "a", "test"))[:, 0]
    assert found["right/kind"] == pytest.approx((read == labels).float().mean().item())
    drawn = data.drawn_from("b", "test", SCHEMA)[:, 0]
    random = torch.cat([drawn[len(drawn) // 2 :], drawn[: len(drawn) // 2]])
    assert found["right_random/kind"] == pytest.approx((random == labels).float().mean().item())
    assert not {"error/size", "degrees/angle", "f_distance_true", "attribute/Large"} & found.keys()


def test_a_reader_has_errors_alone():
    method, data = reader().eval(), Pictures()
    found = evaluated(method, data)
    errors = SCHEMA.errors(method.read(images_of(data, "a", "test")), data.drawn_from("a", "test", SCHEMA)).mean(0)
    expected = {"right/kind": 1 - errors[0], "error/size": errors[1], "degrees/angle": 360 * errors[2], "n": 20}
    expected["attribute/Large"] = large(method.read(images_of(data, "a", "test")), data.drawn_from("a", "test", SCHEMA))
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(UserError, match="ParameterRecovery is for TOS and ParameterReader, not for ToyGAN"):
        evaluated(ToyGAN(), ToyPair())

    class Nameless(Pair):
        def data(self, role, split):
            return ImageData(super().data(role, split).images)

    with pytest.raises(UserError, match="needs images whose parameters or labels are known, but colour has neither"):
        evaluated(tos(), Nameless())
