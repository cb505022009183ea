"""Exported samplers against the methods themselves, and random numbers against those of torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands.test_translate import names, save
from tests.inference.test_program import installed, pictures
from tests.inference.test_tasks import OPTIONS, Plain
from xdomain.commands.main import main
from xdomain.data.images import read_image
from xdomain.errors import UserError
from xdomain.inference.export import export, facts_of
from xdomain.inference.sampling import Normal, drawn
from xdomain.inference.torch_program import TorchProgram
from xdomain.methods import ConSinGAN, PatchVAEGAN, SinGAN, StructuralAnalogy

IMAGE = {"domains": ("image",), "channels": (3,), "image_size": 24, "shapes": ((24, 18),)}
METHODS = {
    "SinGAN": lambda: SinGAN(min_size=12, factor=0.5, width=2, layers=2, **{**IMAGE, "channels": (1,)}),
    "ConSinGAN": lambda: ConSinGAN(stages=2, min_size=12, width=2, **IMAGE),
    "PatchVAEGAN": lambda: PatchVAEGAN(min_size=12, factor=0.5, width=2, latent=2, layers=2, vae_levels=1, **IMAGE),
}


def trained(make, scales=None):
    """A method that seems to be trained, on noise that is large enough to be seen."""
    torch.manual_seed(0)
    method = make()
    method.begun.fill_(scales or method.scales)
    method.amps.fill_(0.5)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(12 if isinstance(method, ConSinGAN) else 4)
    return method.eval()


@pytest.mark.parametrize("shapes", [[(16,)], [(17,), (3, 5, 7), (100,)], [(2, 3, 40, 31), (64,)]])
@pytest.mark.parametrize("seed", [0, 2**32 + 5])
def test_random_numbers_are_those_of_torch(seed, shapes):
    torch.manual_seed(seed)
    normal = Normal(seed)
    for shape in shapes:
        np.testing.assert_allclose(normal(*shape), torch.randn(shape).numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_program_draws_what_its_method_draws(tmp_path, name):
    method = trained(METHODS[name])
    state = torch.get_rng_state()
    made = export(method, tmp_path / "model.pt2", format="pt2")
    assert torch.equal(torch.get_rng_state(), state)
    assert made.difference <= 1e-6
    assert made.samples == (24, 18)
    program = TorchProgram(tmp_path / "model.pt2", ["pt2"])
    facts = program.facts
    assert (facts["method"], facts["task"], facts["size"]) == (name, "sample", [24, 18])
    assert facts["shapes"][0][0] == {"SinGAN": 1, "ConSinGAN": 3, "PatchVAEGAN": 2}[name]
    torch.manual_seed(7)
    with torch.no_grad():
        expected = torch.cat([method.sample(count) for count in (6, 2)]).numpy()
    found = np.stack(list(drawn(program, 8, 6, 7)))
    assert expected.std(0).mean() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_commands(tmp_path, capsys):
    method = trained(METHODS["SinGAN"], scales=1)
    settings = {name: method.hparams[name] for name in ("min_size", "factor", "width", "layers")}
    save(method, tmp_path / "runs/0001/checkpoints/last.ckpt", **settings)
    assert main(["export", "runs/0001", "--format", "pt2"]) == 0
    height, width = method.sizes[0]
    said = f"model.pt2: noise of 1 scales to samples of {height}x{width} pixels, largest difference"
    assert capsys.readouterr().out.startswith(said)
    options = ["--n", "3", "--seed", "4", "--batch_size", "2"]
    for model, more in (("model.pt2", ["--allow", "pt2"]), ("runs/0001", ["--device", "cpu"])):
        assert main(["sample", "--ckpt_path", model, "--output", f"out/{model}", *options, *more]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert (
        first
        == second
        == f"wrote 3 samples of {height}x{width}, of scale 1 of {method.scales}: training came no further"
    )
    assert (
        names(tmp_path / "out/model.pt2") == names(tmp_path / "out/runs/0001") == ["0000.png", "0001.png", "0002.png"]
    )
    for name in names(tmp_path / "out/model.pt2"):
        found, expected = (read_image(tmp_path / "out" / model / name, 1) for model in ("model.pt2", "runs/0001"))
        assert (found.int() - expected.int()).abs().max() <= 1
    sample = ["sample", "--ckpt_path", "model.pt2", "--output", "new"]
    for words, sentence in (
        ([*sample], "model.pt2 is refused, as a pt2 file can run any code when it is loaded: give --allow pt2"),
        (
            [*sample, "--allow", "pt2", "--size", "40x40"],
            f"--size is 40x40, but the program makes samples of {height}x",
        ),
        ([*sample, "--allow", "pt2", "--start", "1"], "--start is 1, but an exported program has no such option"),
        ([*sample, "--allow", "pt2", "--task", "animate"], "--task is animate, but an exported program has no such op"),
        (
            [*sample[:-1], "out/model.pt2", "--allow", "pt2"],
            "out/model.pt2/0000.png and 2 more of the output files exist already",
        ),
        (
            ["translate", *sample[1:], "--input", "out", "--allow", "pt2"],
            "model.pt2 does not translate but makes random samples: use xdomain sample.",
        ),
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(f"xdomain: error: {sentence}")
    assert not Path("new").exists()


def test_a_program_that_translates_makes_no_samples(tmp_path, monkeypatch, capsys):
    installed(monkeypatch, tmp_path, None, facts_of(Plain(**OPTIONS), "transfer", "with", "other", {}))
    pictures(tmp_path / "in", [(8, 8)])
    assert main(["sample", "--ckpt_path", "model.onnx", "--output", "out"]) == 2
    assert "model.onnx translates images and makes no random samples: use xdomain tr" in capsys.readouterr().err


CLIP = {**IMAGE, "shapes": ((13, 24, 24),)}


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (
            lambda: PatchVAEGAN(min_size=12, factor=0.5, width=2, latent=2, layers=2, vae_levels=1, **CLIP),
            {},
            "its samples are clips",
        ),
        (lambda: ConSinGAN(stages=2, min_size=12, width=2, mode="harmonisation", **IMAGE), {}, "not drawn from noise"),
        (
            METHODS["ConSinGAN"],
            {"source": "image"},
            "source is image, but a sampler is exported without options: leave",
        ),
        (METHODS["SinGAN"], {"start": 1}, "start is 1, but a sampler is exported without options"),
        (
            lambda: StructuralAnalogy(
                min_size=12, **{**IMAGE, "domains": ("a", "b"), "channels": (3, 3), "shapes": ((24, 18),) * 2}
            ),
            {},
            "task is random, which by this StructuralAnalogy is not exported: it draws noise in proportion",
        ),
    ],
    ids=["clip", "harmonisation", "source", "option", "analogy"],
)
def test_what_cannot_be_exported_is_said(tmp_path, make, options, sentence):
    method = make()
    method.begun.fill_(1)
    with pytest.raises(UserError, match=sentence):
        export(method, tmp_path / "model.pt2", format="pt2", **options)
    assert names(tmp_path) == []


RUNTIME = """
class InferenceSession:
    def __init__(self, path, providers):
        self.custom_metadata_map = {"xdomain": open(path).read()}

    def get_modelmeta(self):
        return self

    def run(self, outputs, given):
        return [given["noise_1"] + given["noise_0"]]


def get_available_providers():
    return []
"""


def test_torch_is_not_imported(tmp_path):
    facts = {"task": "sample", "size": [8, 6], "at_once": None, "inputs": ["noise_0", "noise_1"], "scales": [2, 2]}
    (tmp_path / "x.onnx").write_text(json.dumps({**facts, "shapes": [[1, 8, 6], [3, 8, 6]]}))
    (tmp_path / "onnxruntime.py").write_text(RUNTIME)
    code = "import sys\nfrom xdomain.commands.main import main\n"
    code += "print(main(['sample', '--ckpt_path', 'x.onnx', '--output', 'out', '--n', '2']))\n"
    code += "print({'torch', 'pytorch_lightning', 'torchvision'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout == "wrote 2 samples of 8x6\n0\nset()\n"
    torch.manual_seed(0)
    expected = torch.randn(2, 1, 8, 6) + torch.randn(2, 3, 8, 6)
    found = torch.stack([read_image(tmp_path / f"out/000{i}.png", 3) for i in range(2)])
    assert (found - (expected.clamp(-1, 1) + 1) * 127.5).abs().max() <= 0.51
