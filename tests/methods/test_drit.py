"""DRIT against its formulas; guides and the rest are tested with MUNIT."""

import copy
import itertools

import pytest
import torch

from tests.methods.domains import tiny
from tests.methods.editors import Order, cross_entropy
from tests.methods.faces import Faces, fitted, one_step, owners, pictures
from tests.methods.test_shared_passes import assert_shared
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.errors import SettingError, UserError
from xdomain.methods import DRIT
from xdomain.networks import ContentDiscriminator, MultiScaleDiscriminator
from xdomain.optim import GANAdam

GOLDEN = {"DRIT": lambda: (tiny(DRIT, content_updates=2, optimizer=GANAdam), Faces())}
WEIGHTS = {"gan": 0.7, "content_gan": 2.0, "cycle": 5.0, "reconstruction": 3.0, "latent": 4.0, "kl": 0.5}


def absolute(a, b):
    return (a - b).abs().mean()


def judged(D, real, fake):
    """Cross-entropy of all scales of a discriminator."""
    scores = zip(D(real), D(fake.detach()), strict=True)
    return sum(cross_entropy(x, 1).mean() + cross_entropy(y, 0).mean() for x, y in scores)


def fooled(D, fake):
    return sum(cross_entropy(scores, 1).mean() for scores in D(fake))


def noise():
    """What is drawn for a batch of two, one encoded: for content, attributes, styles, content and attributes again."""
    draw = torch.Generator().manual_seed(7)
    shapes = [(1, 16, 4, 4), (1, 3), (1, 3), (1, 16, 4, 4), (1, 3)]
    return [[torch.randn(shape, generator=draw, dtype=torch.float64) for _ in "xy"] for shape in shapes]


def naive(m, x, y):
    """Every pass for itself, on codes with given noise; both of the generator's losses before one step."""
    m.eval()  # the noise of content is added here
    (n_x, n_y), (e_x, e_y), (r_x, r_y), (n_xy, n_yx), (e_xy, e_yx) = noise()
    (x, other_x), (y, other_y) = x.chunk(2), y.chunk(2)
    E_a, fixed = m.E_a, copy.deepcopy(m.E_a)

    def c_x():
        return m.E_c(x, 0) + n_x

    def c_y():
        return m.E_c(y, 1) + n_y

    def attributes(image, domain, draw):
        mean, logvar = E_a(image, domain)
        return mean + draw * logvar.exp().sqrt()

    def fake_x():
        return m.G(c_y(), attributes(x, 0, e_x), 0)

    def fake_y():
        return m.G(c_x(), attributes(y, 1, e_y), 1)

    def random_x():
        return m.G(c_y(), r_x, 0)

    def random_y():
        return m.G(c_x(), r_y, 1)

    def images():
        encoded = judged(m.D_X, x, fake_x()) + judged(m.D_Y, y, fake_y())
        return 0.7 * (encoded + judged(m.D_X2, other_x, random_x()) + judged(m.D_Y2, other_y, random_y()))

    def content():
        return cross_entropy(m.D_c(c_x().detach()), 0).mean() + cross_entropy(m.D_c(c_y().detach()), 1).mean()

    def main():
        gan = 0.7 * (fooled(m.D_X, fake_x()) + fooled(m.D_Y, fake_y()))
        undecided = sum((cross_entropy(m.D_c(c()), 0) + cross_entropy(m.D_c(c()), 1)).mean() / 2 for c in (c_x, c_y))
        again_y, again_x = m.E_c(fake_x(), 0) + n_xy, m.E_c(fake_y(), 1) + n_yx
        seen_x, seen_y = attributes(fake_x(), 0, e_xy), attributes(fake_y(), 1, e_yx)
        cycle = absolute(m.G(again_x, seen_x, 0), x) + absolute(m.G(again_y, seen_y, 1), y)
        same = absolute(m.G(c_x(), attributes(x, 0, e_x), 0), x) + absolute(m.G(c_y(), attributes(y, 1, e_y), 1), y)
        kl = sum((c() ** 2).mean() for c in (c_x, c_y))
        for mean, logvar in (E_a(x, 0), E_a(y, 1)):
            kl = kl - (1 + logvar - mean**2 - logvar.exp()).sum() / 2
        return gan + 2 * undecided + 5 * cycle + 3 * same + 0.5 * kl

    def alone():
        gan = 0.7 * (fooled(m.D_X2, random_x()) + fooled(m.D_Y2, random_y()))
        return gan + 4 * (absolute(fixed(random_x(), 0)[0], r_x) + absolute(fixed(random_y(), 1)[0], r_y))

    return [("d", images), ("d_content", content), ("g", lambda: main() + alone())]


