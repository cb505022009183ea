"""Networks of timm, against timm's own steps."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as V

from tests.methods.test_dtn import Pair, dtn, fitted
from tests.toys import trainer
from xdomain.callbacks.evaluation import build_judge
from xdomain.errors import UserError
from xdomain.features import Helper, build_extractor
from xdomain.features.timm_models import TimmExtractor
from xdomain.inference.loading import load
from xdomain.metrics.distribution import KID

timm = pytest.importorskip("timm", reason="needs pip install timm")


def written(folder, net, half=False):
    """A model with random weights, and the file of them."""
    torch.manual_seed(3)
    model = timm.create_model(net, pretrained=False).eval()
    if half:
        model = model.half().float()
    path = folder / f"{net}.{'safetensors' if half else 'pth'}"
    state = {
        name: value.half() if half and value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(state, path) if half else torch.save(state, path)
    return model, path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return written(tmp_path_factory.mktemp("timm"), "test_vit")


def seen(images, model, mode):
    """What timm's own transform makes of images, but for the cut of the centre and the rounding to bytes."""
    config = timm.data.resolve_model_data_config(model)
    resized = V.resize((images + 1) / 2, config["input_size"][1:], InterpolationMode(mode)).clamp(0, 1)
    return V.normalize(resized, config["mean"], config["std"])


@pytest.mark.parametrize(
    ("net", "mode", "half"),
    [("test_vit", "bicubic", True), ("test_resnet", "bilinear", False), ("test_convnext", "bicubic", False)],
)
def test_features_are_timms(net, mode, half, tmp_path):
    model, path = written(tmp_path, net, half)
    state = torch.get_rng_state()
    extractor = build_extractor(f"timm:{net}:{path}")
    assert torch.equal(torch.get_rng_state(), state)
    assert extractor.name == net.replace("_", "-")
    images = torch.rand(2, 3, 48, 40) * 2 - 1
    with torch.no_grad():
        x = seen(images, model, mode)
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        found = extractor.features(images)
        assert found.shape == (2, extractor.dim)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        maps = model.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW")
        assert len(maps) == len(extractor.layers)
        for layer, one in zip(extractor.layers, maps, strict=True):
            torch.testing.assert_close(extractor.maps(images, layer), one, atol=1e-3, rtol=1e-3)
        last, first = extractor.pyramid(images, [extractor.layers[-1], extractor.layers[0]])
    torch.testing.assert_close(last, maps[-1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(first, maps[0], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match=f"{extractor.name} has no layer 'nowhere'"):
        extractor.maps(images, "nowhere")


def test_it_is_frozen_and_lets_gradients_through(vit):
    extractor = build_extractor(f"timm:test_vit:{vit[1]}").train()
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not any(module.training for module in extractor.modules())
    images = (torch.rand(1, 1, 32, 32) - 0.5).requires_grad_()
    assert not extractor.features(images).requires_grad
    extractor.embed(images)[:, 0].sum().backward()
    assert images.grad.abs().sum() > 0


def test_metrics_name_it(vit):
    metric = KID(build_extractor(f"timm:test_vit:{vit[1]}"))
    for real in (True, False):
        metric.update(torch.rand(4, 3, 32, 32) * 2 - 1, real=real)
    assert metric.name == "kid@test-vit"
    assert all(value.isfinite() for value in metric.compute())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:test_vit", "does not read as timm:NAME:PATH"),
        ("timm::w.pth", "does not read as timm:NAME:PATH"),
        ("timm:test_vitt:w.pth", "timm has no model 'test_vitt': the nearest is test_vit"),
        ("timm:test_vit.nope:w.pth", r"timm cannot build 'test_vit.nope' .*test_vit.r160_in1k"),
        ("timm:test_vit:missing.pth", "there are no weights missing.pth"),
        ("timm:test_vit:broken.pth", "broken.pth cannot be read as a state dict"),
        ("timm:test_vit:broken.safetensors", "broken.safetensors cannot be read as a state dict"),
        ("timm:test_resnet:test_vit.pth", "test_vit.pth does not hold the state dict of timm's test_resnet"),
    ],
)
def test_bad_strings_are_told_in_one_sentence(spec, message, vit, monkeypatch):
    monkeypatch.setenv("XDOMAIN_DATA", str(vit[1].parent))
    for ending in ("pth", "safetensors"):
        (vit[1].parent / f"broken.{ending}").write_bytes(b"no weights")
    with pytest.raises(UserError, match=message):
        build_extractor(spec)


def test_without_vectors_it_is_refused(monkeypatch):
    whole = timm.create_model("test_resnet", num_classes=0, global_pool="")
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: whole)
    with pytest.raises(UserError, match="gives no feature vectors"):
        TimmExtractor("test_resnet")


def test_a_dtn_with_it_resumes_and_loads(vit, tmp_path):
    f = f"timm:test_vit:{vit[1]}"
    options = {"f": f, "feature_norm": "standardize", "ready": False}
    straight = dtn(**options)
    fitted(straight, steps=3, run_dir=str(tmp_path / "straight"))
    for name, value in vit[0].state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(straight.f.network.extractor.network.state_dict()[name], value)
    fitted(dtn(**options), steps=2, run_dir=str(tmp_path / "stopped"))
    file = tmp_path / "stopped/checkpoints/last.ckpt"
    resumed = dtn(**{**options, "f": f.replace("test_vit.pth", "gone.pth")})  # the checkpoint holds the weights
    run = trainer(max_steps=3, limit_val_batches=0, log_every_n_steps=1, run_dir=str(tmp_path / "stopped"))
    run.fit(resumed, datamodule=Pair(), ckpt_path=str(file), weights_only=True)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    content = torch.load(file, weights_only=True)
    assert str(vit[1]) not in str(content["hyper_parameters"]["f"])
    content["hyper_parameters"] |= {  # what the command line adds to the settings made in Python
        "_class_path": "xdomain.methods.DTN",
        "g": {"class_path": "xdomain.networks.UpConvDecoder", "init_args": {"width": 8}},
        "D": {"class_path": "xdomain.networks.ConvDiscriminator", "init_args": {"width": 4}},
    }
    torch.save(content, file)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    found = load(tmp_path / "stopped").translate(images, *Pair.domains)
    torch.testing.assert_close(found, straight.translate(images, *Pair.domains), rtol=0, atol=0)


def test_weights_of_another_network_are_refused_as_f(vit):
    with pytest.raises(UserError, match=r"weights of the helper timm:test_resnet:.* do not fit its network"):
        fitted(dtn(f=f"timm:test_resnet:{vit[1]}", ready=False))


def test_it_is_no_judge(vit):
    assert Helper(f"timm:test_vit:{vit[1]}").dim == 64
    with pytest.raises(UserError, match="has features and no classes to judge by"):
        build_judge(f"timm:test_vit:{vit[1]}")
