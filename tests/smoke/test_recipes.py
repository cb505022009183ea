"""Every recipe through the real command line: a few steps of everything, on small data and fake files."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image

from tests.fakes import celeba, cifar
from tests.fakes import digits as fakes
from tests.fakes.folders import write_facades, write_picture
from tests.fakes.streets import write_cityscapes, write_gta5
from xdomain.commands.main import main
from xdomain.discover import owner_of
from xdomain.features import helpers
from xdomain.methods import readouts
from xdomain.running import curves
from xdomain.running.metrics_file import read_metrics
from xdomain.running.signals import PARENT

CONFIGS = Path(__file__).parents[2] / "configs"
CONFIG = {path.stem: path for path in CONFIGS.rglob("*.yaml")}
RECIPES = sorted(stem for stem, path in CONFIG.items() if "overlays" not in path.parts)
SMALL = {
    "Avatars": {
        "identities": 40,
        "images_per_identity": 2,
        "val_identities": 30,
        "test_identities": 30,
        "eval_images_per_identity": 2,
    },
    "AvatarClips": {"train_frames": 24, "val_frames": 8, "test_frames": 8},
    "Street": {"train_size": 40, "val_size": 10, "test_size": 12},
    "Handwritten": {"limit": 40},
    "MNIST": {"val_size": 10},
    "USPS": {"val_size": 10},
    "SVHN": {"val_size": 10},
    "DIDD": {"width": 8, "sep": 2},
    "GuidedTransfer": {"width": 8, "sep": 2},
    "MaskedTransfer": {"width": 8, "sep": 2},
    "FaderNetwork": {"width": 8},
    "SinGAN": {"iterations": 1, "width": 4, "max_width": 8},
    "ConSinGAN": {"iterations": 2, "width": 4},
    "StructuralAnalogy": {"iterations": 1, "width": 4, "max_width": 8, "max_size": 64},
    "GramStyleTransfer": {"iterations": 4},
    "DeepImageAnalogy": {"iterations": 1, "searches": 1},
    "AnalogyQuality": {"samples": 2, "options": {"start": 2}},
    "PatchVAEGAN": {"iterations": 1, "width": 4, "latent": 4, "layers": 3},
    "SinGAN3D": {"iterations": 1, "width": 4, "layers": 3},
    "ConSinGAN3D": {"iterations": 1, "width": 4, "layers": 2},
    "FADA": {
        **{"source_steps": 2, "adversarial_steps": 1, "distil_steps": 1, "confidence": 0.0, "pretrained": None},
        "features": {"class_path": "SmallFeatures", "init_args": {"width": 4}},
        **{"optimizer": {"class_path": "GANAdam"}, "adversarial_optimizer": None},  # moves every weight in one step
    },
    "DilatedHeads": {"dilations": [1]},
    "FineGrainedDiscriminator": {"widths": [4, 4]},
    "GTA5ToCityscapes": {"source_size": [24, 40], "target_size": [16, 32], "val_size": 2, "num_workers": 0},
    "FacadeWorld": {"train_size": 8, "val_size": 4, "test_size": 4},
    "Facades": {"image_size": 64},
    "SeasonWorld": {"train_size": 8, "val_size": 4, "test_size": 4},
    "ResnetGenerator": {"width": 4, "blocks": 1},
    "UNetGenerator": {"width": 4, "depth": 6},
    "PatchDiscriminator": {"width": 4},
    "PairDiscriminator": {"width": 4},
    "MultiScaleDiscriminator": {"width": 4},
    "SegmentationNet": {"width": 4},
    "OST": {"autoencoder_steps": 2, "steps": 2},
    "DigitAutoencoders": {"width": 4},
    "DigitDiscriminator": {"width": 4},
    "DrawingAutoencoders": {"width": 4, "blocks": 1},
    "OneShotScores": {"images": 20},
    "TwoStep": {"gan_steps": 2, "encoder_steps": 2, "latent": 8, "optimisation_steps": 2},
    "ConditionalGenerator": {"width": 4},
    "TwoHeadDiscriminator": {"width": 4},
    "LatentEncoder": {"width": 4},
    "AttGAN": {"critic_updates": 1},
    "STGAN": {"critic_updates": 1},
    "StarGAN": {"critic_updates": 1},
    "AttGANGenerator": {"width": 4},
    "STGANGenerator": {"width": 4},
    "AttGANDiscriminator": {"width": 4, "hidden": 8},
    "StarGANGenerator": {"width": 4, "blocks": 1},
    "StarGANDiscriminator": {"width": 4},
    "IcGAN": {"gan_steps": 2, "latent_steps": 1, "attribute_steps": 1, "latent": 8},
    "IcGANGenerator": {"width": 8},
    "IcGANDiscriminator": {"width": 4},
    "IcGANEncoder": {"width": 4, "hidden": 8},
    "AttributeEdits": {"count": 4, "val_count": 2},
    "AttributeRemoval": {"domains": ["glasses"], "pairs": 4, "images": 4},
    "EditPictures": {"count": 2},
    "AttributeTransfer": {"count": 8, "val_count": 4},
    "FaceSwapScores": {"count": 8, "val_count": 4},
    "LatentScores": {"count": 8, "val_count": 4},
    "EnginePictures": {"train_size": 24, "val_size": 12, "test_size": 12},
    "CastDigits": {"train_size": 24, "val_size": 12, "test_size": 12},
    "CIFAR10": {"val_size": 8},
    "CIFAR100": {"val_size": 8},
    "ResNetClassifier": {"blocks": [1, 1, 1], "widths": [4, 8, 16]},
    "CorruptionRobustness": {"count": 1},
    "PolygonPhotos": {"train_size": 24, "val_size": 12, "test_size": 12},
    "TOS": {"imitator_steps": 1, "read_steps": 1, "steps": 2},
    "ParameterEncoder": {"width": 8, "hidden": 16},
    "ParameterClassifier": {"width": 8, "dim": 16},
    "UpConvDecoder": {"width": 32},
    "ParameterDecoder": {"width": 32, "hidden": 16},
    "UNIT": {"width": 4, "blocks": 1},
    "MUNIT": {"width": 4, "blocks": 1},
    "DRIT": {"width": 4, "blocks": 1, "content_updates": 2},
    "ContentDiscriminator": {"kernel": 3, "halvings": 2},
    "ADDA": {"source_steps": 2, "steps": 2},
    "MNISTNet": {"widths": [4, 4], "hidden": [8]},
    "SVHNNet": {"widths": [4, 4, 4], "hidden": [8]},
    "LeNet": {"widths": [4, 4], "hidden": 8},
    "DomainDiscriminator": {"hidden": [8]},
    "CUT": {"width": 4, "blocks": 5, "patches": 4, "features": 4},
    "CodeScores": {"images": 40, "pairs": 4, "trees": 1},
    "ContentMasks": {"images": 4},
    "ContentTransfer": {"pairs": 4, "val_pairs": 2},
    "GuidedAccuracy": {"guides": 2, "pairs": 4, "val_pairs": 2},
    "TransferPictures": {"count": 2},
    "SingleImage": {"max_size": 64},
    "SampleQuality": {"count": 3, "val_count": 2},
    "SampleSheet": {"count": 3},
    "IdentityRetrieval": {"distractors": 12, "val_distractors": 8},
}


def kind(recipe):
    """What runs: the method and its callbacks."""
    content = yaml.safe_load(CONFIG[recipe].read_text())
    return content["model"]["class_path"], *(
        callback["class_path"] for callback in content["trainer"]["callbacks"].values()
    )


def first_with_each_pair(kinds):
    """The recipes that have a method with a callback that it did not have in any before."""
    seen, found = set(), []
    for recipe, (method, *callbacks) in kinds.items():
        pairs = {(method, callback) for callback in (None, *callbacks)}
        if not pairs <= seen:
            found.append(recipe)
        seen |= pairs
    return found


KINDS = {recipe: kind(recipe) for recipe in RECIPES}
FIRST = first_with_each_pair(KINDS)
LIGHTER = {"TOS": "tos_polygons", "ParameterReader": "polygon_reader", "MUNIT": "munit_folders", "DRIT": "drit_folders"}
FIRST_OF_METHOD = ({kind[0]: recipe for recipe, kind in reversed(KINDS.items())} | LIGHTER).values()
DRAWN = ("dtn", "ost_digits", "singan")
"""Recipes of one, two and many phases, whose curves are drawn."""
SINGLE = ("SinGAN", "ConSinGAN", "StructuralAnalogy", "PatchVAEGAN", "SinGAN3D", "ConSinGAN3D")
"""Methods that tests/methods/test_mixed_precision.py trains in mixed precision through all of their scales."""
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def _official_files(tmp_path_factory):
    """The official data sets in their real formats, a few images each."""
    root = tmp_path_factory.mktemp("data")
    fakes.write_mnist(root)
    fakes.write_usps(root)
    fakes.write_svhn(root, train=60, extra=40, photos=True)
    cifar.write_cifar10(root)
    cifar.write_cifar100(root)
    write_facades(root, train=8, val=8)
    write_gta5(root, 6)
    write_cityscapes(root, train=6, val=2)
    (root / "weights").mkdir()
    network = torchvision.models.squeezenet1_0(weights=None)
    torch.save(network.half().state_dict(), root / "weights/squeezenet1_0_imagenet_fp16.pth")
    rng = np.random.default_rng(0)
    celeba.write_celeba(root, rng.integers(0, 2, (30, 40)), np.repeat([0, 1, 2], [16, 7, 7]))
    for number in range(24):
        name = f"{('stones', 'nature')[number % 2]}/img {number}.jpg"
        write_picture(root / "photos" / name, number, width=60 + number, height=50)
        write_picture(root / "clips" / name, number, width=60, height=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDOMAIN_DATA", str(root))
        patch.setitem(
            SMALL,
            "UnpairedFolders",
            {
                "image_size": 64,
                "test_share": 0.2,
                "a": str(root / "photos" / "stones"),
                "b": str(root / "photos" / "nature"),
            },
        )
        patch.setitem(SMALL, "LabelledFolders", {"path": str(root / "photos"), "image_size": 64})
        folders = {name: str(root / "clips" / part) for name, part in (("a", "stones"), ("b", "nature"))}
        patch.setitem(SMALL, "TwoVideos", {"val_share": 0.34, "test_share": 0.34, **folders})
        for name in ("GUIDES", "FACES"):
            patch.setattr(readouts, name, 2)
        yield


def train_helper(words, variables):
    """What the process of a helper's training does."""
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)
    sys.exit(main(words))


