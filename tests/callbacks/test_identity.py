"""Retrieval of people and verification, on a world whose people are random patterns."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.callbacks.judges import Held
from tests.toys import trainer
from xdomain.batch import Sample
from xdomain.callbacks import IdentityRetrieval, IdentityVerification
from xdomain.callbacks.identity import pairs_of_people
from xdomain.data import BaseDataModule, DomainPair, ImageData
from xdomain.errors import UserError
from xdomain.methods import Classifier, Method


def pattern(person, photo=0, noise=20):
    rng = np.random.default_rng(person)
    base = rng.integers(60, 196, (3, 8, 8))
    return (base + np.random.default_rng([person, photo]).integers(-noise, noise + 1, base.shape)).astype(np.uint8)


class People(BaseDataModule):
    """Ten people with three photos each."""

    channels = (3,)
    image_size = 8
    world_key = "patterns"

    def __init__(self, name="photo", identities=True, **options):
        super().__init__(**options)
        self.domains, self.identities, self.root = (name,), identities, None

    def data(self, role, split):
        labels = np.repeat(np.arange(10), 3)
        images = np.stack([pattern(person, number) for number, person in enumerate(labels)])
        return ImageData(images, labels if self.identities else None)

    def strangers(self, begin, end):
        return torch.from_numpy(np.stack([pattern(1000 + person) for person in range(begin, end)]))

    def counterparts(self, split, positions, of):
        return torch.from_numpy(np.stack([pattern(row // 3, noise=0) for row in positions]))


class Eyes(nn.Module):
    """An embedder without weights."""

    def features(self, images):
        return images.flatten(1)


class Copying(Method):
    """Translates by copying, or by forgetting."""

    def __init__(self, forget=False, **options):
        super().__init__(**{"domains": ("photo", "drawing"), "channels": (3, 3), "image_size": 8, **options})
        self.forget = forget

    directions = (("photo", "drawing"),)

    def translate(self, images, source, target, **options):
        return torch.randn_like(images) if self.forget else images

    @property
    def tasks(self):
        return {"transfer": self.translate, "copy": lambda images, source, target: images}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def retrieval(method, data, testing=False, **options):
    callback = IdentityRetrieval("judge", **{"distractors": 200, "val_distractors": 50, **options})
    callback.helper = Held(Eyes())
    method.trainer = trainer(max_steps=1)
    method.trainer.datamodule = data
    method.trainer.testing = testing
    callback.setup(method.trainer, method, "test" if testing else "fit")
    callback.begin(method.trainer, method)
    return callback


def pair():
    return DomainPair(People(), People("drawing"))


def test_a_copy_leads_back_to_its_person():
    values = retrieval(Copying(), pair()).report(None, testing=False)
    for suffix in ("", "_untranslated", "_reference"):
        assert values[f"median_rank{suffix}@judge"] == 1
        assert values[f"rank_1{suffix}@judge"] == 1
    assert "gallery@judge" not in values


def test_noise_leads_nowhere():
    callback = retrieval(Copying(forget=True), pair(), testing=True, distractors=400)
    values = callback.report(None, testing=True)
    assert values["gallery@judge"] == 401
    assert values["n@judge"] == 10
    assert 60 < values["mean_rank@judge"] < 340  # 201 by chance, n = 10
    assert values["median_rank_reference@judge"] == 1


def test_outputs_of_other_tasks_and_drawings_of_others_are_probes_too():
    values = retrieval(Copying(forget=True), pair(), True, distractors=400, tasks=["copy"], random=True).values
    assert values["median_rank_copy@judge"] == values["rank_1_copy@judge"] == values["rank_1_reference@judge"] == 1
    assert 60 < values["mean_rank_random@judge"] < 340  # another's drawing is as good as any
    assert values["rank_1_random@judge"] <= 0.2
    usual = retrieval(Copying(), pair(), True).values
    assert not any("_copy" in name or "_random" in name for name in usual)
    with pytest.raises(UserError, match="tasks is cope, which a Copying does not offer: did you mean copy"):
        retrieval(Copying(), pair(), tasks=["cope"])


def test_strangers_are_drawn_once(monkeypatch):
    retrieval(Copying(), pair())

    def drawn_again(self, begin, end):
        raise AssertionError

    monkeypatch.setattr(People, "strangers", drawn_again)
    retrieval(Copying(), pair())
    with pytest.raises(AssertionError):
        retrieval(Copying(), pair(), val_distractors=51)


def test_first_and_second_image_of_everyone_with_two():
    probes, matches = pairs_of_people(np.array([7, 5, 7, 9, 5, 5]), "photo")
    assert probes.tolist() == [1, 0]
    assert matches.tolist() == [4, 2]


def test_what_retrieval_needs():
    with pytest.raises(UserError, match="needs identities, but photo has none"):
        retrieval(Copying(), DomainPair(People(identities=False), People("drawing")))
    with pytest.raises(UserError, match="two images of a person"):
        pairs_of_people(np.array([1, 2, 3]), "photo")

    settled = type("Settled", (BaseDataModule,), {"data": People.data, "channels": (3,), "image_size": 8})()
    settled.domains, settled.identities, settled.root = ("photo",), True, None
    with pytest.raises(UserError, match="can draw strangers; photo cannot"):
        retrieval(Copying(), DomainPair(settled, People("drawing")))


class Flat(nn.Module):
    in_channels, classes, dim = 3, 2, 192

    def features(self, images):
        return images.flatten(1)


def test_verification():
    method = Classifier(Flat(), domains=("photo",), channels=(3,), image_size=8)
    callback = IdentityVerification()
    method.trainer = trainer(max_steps=1)
    method.trainer.datamodule = People()
    callback.setup(method.trainer, method, "validate")
    callback.begin(method.trainer, method)
    images = torch.from_numpy(People().data("a", "test").images).float() / 127.5 - 1
    labels = torch.arange(10).repeat_interleave(3)
    callback.add(method, {"a": Sample(images, torch.arange(30), labels)}, testing=True)
    values = callback.report(None, testing=True)
    assert values["auc"] > 0.99
    assert (values["n"], values["same"], values["different"]) == (30, 30, 405)
    callback.begin(trainer(max_steps=1), method)
    callback.add(method, {"a": Sample(images, torch.arange(30), labels[torch.randperm(30)])}, testing=True)
    assert 0.2 < callback.report(None, testing=False)["auc"] < 0.8
    method.trainer.datamodule = People(identities=False)
    with pytest.raises(UserError, match="needs identities, but photo has none: remove it"):
        callback.setup(method.trainer, method, "fit")
