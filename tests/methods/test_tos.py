"""Tied Output Synthesis: which losses reach which networks in every phase, against the formulas written out."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.methods.faces import Watch, assert_gradients, moved, owners
from tests.methods.test_dtn import SPEC, nll
from tests.running.test_resume import differences
from tests.toys import ToyPair, trainer, weights
from xdomain.batch import to_float
from xdomain.data import ImageData
from xdomain.engines import Engine, Parameter, Polygons, Schema
from xdomain.engines.drawing import Draws
from xdomain.errors import UserError
from xdomain.inference.loading import load
from xdomain.losses import l_parameters
from xdomain.methods import TOS
from xdomain.networks import ConvDiscriminator, ParameterDecoder, ParameterEncoder, UpConvDecoder
from xdomain.optim import GANAdam

SIZE = 16
COUNT = 20


class Discs(Engine):
    """A grey disc or ring: its size, and where it stands on a circle."""

    name, channels, version, label = "discs", 1, 1, "kind"
    schema = Schema(
        [
            Parameter("kind", "choice", values=("disc", "ring", "both", "none")),
            Parameter("size", "continuous", 0.2, 0.6),
            Parameter("angle", "periodic", 0.0, 2 * np.pi),
        ]
    )

    def sample(self, indices, seed):
        return self.schema.draw(Draws(indices, seed))

    def attributes(self, u):
        return {"Large": u[:, 1] > 0.4}

    def render(self, u, size):
        axis = (2 * torch.arange(size) + 1) / size - 1
        kind, radius, angle = (u[:, i, None, None] for i in range(3))
        far = ((axis[None] - 0.4 * angle.cos()) ** 2 + (axis[:, None] - 0.4 * angle.sin()) ** 2).sqrt()
        disc, ring = (radius - far) * size, (0.1 - (far - radius).abs()) * size
        shown = torch.where(kind == 0, disc, torch.where(kind == 1, ring, torch.maximum(disc, ring)))
        return ((shown * (kind < 3) + 0.5).clamp(0, 1) * 255).round().byte()[:, None]


class Pair(ToyPair):
    """Random colour images with labels, and pictures of the engine whose parameters are known."""

    domains = ("colour", "discs")
    channels = (3, 1)
    image_size = SIZE
    root = None

    def drawn_from(self, role, split, schema):
        if role == "a" or schema.names != Discs.schema.names:
            return None
        return Discs().sample(torch.arange(COUNT), {"train": 0, "val": 1, "test": 2}[split])

    def data(self, role, split):
        if role == "b":
            return ImageData(Discs().render(self.drawn_from(role, split, Discs.schema), SIZE).numpy())
        rng = np.random.default_rng([ord(role), *split.encode()])
        images = rng.integers(0, 256, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)
        return ImageData(images, rng.integers(0, 4, COUNT))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05)


def tos(ready=True, **options):
    """A TOS of some thousand weights; f has random weights and counts as trained."""
    torch.manual_seed(2)
    settings = {
        "f": SPEC,
        "engine": Discs(),
        "g": partial(UpConvDecoder, width=8),
        "D": partial(ConvDiscriminator, width=4, batch_norm=False),
        "c": partial(ParameterEncoder, width=4, hidden=16),
        "imitator": partial(ParameterDecoder, width=16, hidden=16),
        "imitator_steps": 1,
        "read_steps": 1,
        "steps": 1,
        "ramp": 0,
        "optimizer": sgd,
        "domains": Pair.domains,
        "channels": Pair.channels,
        "image_size": SIZE,
    }
    method = TOS(**{**settings, **options})
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith(("g.", "D.")) and parameter.ndim == 4:
                parameter.mul_(5)  # the usual 0.02 hides what depends on the images
    method.f.ready.fill_(ready)
    return method


GOLDEN = {
    "TOS": lambda: (
        tos(optimizer=GANAdam, ramp=2, read_steps=1, steps=2, gamma=0.01, c_supervised=1.0, e_cycle=1.0),
        Pair(),
    ),
    "TOS with both outputs judged": lambda: (
        tos(optimizer=GANAdam, read_steps=0, steps=3, const_on="both", gan_on="both"),
        Pair(),
    ),
}


def fitted(method, steps=-1, **options):
    run = trainer(max_steps=steps, max_epochs=-1, limit_val_batches=0, log_every_n_steps=1, **options)
    run.fit(method, datamodule=Pair())
    return run


def batches(steps):
    """Images of both domains and the one-hot parameters of the second, batch after batch."""
    table = Discs.schema.one_hot(Pair().drawn_from("b", "train", Discs.schema))
    loader = iter(Pair().train_dataloader())
    for _ in range(steps):
        batch, _, _ = next(loader)
        yield to_float(batch["a"].image), to_float(batch["b"].image), table[batch["b"].position]


def updates_of(method):
    watch = Watch()
    run = fitted(method, callbacks=[watch])
    return watch.updates, {name: value.item() for name, value in run.callback_metrics.items()}


def test_phases_end_the_training():
    method = tos(imitator_steps=2, read_steps=3, steps=4)
    assert [(p.name, p.steps, p.optimizers) for p in method.build_phases()] == [
        ("imitate", 2, ("e",)),
        ("read", 3, ("c",)),
        ("tie", 4, ("d", "g")),
    ]
    updates, _ = updates_of(method)
    assert [update.name for update in updates] == ["e"] * 2 + ["c"] * 3 + ["d", "g"] * 4
    assert [phase.name for phase in tos(read_steps=0).build_phases()] == ["imitate", "tie"]


def test_the_imitator_learns_pictures_from_softened_choices():
    method = tos(soften=0.3)
    m = copy.deepcopy(method)
    (e, *_), _ = updates_of(method)
    ((_, t, u),) = batches(1)
    seen = []
    soften = m.engine.schema.soften
    for seed in range(2):  # the choices are softened anew in every batch, and only they
        torch.manual_seed(seed)
        seen.append(soften(u, 0.3))
    assert not torch.equal(*seen)
    assert owners(e.gradients) == {"imitator"}

    hard = tos(soften=0.0)
    (e, *_), _ = updates_of(hard)
    assert_gradients(e.gradients, ((m.imitator(u) - t) ** 2).mean(), m, noise=1e-4)


def test_c_hat_learns_the_known_parameters():
    method = tos()
    updates, _ = updates_of(method)
    (update,) = (update for update in updates if update.name == "c")
    m = tos()
    m.load_state_dict(update.state)
    *_, (_, t, u) = batches(2)
    assert owners(update.gradients) == {"c"}
    assert_gradients(update.gradients, l_parameters(m.c.raw(t), u, m.engine.schema.layout), m, noise=1e-4)


def formulas(m, x, t, u, settings):
    """Both losses of a batch of the phase ``tie``, with every pass of its own."""
    f = m.f.network.eval()

    def content(images):
        return f.features(images if images.shape[1] == 3 else images.repeat(1, 3, 1, 1))

    h = content(x).detach()
    m.g.train()
    y = m.g(torch.cat([h, content(t).detach()]))
    y_s, y_t = y[: len(x)], y[len(x) :]
    inner = y_s.detach() if settings.get("detach") else y_s
    v = m.imitator(m.c(inner))

    def which(on):
        return {"G": y_s, "e": v, "both": torch.cat([y_s, v])}[on]

    judged = which(settings.get("gan_on", "G"))
    l_d = nll(m.D(judged.detach()), 0) + nll(m.D(y_t.detach()), 1) + nll(m.D(t), 2)
    on = settings.get("const_on", "G")
    const = ((content(which(on)) - (torch.cat([h, h]) if on == "both" else h)) ** 2).mean()
    l_g = settings.get("tie", 10) * ((inner - v) ** 2).mean() + 15 * const + 15 * ((y_t - t) ** 2).mean()
    layout = m.engine.schema.layout
    if settings.get("gan", "ternary") != "none":
        l_g = l_g + nll(m.D(judged), 2) + nll(m.D(y_t), 2)
    if settings.get("gamma"):
        dx, dy = y_s.diff(dim=3)[..., :-1, :], y_s.diff(dim=2)[..., :-1]
        l_g = l_g + settings["gamma"] * ((dx**2 + dy**2 + 1e-6).sqrt() - 1e-3).sum((2, 3)).mean()
    if not settings.get("fixed_c"):
        l_g = l_g + settings.get("c_supervised", 0) * l_parameters(m.c.raw(t), u, layout)
        l_g = l_g + settings.get("e_cycle", 0) * l_parameters(m.c.raw(m.imitator(u)), u, layout)
    return l_d, l_g


SETTINGS = [
    {},
    {"tie": 0.0},
    {"detach": True},
    {"detach": True, "const_on": "e"},
    {"const_on": "e"},
    {"const_on": "both", "gan_on": "both"},
    {"gan_on": "e"},
    {"gan": "none"},
    {"gamma": 0.05},
    {"c_supervised": 3.0, "e_cycle": 2.0},
    {"fixed_c": True, "c_supervised": 3.0, "e_cycle": 2.0},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_tied_updates_are_the_formulas(settings):
    updates, logged = updates_of(tos(**settings))
    *_, (x, t, u) = batches(3)
    tied = [update for update in updates if update.name in "dg"]
    assert [update.name for update in tied] == (["g"] if settings.get("gan") == "none" else ["d", "g"])
    m = tos(**settings)
    of_g = tied[-1]
    m.load_state_dict(of_g.state)
    assert owners(of_g.gradients) == ({"g"} if settings.get("fixed_c") else {"g", "c"})
    _, l_g = formulas(m, x, t, u, settings)
    assert logged["l_g"] == pytest.approx(l_g.item(), rel=1e-4)
    assert_gradients(of_g.gradients, l_g, m, noise=1e-4)
    if len(tied) == 2:
        of_d = tied[0]
        m.load_state_dict(of_d.state)
        l_d, _ = formulas(m, x, t, u, settings)
        assert owners(of_d.gradients) == {"D"}
        assert_gradients(of_d.gradients, l_d, m, noise=1e-4)


def test_every_phase_moves_its_networks_and_no_other():
    method = tos()
    before = weights(method)
    updates, _ = updates_of(method)
    states = [before, *(update.state for update in updates), weights(method)]

    def changed(i):
        held = copy.deepcopy(method)
        held.load_state_dict(states[i + 1])
        return moved(held, states[i])

    assert [changed(i) for i in (1, 2, 3, 4)] == [{"imitator"}, {"c"}, {"D"}, {"g", "c"}]


def test_a_fixed_c_and_the_imitator_stay():
    method = tos(fixed_c=True, steps=3)
    updates, _ = updates_of(method)
    tied = next(update.state for update in updates if update.name == "d")
    kept = ("c.", "imitator.", "f.")
    for name, value in method.state_dict().items():
        assert not name.startswith(kept) or torch.equal(value, tied[name]), name


class Normed(nn.Module):
    """An imitator and an encoder whose BatchNorm would drift if it were left in training mode."""

    def __init__(self, network, channels):
        super().__init__()
        self.norm, self.network = nn.BatchNorm1d(channels) if channels > 3 else nn.BatchNorm2d(channels), network

    def raw(self, inputs):
        return self.network.raw(self.norm(inputs))

    def forward(self, inputs):
        return self.network(self.norm(inputs))


def test_frozen_networks_stay_in_evaluation_mode():
    def c(channels, size, layout):
        return Normed(ParameterEncoder(channels, size, layout, width=4, hidden=16), channels)

    def imitator(size, channels, image_size):
        return Normed(ParameterDecoder(size, channels, image_size, width=16, hidden=16), size)

    method = tos(c=c, imitator=imitator, fixed_c=True, read_steps=2, steps=3)
    updates, _ = updates_of(method)
    after_e, after_c = updates[1].state, updates[3].state
    final = method.state_dict()
    for state, name in ((after_e, "imitator.norm"), (after_c, "c.norm")):
        assert torch.equal(final[f"{name}.running_mean"], state[f"{name}.running_mean"])
        assert state[f"{name}.running_mean"].abs().max() > 0
    assert not method.f.network.training


def test_the_tie_grows():
    method = tos(ramp=3, steps=6, tie=8.0)
    found = []
    method.l_const_of = lambda *a: (found.append(method.tie_weight), TOS.l_const_of(method, *a))[1]
    fitted(method)
    assert found == pytest.approx([2, 4, 6, 8, 8, 8])


def test_y_and_its_reading_are_computed_once_a_batch():
    method, counts = tos(const_on="both", gan_on="both"), {}
    for name in ("g", "c", "imitator"):
        network = getattr(method, name)
        network.register_forward_hook(lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1}))
    fitted(method)
    assert counts == {"g": 1, "c": 1, "imitator": 2}  # the imitator once while it was trained; c.raw is no forward


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6, 7])
def test_a_resumed_training_is_bit_for_bit_the_straight_one(stop, tmp_path):
    """Stopped inside and at the ends of the phases; choices are softened at random in the first."""
    settings = {"imitator_steps": 2, "read_steps": 2, "steps": 5, "optimizer": GANAdam, "ramp": 3, "c_supervised": 1.0}
    straight = tos(**settings)
    fitted(straight, run_dir=str(tmp_path / "straight"))
    fitted(tos(**settings), steps=stop, run_dir=str(tmp_path / "stopped"))
    resumed = tos(**settings)
    run = trainer(max_epochs=-1, limit_val_batches=0, log_every_n_steps=1, run_dir=str(tmp_path / "stopped"))
    run.fit(resumed, datamodule=Pair(), ckpt_path=str(tmp_path / "stopped/checkpoints/last.ckpt"), weights_only=True)
    one, other = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("straight", "stopped")
    )
    assert one["global_step"] == other["global_step"] == 9
    for key in ("state_dict", "optimizer_states"):
        assert not differences(one[key], other[key])


# ---------------------------------------------------------------- the trained method


def test_both_outputs_of_a_trained_method():
    method = tos()
    fitted(method)
    method.train()
    images = torch.rand(5, 3, SIZE, SIZE) * 2 - 1
    tied = method.tied(images)
    assert method.g.training
    assert method.c.training
    m = copy.deepcopy(method).eval()
    free = m.g(m.f.network.features(images))
    torch.testing.assert_close(tied.free, free)
    torch.testing.assert_close(tied.soft, m.c(free))
    torch.testing.assert_close(tied.imitated, m.imitator(m.c(free)))
    u = tied.parameters
    assert torch.equal(u, Discs.schema.from_one_hot(tied.soft))
    assert torch.equal(tied.drawn, to_float(Discs().render(u, SIZE)))
    assert torch.equal(method.read(images), u)
    assert torch.equal(method.translate(images, "colour", "discs"), tied.drawn)
    assert torch.equal(method.free(images, "colour", "discs"), tied.free)
    assert torch.equal(method.imitated(images, "colour", "discs"), tied.imitated)
    assert set(method.tasks) == {"transfer", "free", "imitated"}
    for task in method.tasks.values():
        with pytest.raises(UserError, match="this TOS translates into discs only, not into 'colour'"):
            task(images, "colour", "colour")


def test_a_checkpoint_needs_nothing_else(tmp_path):
    method = tos(engine=Polygons(), channels=(3, 3), domains=("photo", "polygons"))
    trainer(run_dir=str(tmp_path / "run")).strategy.connect(method)
    file = tmp_path / "tos.ckpt"
    run = trainer(logger=False, enable_checkpointing=False)
    run.strategy.connect(method)
    run.save_checkpoint(file, weights_only=False)
    content = torch.load(file, weights_only=True)
    networks = {"g": ("UpConvDecoder", {"width": 8}), "D": ("ConvDiscriminator", {"width": 4, "batch_norm": False})}
    networks |= {"c": ("ParameterEncoder", {"width": 4, "hidden": 16})}
    networks |= {"imitator": ("ParameterDecoder", {"width": 16, "hidden": 16})}
    content["hyper_parameters"] |= {
        "_class_path": "xdomain.methods.TOS",
        "engine": {"class_path": "xdomain.engines.Polygons"},
        **{k: {"class_path": f"xdomain.networks.{n}", "init_args": args} for k, (n, args) in networks.items()},
    }
    torch.save(content, file)
    loaded = load(file)
    assert isinstance(loaded.engine, Polygons)
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    assert torch.equal(loaded.translate(images, "photo", "polygons"), method.translate(images, "photo", "polygons"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"imitator_steps": 0}, "imitator_steps is 0: give a number of batches of at least 1"),
        ({"read_steps": -1}, "read_steps is -1: give a number of batches of at least 0"),
        ({"steps": 0}, "steps is 0"),
        ({"soften": 0.6}, "soften is 0.6: give a share from 0 to 0.5"),
        ({"fixed_c": True, "read_steps": 0}, "fixed_c is true, but c is trained in no phase: set read_steps"),
        ({"engine": Polygons()}, "engine is polygons, which draws 3 channels, but discs has 1"),
        ({"encoder": "learned"}, "encoder is learned, but G of TOS is"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "+".join(value),
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        tos(**settings)


def test_pictures_without_parameters_are_refused():
    class Unknown(Pair):
        def drawn_from(self, role, split, schema):
            return None

        def data(self, role, split):
            return Pair().data(role, split)

    run = trainer(max_steps=1, limit_val_batches=0)
    with pytest.raises(UserError, match="TOS needs images with the parameters of discs, which discs does not have"):
        run.fit(tos(), datamodule=Unknown())


def test_a_few_batches_make_the_imitator_draw():
    """Not a proof of quality: the loss of e halves on a toy that it can draw."""
    method = tos(imitator_steps=200, read_steps=0, optimizer=partial(GANAdam, lr=1e-2))
    pictures = to_float(torch.from_numpy(Pair().data("b", "train").images))
    u = Discs.schema.one_hot(Pair().drawn_from("b", "train", Discs.schema))
    before = F.mse_loss(method.imitator(u), pictures)
    fitted(method, steps=200)
    assert F.mse_loss(method.imitator.eval()(u), pictures) < before / 2
