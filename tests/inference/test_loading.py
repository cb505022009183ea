"""What a checkpoint cannot do: run code, or load although it is damaged."""

import os
import pickle
import random
import sys
import zipfile

import pytest
import torch

from tests.commands.test_translate import SIZE, SPEC, save
from xdomain.commands.main import main
from xdomain.errors import UserError
from xdomain.inference.loading import load
from xdomain.methods import DTN, Classifier
from xdomain.networks import ConvClassifier
from xdomain.running.checkpoints import read_checkpoint

EVIL = {"class_path": "os.system", "init_args": {"command": "touch hacked"}}
PLANTED = 'open("hacked", "w").close()\nimport torch\nclass Net(torch.nn.Conv2d): ...\n'


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The checkpoint of an untrained DTN."""
    path = tmp_path_factory.mktemp("good") / "x.ckpt"
    torch.manual_seed(0)
    method = DTN(f=SPEC, domains=("colour", "grey"), channels=(3, 1), image_size=SIZE)
    save(method, path)
    assert load(path).domains == ("colour", "grey")
    return path


def settings(**changed):
    """A change of hyper-parameters; None takes one away."""

    def change(content):
        content["hyper_parameters"] |= changed
        for name in [name for name, value in changed.items() if value is None]:
            del content["hyper_parameters"][name]

    return change


def entry(name, value):
    return lambda content: content.update({name: value})


def weight(value):
    """A change of the first weight of the generator."""

    def change(content):
        name = next(name for name in content["state_dict"] if name.startswith("g."))
        content["state_dict"][name] = value(content["state_dict"][name])

    return change


def without_a_weight(content):
    content["state_dict"].popitem()


def nan(tensor):
    return torch.full_like(tensor, torch.nan)


class Shell:
    """A pickle that runs a command."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


NO_CLASS = "which is no class that fits there: give a "
FOREIGN = "which is neither of xdomain nor of torch: give a checkpoint that you trust, or allow "
CHANGED = {
    "no settings": (entry("hyper_parameters", None), "does not name its method"),
    "settings of another type": (entry("hyper_parameters", [1, 2]), "does not name its method"),
    "no name": (settings(_class_path=None), "does not name its method"),
    "a number for a name": (settings(_class_path=3), "does not name its method"),
    "no weights": (entry("state_dict", None), "holds no weights of a method"),
    "weights of another type": (entry("state_dict", [1.0]), "holds no weights of a method"),
    "an absent method": (settings(_class_path="xdomain.methods.DNT"), NO_CLASS),
    "no method": (settings(_class_path="torch.nn.Linear"), NO_CLASS),
    "a function for a method": (settings(_class_path="os.system"), FOREIGN + "os"),
    "another method": (settings(_class_path="xdomain.methods.SinGAN"), "does not fit this version of xdomain.methods"),
    "optimizer": (settings(optimizer=EVIL), "DTN: optimizer names os.system, " + FOREIGN + "os"),
    "d_optimizer": (settings(d_optimizer=EVIL), "DTN: d_optimizer names os.system, " + FOREIGN),
    "scheduler": (settings(scheduler=EVIL), "DTN: scheduler names os.system, " + FOREIGN),
    "optimizer by its path": (settings(optimizer="os.system"), FOREIGN),
    "g": (settings(g=EVIL), FOREIGN),
    "D": (settings(D=EVIL), FOREIGN),
    "view": (settings(view=EVIL), FOREIGN),
    "f": (settings(f=EVIL), FOREIGN),
    "where no class is wanted": (settings(alpha=EVIL), FOREIGN),
    "deep inside": (settings(g={"class_path": "xdomain.networks.UpConvDecoder", "init_args": {"x": [EVIL]}}), FOREIGN),
    "a function of torch": (settings(optimizer={"class_path": "torch.hub.load", "init_args": {"repo": "x"}}), NO_CLASS),
    "another of torch": (settings(g="torch.load"), NO_CLASS),
    "a class of another kind": (settings(optimizer="torch.nn.Linear"), "give a torch.optim.Optimizer"),
    "a module within torch": (settings(g="torch.os.system"), NO_CLASS),
    "a planted module": (settings(g="planted.Net"), FOREIGN + "planted"),
    "a planted network of f": (settings(f={"class_path": "planted.Net"}), FOREIGN + "planted"),
    "a file for a class": (settings(g="evil.yaml"), FOREIGN + "evil"),
    "an unknown setting": (settings(betta=3), r"does not fit this version of xdomain.methods.DTN: .*betta"),
    "a setting of another type": (settings(alpha="much"), "does not fit this version of xdomain.methods.DTN"),
    "negative sizes": (settings(image_size=-SIZE), "not (fit|those of) this version of xdomain.methods.DTN"),
    "huge sizes": (settings(image_size=2**20), "not (fit|those of) this version of xdomain.methods.DTN"),
    "wrong shapes": (weight(lambda x: x[:1]), "are not those of this version of xdomain.methods.DTN"),
    "huge shapes": (weight(lambda x: x.flatten()[:1].expand(2**40)), "are not those of this version"),
    "numbers for weights": (weight(lambda x: 3.0), "are not those of this version"),
    "a weight too few": (without_a_weight, "are not those of this version"),
    "NaN": (weight(nan), "are not finite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_hostile_checkpoint_is_one_sentence(good, tmp_path, monkeypatch, name):
    (tmp_path / "planted.py").write_text(PLANTED)
    (tmp_path / "evil.yaml").write_text("class_path: os.system\ninit_args: {command: touch hacked}\n")
    monkeypatch.syspath_prepend(tmp_path)
    change, sentence = CHANGED[name]
    content = torch.load(good, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=sentence) as refused:
        load(tmp_path / "x.ckpt")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "hacked").exists()
    assert "planted" not in sys.modules


def raw(content):
    return lambda good, path: path.write_bytes(content)


def compressed(good, path):
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))


