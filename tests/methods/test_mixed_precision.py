"""Methods that learn from single samples in mixed precision, through all their scales."""

import pytest
import torch

from tests.methods.single import OneClip, OneImage, TwoImages, facts, train
from xdomain.callbacks import ChannelsLast
from xdomain.methods import ConSinGAN, ConSinGAN3D, PatchVAEGAN, SinGAN, SinGAN3D, StructuralAnalogy

SMALL = {"iterations": 1, "width": 4, "layers": 3}
LEVELS = {**SMALL, "min_size": 10, "rates": [2, 1]}
CASES = {
    "SinGAN": (SinGAN, OneImage, {**SMALL, "min_size": 12, "max_width": 4}),
    "ConSinGAN": (ConSinGAN, OneImage, {**SMALL, "stages": 3, "min_size": 12}),
    "StructuralAnalogy": (StructuralAnalogy, TwoImages, {**SMALL, "min_size": 12, "max_width": 4}),
    "PatchVAEGAN of images": (PatchVAEGAN, OneImage, {**LEVELS, "vae_levels": 1, "latent": 4}),
    "PatchVAEGAN of clips": (PatchVAEGAN, OneClip, {**LEVELS, "vae_levels": 1, "latent": 4}),
    "SinGAN3D": (SinGAN3D, OneClip, {**LEVELS, "critic_layers": 3}),
    "SinGAN3D, padded": (SinGAN3D, OneClip, {**LEVELS, "critic_layers": 3, "critic": "padded"}),
    "ConSinGAN3D": (ConSinGAN3D, OneClip, {**LEVELS, "critic_layers": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_all_scales_train_in_bfloat16(case, tmp_path):
    kind, images, settings = CASES[case]
    data = images()
    torch.manual_seed(0)
    method = kind(**facts(data), **settings)
    last = train(method, data, tmp_path, precision="bf16-mixed", callbacks=[ChannelsLast()])
    assert last["global_step"] == method.scales > 1
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert method.sample(2).isfinite().all()