@pytest.fixture(autouse=True)
def _helpers_start_at_once(monkeypatch):
    """Helpers are trained in processes forked from one that has imported everything, where a start takes no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "xdomain.commands.train"])

    def run_forked(command, env, **_):
        variables = {name: value for name, value in env.items() if name != PARENT}  # its parent is that other process
        process = context.Process(target=train_helper, args=(command[3:], variables))
        process.start()
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode)

    monkeypatch.setattr(helpers, "subprocess", SimpleNamespace(run=run_forked))


def shrink(value, folder):
    """The same settings with small data, and with helper networks that train in seconds."""
    if isinstance(value, dict):
        value = {key: shrink(inner, folder) for key, inner in value.items()}
        if (name := str(value.get("class_path")).rsplit(".", 1)[-1]) in SMALL:
            value["init_args"] = {**(value.get("init_args") or {}), **SMALL[name]}
        return value
    if isinstance(value, list):
        return [shrink(inner, folder) for inner in value]
    if isinstance(value, str) and value.split("+")[0] in RECIPES:
        name, *overlays = value.split("+")
        return "+".join([str(small(name, folder)), *overlays, "smoke", "cpu"])
    return value


def small(recipe, folder):
    """A copy of a recipe, and of the recipes of its helpers, in a folder; bf16 is slow on many processors."""
    target = folder / f"{recipe}.yaml"
    content = shrink(yaml.safe_load(CONFIG[recipe].read_text()), folder)
    content["trainer"].pop("precision", None)
    target.write_text(yaml.safe_dump(content))
    return target


def no_curves(*_):
    """Instead of plots, which take as long as the steps."""


def run(command, *args):
    assert main([command, *map(str, args), *QUIET]) == 0


def finite_metrics(path):
    rows = read_metrics(path)
    assert rows
    for row in rows:
        for name, value in row.items():
            assert not value or math.isfinite(float(value)), (name, row)
    return rows


def checkpoint(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def early(rows):
    """What was logged in the first two steps."""
    return [{name: value for name, value in row.items() if value} for row in rows if int(row["step"]) < 2]


def has_stepped(now, then):
    """Whether an optimiser keeps other values than before."""
    for number, kept in now["state"].items():
        before = then["state"].get(number, {})
        if any(not torch.equal(value, before.get(key, torch.zeros(0))) for key, value in kept.items()):
            return True
    return False


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(recipe, tmp_path, monkeypatch):
    if recipe not in DRAWN:
        monkeypatch.setattr(curves, "draw_curves", no_curves)
    config, length = small(recipe, tmp_path), 4 if recipe in FIRST else 2
    few = ["--trainer.max_steps", length]
    if recipe not in FIRST:  # the first of each pair of a method and a callback shows that the evaluation runs
        few += ["--trainer.limit_val_batches", 0]
    run("fit", "--config", config, "--config", "smoke", "--config", "cpu", *few)
    (folder,) = Path("runs").glob("*/0001")
    name = folder.parent.name
    assert name == f"{recipe}+smoke+cpu"
    last = checkpoint(folder)
    assert last["global_step"] == length
    rows = finite_metrics(folder / "metrics.csv")
    assert {int(row["step"]) for row in rows} >= set(range(length))
    if recipe not in FIRST:
        return  # the rest would run the same code again

    run("test", "--ckpt_path", folder)
    content = json.loads((folder / "results.json").read_text())
    assert content["recipe"] == name
    assert content["metrics"]
    assert all(math.isfinite(value) for value in content["metrics"].values())
    assert content["steps"] == 4
    if "SampleGrid" in config.read_text():
        pictures = {path.name for path in (folder / "samples").iterdir()}
        assert {"step_0000002.png", "step_0000004.png", "test.png"} <= pictures

    if recipe not in FIRST_OF_METHOD:
        return

    if recipe in DRAWN:
        assert Image.open(folder / "curves.png").width > 100
        monkeypatch.setattr(curves, "draw_curves", no_curves)

    # What was saved runs again, does the same, and stops earlier: so the weights must have moved in between.
    again = ["--trainer.run_dir", tmp_path / "again", "--trainer.max_steps", "2"]
    run("fit", "--config", folder / "config.yaml", *again)
    repeated = finite_metrics(tmp_path / "again" / "metrics.csv")
    assert early(repeated) == early(rows)
    earlier = checkpoint(tmp_path / "again")
    moved = [name for name, value in last["state_dict"].items() if not torch.equal(value, earlier["state_dict"][name])]
    pairs = zip(last["optimizer_states"], earlier["optimizer_states"], strict=True)
    owned = [len(now["state"]) for now, then in pairs if has_stepped(now, then)]
    trained = max(owned) if KINDS[recipe][0] == "OST" else sum(owned)  # two of OST's optimisers own the same weights
    assert trained > 0
    assert len(moved) >= trained


@pytest.mark.parametrize("recipe", sorted(r for r in FIRST_OF_METHOD if KINDS[r][0] not in SINGLE))
def test_every_method_in_mixed_precision(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "draw_curves", no_curves)
    overlays = [word for overlay in ("smoke", "cpu", "bf16") for word in ("--config", overlay)]
    words = ["--trainer.run_dir", tmp_path / "run", "--trainer.val_check_interval", 4, "--trainer.limit_val_batches", 1]
    run("fit", "--config", small(recipe, tmp_path), *overlays, *words)
    finite_metrics(tmp_path / "run" / "metrics.csv")
    assert checkpoint(tmp_path / "run")["global_step"] == 4


def test_a_folder_in_the_layout_of_the_archives(tmp_path):
    """trainA and so on, as horse2zebra unpacks: trained on, tested with, translated both ways."""
    for number, part in enumerate(("trainA", "trainB", "testA", "testB") * 6):
        write_picture(tmp_path / "archive" / part / f"{number}.png", number, 40, 40)
    words = ["--data.path", tmp_path / "archive", "--data.domains", "[horse, zebra]", "--trainer.run_dir", "run"]
    recipe = yaml.safe_load(small("cyclegan_folders", tmp_path).read_text())
    for name in ("a", "b"):
        del recipe["data"]["init_args"][name]
    (tmp_path / "archive.yaml").write_text(yaml.safe_dump(recipe))
    run("fit", "--config", tmp_path / "archive.yaml", "--config", "smoke", "--config", "cpu", *words)
    run("test", "--ckpt_path", "run")
    for source, target in (("horse", "zebra"), ("zebra", "horse")):
        folders = ["--input", tmp_path / "archive" / "testA", "--output", tmp_path / target]
        words = ["translate", "--ckpt_path", "run", *folders, "--source", source, "--target", target]
        assert main([*map(str, words)]) == 0
        assert len([*(tmp_path / target).glob("*.png")]) == 6


def test_predictions_of_a_run(tmp_path):
    overlays = ["--config", "smoke", "--config", "cpu", "--trainer.run_dir", tmp_path / "run"]
    run("fit", "--config", small("dtn", tmp_path), *overlays)
    run("predict", "--ckpt_path", tmp_path / "run", "--return_predictions", "false")
    files = sorted(path.name for path in (tmp_path / "run" / "predictions").iterdir())
    assert files == [f"{number:06d}.png" for number in range(12)]


GENERAL = sorted(path.stem for path in (CONFIGS / "overlays").glob("*.yaml"))
OWNED = sorted(stem for stem, path in CONFIG.items() if "overlays" in path.parts and stem not in GENERAL)
TRIED_ON = {
    "DomainPair": "dann",
    "ImagePair": "structural_analogy_tiny",
    "OneShot": "ost_digits",
    "SingleImage": "singan_tiny",
    "cut": "cut_facades",
    "cyclegan": "cyclegan_facades",
    "dann": "dann",
    "deep_image_analogy": "deep_image_analogy_tiny",
    "didd": "didd_avatars_smile_glasses",
    "dtn": "dtn",
    "fada": "fada_avatars",
    "gram": "gram_style_tiny",
    "helpers": "svhn_classifier",
    "image_classifier": "casts",
    "ost": "ost_digits",
    "patch_vaegan": "patch_vaegan_video_tiny",
    "pix2pix": "pix2pix_facades",
    "singan": "singan_injection_tiny",
    "structural_analogy": "structural_analogy_tiny",
    "two_step": "two_step_avatars",
    "tos": "tos_polygons",
    "didd_svhn_holdout": "didd_digits",
    "many": "two_step_few",
    "ost_svhn_holdout": "ost_mnist_svhn",
    "svhn_holdout": "dtn_svhn_mnist",
    "two_step_svhn_holdout": "two_step_mnist_svhn",
}
"""A recipe for the overlays of each owner, and for those that are made for one recipe."""


PRINTED = {}
"""What the command line makes of recipes without overlays."""


def printed(capsys, *configs):
    """What the command line makes of a recipe with overlays."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["fit", *(word for config in configs for word in ("--config", config)), "--print_config"])
    assert stop.value.code in (0, None)
    return yaml.safe_load(capsys.readouterr().out)


