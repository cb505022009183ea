"""SinGAN against its formulas written out, and what can be done with a trained one."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.single import OneImage, TwoImages, assert_resumes_exactly, facts, train
from xdomain.batch import to_float, to_uint8
from xdomain.callbacks import SampleQuality, SampleSheet
from xdomain.data import SingleImage
from xdomain.data.images import write_image
from xdomain.errors import UserError
from xdomain.methods import ConSinGAN, SinGAN
from xdomain.networks.pyramid import random_walk, resize, soft_mask

SMALL = {"iterations": 3, "min_size": 12, "width": 4, "layers": 3}


def sgd(parameters):
    return SGD(parameters, lr=0.05)


def make(data=OneImage, **options):
    return SinGAN(**{**SMALL, **facts(data()), **options})


GOLDEN = {"SinGAN": lambda: (make(iterations=2, optimizer=sgd), OneImage())}


def fit(method, data, folder, **options):
    """Train without saving in between."""
    train(method, data, folder, limit_val_batches=0, **options)


class Watch(pl.Callback):
    """Keeps what one batch began with, and every update of it: name, gradients, the state before."""

    def __init__(self, step):
        self.step, self.updates = step, []

    def on_train_batch_start(self, trainer, pl_module, *_):
        if trainer.global_step == self.step:
            self.method, self.random = copy.deepcopy(pl_module.state_dict()), torch.get_rng_state()

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            own = {id(p) for group in optimizer.param_groups for p in group["params"]}
            name = next(n for n in pl_module._index if pl_module.named_optimizer(n) is optimizer)
            gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if id(p) in own}
            self.updates.append((name, gradients, copy.deepcopy(pl_module.state_dict())))

    def rewind(self, method):
        """The state of the method and of the random numbers that the batch began with."""
        method.load_state_dict(self.method)
        torch.set_rng_state(self.random)


def assert_gradients(update, loss, method):
    """That an update of a method in the state before was by the gradients of a loss."""
    _, gradients, _ = update
    parameters = {name: p for name, p in method.named_parameters() if name in gradients}
    expected = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    assert max(slope.abs().max() for slope in expected if slope is not None) > 1e-3
    for name, slope in zip(parameters, expected, strict=True):
        slope = torch.zeros_like(gradients[name]) if slope is None else slope
        error, size = (gradients[name] - slope).norm(), slope.norm()
        # Of the whole tensor: rounding differs between processors and puts single pixels on the other side of a kink.
        assert error <= 2e-3 * size + 2e-5 * slope.numel() ** 0.5, f"{name}: {error:.2g} of {size:.2g}"


def load_weights(method, update, network):
    """Set one kind of networks to the weights that an update found."""
    state = {n: v for n, v in update[2].items() if n.startswith(f"{network}.") and "running" not in n}
    method.load_state_dict(state, strict=False)


def trained(folder, data=OneImage, **options):
    torch.manual_seed(1)
    method = make(data, **options)
    fit(method, data(), folder)
    return method


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("singan"))


def clip_art(height=14, width=30, count=2):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


def penalty(D, x, y, u):
    between = (u * x + (1 - u) * y).detach().requires_grad_()
    (slope,) = torch.autograd.grad(D(between).sum(), between, create_graph=True)
    return ((slope.norm(dim=1) - 1) ** 2).mean()


@pytest.mark.parametrize("scale", [0, 2])
def test_one_batch_equals_the_formulas(scale, tmp_path):
    watch = Watch(step=3 * scale + 1)
    run = make(alpha=7.0, penalty=0.3, d_steps=2, g_steps=2, optimizer=sgd)
    torch.manual_seed(2)
    fit(run, OneImage(), tmp_path, callbacks=[watch])
    m = make(alpha=7.0, penalty=0.3, d_steps=2, g_steps=2)
    watch.rewind(m)
    assert [name for name, _, _ in watch.updates] == [f"d{scale}"] * 2 + [f"g{scale}"] * 2

    m.train()
    for i in range(scale):
        m.G[i].eval()
    G, D = m.G[scale], m.D[scale]

    def up(picture, i):
        if picture.shape[2:] == m.sizes[i]:
            return picture
        return F.interpolate(picture, size=m.sizes[i], mode="bicubic", antialias=True).clamp(-1, 1)

    def layer(i, z, previous):  # (3): what the scale adds to the picture before
        return torch.tanh(m.G[i].body(F.pad(z + previous, [3] * 4))) + previous

    x = up(to_float(m.image), scale)
    with torch.no_grad():
        known = torch.zeros(1, 3, *m.sizes[0])
        for i in range(scale):
            z = m.z_star.repeat(1, 3, 1, 1) if i == 0 else torch.zeros(1, 3, *m.sizes[i])
            known = layer(i, z, up(known, i))
        known = up(known, scale)
        shape = (1, 1 if scale == 0 else 3, *m.sizes[scale])
        z = m.amps[scale] * torch.randn(shape).expand(-1, 3, -1, -1)
        before = torch.zeros(2, 3, *m.sizes[0])
        for i in range(scale):
            noise = torch.randn(2, 1 if i == 0 else 3, *m.sizes[i]).expand(-1, 3, -1, -1)
            before = layer(i, m.amps[i] * noise, up(before, i))
        before = up(before, scale)
    for k in range(2):
        load_weights(m, watch.updates[k], "D")
        y = layer(scale, z, before[k : k + 1]).detach()
        u = torch.rand(())
        assert_gradients(watch.updates[k], D(y).mean() - D(x).mean() + 0.3 * penalty(D, x, y, u), m)
    load_weights(m, watch.updates[2], "D")
    z_rec = m.z_star.repeat(1, 3, 1, 1) if scale == 0 else torch.zeros_like(x)
    for k in (2, 3):  # every update of G makes its pictures anew
        load_weights(m, watch.updates[k], "G")
        rec = layer(scale, z_rec, known)
        assert_gradients(watch.updates[k], 7 * F.mse_loss(rec, x) - D(layer(scale, z, before[1:])).mean(), m)
    before, after = (watch.updates[k][1][f"G.{scale}.body.2.weight"] for k in (2, 3))
    assert not torch.equal(before, after)
    assert G.training


def test_a_scale_begins_with_the_weights_before_and_noise_for_what_is_missing(tmp_path):
    run = make(iterations=2)
    begin, seen = run.begin_scale, {}

    def begin_scale(scale, batch):
        begin(scale, batch)
        same = scale and all(
            torch.equal(a, b)
            for nets in (run.G, run.D)
            for a, b in zip(nets[scale].state_dict().values(), nets[scale - 1].state_dict().values(), strict=True)
        )
        missing = run.real(scale) - run.reconstruction(scale - 1, run.sizes[scale])
        seen[scale] = same, missing.square().mean().sqrt().item()

    run.begin_scale = begin_scale
    fit(run, OneImage(), tmp_path)
    assert run.scales == len(seen) == 4
    for scale in range(1, 4):
        same, missing = seen[scale]
        assert same
        assert run.amps[scale].item() == pytest.approx(0.1 * missing, rel=1e-5)
    assert run.amps[0] == 1


def test_widths_double_every_four_scales():
    with torch.device("meta"):
        method = SinGAN(domains=("image",), channels=(3,), image_size=250, shapes=((188, 250),))
    assert [G.body[0][0].out_channels for G in method.G] == [32] * 4 + [64] * 4 + [128] * 2
    coarse = 3 * 32 * 9 + 32 + 3 * (32 * 32 * 9 + 32) + 4 * 64  # convolutions and norms
    assert sum(p.numel() for p in method.G[0].parameters()) == coarse + 32 * 3 * 9 + 3
    assert sum(p.numel() for p in method.D[0].parameters()) == coarse + 32 * 9 + 1


def test_finished_scales_rest(tmp_path):
    watch = Watch(step=6)
    run = make()
    fit(run, OneImage(), tmp_path, callbacks=[watch])
    for name, value in watch.method.items():
        if name.startswith(("G.0.", "G.1.", "D.0.", "D.1.")):
            assert torch.equal(run.state_dict()[name], value), name
        if name.startswith("G.2.") and name.endswith("weight"):
            assert not torch.equal(run.state_dict()[name], value), name


@pytest.mark.parametrize("fixed", [True, False])
def test_z_star_is_drawn_once_or_in_every_batch_of_the_coarsest_scale(fixed, tmp_path):
    watch = Watch(step=3)
    run = make(fixed_z=fixed)
    start = run.z_star.clone()
    fit(run, OneImage(), tmp_path, callbacks=[watch])
    assert torch.equal(start, run.z_star) == fixed
    assert torch.equal(watch.method["z_star"], run.z_star)


def test_resumes_in_the_middle_of_every_scale(tmp_path):
    assert_resumes_exactly(lambda: make(min_size=16, fixed_z=False), OneImage, tmp_path, (1, 4, 7))


def test_samples_of_any_size(method):
    assert method.sample(2).shape == (2, 3, 20, 26)
    assert method.sample(1, size=(30, 17)).shape == (1, 3, 30, 17)
    method.train()
    first, second = (method.sample(1, start=3) for _ in range(2))
    assert method.training
    image = to_float(method.image)
    assert 0 < (first - second).abs().mean() < (method.sample(1) - method.sample(1)).abs().mean()
    assert (first - image).abs().mean() < (method.sample(1) - image).abs().mean()


def test_samples_use_the_running_statistics(method):
    torch.manual_seed(0)
    method.train()
    before = copy.deepcopy(method.state_dict())
    one = method.sample(1)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    torch.manual_seed(0)
    assert torch.equal(one, method.eval().sample(1))


def test_a_pyramid_can_be_sampled_before_it_is_finished(tmp_path):
    run = make()
    with pytest.raises(UserError, match="SinGAN is not trained"):
        run.sample(1)
    fit(run, OneImage(), tmp_path, max_steps=4)
    assert run.sample(1).shape[2:] == run.sizes[1] == (15, 19)
    assert run.translate(clip_art(), "image", "image").shape == (2, 3, 9, 19)
    with pytest.raises(UserError, match="start is 2: give a scale from 1 to 1"):
        run.translate(clip_art(), "image", "image", start=2)


def test_translation_injects_at_a_scale(method):
    images = clip_art()
    torch.manual_seed(0)
    result = method.translate(images, "image", "image", start=2)
    assert result.shape == (2, 3, 12, 26)
    sizes = [(round(h * 12 / 20), w) for h, w in method.sizes]
    torch.manual_seed(0)
    method.eval()
    with torch.no_grad():
        y = resize(resize(images, sizes[1]), sizes[2])
        y = method.G[2](method.amps[2] * torch.randn(2, 3, *sizes[2]), y)
        y = method.G[3](method.amps[3] * torch.randn(2, 3, *sizes[3]), resize(y, sizes[3]))
    torch.testing.assert_close(result, y.clamp(-1, 1))


def test_of_two_images_the_last_is_learned_and_the_first_translated(tmp_path):
    run = trained(tmp_path, TwoImages, iterations=1)
    data = TwoImages()
    assert torch.equal(run.image[0], data.samples["b"])
    assert run.translate(to_float(data.samples["a"])[None], "left", "right").shape == (1, 3, 18, 24)
    with pytest.raises(UserError, match="target is left, but this SinGAN has learned right"):
        run.translate(clip_art(), "right", "left")


@pytest.mark.parametrize("mode", ["harmonise", "edit"])
def test_outside_of_the_mask_the_image_stays(method, mode):
    images, mask = clip_art(20, 26), torch.zeros(1, 1, 20, 26)
    mask[:, :, 8:12, 10:14] = 1
    torch.manual_seed(0)
    result = getattr(method, mode)(images, mask, start=2, radius=20.0)
    torch.manual_seed(0)
    made = method.translate(images, "image", "image", start=2)
    soft = soft_mask(mask, radius=2.08, sigma=0.52)
    torch.testing.assert_close(result, (1 - soft) * images + soft * made, rtol=1e-4, atol=1e-5)
    assert (result - images)[:, :, :3].abs().max() < 1e-4
    assert (result - made)[:, :, 9:11, 11:13].abs().max() < 1e-3


def test_masks_are_dilated_and_blurred():
    mask = torch.zeros(1, 1, 40, 40)
    mask[:, :, 20, 20] = 1
    y, x = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    distance = ((y - 20) ** 2 + (x - 20) ** 2).sqrt()
    sharp = soft_mask(mask, radius=7, sigma=1e-3)[0, 0]
    assert torch.equal(sharp > 0.5, distance <= 7)
    soft = soft_mask(mask, radius=7, sigma=2)[0, 0]
    assert (soft.min(), soft.max()) == (0, 1)
    assert 0.3 < soft[20, 27] < 0.8
    assert torch.equal(soft_mask(torch.ones(1, 1, 9, 9), 7, 5), torch.ones(1, 1, 9, 9))


def test_edits_reach_further_than_harmonisation(method):
    images, mask = clip_art(20, 26), torch.zeros(1, 1, 20, 26)
    mask[:, :, 8:12, 10:14] = 1
    changed = [(getattr(method, mode)(images, mask, 2) - images).abs().gt(0.01).sum() for mode in ("harmonise", "edit")]
    assert changed[1] > 1.2 * changed[0]


def test_super_resolution_enlarges_by_the_ratio_of_the_scales(method):
    images, calls = clip_art(20, 26), []
    hook = method.G[3].register_forward_pre_hook(lambda _, inputs: calls.append([x.shape[2:] for x in inputs]))
    try:
        assert method.super_resolve(images, 2.0).shape == (2, 3, 40, 52)
    finally:
        hook.remove()
    sizes = [(24, 31), (28, 37), (34, 44), (40, 52)]  # the ratio is 26 / 22
    assert calls == [[size, size] for size in sizes]
    assert method.super_resolve(images, 1.1).shape == (2, 3, 22, 29)


def test_animations_wander_around_the_image(method):
    clip = method.animate(4, start=0)
    assert clip.shape == (4, 3, 20, 26)
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(clip))
    image = method.reconstruction(3, method.sizes[3]).clamp(-1, 1)
    still = method.animate(3, alpha=1.0, start=0)  # drawn back entirely
    torch.testing.assert_close(still, image.expand(3, -1, -1, -1), rtol=1e-3, atol=1e-4)
    for start in (0, 1):
        inputs = []
        hook = method.G[0].register_forward_pre_hook(lambda _, given, seen=inputs: seen.append(given[0]))
        moving = method.animate(3, start=start)
        hook.remove()
        assert all(torch.equal(z, method.known(0)) == (start == 1) for z in inputs)
        assert (moving - image).abs().amax((1, 2, 3)).min() > 1e-4


def test_steps_of_a_walk_follow_the_supplement():
    z = torch.tensor([1.0, 2.0, 3.0])
    torch.manual_seed(5)
    walk = list(random_walk(z, 3, alpha=0.2, beta=0.7, first=0.05))
    torch.manual_seed(5)
    path = [z, 0.95 * z + 0.05 * torch.randn(3)]
    for _ in range(3):
        step = 0.7 * (path[-1] - path[-2]) + 0.3 * torch.randn(3)
        path.append(0.2 * z + 0.8 * (path[-1] + step))
    torch.testing.assert_close(torch.stack(walk), torch.stack(path[2:]))


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda m: m.translate(clip_art(), "image", "image", start=0), "start is 0: give a scale from 1 to 3"),
        (lambda m: m.translate(clip_art(), "image", "image", start=4), "start is 4: give a scale from 1 to 3"),
        (lambda m: m.sample(1, start=-1), "start is -1: give a scale from 0 to 3"),
        (lambda m: m.animate(2, start=4), "start is 4: give a scale from 0 to 3"),
        (lambda m: m.animate(0), "frames is 0: give"),
        (lambda m: m.animate(2, alpha=1.5), "alpha is 1.5: give"),
        (lambda m: m.animate(2, beta=-0.5), "beta is -0.5: give"),
        (lambda m: m.super_resolve(clip_art(), 1.0), "factor is 1: give a number above 1"),
        (lambda m: m.edit(clip_art(), torch.zeros(1, 1, 14, 30), 1), "mask is empty"),
        (
            lambda m: m.edit(clip_art(), torch.ones(1, 1, 14, 29), 1),
            r"mask is \[1, 1, 14, 29\]: give one of \[2, 1",
        ),
        (lambda m: m.edit(clip_art(), torch.ones(1, 1, 14, 30), 0), "start is 0: give a scale from 1 to 3"),
        (lambda m: make(d_steps=0), "d_steps is 0: give at least 1"),
        (lambda m: make(g_steps=0), "g_steps is 0: give at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(method, action, sentence):
    with pytest.raises(UserError, match=sentence):
        action(method)


# ---------------------------------------------------------------- grey


def test_a_grey_image_is_learned_sampled_and_changed_as_one_channel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 26), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    data = SingleImage(str(tmp_path / "grey.png"), channels=1, steps_per_epoch=4)
    method = make(lambda: data, iterations=1)
    train(method, data, tmp_path / "run", callbacks=[SampleQuality(), SampleSheet(2)])
    assert torch.equal(method.image[0, 0], torch.from_numpy(pixels))
    images = to_float(data.samples["a"])[None]
    mask = torch.ones_like(images)
    for made in (
        method.sample(2),
        method.animate(2),
        method.translate(images, "image", "image"),
        method.harmonise(images, mask, 1),
        method.super_resolve(images, 1.5),
    ):
        assert made.shape[1] == 1
        write_image(to_uint8(made)[0], tmp_path / "made.png")
        with Image.open(tmp_path / "made.png") as file:
            assert file.mode == "L"


def test_others_learn_from_colours_only():
    with pytest.raises(UserError, match="ConSinGAN learns from RGB only: set the data's channels to 3, or use SinGAN"):
        ConSinGAN(**{**facts(OneImage()), "channels": (1,)})
