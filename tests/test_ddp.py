"""Two processes train one model: pytest -k ddp."""

import os
import pickle
import signal
import socket

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import MeanMetric

from tests.callbacks.judges import Held
from tests.callbacks.test_content import Blocks, Surgeon
from tests.callbacks.test_guided_accuracy import Brush, Judge
from tests.callbacks.test_guided_accuracy import Shades as Colours
from tests.methods import adaptation
from tests.methods.domains import tiny
from tests.methods.editors import Heads
from tests.methods.editors import make as editor
from tests.methods.faces import Faces, make
from tests.methods.single import OneClip, OneImage, TwoImages, facts
from tests.methods.test_ost import make as ost
from tests.methods.test_tos import Pair as Drawings
from tests.methods.test_tos import tos
from tests.methods.test_two_step import make as two_step
from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.callbacks import (
    AdaptiveAugmentation,
    AnalogyQuality,
    ContentMasks,
    ContentTransfer,
    GuidedAccuracy,
    SampleQuality,
    SampleSheet,
    TransferAccuracy,
)
from xdomain.features.random_conv import RandomConv
from xdomain.methods import (
    ADDA,
    DANN,
    DIDD,
    AttGAN,
    ConSinGAN,
    CycleGAN,
    DomainConfusion,
    Erasure,
    FaderNetwork,
    GuidedTransfer,
    MaskedTransfer,
    PatchVAEGAN,
    Regions,
    SinGAN,
    SinGAN3D,
    StructuralAnalogy,
)
from xdomain.metrics import KID, NearestNeighbourAccuracy, PixelDiversity, RetrievalRanks, VerificationAUC
from xdomain.networks import ImagePool, ParameterDecoder
from xdomain.optim import GANAdam

STEPS = 4


class Watched(ToyGAN):
    """Remembers the images it saw, and validates by a metric that is reduced over the ranks."""

    def __init__(self):
        super().__init__(dropout=0.0)
        self.seen = {"train": [], "val": []}
        self.mean = MeanMetric()

    def training_step(self, batch, batch_idx):
        self.seen["train"].append({role: sample.position.tolist() for role, sample in batch.items()})
        super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        if "a" in batch:
            self.seen["val"] += batch["a"].position.tolist()
            self.mean.update(batch["a"].position.float())

    def on_validation_epoch_end(self):
        self.log("val/mean", self.mean.compute(), sync_dist=True)
        self.mean.reset()


def train(rank, world_size, folder, port):
    """One rank; writes what it knows at the end."""
    # As torchrun and the trainer's own launcher tell a process who it is.
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same start; DDP would broadcast rank 0's weights anyway
    model, ada = Watched(), AdaptiveAugmentation(["D"], images=100, target=-1.0)
    run = trainer(
        max_steps=STEPS,
        callbacks=[ada],
        val_check_interval=2,
        log_every_n_steps=1,
        strategy="ddp_find_unused_parameters_true",
        devices=world_size,
        run_dir=str(folder / "run"),
    )
    run.fit(model, datamodule=ToyPair(batch_size=2))
    facts = {
        "weights": weights(model),
        "seen": model.seen,
        "mean": run.callback_metrics["val/mean"].item(),
        "p": ada.augments["D"].p.item(),
        "global_step": run.global_step,
        "run_dir": str(run.run_dir),
        "world_size": dist.get_world_size(),
    }
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(facts))
    dist.destroy_process_group()


def spawn(function, folder):
    """What two ranks know at the end.

    They are forked from a process that has imported this module already: a start takes no time.
    """
    mp.get_context("forkserver").set_forkserver_preload([__name__])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(function, (2, folder, port), nprocs=2, start_method="forkserver")
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    return spawn(train, folder), folder


