"""ConSinGAN against its formulas written out, with separate passes for everything, and its modes."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD

from tests.methods.single import OneImage, TwoImages, assert_resumes_exactly, facts
from tests.methods.test_singan import Watch, assert_gradients, clip_art, fit, load_weights, penalty
from xdomain.batch import to_float
from xdomain.errors import UserError
from xdomain.methods import ConSinGAN
from xdomain.methods.consingan import disturb
from xdomain.networks.pyramid import resize, soft_mask

SMALL = {"iterations": 3, "stages": 3, "min_size": 12, "width": 4, "layers": 2, "train_depth": 2}


def sgd(parameters):
    return SGD(parameters, lr=0.05)


def make(data=OneImage, **options):
    return ConSinGAN(**{**SMALL, **facts(data()), **options})


GOLDEN = {"ConSinGAN": lambda: (make(iterations=2, optimizer=sgd), OneImage())}


def part(name):
    """The part of G that a parameter belongs to."""
    words = name.split(".")[1:]
    return ".".join(words[:2]) if words[0] == "stages" else words[0]


def trained(folder, data=OneImage, **options):
    torch.manual_seed(1)
    method = make(data, **options)
    fit(method, data(), folder)
    return method


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("consingan"))


@pytest.mark.parametrize("settings", [{}, {"norm": "instance", "mode": "retarget"}], ids=["plain", "norm"])
@pytest.mark.parametrize("scale", [0, 2])
def test_one_batch_equals_the_formulas(scale, settings, tmp_path):
    options = {**settings, "alpha": 7.0, "penalty": 0.3, "d_steps": 2, "g_steps": 2}
    watch, run = Watch(step=3 * scale + 1), make(**options, optimizer=sgd)
    for parameter in run.parameters():
        parameter.data.mul_(6)  # from the start of the paper nothing but biases reaches the end of so thin a network
    fit(run, OneImage(), tmp_path, callbacks=[watch])
    m = make(**options)
    watch.rewind(m)
    assert [name for name, _, _ in watch.updates] == [f"d{scale}"] * 2 + [f"g{scale}"] * 2

    x = resize(to_float(m.image), m.sizes[scale])
    z = [m.amps[i] * torch.randn(1, *m.G.noise_shape(i, m.sizes[i])) for i in range(scale + 1)]
    y = m.G(z, m.sizes)
    for k in range(2):
        load_weights(m, watch.updates[k], "D")
        D, u = m.D[scale], torch.rand(())
        l_d = D(y.detach()).mean() - D(x).mean() + 0.3 * penalty(D, x, y, u)
        assert_gradients(watch.updates[k], l_d, m)
    load_weights(m, watch.updates[2], "D")
    rec = m.G([m.amps[i] * getattr(m, f"z_{i}") for i in range(scale + 1)], m.sizes)
    assert_gradients(watch.updates[2], 7 * F.mse_loss(rec, x) - m.D[scale](y).mean(), m)
    (_, first, before), (_, second, after) = watch.updates[2:]
    assert not torch.equal(before["G.tail.weight"], after["G.tail.weight"])
    for name, gradient in first.items():  # the second update is by the gradient of the first
        torch.testing.assert_close(second[name], gradient)
    assert {part(name) for name in first} == {
        0: {"head", "stages.0", "tail"},
        2: {"stages.1", "stages.2", "tail"},
    }[scale]


def test_older_stages_learn_slower(tmp_path):
    run = make(iterations=5, train_depth=2, lr_scale=0.5, decay=0.1)
    seen = []
    step = run.training_step

    def training_step(batch, batch_idx):
        names = {id(p): part(n) for n, p in run.named_parameters()}
        groups = run.named_optimizer(f"g{run.scale}").param_groups
        seen.append({names[id(group["params"][0])]: group["lr"] for group in groups})
        step(batch, batch_idx)

    run.training_step = training_step
    fit(run, OneImage(), tmp_path)
    lr = 2e-4
    full = [
        {"stages.0": lr, "tail": lr, "head": lr},
        {"stages.0": lr / 2, "stages.1": lr, "tail": lr, "head": lr / 2},
        {"stages.1": lr / 2, "stages.2": lr, "tail": lr},
    ]
    for scale in range(3):
        for position in range(5):
            factor = 0.1 if position == 4 else 1.0
            expected = {name: pytest.approx(factor * rate) for name, rate in full[scale].items()}
            assert seen[5 * scale + position] == expected


def test_a_stage_begins_as_a_copy_and_older_ones_rest(tmp_path):
    run = make(train_depth=1)
    for parameter in run.parameters():
        parameter.data.mul_(6)
    begin, seen, states = run.begin_scale, {}, {}

    def begin_scale(scale, batch):
        begin(scale, batch)
        states[scale] = copy.deepcopy(run.state_dict())
        if scale:
            for nets in (run.G.stages, run.D):
                pairs = zip(nets[scale].parameters(), nets[scale - 1].parameters(), strict=True)
                assert all(torch.equal(a, b) for a, b in pairs)
            noises = [*run.known(scale - 1), torch.zeros(1, *run.G.noise_shape(scale, run.sizes[scale]))]
            wrong = run.G(noises, run.sizes) - resize(to_float(run.image), run.sizes[scale])
            seen[scale] = wrong.square().mean().sqrt().item()

    run.begin_scale = begin_scale
    fit(run, OneImage(), tmp_path)
    assert run.amps.tolist() == pytest.approx([1.0, 0.1 * seen[1], 0.1 * seen[2]], rel=1e-4)
    last = run.state_dict()
    for scale, rests in ((1, ["G.head", "G.stages.0", "D.0"]), (2, ["G.stages.1", "D.1"])):
        for name, value in states[scale].items():
            if name.startswith(tuple(rests)):
                assert torch.equal(last[name], value), name
    for name in ("G.stages.2.1.0.weight", "G.tail.weight", "D.2.0.0.weight"):
        assert not torch.equal(last[name], states[2][name])


def test_the_image_is_its_own_coarsest_noise_but_in_animation(method, tmp_path):
    torch.testing.assert_close(method.z_0, resize(to_float(method.image), method.sizes[0]))
    animation = trained(tmp_path, mode="animation", iterations=1)
    assert not torch.allclose(animation.z_0, resize(to_float(animation.image), animation.sizes[0]), atol=0.1)


def test_resumes_in_the_middle_of_every_stage(tmp_path):
    assert_resumes_exactly(make, OneImage, tmp_path, (1, 4, 7))


def test_harmonisation_resumes_too(tmp_path):
    assert_resumes_exactly(lambda: make(mode="harmonisation", iterations=2, stages=2), OneImage, tmp_path, (3,))


@pytest.mark.parametrize("g_steps", [1, 3])
def test_one_gradient_is_applied_several_times(g_steps, tmp_path):
    start, run = make(g_steps=g_steps), make(g_steps=g_steps, optimizer=sgd)
    run.load_state_dict(start.state_dict())
    watch = Watch(step=0)
    fit(run, OneImage(), tmp_path, max_steps=1, callbacks=[watch])
    updates = [gradients for name, gradients, _ in watch.updates if name == "g0"]
    assert len(updates) == g_steps
    for name, gradient in updates[0].items():
        moved = start.get_parameter(name) - run.get_parameter(name)
        torch.testing.assert_close(moved, 0.05 * g_steps * gradient, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("mode", ["generation", "retarget", "harmonisation", "animation"])
def test_every_mode_samples_at_any_size(mode, tmp_path):
    run = trained(tmp_path, mode=mode, iterations=1)
    assert run.G.zeros == (mode in ("retarget", "harmonisation"))
    assert run.sample(2).shape == (2, 3, 20, 26)
    samples = run.sample(2, size=(31, 18))
    assert samples.shape == (2, 3, 31, 18)
    assert not torch.equal(samples[0], samples[1])


def test_harmonisation_has_equal_ratios():
    wide = {"stages": 4, "min_size": 25, "shapes": ((250, 250),), "image_size": 250, "max_size": 250}
    heights = {mode: [h for h, _ in make(mode=mode, **wide).sizes] for mode in ("generation", "harmonisation")}
    assert heights["harmonisation"] == [25, 54, 117, 250]
    assert heights["generation"] != heights["harmonisation"]


def test_harmonisation_learns_from_disturbed_copies():
    run = make(mode="harmonisation")
    run.image.copy_(OneImage().samples["a"])
    copies = run.draw(0, 40)[0]
    kept = (copies - resize(to_float(run.image), run.sizes[0])).abs().amax(1) < 1e-6
    assert 0.5 < kept.float().mean() < 0.95
    assert not torch.equal(copies[0], copies[1])


def test_disturbed_copies_stay_images():
    image = resize(to_float(OneImage().samples["a"])[None], (12, 16))
    copies = torch.cat([disturb(image) for _ in range(200)])
    assert copies.shape == (200, 3, 12, 16)
    assert copies.abs().max() <= 1
    same = (copies == image).all(1).flatten(1).float().mean(1)
    assert ((same == 1).sum() > 0) & ((same == 0).sum() > 10)  # neither holes nor colours; colours
    holes = same[(same > 0.4) & (same < 1)]
    assert len(holes) > 100


def test_a_generator_can_be_sampled_before_it_is_finished(tmp_path):
    run = make()
    with pytest.raises(UserError, match="ConSinGAN is not trained"):
        run.sample(1)
    fit(run, OneImage(), tmp_path, max_steps=4)
    assert run.sample(1).shape[2:] == run.sizes[1] != run.sizes[2]
    assert run.translate(clip_art(), "image", "image").shape[3] == run.sizes[1][1]


def test_reconstruction_is_without_chance(method):
    rec = method.reconstruction()
    assert torch.equal(rec, method.reconstruction())
    noises = [method.amps[i] * getattr(method, f"z_{i}") for i in range(3)]
    torch.testing.assert_close(rec, method.G(noises, method.sizes))


def test_translation_takes_the_place_of_the_coarsest_noise(method):
    images = clip_art()
    torch.manual_seed(0)
    result = method.translate(images, "image", "image")
    assert result.shape == (2, 3, 12, 26)
    sizes = [(round(h * 12 / 20), w) for h, w in method.sizes]
    torch.manual_seed(0)
    noises = [method.amps[i] * torch.randn(2, *method.G.noise_shape(i, sizes[i])) for i in range(3)]
    torch.testing.assert_close(result, method.G([resize(images, sizes[0]), *noises[1:]], sizes))


def test_of_two_images_the_last_is_learned(tmp_path):
    run = trained(tmp_path, TwoImages, iterations=1)
    assert torch.equal(run.image[0], TwoImages().samples["b"])
    assert run.translate(to_float(TwoImages().samples["a"])[None], "left", "right").shape == (1, 3, 18, 24)


def test_outside_of_the_mask_the_image_stays(tmp_path):
    run = trained(tmp_path, mode="harmonisation", iterations=1)
    images, mask = clip_art(20, 26), torch.zeros(1, 1, 20, 26)
    mask[:, :, 8:12, 10:14] = 1
    torch.manual_seed(0)
    result = run.harmonise(images, mask, radius=20.0)
    torch.manual_seed(0)
    made = run.translate(images, "image", "image")
    soft = soft_mask(mask, radius=2.08, sigma=0.52)
    torch.testing.assert_close(result, (1 - soft) * images + soft * made, rtol=1e-4, atol=1e-5)
    assert (result - images)[:, :, :3].abs().max() < 1e-4


def test_animations_wander_around_the_image(method, tmp_path):
    image = method.reconstruction()
    torch.testing.assert_close(method.animate(3, alpha=1.0), image.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)
    run = trained(tmp_path, mode="animation", iterations=1)
    for start in (0, 1):
        inputs = []
        hook = run.G.head.register_forward_pre_hook(lambda _, given, seen=inputs: seen.append(given[0]))
        clip = run.animate(3, start=start)
        hook.remove()
        assert clip.shape == (3, 3, 20, 26)
        assert all(torch.equal(z, F.pad(run.z_0, [1] * 4)) == (start == 1) for z in inputs)
        assert not torch.equal(clip[0], clip[1])


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda m: m.translate(clip_art(), "image", "photo"), "target is photo, but this ConSinGAN has learned image"),
        (lambda m: m.animate(2, start=0), "start is 0, where the input of mode generation is the image"),
        (lambda m: m.animate(2, start=3), "start is 3: give a scale from 0 to 2"),
        (lambda m: m.animate(0), "frames is 0: give"),
        (lambda m: m.harmonise(clip_art(), torch.zeros(1, 1, 14, 30)), "mask is empty"),
        (
            lambda m: m.harmonise(clip_art(), torch.ones(1, 1, 14, 30), start=1),
            "start is 1, but the stages of ConSinGAN",
        ),
        (lambda m: make(d_steps=0), "d_steps is 0: give at least 1"),
        (lambda m: make(g_steps=0), "g_steps is 0: give at least 1"),
        (lambda m: make(train_depth=0), "train_depth is 0: give at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(method, action, sentence):
    with pytest.raises(UserError, match=sentence):
        action(method)


def test_an_animation_takes_no_images():
    with pytest.raises(UserError, match="mode is animation, which has seen no image"):
        make(mode="animation").translate(clip_art(), "image", "image")
