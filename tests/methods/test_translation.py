"""What the methods of whole domains share: images of any size, sizes that cannot be learned from."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.domains import Pairs, discriminator, tiny
from tests.methods.faces import fitted
from xdomain.batch import to_float, to_uint8
from xdomain.data.images import read_image, write_image
from xdomain.errors import UserError
from xdomain.inference import tiles
from xdomain.inference.folder import translate_folder
from xdomain.methods import CUT, OST, UNIT, CycleGAN, Pix2Pix
from xdomain.methods.translation import at_stride
from xdomain.networks import DigitAutoencoders, DrawingAutoencoders, UNetGenerator

BOTH = (("plus", "plain"), ("plain", "plus"))
SIZES = [(21, 30), (3, 2), (40, 37), (1, 1), (200, 300)]


def ost(autoencoders):
    common = {"domains": BOTH[0], "channels": (3, 3), "image_size": 16}
    return OST(lambda channels: autoencoders(channels, 4), discriminator=discriminator, **common)


def padded(image, stride, least):
    """Mirrored to the right and below by numpy, which begins again when the image is used up."""
    height, width = (-(-max(side, least) // stride) * stride for side in image.shape[2:])
    spans = ((0, 0), (0, 0), (0, height - image.shape[2]), (0, width - image.shape[3]))
    return torch.from_numpy(np.pad(image.numpy(), spans, "reflect"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("stride", "least"), [(4, 8), (8, 8), (64, 64)])
def test_images_are_mirrored_up_to_the_stride(size, stride, least):
    image = torch.randn(2, 3, *size)
    assert torch.equal(at_stride(image, stride, least), padded(image, stride, least))


METHODS = {
    "CycleGAN": (lambda: tiny(CycleGAN), 8),
    "Pix2Pix": (lambda: tiny(Pix2Pix), 16),
    "UNIT": (lambda: tiny(UNIT), 8),
    "CUT": (lambda: tiny(CUT, reverse=True), 8),
    "OST": (lambda: ost(partial(DrawingAutoencoders, blocks=1)), 8),
    "OST digits": (lambda: ost(DigitAutoencoders), 8),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_folder_is_translated_at_the_images_own_sizes_in_every_direction(name, tmp_path):
    make, least = METHODS[name]
    method = make()
    for number, size in enumerate(SIZES):
        pixels = np.random.default_rng(number).integers(0, 256, (3, *size), dtype=np.uint8)
        write_image(torch.from_numpy(pixels), tmp_path / f"in/{number}.png")
    for source, target in method.directions:
        output = tmp_path / target
        assert translate_folder(method, tmp_path / "in", output, source=source, target=target) == (len(SIZES), 0, 0, 0)
        for number, (height, width) in enumerate(SIZES):
            image = to_float(read_image(tmp_path / f"in/{number}.png", 3))[None]
            with torch.no_grad():
                wanted = method.eval().generate(padded(image, method.stride, least), target)[:, :, :height, :width]
            assert torch.equal(read_image(output / f"{number}.png", 3), to_uint8(wanted)[0])


def test_cyclegans_output_is_that_of_its_networks():
    method = tiny(CycleGAN)
    image = torch.rand(1, 3, 21, 30) * 2 - 1
    for (source, target), network in zip(BOTH, (method.G, method.F), strict=True):
        wanted = network(padded(image, 4, 8))[:, :, :21, :30]
        assert torch.equal(method.translate(image, source, target), wanted)


def test_size_model_shrinks_to_the_size_of_the_training(tmp_path):
    write_image(torch.zeros(3, 200, 300, dtype=torch.uint8), tmp_path / "in.png")
    translate_folder(tiny(CycleGAN), tmp_path / "in.png", tmp_path / "out", size="model")
    assert read_image(tmp_path / "out/in.png", 3).shape == (3, 11, 16)


def test_large_images_are_translated_in_tiles_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiles, "STRAIGHT", 400)
    monkeypatch.setattr("xdomain.inference.folder.STRAIGHT", 400)
    for name, value in (("TILE", 16), ("OVERLAP", 8), ("FADE", 4)):
        monkeypatch.setattr(tiles, name, value)
    for name, shape in (("a", (21, 50)), ("b", (20, 20)), ("c", (30, 33))):
        write_image(torch.randint(0, 256, (3, *shape), dtype=torch.uint8), tmp_path / f"in/{name}.png")
    seen = []
    method = tiny(CycleGAN)
    monkeypatch.setattr(method, "generate", lambda x, target: seen.append(x.shape[2:]) or -x)
    assert translate_folder(method, tmp_path / "in", tmp_path / "out") == (3, 0, 0, 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xdomain: ")]
    assert lines == [
        "xdomain: a.png has 50x21 pixels: images of more than 400 are translated in overlapping tiles that fade into "
        "each other, or smaller by --size model."
    ]
    assert max(map(max, seen)) == 20  # of the image in one piece
    assert seen.count((16, 16)) > 4
    for name in "abc":
        found, image = (read_image(tmp_path / folder / f"{name}.png", 3).int() for folder in ("out", "in"))
        assert (found - (255 - image)).abs().max() <= 1


def test_a_generator_that_does_not_name_its_stride_gets_squares_of_the_size_of_the_training(tmp_path):
    seen = []

    def fixed(channels_in, channels_out):
        network = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1))
        network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
        return network

    method = tiny(CycleGAN, generator=fixed)
    write_image(torch.zeros(3, 20, 30, dtype=torch.uint8), tmp_path / "in.png")
    translate_folder(method, tmp_path / "in.png", tmp_path / "out")
    assert seen == [(1, 3, 16, 16)]
    assert read_image(tmp_path / "out/in.png", 3).shape == (3, 20, 30)


def test_training_refuses_images_that_the_generator_does_not_take():
    sentence = "this Pix2Pix learns from images whose sides are multiples of 32 pixels, but the data has 16x16: give"
    with pytest.raises(UserError, match=sentence):
        fitted(tiny(Pix2Pix, generator=lambda x, y: UNetGenerator(x, y, 4, depth=5)), data=Pairs())