CONTENT = {
    "DIDD": (DIDD, {}),
    "DIDD with a linear adversary": (DIDD, {"discriminant": 0.3}),
    "DIDD with late content": (DIDD, {"content_start": 1}),
    "DIDD that learns for inference": (DIDD, {"slot_dropout": 0.1, "readouts": [Erasure(), Regions(0.7)]}),
    "GuidedTransfer": (GuidedTransfer, {}),
    "MaskedTransfer": (MaskedTransfer, {}),
    "MaskedTransfer with late content": (MaskedTransfer, {"one_decoder": True, "content_start": 1, "alpha_ramp": 2}),
    "FaderNetwork": (FaderNetwork, {}),
}


def train_content(rank, world_size, folder, port):
    """One rank; every method of content transfer in turn."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    states = {}
    for name, (method, options) in CONTENT.items():
        run = trainer(
            max_steps=3,
            limit_val_batches=1,
            strategy="ddp_find_unused_parameters_true",
            devices=world_size,
            run_dir=str(folder / name),
        )
        model = make(method, **options)
        start = weights(model)
        run.fit(model, datamodule=Faces(batch_size=2))
        states[name] = start, weights(model)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(states))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def content_ranks(tmp_path_factory):
    return spawn(train_content, tmp_path_factory.mktemp("ddp_content"))


@pytest.mark.parametrize("method", CONTENT)
def test_ddp_ranks_of_content_transfer_stay_equal(method, content_ranks):
    (start, first), (_, second) = (states[method] for states in content_ranks)
    parameters = [n for n in first if n.endswith((".weight", ".original"))]  # biases in front of a norm never move
    for name in parameters:
        assert torch.equal(first[name], second[name]), name
    assert any(not torch.equal(first[name], start[name]) for name in parameters)


def test_ddp_ranks_share_what_a_linear_adversary_knows(content_ranks):
    (_, first), (_, second) = (states["DIDD with a linear adversary"] for states in content_ranks)
    assert first["linear.gap"].abs().max() > 0
    for name in ("linear.gap", "linear.covariance"):
        assert torch.equal(first[name], second[name]), name


def test_ddp_ranks_share_what_is_learned_for_inference(content_ranks):
    (_, first), (_, second) = (states["DIDD that learns for inference"] for states in content_ranks)
    for name in ("erasure.statistics.gap", "erasure.statistics.w", "regions.statistics.mean"):
        name = f"readouts.{name}"
        assert first[name].abs().max() > 0
        assert torch.equal(first[name], second[name]), name


LEVELS = {"min_size": 10, "factor": 0.5, "rates": [4, 2, 1], "width": 4, "layers": 3}
SINGLE = {
    "SinGAN": (SinGAN, OneImage, {"min_size": 12, "width": 4, "layers": 3}),
    "ConSinGAN": (ConSinGAN, OneImage, {"min_size": 12, "width": 4, "layers": 2, "stages": 3, "train_depth": 2}),
    "StructuralAnalogy": (StructuralAnalogy, TwoImages, {"min_size": 16, "width": 4, "layers": 3, "fixed_z": False}),
    "PatchVAEGAN": (PatchVAEGAN, OneClip, {**LEVELS, "vae_levels": 2, "latent": 5}),
    "SinGAN3D": (SinGAN3D, OneClip, {**LEVELS, "critic_layers": 3}),
}


class Lone(Colours):
    """One image of either domain in every part but that of training."""

    def data(self, role, split):
        data = super().data(role, split)
        return data if split == "train" else data.keep(np.arange(1))


class LoneBlocks(Blocks):
    """One image of either domain."""

    def data(self, role, split):
        return super().data(role, split).keep(np.arange(1))


def single(method, data, **options):
    torch.manual_seed(0)
    made = method(iterations=2, **facts(data), **options).eval()
    made.begun.fill_(made.scales)
    return made


def lone_evaluations():
    """Methods, data of which the second of two processes has no image, and evaluations of them."""
    transfer, guided = TransferAccuracy("x"), GuidedAccuracy({"paint": "x"}, guides=2)
    transfer.helper, guided.judges = Held(Judge([1.0, 0.0, 0.0])), {"paint": Held(Judge([1.0, 0.0, 0.0]))}
    blocks = LoneBlocks("glasses")
    pyramid = {"min_size": 16, "width": 4, "layers": 3}
    return [
        (single(SinGAN, OneImage(), **pyramid), OneImage(), [SampleQuality(count=2, patches=(5,)), SampleSheet(2)]),
        (single(StructuralAnalogy, TwoImages(), **pyramid), TwoImages(), [AnalogyQuality(samples=2)]),
        (Brush(contents=("ink",)), Lone(), [transfer, guided]),
        (Surgeon(blocks.domains, masked=True, guided=False), blocks, [ContentTransfer(), ContentMasks()]),
    ]


def evaluate_alone(folder, **options):
    """All metrics of a validation and a test."""
    found = []
    for number, (method, data, callbacks) in enumerate(lone_evaluations()):
        run = trainer(callbacks=callbacks, run_dir=str(folder / str(number)), **options)
        run.validate(method, datamodule=data, verbose=False)
        values = dict(run.callback_metrics)
        run.test(method, datamodule=data, verbose=False)
        found.append({name: value.item() for name, value in (values | run.callback_metrics).items()})
    return found


def list_metrics(full):
    """Metrics that keep rows; only where it says so, they have seen any."""
    network, images = RandomConv(), torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    updates = {
        KID(network): [(images[:3], True), (images[3:], False)],
        PixelDiversity(): [(images[:1], images[1:])],
        NearestNeighbourAccuracy(): [(images[:4], labels[:4], True), (images[4:], labels[4:], False)],
        RetrievalRanks(): [(images[:4].flatten(1),), (images[4:].flatten(1), images[:2].flatten(1))],
        VerificationAUC(): [(images.flatten(1), labels)],
    }
    for metric, arguments in updates.items():
        for given in arguments if full else []:
            metric.update(*given)
    return [metric.compute() for metric in updates]


def train_single(rank, world_size, folder, port):
    """One rank; every method of a single sample in turn, through its first scales.

    Then evaluations whose images are all on the first rank, and metrics whose rows are all on the second.
    """
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    states = {}
    for name, (method, data, options) in SINGLE.items():
        run = trainer(
            max_steps=-1,
            max_epochs=-1,
            limit_val_batches=0,
            strategy="ddp_find_unused_parameters_true",
            devices=world_size,
            run_dir=str(folder / name),
        )
        torch.manual_seed(0)
        model = method(iterations=2, **facts(data()), **options)
        start = weights(model)
        run.fit(model, datamodule=data())
        states[name] = start, weights(model), torch.randn(3), run.global_step
    found = evaluate_alone(folder, strategy="ddp_find_unused_parameters_true", devices=world_size)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps((states, found, list_metrics(full=rank == 1))))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def single_ranks(tmp_path_factory):
    return spawn(train_single, tmp_path_factory.mktemp("ddp_single"))


@pytest.mark.parametrize("name", SINGLE)
def test_ddp_ranks_of_pyramids_stay_equal_with_noise_of_their_own(name, single_ranks):
    (start, first, noise, steps), (_, second, other_noise, _) = (states[name] for states, _, _ in single_ranks)
    assert steps >= 4
    assert not torch.equal(noise, other_noise)
    parameters = [n for n in first if n.endswith((".weight", ".original"))]
    for key in parameters:
        assert torch.equal(first[key], second[key]), key
    moved = [key for key in parameters if not torch.equal(first[key], start[key])]
    assert len(moved) >= 0.9 * len(parameters), set(parameters) - set(moved)


def test_ddp_ranks_count_the_images_of_all_for_the_probability_of_an_augmentation(ranks):
    (first, second), _ = ranks
    assert first["p"] == second["p"] == pytest.approx(STEPS * 2 * 2 / 100)


def test_ddp_ranks_stay_equal_on_different_batches(ranks):
    (first, second), _ = ranks
    assert first["world_size"] == 2
    assert first["global_step"] == second["global_step"] == STEPS
    for one, other in zip(first["seen"]["train"], second["seen"]["train"], strict=True):
        for role in "ab":
            assert not set(one[role]) & set(other[role])
    start = weights(_fresh())
    for name, value in first["weights"].items():
        if "running" not in name and "num_batches" not in name:  # BatchNorm counts per rank
            assert torch.equal(value, second["weights"][name]), name
            if name.endswith("weight"):  # the bias of D cancels out of its loss
                assert not torch.equal(value, start[name]), name


def _fresh():
    torch.manual_seed(0)
    return Watched()


def test_ddp_equals_one_process_with_the_mean_of_the_gradients(ranks):
    (first, second), _ = ranks
    data, model = ToyPair(batch_size=2), _fresh()
    images = {role: torch.from_numpy(data.data(role, "train").images).float() / 127.5 - 1 for role in "ab"}
    d, g = (model.optimizer(net.parameters()) for net in (model.D, model.g))
    for parts in zip(first["seen"]["train"], second["seen"]["train"], strict=True):
        translated = [model.g(images["a"][part["a"]]) for part in parts]
        real = [images["b"][part["b"]] for part in parts]
        d.zero_grad()
        sum((model.D(y.detach()) - model.D(x)).mean() for y, x in zip(translated, real, strict=True)).div(2).backward()
        d.step()
        g.zero_grad()
        sum(-model.D(y).mean() + y.square().mean() for y in translated).div(2).backward()
        g.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(first["weights"][name], parameter.detach(), rtol=1e-4, atol=1e-5)


def test_ddp_metric_is_reduced_over_all_images(ranks):
    (first, second), _ = ranks
    seen = first["seen"]["val"], second["seen"]["val"]
    assert sorted(seen[0] + seen[1]) == sorted([*range(10)] * 2)  # two validations of ten images
    assert not set(seen[0]) & set(seen[1])
    assert first["mean"] == second["mean"] == 4.5


class Disturbed(ToyGAN):
    """Something happens in the third batch of the second rank alone."""

    def __init__(self, what):
        super().__init__(dropout=0.0)
        self.what = what

    def training_step(self, batch, batch_idx):
        now = self.trainer.global_step == 2 and self.trainer.global_rank == 1
        if now and self.what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        y_a = self.g(batch["a"].image)
        self.step("d", lambda: (self.D(y_a.detach()) - self.D(batch["b"].image)).mean())
        factor = float("nan") if now and self.what == "nan" else 1.0
        self.step("g", lambda: (y_a.square().mean() - self.D(y_a).mean()) * factor)


def disturb(rank, world_size, folder, port):
    """One rank; writes how its trainings ended."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    ends = {}
    for what in ("signal", "nan", "again"):
        run_dir = folder / ("nan" if what == "again" else what)
        run = trainer(
            max_steps=9,
            limit_val_batches=0,
            save_minutes=0,
            strategy="ddp_find_unused_parameters_true",
            devices=world_size,
            run_dir=str(run_dir),
        )
        try:
            run.fit(Disturbed(what), datamodule=ToyPair(batch_size=2))
        except BaseException as error:
            ends[what] = type(error).__name__, str(error), run.global_step
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(ends))
    dist.destroy_process_group()


