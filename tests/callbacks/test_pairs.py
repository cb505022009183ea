"""Distances from the true pair: by a method that answers right, wrong, or with its input."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from tests.callbacks.oracle import oracle
from tests.fakes.folders import write_layout
from tests.toys import trainer
from xdomain.callbacks import LabelMapScores, PairScores
from xdomain.data import FacadeWorld, SeasonWorld, UnpairedFolders
from xdomain.errors import UserError
from xdomain.features import build_extractor
from xdomain.metrics import PerceptualDistance

SEASONS = ("summer", "winter")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own, and no weights of LPIPS."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))


def data(**options):
    return SeasonWorld(
        **{"image_size": 16, "train_size": 5, "val_size": 3, "test_size": 6, "eval_batch_size": 4, **options}
    )


def result_of(answer=None, world=None):
    world = world or data()
    (values,) = trainer(callbacks=[PairScores()]).test(oracle(answer, SEASONS), datamodule=world, verbose=False)
    return values


def images(world, role, split="test"):
    return torch.from_numpy(world.data(role, split).images / np.float32(127.5) - 1)


def test_true_answers_have_no_distance():
    values = result_of()
    for direction in ("summer_to_winter", "winter_to_summer"):
        assert values[f"l1/{direction}"] == 0
        assert values[f"ssim/{direction}"] == pytest.approx(1)
        assert values[f"lpips-uniform/{direction}@random-conv"] == pytest.approx(0, abs=1e-6)
    names = {name.split("/")[0] for name in values}
    assert names == {
        f"{m}{s}" for m in ("l1", "ssim", "lpips-uniform") for s in ("", "_untranslated", "_random", "_mean")
    }


def test_a_wrong_answer_in_closed_form():
    world = data()
    values = result_of(lambda truth, _: torch.zeros_like(truth), world)
    truth = images(world, "b")
    assert values["l1/summer_to_winter"] == pytest.approx(truth.abs().mean().item(), abs=1e-6)
    metric = PerceptualDistance(build_extractor("random-conv"))
    metric.update(truth, torch.zeros_like(truth))
    assert values["lpips-uniform/summer_to_winter@random-conv"] == pytest.approx(metric.compute().item(), abs=1e-6)
    grey = torch.full_like(truth, 0.5)
    ssim = structural_similarity_index_measure(grey, (truth + 1) / 2, data_range=1.0, return_full_image=True)[1]
    assert values["ssim/summer_to_winter"] == pytest.approx(ssim.mean().item(), abs=1e-5)


def test_null_rows_in_closed_form():
    world = data()
    values = result_of(lambda _, source: source, world)
    summer, winter = images(world, "a"), images(world, "b")
    for name in ("l1/{}", "ssim/{}", "lpips-uniform/{}@random-conv"):
        for direction in ("summer_to_winter", "winter_to_summer"):
            same = name.replace("/", "_untranslated/").format(direction)
            assert values[same] == values[name.format(direction)]
    assert values["l1_untranslated/summer_to_winter"] == pytest.approx((summer - winter).abs().mean().item(), abs=1e-6)
    mean = images(world, "b", "train").mean(0)
    assert values["l1_mean/summer_to_winter"] == pytest.approx((winter - mean).abs().mean().item(), abs=1e-6)
    others = torch.cat([winter[:4].roll(1, 0), winter[4:].roll(1, 0)])  # within batches
    assert values["l1_random/summer_to_winter"] == pytest.approx((winter - others).abs().mean().item(), abs=1e-6)


def test_a_batch_of_one_image_takes_the_next_pair_for_another():
    world = data(eval_batch_size=1)
    winter = images(world, "b")
    values = result_of(world=world)
    assert values["l1_random/summer_to_winter"] == pytest.approx((winter - winter.roll(-1, 0)).abs().mean().item())


def test_where_there_is_one_pair_no_other_can_stand_for_it():
    values = result_of(lambda _, source: source, data(test_size=1))
    assert {name for name in values if "_random" in name} == set()
    assert values["l1/summer_to_winter"] > 0


def test_validations_have_the_distances_alone():
    method = oracle(lambda _, source: source, SEASONS)
    (values,) = trainer(callbacks=[PairScores()]).validate(method, datamodule=data(), verbose=False)
    assert {name.split("/")[1] for name in values} == {"l1", "ssim", "lpips-uniform"}
    assert len(values) == 6


def test_label_maps_have_the_same_distances():
    world = FacadeWorld(image_size=16, train_size=4, val_size=4, test_size=6, eval_batch_size=4)
    results = []
    for callback in (PairScores(), LabelMapScores()):
        method = oracle(lambda _, source: source)
        results += trainer(callbacks=[callback]).test(method, datamodule=world, verbose=False)
    assert results[0].items() <= results[1].items()


def test_data_without_pairs_are_refused(tmp_path):
    write_layout(tmp_path, trainA=4, trainB=4)
    folders = UnpairedFolders(path=str(tmp_path), image_size=16, domains=list(SEASONS))
    with pytest.raises(UserError, match="PairScores compares with true pairs, but UnpairedFolders knows none"):
        trainer(callbacks=[PairScores()]).test(oracle(domains=SEASONS), datamodule=folders)