def holds(found, wanted):
    """Whether settings are as a config wants them; classes are printed with their modules."""
    if isinstance(wanted, dict):
        return all(holds(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(holds, found, wanted))
    return found == wanted or (isinstance(wanted, str) and found.endswith(f".{wanted}"))


@pytest.mark.parametrize("recipe", sorted(FIRST_OF_METHOD))  # the rest have the same methods
def test_every_recipe_takes_every_general_overlay(recipe, capsys):
    """All at once: none of them may say what another says, but for the precision and the devices."""
    after = printed(capsys, recipe, *GENERAL)
    for name in GENERAL:
        wanted = yaml.safe_load(CONFIG[name].read_text())
        for key in ("precision", "devices", "logger", "accelerator", "strategy"):
            (wanted.get("trainer") or {}).pop(key, None)
        assert holds(after, wanted)
    assert holds(after["trainer"]["callbacks"], yaml.safe_load(CONFIG[recipe].read_text())["trainer"]["callbacks"])
    kinds = [callback["class_path"] for callback in after["trainer"]["callbacks"].values()]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("overlay", OWNED)
def test_an_overlay_fits_the_recipes_that_it_is_for(overlay, capsys):
    recipe = TRIED_ON.get(overlay) or TRIED_ON[owner_of(CONFIG[overlay])]
    if recipe not in PRINTED:
        PRINTED[recipe] = printed(capsys, recipe)
    before, after = PRINTED[recipe], printed(capsys, recipe, overlay)
    content = yaml.safe_load(CONFIG[overlay].read_text())
    assert holds(after, content)
    given = content.get("trainer", {}).get("callbacks", {})
    added = {name for name, callback in given.items() if callback and "class_path" in callback}  # others must be there
    assert after["trainer"]["callbacks"].keys() == before["trainer"]["callbacks"].keys() | added