def test_ddp_what_happens_to_one_rank_ends_both(tmp_path):
    first, second = spawn(disturb, tmp_path)
    assert first["signal"] == second["signal"] == ("Stopped", "143", 3)
    assert torch.load(tmp_path / "signal/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert first["nan"][0] == "UserError"
    assert first["nan"][1].startswith("the loss g of step 2 is nan")
    assert second["nan"][:2] == ("SystemExit", "2")  # one process tells it
    assert torch.load(tmp_path / "nan/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert first["again"][0] == "UserError"
    assert "holds a run with its checkpoints already" in first["again"][1]
    assert second["again"][0] == "SystemExit"


def test_ddp_ranks_share_one_run_folder(ranks):
    (first, second), folder = ranks
    assert first["run_dir"] == second["run_dir"]
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["checkpoints", "metrics.csv", "run.json"]
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["random_states"]) == 2


def test_ddp_a_rank_without_images_takes_part_in_every_evaluation(single_ranks, tmp_path):
    (_, first, rows), (_, second, other_rows) = single_ranks
    alone = evaluate_alone(tmp_path / "alone")
    for values, others, expected in zip(first, second, alone, strict=True):
        assert values.keys() == others.keys() == expected.keys()
        assert values == pytest.approx(expected, rel=1e-5, nan_ok=True)
    for result, other, expected in zip(rows, other_rows, list_metrics(full=True), strict=True):
        torch.testing.assert_close(result, expected)
        torch.testing.assert_close(other, expected)


class Counting(ToyGAN):
    """Keeps a number of every rank's own in a buffer that its training depends on, beside the BatchNorm statistics."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("own", torch.zeros(()))

    def on_train_batch_start(self, batch, batch_idx):
        self.before = self.own.clone()

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        self.own.add_(self.global_rank + 1)


def train_and_resume(rank, world_size, folder, port):
    """One rank; straight runs, and runs that are stopped after every number of batches and resumed."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)

    def fit(name, steps, resume=False):
        torch.manual_seed(0)
        model = Counting(accumulate=2)
        run = trainer(
            max_steps=steps,
            val_check_interval=1,
            limit_val_batches=1,
            strategy="ddp_find_unused_parameters_true",
            devices=world_size,
            run_dir=str(folder / name),
        )
        checkpoint = str(folder / name / "checkpoints/last.ckpt") if resume else None
        run.fit(model, datamodule=ToyPair(batch_size=2, jitter=True), ckpt_path=checkpoint, weights_only=True)
        return weights(model) | {"before": model.before, "drawn": torch.rand(3)}

    states = {"straight": fit("straight", 7)}
    for steps in (3, 4):
        fit(f"stopped {steps}", steps)
        states[f"resumed {steps}"] = fit(f"stopped {steps}", 7, resume=True)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(states))
    dist.destroy_process_group()


