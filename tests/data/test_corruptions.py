"""The common corruptions against closed forms, other libraries and formulas written out."""

import colorsys
import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from xdomain.data.corruptions import (
    CORRUPTIONS,
    FUNCTIONS,
    GROUPS,
    NAMES,
    SEVERITIES,
    TABLE,
    VALIDATION,
    blur,
    corrupt,
    digital,
    generator,
    official_frost,
    parameters,
    scale_of,
    weather,
)
from xdomain.data.corruptions.frost import MEANS, QUANTILES, Frost, texture
from xdomain.errors import UserError

HALF_STEP = 1 / 255 / 2
CELL = 1 / 255 / math.sqrt(12)  # deviation of what is cut off


def rng():
    return np.random.default_rng(0)


def noise_image(height=64, width=64):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_images(count, size=64):
    torch.manual_seed(0)
    small = torch.rand(count, 3, size // 8, size // 8)
    large = torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic").clamp(0, 1)
    return (large * 255).to(torch.uint8)


@pytest.fixture(scope="module")
def frost():
    """Small pictures in place of the textures."""
    draw = np.random.default_rng(2)
    return Frost([draw.integers(0, 256, (300, 400, 3), dtype=np.uint8) for _ in range(5)], "frost*")


def made(name, image, *values):
    return FUNCTIONS[name](image, rng(), values)


def test_names_and_table():
    assert len(CORRUPTIONS) == 15
    assert len(VALIDATION) == 4
    assert [len(names) for names in GROUPS.values()] == [3, 4, 4, 4]
    assert {*TABLE} == {*NAMES} == {*FUNCTIONS, "frost"}
    assert all(len(rows) == 5 for scales in TABLE.values() for rows in scales.values())
    assert all({*scales} == {"cifar", "tiny", "imagenet"} for scales in TABLE.values())
    assert all(len({len(row) for rows in scales.values() for row in rows}) == 1 for scales in TABLE.values())


@pytest.mark.parametrize(
    ("name", "severity", "scale", "values"),
    [
        ("gaussian_noise", 4, "cifar", (0.09,)),
        ("shot_noise", 1, "tiny", (250,)),
        ("impulse_noise", 5, "imagenet", (0.27,)),
        ("defocus_blur", 3, "cifar", (0.5, 0.6)),
        ("glass_blur", 4, "tiny", (0.7, 2, 1)),
        ("motion_blur", 5, "imagenet", (20, 15)),
        ("snow", 3, "cifar", (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9)),
        ("snow", 4, "tiny", (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65)),
        ("frost", 2, "imagenet", (0.8, 0.6, 1.0)),
        ("fog", 5, "tiny", (2, 1.75)),
        ("elastic_transform", 1, "imagenet", (2, 0.7, 0.1, 244)),
        ("spatter", 5, "tiny", (0.65, 0.1, 0.5, 0.67, 0.6, 1)),
        ("saturate", 5, "tiny", (30, 0.2)),
    ],
)
def test_parameters(name, severity, scale, values):
    assert parameters(name, severity, scale) == values


def test_scales_and_what_is_refused():
    assert [scale_of(*size) for size in ((28, 28), (48, 32), (49, 10), (128, 128), (129, 4))] == [
        *("cifar", "cifar", "tiny", "tiny", "imagenet")
    ]
    with pytest.raises(UserError, match="corruption is rain: give gaussian_noise, "):
        parameters("rain", 1, "tiny")
    with pytest.raises(UserError, match="severity is 6: give 1, 2, 3, 4 or 5"):
        parameters("fog", 6, "tiny")
    with pytest.raises(ValueError, match="not uint8"):
        corrupt(torch.zeros(1, 3, 8, 8), "fog", 1)
    with pytest.raises(ValueError, match="2 indices for 1 images"):
        corrupt(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "fog", 1, indices=[0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_an_image_alone_is_that_of_a_batch(name, frost):
    images = smooth_images(4, 32)
    together = corrupt(images, name, 3, seed=5, frost=frost)
    assert together.shape == images.shape
    assert together.dtype == torch.uint8
    assert not torch.equal(together, images)
    back = corrupt(images.flip(0), name, 3, seed=5, indices=[3, 2, 1, 0], frost=frost)
    assert torch.equal(back.flip(0), together)
    assert torch.equal(corrupt(images[2:3], name, 3, seed=5, indices=[2], frost=frost)[0], together[2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(30, 45), (1, 3), (140, 150)])
def test_any_size(name, height, width, frost):
    image = torch.from_numpy(noise_image(height, width)).permute(2, 0, 1)[None]
    for severity in (1, 5):
        assert corrupt(image, name, severity, frost=frost).shape == image.shape


def test_random_numbers_differ_by_everything():
    first = [
        generator(*key).random()
        for key in ((0, "fog", 1, 0), (1, "fog", 1, 0), (0, "snow", 1, 0), (0, "fog", 2, 0), (0, "fog", 1, 1))
    ]
    assert len({*first}) == 5
    assert first[0] == generator(0, "fog", 1, 0).random()


def test_grey_images_are_the_mean_of_three_channels():
    grey = smooth_images(2, 32)[:, :1]
    wide = corrupt(grey.expand(-1, 3, -1, -1), "gaussian_noise", 5)
    assert torch.equal(corrupt(grey, "gaussian_noise", 5), wide.double().mean(1, keepdim=True).round().to(torch.uint8))


def test_severities_take_more_and_more(frost):
    """The error rises with the severity, but for three, by their parameters.

    Elastic and glass trade one parameter for another. Frost adds light while it darkens the image, which cancels.
    """
    images = smooth_images(12)
    errors = {
        name: [(corrupt(images, name, s, frost=frost).double() - images).square().mean().item() for s in SEVERITIES]
        for name in CORRUPTIONS
    }
    rising = [name for name, each in errors.items() if all(a < b for a, b in itertools.pairwise(each))]
    assert {*CORRUPTIONS} - {*rising} == {"elastic_transform", "frost", "glass_blur"}


# Noise


def test_gaussian_noise_has_its_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    change = (made("gaussian_noise", grey, 0.08) - 128.0) / 255
    assert change.std() == pytest.approx(math.hypot(0.08, CELL), rel=0.02)
    assert change.mean() == pytest.approx(-HALF_STEP, abs=0.001)  # cut off, not rounded


def test_shot_noise_has_the_variance_of_photons():
    grey = np.full((200, 200, 3), 102, np.uint8)
    noisy = made("shot_noise", grey, 60.0) / 255
    assert noisy.var() == pytest.approx(0.4 / 60, rel=0.02)
    assert noisy.mean() == pytest.approx(0.4 - HALF_STEP, abs=0.002)


def test_impulse_noise_replaces_its_share():
    grey = np.full((200, 200, 3), 102, np.uint8)
    noisy = made("impulse_noise", grey, 0.2)
    assert [(noisy == value).mean() for value in (0, 102, 255)] == pytest.approx([0.1, 0.8, 0.1], abs=0.005)
    alone = (noisy == 0).any(2) & (noisy != 0).any(2)
    assert alone.mean() > 0.2  # each channel by itself


def test_speckle_noise_grows_with_the_value():
    deviations = [made("speckle_noise", np.full((200, 200, 3), v, np.uint8), 0.15).std() / 255 for v in (60, 120)]
    assert deviations == pytest.approx([math.hypot(0.15 * v / 255, CELL) for v in (60, 120)], rel=0.02)


# Blur


def test_disks():
    plus = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    assert blur.disk(1, 0.01) == pytest.approx(plus)
    assert blur.disk(1.5, 0.1) == pytest.approx(np.full((3, 3), 1 / 9))
    taps = np.exp(-np.array([1, 0, 1]) / (2 * 0.4**2))
    assert blur.disk(0.3, 0.4) == pytest.approx(np.outer(taps, taps) / taps.sum() ** 2)
    for radius, sigma in ((3, 0.1), (8, 0.5), (10, 0.5)):
        kernel = blur.disk(radius, sigma)
        assert kernel.sum() == pytest.approx(1)
        assert kernel == pytest.approx(kernel.T)
        assert (kernel > 1 / math.pi / radius**2 / 3).sum() == pytest.approx(math.pi * radius**2, rel=0.15)


def test_defocus_is_a_sum_over_mirrored_neighbours():
    image = noise_image(8, 9)
    padded = np.pad(image / 255, ((1, 1), (1, 1), (0, 0)), "reflect")  # without the last pixel, like reflect-101
    total = sum(padded[1 + i : 9 + i, 1 + j : 10 + j] for i, j in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)))
    assert np.abs(made("defocus_blur", image, 1, 0.01) - (total / 5 * 255).astype(int)).max() <= 1


def test_glass_is_the_plain_loop():
    image = noise_image(12, 10)
    sigma, distance, rounds = 0.6, 2, 2
    draws = rng()

    def blurred(x):
        return (np.clip(ndimage.gaussian_filter(x / 255.0, (sigma, sigma, 0), mode="nearest"), 0, 1) * 255).astype(
            np.uint8
        )

    x = blurred(image)
    for _ in range(rounds):
        moves = iter(draws.integers(-distance, distance, ((12 - 2 * distance) * (10 - 2 * distance), 2)))
        for h in range(12 - distance, distance, -1):
            for w in range(10 - distance, distance, -1):
                dx, dy = next(moves)
                # what the scripts' exchange of two views does
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    assert np.array_equal(made("glass_blur", image, sigma, distance, rounds), blurred(x))


def test_motion_along_the_axes():
    radius, sigma = 3, 2.0
    weights = np.array([math.exp(-(i**2) / (2 * sigma**2)) for i in range(2 * radius + 1)])
    weights /= weights.sum()
    row = np.random.default_rng(0).random(20)
    picture = np.tile(row, (5, 1))
    by_hand = [sum(w * row[min(x + i, 19)] for i, w in enumerate(weights)) for x in range(20)]
    assert blur.motion(picture, radius, sigma, 0.0) == pytest.approx(np.tile(by_hand, (5, 1)))
    assert blur.motion(picture.T, radius, sigma, 0.0) == pytest.approx(picture.T)  # nothing across
    assert blur.motion(picture.T, radius, sigma, 90.0) == pytest.approx(np.tile(by_hand, (5, 1)).T)


@pytest.mark.parametrize("angle", [-120.0, -30.0, 17.0, 44.0])
def test_the_line_of_a_motion(angle):
    point = np.zeros((41, 41))
    point[20, 20] = 1
    expected = np.zeros((41, 41))
    weights = [math.exp(-(i**2) / (2 * 4.0**2)) for i in range(17)]
    for i, weight in enumerate(weights):
        down = -math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        right = -math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        expected[20 + down, 20 + right] += weight / sum(weights)
    assert blur.motion(point, 8, 4.0, angle) == pytest.approx(expected, abs=1e-9)


def test_motion_blur_keeps_a_plain_image():
    plain = np.full((64, 64, 3), 77, np.uint8)
    assert np.array_equal(made("motion_blur", plain, 10, 2.5), plain)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.07, 1.25, 1.5, 2.25, 4.5])