FOREIGN_FILES = {
    "empty": raw(b""),
    "text": raw(b"hello"),
    "cut off": lambda good, path: path.write_bytes(good.read_bytes()[:-1000]),
    "the beginning": lambda good, path: path.write_bytes(good.read_bytes()[:1000]),
    "a pickle": raw(pickle.dumps(Shell())),
    "a pickle in torch's archive": lambda good, path: torch.save(Shell(), path),
    "a pickle among the weights": lambda good, path: torch.save({"state_dict": {}, "more": Shell()}, path),
    "torch's old format": lambda good, path: torch.save({"state_dict": {}}, path, _use_new_zipfile_serialization=False),
    "a bare tensor": lambda good, path: torch.save(torch.zeros(3), path),
    "weights alone": lambda good, path: torch.save({"weights": torch.zeros(3)}, path),
    "another archive": lambda good, path: zipfile.ZipFile(path, "w").writestr("a.txt", "x"),
    "an empty archive": lambda good, path: zipfile.ZipFile(path, "w").close(),
    "a compressed archive": compressed,
    "a folder": lambda good, path: path.mkdir(),
    "a pipe": lambda good, path: os.mkfifo(path),
    "a link to nothing": lambda good, path: path.symlink_to("absent"),
}


@pytest.mark.parametrize("name", FOREIGN_FILES)
def test_what_is_no_checkpoint_is_one_sentence(good, tmp_path, name):
    FOREIGN_FILES[name](good, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"x\.ckpt ") as refused:
        load(tmp_path / "x.ckpt")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("command", ["translate", "sample"])
def test_the_commands_say_it_too(good, tmp_path, capsys, command):
    content = torch.load(good, weights_only=True)
    settings(optimizer=EVIL)(content)
    torch.save(content, tmp_path / "x.ckpt")
    more = ["--input", "images"] if command == "translate" else []
    assert main([command, "--ckpt_path", "x.ckpt", "--output", "out", *more]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "xdomain: error: x.ckpt is refused: DTN: optimizer names os.system" in err
    assert not (tmp_path / "hacked").exists()


def test_a_package_of_ones_own_can_be_allowed(good, tmp_path, monkeypatch):
    (tmp_path / "own_nets.py").write_text("from xdomain.networks import UpConvDecoder\nclass Net(UpConvDecoder): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(good, weights_only=True)
    content["hyper_parameters"]["g"] = {"class_path": "own_nets.Net"}
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="allow own_nets"):
        load(tmp_path / "x.ckpt")
    assert type(load(tmp_path / "x.ckpt", allow=["own_nets"]).g).__module__ == "own_nets"


def test_no_optimiser_is_built(good, tmp_path):
    content = torch.load(good, weights_only=True)
    content["hyper_parameters"]["optimizer"] = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3.0}}
    torch.save(content, tmp_path / "x.ckpt")
    assert "AdamW" not in repr(load(tmp_path / "x.ckpt").optimizer)


def test_no_flipped_bit_is_loaded(good, tmp_path):
    """Wherever it is: the checkpoint is refused, or what was flipped is no part of its content."""
    whole, rng = good.read_bytes(), random.Random(0)
    expected = read_checkpoint(good)["state_dict"]
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / "x.ckpt").write_bytes(content)
        try:
            found = read_checkpoint(tmp_path / "x.ckpt")["state_dict"]
        except UserError:
            refused += 1
            continue
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert refused > 50


def test_the_weights_of_a_helper_are_checked_too(tmp_path):
    network = ConvClassifier(widths=[4, 4, 8], image_size=SIZE)
    spec = {**SPEC, "class_path": "xdomain.networks.ConvClassifier"}
    save(Classifier(network, domains=("x",), channels=(3,), image_size=SIZE), tmp_path / "f.ckpt", network=spec)
    content = bytearray((tmp_path / "f.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "f.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"f\.ckpt is damaged: the checksum of .* is wrong"):
        DTN(f=str(tmp_path / "f.ckpt"), domains=("x", "y"), channels=(3, 1), image_size=SIZE)