def test_ddp_ranks_resume_exactly_with_buffers_of_their_own(tmp_path):
    ranks = spawn(train_and_resume, tmp_path)
    assert not torch.equal(ranks[0]["straight"]["own"], ranks[1]["straight"]["own"])
    for rank, states in enumerate(ranks):
        for name, state in states.items():
            for key, value in states["straight"].items():
                assert torch.equal(value, state[key]), (rank, name, key)


class Steps(pl.Callback):
    """The steps that were trained."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        self.seen.append(trainer.global_step)


def domains(folder, method, data, steps, ranks=1, resume=False):
    """The weights after a training of a method that turns one whole domain into another, and the trained steps."""
    watch = Steps()
    run = trainer(
        max_steps=steps,
        limit_val_batches=0,
        strategy="ddp_find_unused_parameters_true" if ranks > 1 else "auto",
        devices=ranks,
        run_dir=str(folder),
        callbacks=[watch],
    )
    checkpoint = str(folder / "checkpoints/last.ckpt") if resume else None
    torch.manual_seed(1)
    run.fit(method, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return weights(method) | {"drawn": torch.rand(3)}, watch.seen


def train_domains(rank, world_size, folder, port):
    """One rank; straight runs, runs that are stopped and resumed, and OST with and without a first phase."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    os.environ["XDOMAIN_CACHE"] = str(folder / "cache")
    torch.set_num_threads(1)
    states = {}
    for name, make_one in DOMAINS.items():
        for run, steps, resume in (("straight", 8, False), ("stopped", 5, False), ("stopped", 8, True)):
            states[name, run] = domains(folder / name / run, *make_one(), steps, world_size, resume)
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(states))
    dist.destroy_process_group()


