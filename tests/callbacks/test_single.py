"""Samples of one image or clip: every number by hand, what stands beside them, and what the pictures show."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.methods.single import OneClip, OneImage, TwoImages, facts
from tests.metrics.test_single import scipy_sifid
from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float, to_uint8
from xdomain.callbacks import SampleQuality, SampleSheet
from xdomain.callbacks.single import draw, shuffle_blocks, untrained
from xdomain.data.video import read_video
from xdomain.errors import UserError
from xdomain.features.random_conv import RandomConv
from xdomain.methods import PyramidMethod


class Toy(PyramidMethod):
    """Two scales, of half and full size; a sample is a learned picture with noise around it."""

    scales = 2

    def __init__(self, **options):
        super().__init__(**{"iterations": 3, **options})
        shape = self.shapes[-1]
        self.sizes = [(*shape[:-2], *(side // 2 for side in shape[-2:])), tuple(shape)]
        self.pictures = torch.nn.ParameterList(torch.randn(3, *size) / 4 for size in self.sizes)
        self.register_buffer("amps", torch.tensor([0.2, 0.2]))

    def build_optimizers(self):
        return {f"g{i}": torch.optim.Adam([picture], 0.1) for i, picture in enumerate(self.pictures)}

    def training_step(self, batch, batch_idx):
        i = self.scale
        self.step(f"g{i}", lambda: self.pictures[i].square().mean())

    def sample(self, count, size=None, **options):
        picture = self.pictures[self.finest]
        return picture + self.amps[self.finest] * torch.randn(count, *picture.shape)


def toy(data, begun=2):
    torch.manual_seed(5)
    method = Toy(**facts(data)).eval()
    method.begun.fill_(begun)
    return method


def evaluate(data, method, *callbacks):
    run = trainer(callbacks=list(callbacks))
    run.test(method, datamodule=data, verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}, run


def real_of(data, role="a"):
    return to_float(data.samples[role])[None]


def expected_samples(method, count, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return torch.cat([method.sample(min(10, count - i)) for i in range(0, count, 10)]).clamp(-1, 1)


def grey(images):
    return np.tensordot([0.299, 0.587, 0.114], images.double().numpy(), (0, 1))


def diversity(real, samples):
    return grey(samples).std(0).mean() / grey(real).std()


def copied(real, sample, patch):
    """Share of patches at a stride of half their side that lie near one of the real image; [3, H, W]."""
    real, sample = real.numpy(), sample.numpy()

    def patches(image, stride):
        height, width = image.shape[1:]
        places = [(y, x) for y in range(0, height - patch + 1, stride) for x in range(0, width - patch + 1, stride)]
        return [image[:, y : y + patch, x : x + patch] for y, x in places]

    gallery = patches(real, 1)
    near = [min(((p - q) ** 2).mean() ** 0.5 for q in gallery) < 0.1 for p in patches(sample, patch // 2)]
    return np.mean(near)


# ---------------------------------------------------------------- numbers


def test_the_numbers_of_an_image():
    data = OneImage()
    method, network = toy(data), RandomConv()
    values, _ = evaluate(data, method, SampleQuality(count=13, patches=(5, 11)))
    real, samples = real_of(data), expected_samples(method, 13)
    sifid = [scipy_sifid(network, "2", real[0], sample) for sample in samples]
    assert values["sifid@random-conv/2"] == pytest.approx(np.mean(sifid), rel=1e-3)
    assert values["diversity"] == pytest.approx(diversity(real, samples), rel=1e-4)
    assert values["n"] == 13
    mirrored = real.flip(-1)
    assert values["sifid_mirrored@random-conv/2"] == pytest.approx(
        scipy_sifid(network, "2", real[0], mirrored[0]), rel=1e-3
    )
    assert values["copied-5px_mirrored"] == pytest.approx(copied(real[0], mirrored[0], 5))
    assert "diversity_mirrored" not in values
    kinds = ("", "_shuffled", "_untrained", "_mirrored")
    assert set(values) == {
        *(f"sifid{kind}@random-conv/2" for kind in kinds),
        *(f"diversity{kind}" for kind in kinds[:3]),
        *(f"copied-{patch}px{kind}" for patch in (5, 11) for kind in kinds),
        "n",
    }


def test_copies_are_found():
    data = OneImage()
    method = toy(data)
    method.pictures[1].data.copy_(real_of(data)[0])
    method.amps.fill_(0.01)
    values, _ = evaluate(data, method, SampleQuality(count=2, patches=(5,)))
    assert values["copied-5px"] == 1
    assert values["copied-5px_untrained"] == 0
    assert values["sifid@random-conv/2"] < values["sifid_shuffled@random-conv/2"]


def test_the_references_are_what_they_say():
    data = OneImage()
    method, network = toy(data), RandomConv()
    values, _ = evaluate(data, method, SampleQuality(count=4, block=6, patches=(5,), seed=3))
    real = real_of(data)
    generator = torch.Generator().manual_seed(3)
    shuffled = torch.cat([shuffle_blocks(real, 6, generator) for _ in range(4)])
    sifid = [scipy_sifid(network, "2", real[0], image) for image in shuffled]
    assert values["sifid_shuffled@random-conv/2"] == pytest.approx(np.mean(sifid), rel=1e-3)
    assert values["diversity_shuffled"] == pytest.approx(diversity(real, shuffled), rel=1e-4)
    rates = [copied(real[0], image, 5) for image in shuffled]
    assert values["copied-5px_shuffled"] == pytest.approx(np.mean(rates), abs=1e-6)
    fresh = expected_samples(untrained(method), 4, seed=3)
    assert values["diversity_untrained"] == pytest.approx(diversity(real, fresh), rel=1e-4)


def test_the_numbers_of_a_clip():
    data = OneClip()
    method, network = toy(data), RandomConv(dims=3)
    values, _ = evaluate(data, method, SampleQuality(count=3, patches=(5,)))
    real, samples = real_of(data), expected_samples(method, 3)
    svfid = [scipy_sifid(network, "2", real[0], sample) for sample in samples]
    assert values["svfid@random-conv3d/2"] == pytest.approx(np.mean(svfid), rel=1e-3)
    assert values["diversity"] == pytest.approx(diversity(real, samples), rel=1e-4)
    mirrored = real.flip(-1)
    rates = [copied(real[0, :, t], mirrored[0, :, t], 5) for t in range(5)]
    assert values["copied-5px_mirrored"] == pytest.approx(np.mean(rates), abs=1e-6)
    assert values["n"] == 3


def test_copied_frames_are_counted():
    data = OneClip()
    method = toy(data)
    method.pictures[1].data.copy_(real_of(data)[0])
    method.pictures[1].data[:, 2] = torch.rand(3, 16, 20) * 2 - 1
    method.pictures[1].data[:, 3:] = method.pictures[1].data[:, 3:].flip(1)  # at another time
    method.amps.fill_(0)
    values, _ = evaluate(data, method, SampleQuality(count=2, patches=(5,)))
    clip, real = expected_samples(method, 1)[0], real_of(data)[0]
    rates = [copied(real[:, t], clip[:, t], 5) for t in range(5)]
    assert rates[:3] == [1, 1, 0]
    assert values["copied-5px"] == pytest.approx(np.mean(rates), abs=1e-6)


def test_by_default_fifty_images_and_twenty_clips():
    for data, count in ((OneImage(), 50), (OneClip(), 20)):
        values, _ = evaluate(data, toy(data), SampleQuality(patches=()))
        assert values["n"] == count


def test_of_a_pair_the_second_image_counts():
    data = TwoImages()
    values, _ = evaluate(data, toy(data), SampleQuality(count=2, patches=()))
    right = real_of(data, "b")
    expected = scipy_sifid(RandomConv(), "2", right[0], right.flip(-1)[0])
    assert values["sifid_mirrored@random-conv/2"] == pytest.approx(expected, rel=1e-3)


def test_a_partial_pyramid_is_held_against_the_shrunk_image():
    data = OneImage()
    method, network = toy(data, begun=1), RandomConv()
    with pytest.warns(UserWarning, match="copied-11px is not measured: samples have 10x13 pixels"):
        values, _ = evaluate(data, method, SampleQuality(count=3))
    real = torch.nn.functional.interpolate(real_of(data), (10, 13), mode="bicubic", antialias=True).clamp(-1, 1)
    sifid = [scipy_sifid(network, "2", real[0], sample) for sample in expected_samples(method, 3)]
    assert values["sifid@random-conv/2"] == pytest.approx(np.mean(sifid), rel=1e-3)
    assert not [name for name in values if "copied" in name]


@pytest.mark.filterwarnings("ignore:.* rests on:UserWarning")
def test_diversity_of_one_colour_is_left_out():
    data = OneImage()
    data.samples["a"][:] = 100
    with pytest.warns(UserWarning, match="diversity is not measured: the real image is of one colour"):
        values, _ = evaluate(data, toy(data), SampleQuality(count=3, patches=()))
    assert not [name for name in values if name.startswith("diversity")]
    assert values["n"] == 3


def test_validations_are_quick_and_leave_the_training_alone():
    def fit(*callbacks):
        torch.manual_seed(1)
        method = Toy(**facts(OneImage()))
        run = trainer(max_epochs=-1, callbacks=list(callbacks))
        run.fit(method, datamodule=OneImage())
        return method, torch.rand(1), set(run.callback_metrics)

    plain, drawn, _ = fit()
    watched, drawn_watched, names = fit(SampleQuality(val_count=2), SampleSheet(count=2))
    assert names == {"val/sifid@random-conv/2", "val/diversity"}
    assert torch.equal(drawn, drawn_watched)
    assert all(torch.equal(x, y) for x, y in zip(plain.parameters(), watched.parameters(), strict=True))


def test_another_layer_and_what_is_refused():
    data = OneImage()
    values, _ = evaluate(data, toy(data), SampleQuality(count=2, layer="1", patches=()))
    assert "sifid@random-conv/1" in values
    for options, sentence in (
        ({"layer": "9"}, "SampleQuality: layer is 9, but random-conv has no layer '9'; it has 1, 2, 3, 4: give an"),
        ({"features": "random-conv3d"}, "is random-conv3d, which does not look at images: give another"),
        ({"block": 15}, "SampleQuality: block is 15, too large for 20x26 pixels"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate(data, toy(data), SampleQuality(count=2, **options))
    for options in ({"count": 1}, {"val_count": 1}, {"patches": (5, 0)}, {"block": 0}):
        with pytest.raises(UserError, match=f"SampleQuality: {next(iter(options))} is"):
            SampleQuality(**options)
    with pytest.raises(UserError, match="ToyGAN makes no random samples"):
        evaluate(ToyPair(), ToyGAN(), SampleQuality())
    with pytest.raises(UserError, match="this Toy is not trained"):
        evaluate(data, toy(data, begun=0), SampleQuality())


# ---------------------------------------------------------------- references


@pytest.mark.parametrize(("height", "width", "side"), [(12, 18, 6), (13, 20, 5), (8, 8, 3)])
def test_shuffled_images_hold_the_same_blocks(height, width, side):
    image = torch.rand(1, 3, height, width)
    shuffled = shuffle_blocks(image, side, torch.Generator().manual_seed(0))

    def blocks(x):
        places = [(i * side, j * side) for i in range(height // side) for j in range(width // side)]
        return [x[0, :, y : y + side, x0 : x0 + side].numpy().tobytes() for y, x0 in places]

    assert sorted(blocks(image)) == sorted(blocks(shuffled))
    assert blocks(image) != blocks(shuffled)
    rest = height // side * side, width // side * side
    assert torch.equal(image[..., rest[0] :, :], shuffled[..., rest[0] :, :])
    assert torch.equal(image[..., rest[1] :], shuffled[..., rest[1] :])


def test_all_frames_are_shuffled_alike():
    frame = torch.rand(1, 3, 1, 12, 12)
    clip = torch.cat([frame, frame + 1], 2)
    shuffled = shuffle_blocks(clip, 4, torch.Generator().manual_seed(0))
    assert torch.equal(shuffled[:, :, 0] + 1, shuffled[:, :, 1])
    with pytest.raises(ValueError, match="too large"):
        shuffle_blocks(clip, 7, torch.Generator())


def test_an_untrained_method_has_other_weights_and_the_same_noise():
    method = toy(OneImage())
    method.amps.copy_(torch.tensor([0.7, 0.3]))
    state = torch.get_rng_state()
    fresh, again = untrained(method), untrained(method)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(fresh.amps, method.amps)
    assert fresh.finest == 1
    assert not fresh.training
    for ours, theirs, repeated in zip(method.parameters(), fresh.parameters(), again.parameters(), strict=True):
        assert not torch.equal(ours, theirs)
        assert torch.equal(theirs, repeated)


def test_draws_are_a_function_of_the_seed():
    method = toy(OneImage())
    state = torch.get_rng_state()
    first = draw(method, 12, 4)
    assert torch.equal(first, draw(method, 12, 4))
    assert not torch.equal(first, draw(method, 12, 5))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, expected_samples(method, 12, 4))


# ---------------------------------------------------------------- pictures


def read(path):
    return np.array(Image.open(path))


def test_a_sheet_shows_the_image_beside_samples():
    data = OneImage()
    method = toy(data)
    _, run = evaluate(data, method, SampleSheet(count=5, columns=3, seed=2))
    picture = read(run.run_dir / "samples" / "test.png")
    assert picture.shape == (2 * 21 + 1, 28 + 4 + 3 * 27 + 1, 3)
    assert np.array_equal(picture[1:21, 1:27], data.samples["a"].permute(1, 2, 0))
    assert (picture[22:, :28] == 255).all()  # below the image
    assert (picture[:, 28:32] == 255).all()
    samples = to_uint8(expected_samples(method, 5, 2)).permute(0, 2, 3, 1).numpy()
    for i, sample in enumerate(samples):
        top, left = 1 + 21 * (i // 3), 33 + 27 * (i % 3)
        assert np.array_equal(picture[top : top + 20, left : left + 26], sample)


def test_every_scale_has_its_sheet():
    run = trainer(max_epochs=-1, callbacks=[SampleSheet(count=1)])
    run.fit(Toy(**facts(OneImage())), datamodule=OneImage())
    sizes = {path.name: read(path).shape for path in (run.run_dir / "samples").iterdir()}
    assert sizes == {"step_0000003.png": (12, 15 + 4 + 15, 3), "step_0000006.png": (22, 28 + 4 + 28, 3)}


def test_a_sheet_of_clips_and_its_animation():
    data = OneClip()
    method = toy(data)
    _, run = evaluate(data, method, SampleSheet(count=2, frames=3))
    picture = read(run.run_dir / "samples" / "test.png")
    assert picture.shape == (3 * 17 + 1, 3 * 21 + 1, 3)
    clips = [data.samples["a"], *to_uint8(expected_samples(method, 2))]
    for row, clip in enumerate(clips):
        for column, t in enumerate((0, 2, 4)):
            top, left = 1 + 17 * row, 1 + 21 * column
            assert np.array_equal(picture[top : top + 16, left : left + 20], clip[:, t].permute(1, 2, 0))
    movie = read_video(run.run_dir / "samples" / "test.gif")
    assert movie.shape == (5, 3, 18, 22 + 4 + 2 * 21 + 1)
    for t in range(5):  # a palette of 256 colours
        error = movie[t, :, 1:17, 1:21].int() - data.samples["a"][:, t].int()
        assert error.abs().float().mean() < 12


def test_what_a_sheet_refuses():
    for name in ("count", "columns", "frames", "fps"):
        with pytest.raises(UserError, match=f"SampleSheet: {name} is 0: give more than 0"):
            SampleSheet(**{name: 0})
    with pytest.raises(UserError, match="ToyGAN makes no random samples"):
        evaluate(ToyPair(), ToyGAN(), SampleSheet())
