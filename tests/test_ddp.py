"""Two processes train one model: pytest -k ddp."""

import os
import pickle
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import MeanMetric

from tests.methods.faces import Faces, make
from tests.methods.single import OneClip, OneImage, TwoImages, facts
from tests.toys import ToyGAN, ToyPair, trainer, weights
from xdomain.methods import (
    DIDD,
    ConSinGAN,
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
    model = Watched()
    run = trainer(
        max_steps=STEPS,
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
        "global_step": run.global_step,
        "run_dir": str(run.run_dir),
        "world_size": dist.get_world_size(),
    }
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(facts))
    dist.destroy_process_group()


def spawn(function, folder):
    """What two ranks know at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(function, (2, folder, port), nprocs=2)
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


def train_single(rank, world_size, folder, port):
    """One rank; every method of a single sample in turn, through its first scales."""
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
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(states))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def single_ranks(tmp_path_factory):
    return spawn(train_single, tmp_path_factory.mktemp("ddp_single"))


@pytest.mark.parametrize("name", SINGLE)
def test_ddp_ranks_of_pyramids_stay_equal_with_noise_of_their_own(name, single_ranks):
    (start, first, noise, steps), (_, second, other_noise, _) = (states[name] for states in single_ranks)
    assert steps >= 4
    assert not torch.equal(noise, other_noise)
    parameters = [n for n in first if n.endswith((".weight", ".original"))]
    for key in parameters:
        assert torch.equal(first[key], second[key]), key
    moved = [key for key in parameters if not torch.equal(first[key], start[key])]
    assert len(moved) >= 0.9 * len(parameters), set(parameters) - set(moved)


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


def test_ddp_ranks_share_one_run_folder(ranks):
    (first, second), folder = ranks
    assert first["run_dir"] == second["run_dir"]
    assert sorted(path.name for path in (folder / "run").iterdir()) == ["checkpoints", "metrics.csv", "run.json"]
    checkpoint = torch.load(folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["random_states"]) == 2


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