DOMAINS = {
    "CycleGAN": lambda: (tiny(CycleGAN, pool=3, optimizer=GANAdam), Faces(batch_size=1)),
    "CycleGAN without pool": lambda: (without_pool(), Faces(batch_size=1)),  # the pool draws for one image at a time
    "OST drawing": lambda: one_shot("drawing"),
    "OST digits": lambda: one_shot("digits"),
    "TwoStep": lambda: (two_step(gan_steps=4, encoder_steps=4, ema=0.9, optimizer=GANAdam), Faces(batch_size=1)),
    "TOS": lambda: through_all_phases(),
    "AttGAN": lambda: (editor(AttGAN, critic_updates=1, optimizer=GANAdam), Heads(batch_size=2)),
    "ADDA": lambda: adapting(ADDA, source_steps=4, steps=4),
    "DANN": lambda: adapting(DANN, steps=8),
    "DomainConfusion": lambda: adapting(DomainConfusion),
}


def adapting(method, **options):
    return adaptation.make(method, optimizer=GANAdam, **options), adaptation.Digits(batch_size=1)


def without_pool():
    return tiny(CycleGAN, pool=0, optimizer=lambda p: torch.optim.SGD(p, lr=1e-3))


def through_all_phases():
    def g(dim, channels, size):  # without statistics of BatchNorm, which are a rank's own
        return ParameterDecoder(dim, channels, size, width=16, hidden=16)

    phases = {"imitator_steps": 2, "read_steps": 2, "steps": 4}
    return tos(g=g, optimizer=GANAdam, c_supervised=1.0, **phases), Drawings(batch_size=1)


