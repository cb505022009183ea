"""The fingerprint of data: the same for the same images, another one as soon as anything about them differs."""

import os

import numpy as np
import pytest

from tests.fakes.celeba import write_celeba
from tests.fakes.cifar import write_cifar10, write_corrupted
from tests.fakes.digits import write_mnist, write_svhn
from tests.fakes.folders import write_facades, write_layout, write_picture
from xdomain import data
from xdomain.data import avatars, digits, facades, seasons
from xdomain.data.base import BaseDataModule


def layout(tmp_path):
    write_layout(tmp_path, trainA=4, trainB=4)
    return data.UnpairedFolders, {"path": str(tmp_path)}, tmp_path / "trainA" / "000.png"


def classes(tmp_path):
    write_layout(tmp_path, cats=4, dogs=4)
    return data.LabelledFolders, {"path": str(tmp_path)}, tmp_path / "dogs" / "000.png"


def mnist(tmp_path):
    write_mnist(tmp_path)
    return data.MNIST, {"root": str(tmp_path)}, tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"


def svhn(tmp_path):
    write_svhn(tmp_path)
    return data.SVHN, {"root": str(tmp_path)}, tmp_path / "svhn" / "train_32x32.mat"


def cifar(tmp_path):
    write_cifar10(tmp_path, archive=True)
    return data.CIFAR10, {"root": str(tmp_path)}, tmp_path / "cifar-10-python.tar.gz"


def corrupted(tmp_path):
    write_corrupted(tmp_path, "CIFAR-10-C", 10, "fog")
    return data.CorruptedCIFAR, {"root": str(tmp_path), "corruption": "fog"}, tmp_path / "CIFAR-10-C" / "fog.npy"


def celeba(tmp_path):
    folder = write_celeba(tmp_path, np.eye(4, 40, dtype=np.uint8), np.zeros(4, dtype=int))
    options = {"root": str(tmp_path), "domains": {"all": "*"}}
    return data.CelebA, options, folder / "img_align_celeba" / "000002.jpg"


def fronts(tmp_path):
    write_facades(tmp_path, train=2, val=2)
    return data.Facades, {"root": str(tmp_path)}, tmp_path / "facades" / "train" / "1.jpg"


@pytest.mark.parametrize("write", [layout, classes, mnist, svhn, cifar, corrupted, celeba, fronts])
def test_files_are_told_by_their_state(tmp_path, write):
    kind, options, file = write(tmp_path)
    first = kind(**options).fingerprint()
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert kind(**options, seed=1, batch_size=2).fingerprint() == first
    assert kind(**options, limit=1).fingerprint() != first
    copied = kind(**options).fingerprint(times=False)
    os.utime(file, ns=(0, 0))
    assert kind(**options).fingerprint() != first
    assert kind(**options).fingerprint(times=False) == copied != first
    file.write_bytes(file.read_bytes() + b"0")
    assert kind(**options).fingerprint(times=False) != copied


@pytest.mark.parametrize(
    ("module", "kind", "change"),
    [
        (digits, data.Street, {"world_seed": 1}),
        (digits, data.Street, {"val_size": 7}),
        (avatars, data.Avatars, {"nuisance": 0.5}),
        (avatars, data.Avatars, {"domains": "beard"}),
        (avatars, data.Avatars, {"test_identities": 7}),
        (facades, data.FacadeWorld, {"train_size": 7}),
        (seasons, data.SeasonWorld, {"pairs": True}),
    ],
)
def test_drawn_data_are_told_by_seed_settings_and_engine(monkeypatch, module, kind, change):
    first = kind().fingerprint()
    assert kind(seed=3, num_workers=1).fingerprint() == first
    assert kind(**change).fingerprint() != first
    assert kind(image_size=128).fingerprint() != first
    monkeypatch.setattr(module.engine, "VERSION", 0)
    assert kind().fingerprint() != first


def test_single_samples_are_told_by_their_pixels(tmp_path):
    write_picture(tmp_path / "x.png", 0, 30, 20)
    (tmp_path / "y.png").write_bytes((tmp_path / "x.png").read_bytes())
    write_picture(tmp_path / "z.png", 1, 30, 20)
    x, y, z = (data.SingleImage(str(tmp_path / f"{name}.png")).fingerprint() for name in "xyz")
    assert x == y != z


def test_a_pair_is_told_by_both():
    first = data.DomainPair(data.Street(), data.Handwritten()).fingerprint()
    assert data.DomainPair(data.Street(), data.Handwritten()).fingerprint() == first
    assert data.DomainPair(data.Street(), data.Handwritten(margin=3)).fingerprint() != first
    assert data.DomainPair(data.Street(limit=5), data.Handwritten()).fingerprint() != first
    assert data.DomainPair(data.Street(), data.Handwritten(), channels=1).fingerprint() != first


def test_data_of_ones_own_have_one_too():
    class Own(BaseDataModule):
        domains, channels, image_size = ("own",), (3,), 8

    assert len(Own().fingerprint()) == 16


def test_files_may_lie_anywhere(tmp_path):
    write_layout(tmp_path / "elsewhere", x=6)
    rows = [f"{tmp_path}/elsewhere/x/{i:03d}.png,{'ab'[i % 2]},train" for i in range(6)]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text("\n".join(["path,domain,split", *rows]))
    assert len(data.UnpairedFolders(manifest=str(tmp_path / "lists" / "m.csv")).fingerprint()) == 16