@pytest.mark.parametrize("side", [32, 64])
def test_enlarging_is_that_of_scipy(factor, side):
    layer = np.random.default_rng(0).random((side, side))
    piece = math.ceil(side / factor)
    top = (side - piece) // 2
    zoomed = ndimage.zoom(layer[top : top + piece, top : top + piece], factor, order=1)
    trim = (len(zoomed) - side) // 2
    assert blur.enlarged(layer, factor) == pytest.approx(zoomed[trim : trim + side, trim : trim + side])


def test_zoom_blur_is_the_mean_with_the_image_twice():
    image = noise_image(32, 40)
    assert np.array_equal(made("zoom_blur", image, 1, 0.01), image)
    layers = [np.stack([blur.enlarged(image[:, :, c] / 255, 1 + i * 0.01) for c in range(3)], 2) for i in range(16)]
    expected = (image / 255 + sum(layers)) / 17 * 255
    assert np.abs(made("zoom_blur", image, 16, 0.01) - expected.astype(int)).max() <= 1
    large = blur.AT_ONCE
    try:
        blur.AT_ONCE = 1  # one factor at a time
        pieces = made("zoom_blur", image, 16, 0.01)
    finally:
        blur.AT_ONCE = large
    assert np.abs(pieces.astype(int) - made("zoom_blur", image, 16, 0.01)).max() <= 1