def one_shot(protocol):
    method, data = ost(protocol, autoencoder_steps=3, steps=5, optimizer=GANAdam)
    if protocol == "drawing":
        method.pool = ImagePool(3, (3, 16, 16))
    return method, type(data)(batch_size=1 if protocol == "drawing" else 2)


@pytest.fixture(scope="module")
def domain_ranks(tmp_path_factory):
    return spawn(train_domains, tmp_path_factory.mktemp("ddp_domains"))


@pytest.mark.parametrize("name", DOMAINS)
def test_ddp_ranks_of_whole_domains_stay_equal_and_resume_exactly_with_pools_of_their_own(name, domain_ranks):
    (first, steps), (second, _) = (states[name, "straight"] for states in domain_ranks)
    pools = [key for key in first if key.endswith(".images") and len(first[key])]
    assert bool(pools) == (name in ("CycleGAN", "OST drawing"))
    start = DOMAINS[name]()[0].state_dict()
    for key, value in first.items():
        if key in pools:
            assert not torch.equal(value, second[key]), key
        elif key != "drawn" and ".running_" not in key:  # of the last batch, before rank 0 shares its own
            assert torch.equal(value, second[key]), key
    assert any(not torch.equal(first[key], start[key]) for key in start if key.endswith(".weight"))
    assert steps == [*range(1, 9)]
    for states in domain_ranks:
        (straight, _), (resumed, again) = states[name, "straight"], states[name, "stopped"]
        assert again == [6, 7, 8]
        for key, value in straight.items():
            if not key.startswith("D_pretrained"):  # the stopped one has found the first phase
                assert torch.equal(value, resumed[key]), key


def test_ddp_two_ranks_equal_one_process_with_batches_of_twice_the_size(domain_ranks, tmp_path):
    start = without_pool().state_dict()
    two, _ = domain_ranks[0]["CycleGAN without pool", "straight"]
    one, _ = domains(tmp_path, without_pool(), Faces(batch_size=2), 8)
    for name, before in start.items():
        if name.endswith(".weight"):
            moved = (one[name] - before).abs().max()
            assert moved > 0
            assert (two[name] - one[name]).abs().max() < 0.02 * moved, name