def scales(channels):
    return MultiScaleDiscriminator(channels, width=4, layers=2, scales=2)


def test_one_forward_equals_updates_with_passes_of_their_own(monkeypatch):
    drawn = itertools.chain.from_iterable(noise())
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))
    assert_shared(tiny(DRIT, discriminator=scales, **WEIGHTS), naive, step=2)
    assert next(drawn, None) is None


@pytest.mark.parametrize("step", [0, 1, 3])
def test_other_batches_teach_the_content_discriminator_alone(step, monkeypatch):
    drawn = iter(noise()[0])
    monkeypatch.setattr(torch, "randn_like", lambda _: next(drawn))
    assert_shared(tiny(DRIT), lambda m, x, y: naive(m, x, y)[1:2], step=step)


def test_two_of_three_batches_are_the_content_discriminators():
    method = tiny(DRIT)
    order = Order(method)
    fitted(method, steps=6)
    whole = ["d", "d_content", "g"]
    expected = [(i, name) for i in range(6) for name in (whole if i in (2, 5) else ["d_content"])]
    assert order.names == expected


def test_every_network_learns():
    updates, _ = one_step(tiny(DRIT, content_updates=1))
    found = {update.name: owners(update.gradients) for update in updates}
    assert found == {"d": {"D_X", "D_Y", "D_X2", "D_Y2"}, "d_content": {"D_c"}, "g": {"E_c", "E_a", "G"}}


def test_the_content_discriminator_learns_slower_and_in_short_steps():
    method = tiny(DRIT, optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in method.build_optimizers().items()}
    assert rates == {"d": 0.5, "d_content": 0.2, "g": 0.5}
    optimizers = method.build_optimizers()
    method.named_optimizer = optimizers.__getitem__
    for name, norm in (("d_content", 5.0), ("d", None)):
        own = optimizers[name].param_groups[0]["params"]
        for p in own:
            p.grad = torch.ones_like(p)
        method.on_before_optimizer_step(optimizers[name])
        found = torch.cat([p.grad.flatten() for p in own]).norm().item()
        assert found == pytest.approx(norm or sum(p.numel() for p in own) ** 0.5, rel=1e-4)


def test_translations_have_the_mean_attributes_and_no_noise():
    m, x, y = tiny(DRIT).train(), pictures(0), pictures(1)
    made = m.translate(x, "plain", "plus", guide=y)
    assert m.training
    m.eval()
    torch.testing.assert_close(made, m.G(m.E_c(x, 1), m.E_a(y, 0)[0], 0))
    torch.testing.assert_close(m.translate(x, "plain", "plain"), m.G(m.E_c(x, 1), m.E_a(x, 1)[0], 1))


def test_one_image_a_batch_is_both_halves():
    fitted(tiny(DRIT, content_updates=1), data=Faces(batch_size=1))


def test_a_run_resumes_between_two_updates_of_all(tmp_path):
    def run(folder, steps, **more):
        job = trainer(max_steps=steps, limit_val_batches=0, run_dir=str(tmp_path / folder))
        job.fit(tiny(DRIT, optimizer=GANAdam), datamodule=Faces(), **more)
        return torch.load(last(folder), weights_only=True)

    def last(folder):
        return tmp_path / folder / "checkpoints" / "last.ckpt"

    straight = run("straight", 6)
    run("stopped", 4)
    resumed = run("stopped", 6, ckpt_path=str(last("stopped")), weights_only=True)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []


def test_what_cannot_be_trained_is_refused():
    method = tiny(DRIT, content_discriminator=lambda channels: ContentDiscriminator(channels, kernel=3, halvings=1))
    sentence = (
        "content_discriminator needs images of 28 pixels, but the data has 16: give it a smaller kernel, or fewer"
    )
    with pytest.raises(SettingError, match=sentence):
        fitted(method)
    with pytest.raises(UserError, match="content_updates is 0: give a number of at least 1"):
        tiny(DRIT, content_updates=0)
    with pytest.raises(UserError, match="accumulate is 2, but not every batch updates all networks: set"):
        tiny(DRIT, accumulate=2)
    assert tiny(DRIT, accumulate=2, content_updates=1).accumulate == 2