@pytest.mark.parametrize(
    ("ends", "step", "scale", "severities"),
    [
        ((1.06, 1.11, 1.16, 1.21, 1.26), 0.01, "tiny", (0, 1, 2, 3, 4)),
        ((1.11, 1.16), 0.01, "imagenet", (0, 1)),
        ((1.21, 1.26), 0.02, "imagenet", (2, 3)),
        ((1.31,), 0.03, "imagenet", (4,)),
    ],
)
def test_numbers_of_zoom_factors(ends, step, scale, severities):
    for end, severity in zip(ends, severities, strict=True):
        assert TABLE["zoom_blur"][scale][severity] == (len(np.arange(1, end, step)), step)


def test_gaussian_blur_is_that_of_skimage():
    filters = pytest.importorskip("skimage.filters")
    image = noise_image(20, 30)
    expected = (np.clip(filters.gaussian(image / 255.0, sigma=1.25, channel_axis=2), 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(made("gaussian_blur", image, 1.25), expected)


# Weather


def test_snow_is_the_same_turned_around():
    """On black nothing is whitened but by the constant: what falls is one layer and the same turned by 180 degrees."""
    black = np.zeros((64, 64, 3), np.uint8)
    white = made("snow", black, 0.1, 0.2, 1, 0.5, 10, 4, 0.9)
    assert np.abs(white.astype(int) - white[::-1, ::-1]).max() <= 1
    assert white.min() == int(0.05 * 255)  # a tenth of the constant 0.5
    assert white.max() > 60
    grey = np.full((64, 64, 3), 102, np.uint8)
    still = made("snow", grey, 0.0, 0.0, 1, 0.5, 10, 4, 0.8)  # nothing falls
    assert still[0, 0, 0] == int((0.8 * 0.4 + 0.2 * (1.5 * 0.4 + 0.5)) * 255)  # 137.7


def test_fog():
    image = noise_image(24, 40)
    assert np.abs(made("fog", image, 0.0, 2.0).astype(int) - image).max() <= 1
    clouds = weather.plasma(64, 2.0, rng())
    assert (clouds.min(), clouds.max()) == (0, 1)
    brightest = image.max() / 255
    expected = (image / 255 + 1.5 * clouds[:24, :40, None]) * brightest / (brightest + 1.5) * 255
    assert np.array_equal(made("fog", image, 1.5, 2.0), expected.astype(np.uint8))


def test_clouds_are_the_diamonds_and_squares_of_a_torus():
    """Every height minus the mean of its four neighbours is a deviation of its scale, drawn in order."""
    side, decay = 8, 3.0
    draws, heights = rng(), np.zeros((side, side))
    step, wibble = side, 100.0
    while step >= 2:
        half = step // 2
        for kind in ("middle", "above", "left"):
            deviations = wibble * draws.uniform(-wibble, wibble, (side // step, side // step))
            for i in range(side // step):
                for j in range(side // step):
                    y, x = i * step + half * (kind != "above"), j * step + half * (kind != "left")
                    near = [(a, b) for a in (-half, half) for b in (-half, half)]
                    if kind != "middle":
                        near = [(-half, 0), (half, 0), (0, -half), (0, half)]
                    mean = sum(heights[(y + a) % side, (x + b) % side] for a, b in near) / 4
                    heights[y, x] = mean + deviations[i, j]
        step, wibble = half, wibble / decay
    heights -= heights.min()
    assert weather.plasma(side, decay, rng()) == pytest.approx(heights / heights.max())


def hsv(image, change):
    """An image changed in HSV, by Python's own conversion."""
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in image.reshape(-1, 3) / 255]
    return (np.array(pixels).reshape(image.shape) * 255).astype(np.uint8)


def colours():
    image = noise_image(16, 16)
    image[0, :4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0]]
    return image


def test_brightness_adds_to_v():
    image = colours()
    expected = hsv(image, lambda h, s, v: (h, s, min(v + 0.3, 1)))
    found = made("brightness", image, 0.3)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.95


@pytest.mark.parametrize("values", [(0.3, 0.0), (5.0, 0.1)])
def test_saturate_changes_s(values):
    image = colours()
    expected = hsv(image, lambda h, s, v: (h, min(max(s * values[0] + values[1], 0), 1), v))
    found = made("saturate", image, *values)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.9


def test_mud_and_water():
    grey = np.full((64, 64, 3), 200, np.uint8)
    muddy = made("spatter", grey, 0.65, 0.1, 0.7, 0.68, 0.6, 1)
    clean = (muddy == 200).all(2)
    assert 0.02 < 1 - clean.mean() < 0.98
    assert np.abs(muddy.astype(int) - (63, 42, 20)).max(2).min() <= 3  # mud in the middle of a spot
    dark = np.full((64, 64, 3), 20, np.uint8)
    wet = made("spatter", dark, 0.62, 0.1, 0.7, 0.7, 0.6, 0).astype(int) - 20
    assert wet.min() >= -1
    assert wet.reshape(-1, 3).max(0) == pytest.approx([0.6 * 175, 0.6 * 238, 0.6 * 238], abs=2)  # the brightest drop
    dry = made("spatter", grey, 0.0, 0.0, 0.7, 0.7, 0.6, 0)
    assert np.array_equal(dry, grey)


# Frost


@pytest.mark.parametrize("number", range(4))
def test_statistics_of_the_textures(number):
    pixels = texture(number).astype(np.float64)
    assert pixels.shape == (600, 900, 3)
    assert pixels.mean((0, 1)) == pytest.approx(MEANS[number], rel=0.1)
    grey = pixels @ [0.299, 0.587, 0.114]
    low, high = QUANTILES[number]
    assert np.quantile(grey, (0.05, 0.95)) == pytest.approx([low, high], rel=0.05)
    assert grey.std() == pytest.approx((high - low) / 3.29, rel=0.1)  # of a bell with these quantiles
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(600), np.hanning(900)))) ** 2
    frequency = np.hypot(np.fft.fftfreq(600)[:, None], np.fft.fftfreq(900))
    edges = np.geomspace(4 / 600, 0.25, 20)
    bands = [(frequency >= a) & (frequency < b) for a, b in itertools.pairwise(edges)]
    points = [(np.log(frequency[band]).mean(), np.log(power[band].mean())) for band in bands]
    assert np.polyfit(*zip(*points, strict=True), 1)[0] == pytest.approx(-1.7, abs=0.2)


def test_frost_mixes_a_piece_of_a_picture(tmp_path):
    pictures = []
    for i, ending in enumerate((".png", ".png", ".png", ".png", ".jpg")):
        pictures.append(np.full((40, 50, 3), 40 * i + 20, np.uint8))
        Image.fromarray(pictures[-1]).save(tmp_path / f"frost{i + 1}{ending}")
    frost = official_frost(tmp_path)
    assert frost.name == "frost"
    image = noise_image(16, 16)
    seen = set()
    for seed in range(40):
        mixed = frost(image, np.random.default_rng(seed), (0.5, 0.25, 1.0))
        added = {20 + 40 * i for i in range(5) if (mixed == (0.5 * image + 0.25 * (40 * i + 20)).astype(int)).all()}
        assert len(added) == 1
        seen |= added
    assert seen == {20, 60, 100, 140, 180}
    (tmp_path / "frost4.png").unlink()
    with pytest.raises(UserError, match=r"holds no frost4\.png or frost4\.jpg"):
        official_frost(tmp_path)


def test_frost_is_zoomed_to_the_scale():
    ramp = np.tile((np.arange(100) * 2).astype(np.uint8)[:, None, None], (1, 120, 3))
    zoomed = Frost([ramp], "frost")._scale(0, 0.2, 8, 8)
    assert zoomed.shape == (20, 24, 3)
    assert np.array_equal(zoomed[:, 0, 0], ramp[2::5, 0, 0])  # the pixels in the middle of five
    covering = Frost([ramp], "frost")._scale(0, 0.2, 150, 10)
    assert covering.shape[0] >= 150


# Digital


def test_contrast():
    plain = np.full((8, 8, 3), 90, np.uint8)
    assert np.abs(made("contrast", plain, 0.4).astype(int) - plain).max() <= 1
    image = noise_image()
    means = image.reshape(-1, 3).mean(0)
    assert np.abs(made("contrast", image, 0.4) - (0.4 * image + 0.6 * means)).max() <= 1


def test_pixelate():
    blocks = np.kron(noise_image(16, 16), np.ones((4, 4, 1), np.uint8))
    assert np.array_equal(made("pixelate", blocks, 0.25), blocks)
    image = Image.fromarray(noise_image(50, 40))
    expected = image.resize((28, 35), Image.Resampling.BOX).resize((40, 50), Image.Resampling.BOX)
    assert np.array_equal(made("pixelate", np.array(image), 0.7), np.array(expected))


def test_jpeg():
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert np.array_equal(made("jpeg_compression", grey, 25), grey)
    image = smooth_images(1)[0].permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=25, subsampling="4:2:0")
    assert np.abs(made("jpeg_compression", image, 25).astype(int) - np.array(Image.open(file))).max() <= 2


def test_elastic_moves_three_points_affinely():
    moves = np.array([[1.5, -2.0], [0.5, 1.0], [-1.0, 0.25]])
    matrix, shift = digital.affine(30, 24, moves)
    for point, move in zip(([23, 20], [23, 4], [7, 4]), moves, strict=True):
        assert matrix @ (point + move) + shift == pytest.approx(point)
    image = noise_image(20, 26)
    assert np.array_equal(made("elastic_transform", image, 0, 0, 0, 64), image)


def test_elastic_shifts_a_ramp_by_its_displacements():
    """On a ramp, linear interpolation is exact: the values change by slope times displacement."""
    ramp = np.broadcast_to((40 + 3 * np.arange(64))[None, :, None], (64, 64, 3)).astype(np.uint8)
    draws = rng()
    draws.uniform(-0.0, 0.0, (3, 2))
    right = 0.1 * 64 * ndimage.gaussian_filter(draws.uniform(-1, 1, (64, 64)), 0.08 * 64, mode="reflect", truncate=3.0)
    moved = made("elastic_transform", ramp, 0.1, 0.08, 0, 64)[:, 4:60, 0]
    assert np.abs(moved - (ramp[:, :, 0] + 3 * right)[:, 4:60]).max() <= 1
