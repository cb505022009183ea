"""Helper networks: frozen, trained once, checked at every use, the same on all ranks."""

import copy
import json
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from filelock import FileLock
from safetensors.torch import load_file

from xdomain.errors import UserError
from xdomain.features import fingerprint, helpers
from xdomain.features.helpers import Helper, build_network, helper_targets, load_weights, network_spec, ship, train_once
from xdomain.networks import ConvClassifier

SPEC = {"class_path": "ConvClassifier", "init_args": {"classes": 4, "image_size": 16, "widths": [4, 6]}}
RECIPE = {"model": {"class_path": "Classifier", "init_args": {"network": SPEC}}, "data": {"class_path": "Street"}}


def network(seed=0):
    torch.manual_seed(seed)
    return ConvClassifier(**SPEC["init_args"])


def write_checkpoint(path, seed=0, **more):
    state = {f"network.{name}": value for name, value in network(seed).state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "hyper_parameters": {"network": SPEC}, "global_step": 7, **more}, path)
    return str(path)


def one_process(broadcast=lambda state: state, is_global_zero=True):
    return SimpleNamespace(is_global_zero=is_global_zero, broadcast=broadcast)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def trainings(cache, monkeypatch):
    """``small.yaml``, and instead of its training a checkpoint in the run folder; the commands that were run."""
    Path("configs").mkdir()
    Path("configs/small.yaml").write_text(yaml.safe_dump(RECIPE))
    Path("configs/overlay.yaml").write_text("trainer: {max_steps: 1}")
    calls = []

    def run(command, env, **options):
        calls.append((command, env))
        time.sleep(0.05)
        folder = Path(command[command.index("--trainer.run_dir") + 1])
        write_checkpoint(folder / "checkpoints" / "last.ckpt", seed=3)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(helpers.subprocess, "run", run)
    return calls


def same(state, other):
    assert state.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in state.items())


def test_a_recipe_is_trained_once_and_read_from_then_on(trainings, cache, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    path = train_once("small", root=Path("/somewhere"))
    assert train_once("small", root=Path("/somewhere")) == path
    ((command, environment),) = trainings
    assert command[:4] == [sys.executable, "-m", "xdomain", "fit"]
    assert command[command.index("--config") + 1] == "configs/small.yaml"
    assert environment["XDOMAIN_DATA"] == "/somewhere"
    assert not {"LOCAL_RANK", "MASTER_PORT"} & set(environment)  # it is no rank of this job
    same(load_file(path), network(3).state_dict())
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["recipe"] == "small"
    assert card["steps"] == 7
    assert {p.suffix for p in cache.iterdir()} == {".safetensors", ".json", ".lock"}  # the run itself is gone


def test_overlays_and_changed_recipes_are_helpers_of_their_own(trainings):
    paths = {train_once("small"), train_once("small+overlay")}
    Path("configs/small.yaml").write_text(yaml.safe_dump({**RECIPE, "seed_everything": 5}))
    paths.add(train_once("small"))
    assert len(paths) == len(trainings) == 3
    assert all("configs/small.yaml" in command for command, _ in trainings)
    assert sum("configs/overlay.yaml" in command for command, _ in trainings) == 1


def test_two_at_once_train_once(trainings):
    found = []
    threads = [threading.Thread(target=lambda: found.append(train_once("small"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert len(trainings) == 1


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _no_card(path):
    path.with_suffix(".json").unlink()


def _broken_card(path):
    path.with_suffix(".json").write_text("[1, 2")


def _foreign_card(path):
    path.with_suffix(".json").write_text('{"recipe": "small"}')


@pytest.mark.parametrize("damage", [_flip, _no_card, _broken_card, _foreign_card])
def test_what_is_damaged_is_trained_again(trainings, capfd, damage):
    path = train_once("small")
    damage(path)
    capfd.readouterr()
    assert train_once("small") == path
    assert len(trainings) == 2
    assert capfd.readouterr().err.count("small in ") == 1
    same(load_file(path), network(3).state_dict())


def test_weights_that_are_gone_are_trained_again(trainings):
    train_once("small").unlink()
    assert train_once("small").is_file()
    assert len(trainings) == 2


def test_a_warm_cache_is_only_read(trainings, cache, monkeypatch):
    path = train_once("small")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(helpers, "FileLock", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert train_once("small") == path
    with pytest.raises(UserError, match=r"overlay cannot be kept in .*Read-only file system.*XDOMAIN_CACHE"):
        train_once("small+overlay")
    assert list(cache.glob("*.training")) == []


def test_a_training_that_ended_early_is_not_kept(trainings, cache):
    recipe = {**RECIPE, "trainer": {"max_steps": 9}}
    Path("configs/small.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match="small ended after 7 of 9 steps: it is not kept"):
        train_once("small")
    assert [p.suffix for p in cache.iterdir()] == [".lock"]


def test_folders_of_killed_trainings_are_removed(trainings, cache):
    (cache / "old.training" / "run").mkdir(parents=True)
    (cache / "busy.training").mkdir()
    with FileLock(cache / "busy.lock"):
        train_once("small")
    assert [p.name for p in cache.glob("*.training")] == ["busy.training"]


def test_a_training_shows_its_progress_where_its_caller_does(trainings):
    train_once("small", progress=False)
    train_once("small+overlay")
    (silent, _), (open_, _) = trainings
    assert silent[-2:] == ["--trainer.enable_progress_bar", "false"]
    assert "--trainer.enable_progress_bar" not in open_
    for bar, shown in ((None, False), (object(), True)):
        module = SimpleNamespace(_trainer=SimpleNamespace(progress_bar_callback=bar))
        assert helpers._shows_progress(SimpleNamespace(lightning_module=module)) is shown


def test_the_data_belong_to_what_a_helper_is(trainings, tmp_path):
    mnist = {**RECIPE, "data": {"class_path": "MNIST"}}
    Path("configs/small.yaml").write_text(yaml.safe_dump(mnist))
    for root in ("one", "two"):
        (tmp_path / root / "MNIST" / "raw").mkdir(parents=True)
        (tmp_path / root / "MNIST" / "raw" / "images").write_text(root)
    one, two = (train_once("small", tmp_path / root) for root in ("one", "two"))
    assert one != two
    assert train_once("small", tmp_path / "one") == one
    (tmp_path / "one" / "MNIST" / "raw" / "images").write_text("other images")
    assert train_once("small", tmp_path / "one") != one
    Path("configs/small.yaml").write_text(yaml.safe_dump(RECIPE))  # is drawn: the root says nothing
    assert train_once("small", tmp_path / "one") == train_once("small", tmp_path / "two")


def test_folders_of_ones_own_belong_to_what_a_helper_is(trainings, tmp_path):
    (tmp_path / "mine").mkdir()
    own = {**RECIPE, "data": {"class_path": "LabelledFolders", "init_args": {"path": str(tmp_path / "mine")}}}
    Path("configs/small.yaml").write_text(yaml.safe_dump(own))
    first = train_once("small")
    (tmp_path / "mine" / "more").mkdir()
    assert train_once("small") != first


@pytest.mark.parametrize(("emulated", "precision"), [(True, "32-true"), (False, None)])
def test_helpers_are_not_trained_in_emulated_bf16(trainings, monkeypatch, emulated, precision):
    Path("configs/small.yaml").write_text(yaml.safe_dump(RECIPE | {"trainer": {"precision": "bf16-mixed"}}))
    monkeypatch.setattr(helpers, "emulates_bf16", lambda: emulated)
    train_once("small")
    ((command, _),) = trainings
    given = dict(zip(command[4::2], command[5::2], strict=False)).get("--trainer.precision")
    assert given == precision


def test_only_the_engines_that_draw_its_data_belong_to_a_helper(trainings, tmp_path, monkeypatch):
    engines = shutil.copytree(Path(fingerprint.engines_room.__file__).parent, tmp_path / "engines")
    monkeypatch.setattr(fingerprint.engines_room, "__file__", str(engines / "__init__.py"))
    first = train_once("small")
    for name, changes in [("facades", False), ("digits", True), ("strokes", True), ("drawing", True)]:
        with (engines / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        assert (train_once("small") != first) == changes, name
        first = train_once("small")


def test_the_line_for_editors_changes_no_helper(trainings):
    recipe = Path("configs/small.yaml")
    first = train_once("small")
    recipe.write_text(f"# yaml-language-server: $schema=../recipe.schema.json\n{recipe.read_text()}")
    assert train_once("small") == first
    recipe.write_text(f"# another line\n{recipe.read_text()}")
    assert train_once("small") != first


def test_an_engine_that_a_recipe_names_belongs_to_its_helper():
    files = {path.stem for path in fingerprint.engines_of(helpers._configs("avatar_reader"))}
    assert {"emoji", "avatars", "avatar_wear", "drawing"} <= files
    assert not files & {"facades", "seasons", "digits"}


def test_a_shipped_helper_serves_until_a_fresh_one_is_wanted(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "SHIPPED", tmp_path / "shipped")
    trained = load_weights("small")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "small-0123456789ab.safetensors").touch()  # of another state of the recipe
    (tmp_path / "shipped" / "small+more-0123456789ab.safetensors").touch()
    file = ship("small", tmp_path / "shipped", "0123456")
    names = {file.name, file.with_suffix(".json").name, "small+more-0123456789ab.safetensors"}
    assert {path.name for path in file.parent.iterdir()} == names
    assert json.loads(file.with_suffix(".json").read_text())["commit"] == "0123456"

    assert train_once("small") != file  # the tests want fresh ones
    monkeypatch.setenv(helpers.FRESH, "")
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "empty"))
    assert train_once("small") == file
    same(load_weights("small"), {name: value.half().float() for name, value in trained.items()})
    assert len(trainings) == 1

    Path("configs/small.yaml").write_text(yaml.safe_dump(RECIPE | {"seed_everything": 1}))
    assert train_once("small") != file
    assert len(trainings) == 2


def test_only_helpers_are_shipped(tmp_path):
    with pytest.raises(UserError, match="helper 'dtn' is no classifier recipe"):
        ship("dtn", tmp_path, None)


@pytest.mark.parametrize("file", sorted(helpers.SHIPPED.glob("*.safetensors")), ids=lambda file: file.stem)
def test_the_helpers_of_the_package_are_those_of_todays_recipes(file, monkeypatch):
    """A change of an engine, a recipe or the version makes them useless: ``make weights`` trains them anew."""
    monkeypatch.setenv(helpers.FRESH, "")
    monkeypatch.setattr(helpers, "_train", lambda *_: pytest.fail("not this one"))
    name = file.stem.rpartition("-")[0]
    assert train_once(name) == file
    Helper(name).network.load_state_dict(load_weights(name))


def test_a_training_that_fails_leaves_nothing(trainings, cache, monkeypatch):
    monkeypatch.setattr(helpers.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3))
    with pytest.raises(UserError, match="training the helper network small failed with status 3"):
        train_once("small")
    assert [p.suffix for p in cache.iterdir()] == [".lock"]


def test_the_training_is_the_command_line_of_this_package(cache):
    tiny = {
        **copy.deepcopy(RECIPE),
        "data": {
            "class_path": "Street",
            "init_args": {"image_size": 16, "train_size": 8, "val_size": 4, "test_size": 4, "batch_size": 4},
        },
        "trainer": {
            "max_steps": 2,
            "accelerator": "cpu",
            "limit_val_batches": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    tiny["model"]["init_args"]["network"]["init_args"]["classes"] = 10
    Path("real.yaml").write_text(yaml.safe_dump(tiny))
    helper = Helper("real.yaml")
    helper.fetch(one_process())
    (file,) = cache.glob("*.safetensors")
    same(load_file(file), helper.network.state_dict())


def test_bare_name_needs_a_recipe(trainings):
    with pytest.raises(UserError, match=r"no config named 'smal': did you mean small.yaml"):
        Helper("smal")
    with pytest.raises(UserError, match="helper 'overlay' is no classifier recipe"):
        Helper("overlay")


@pytest.mark.parametrize(
    "content", ["model: {class_path: [", "- 1", "model: 3", "model:\n  init_args:\n    network: ConvClassifier\n", ""]
)
def test_a_broken_recipe_is_named(content):
    Path("broken.yaml").write_text(content)
    with pytest.raises(UserError, match=r"broken(\.yaml)?"):
        network_spec("broken.yaml")


@pytest.mark.parametrize("form", ["file", "run folder"])
def test_a_checkpoint_of_the_users_own(tmp_path, form):
    file = write_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt", seed=4)
    helper = Helper(file if form == "file" else str(tmp_path / "run"))
    helper.fetch(one_process())
    same(helper.network.state_dict(), network(4).state_dict())
    assert (helper.channels, helper.classes, helper.dim) == (3, 4, 6)


def test_bad_checkpoints(tmp_path):
    (tmp_path / "no.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"no.ckpt is no checkpoint"):
        Helper(str(tmp_path / "no.ckpt"))
    with pytest.raises(UserError, match=r"absent.ckpt does not exist"):
        Helper("absent.ckpt")
    other = write_checkpoint(tmp_path / "other.ckpt", hyper_parameters={"alpha": 1.0})
    with pytest.raises(UserError, match=r"other.ckpt is not a classifier's checkpoint"):
        Helper(other)


@pytest.mark.parametrize(
    "class_path",
    ["os.system", "builtins.dict", "torch.nn.functional.relu", "no_module.Net", "NoNet", "xdomain.networks.dcgan", 3],
)
def test_only_networks_are_built(class_path):
    with pytest.raises(UserError, match="network"):
        build_network({"class_path": class_path, "init_args": {}})


def test_a_function_named_by_a_checkpoint_is_not_called(tmp_path):
    spec = {"class_path": "os.makedirs", "init_args": {"name": str(tmp_path / "called")}}
    with pytest.raises(UserError, match=r"os.makedirs"):
        Helper(write_checkpoint(tmp_path / "x.ckpt", hyper_parameters={"network": spec}))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("spec", [{}, {"class_path": "ConvClassifier", "init_args": {"widht": 3}}])
def test_a_spec_that_builds_no_network(spec):
    with pytest.raises(UserError, match="network"):
        build_network(spec)


def test_arguments_are_optional():
    assert isinstance(build_network({"class_path": "ConvClassifier"}), ConvClassifier)


def test_a_helper_never_learns(tmp_path):
    helper = Helper(write_checkpoint(tmp_path / "f.ckpt"))
    owner = torch.nn.ModuleList([helper, torch.nn.Linear(2, 2)]).train()
    assert owner[1].training
    assert not any(module.training for module in helper.modules())
    assert not any(p.requires_grad for p in helper.parameters())
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    helper.features(images).sum().backward()
    assert images.grad is not None  # the gradient goes through it
    assert all(p.grad is None for p in helper.parameters())


def test_a_helper_takes_grey_images(tmp_path):
    helper = Helper(write_checkpoint(tmp_path / "f.ckpt"))
    helper.fetch(one_process())
    grey = torch.rand(2, 1, 16, 16)
    straight = network(0).eval()
    torch.testing.assert_close(helper(grey), straight(grey.repeat(1, 3, 1, 1)))
    torch.testing.assert_close(helper.features(grey), straight.features(grey.repeat(1, 3, 1, 1)))


def test_weights_are_fetched_once_and_travel_with_the_owner(tmp_path):
    path = write_checkpoint(tmp_path / "f.ckpt", seed=5)
    helper = Helper(path)
    helper.fetch(one_process())
    Path(path).unlink()
    helper.fetch(one_process())  # there already
    bare = Helper(SPEC)
    with pytest.raises(UserError, match="has no weights of its own"):
        bare.fetch(one_process())
    bare.load_state_dict(helper.state_dict())
    bare.fetch(one_process())
    same(bare.network.state_dict(), network(5).state_dict())


def test_other_ranks_get_what_rank_0_has(tmp_path):
    sent = network(9).state_dict()
    helper = Helper(write_checkpoint(tmp_path / "f.ckpt", seed=5))
    (tmp_path / "f.ckpt").unlink()  # only rank 0 can read it
    helper.fetch(one_process(broadcast=lambda state: sent, is_global_zero=False))
    same(helper.network.state_dict(), sent)


def test_an_error_on_rank_0_reaches_the_others(tmp_path):
    path = write_checkpoint(tmp_path / "f.ckpt")
    helper, wire = Helper(path), []
    (tmp_path / "f.ckpt").unlink()
    with pytest.raises(UserError, match="does not exist"):
        helper.fetch(one_process(broadcast=lambda state: wire.append(state) or state))
    other = Helper(SPEC)
    with pytest.raises(UserError, match="does not exist"):
        other.fetch(one_process(broadcast=lambda state: wire[0], is_global_zero=False))
    assert not other.ready


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(UserError, match="no weights of its own"):
        load_weights(SPEC)
    helper = Helper(write_checkpoint(tmp_path / "f.ckpt"))
    odd = ConvClassifier(widths=(3, 3), image_size=16).state_dict()
    with pytest.raises(UserError, match="do not fit"):
        helper.fetch(one_process(broadcast=lambda state: odd))


def test_targets_of_recipes_overlays_and_checkpoints(tmp_path):
    assert helper_targets("avatar_attributes") == ("Eyeglasses", "Smiling", "Facial_Hair", "Wearing_Hat", "Male")
    recipe = copy.deepcopy(RECIPE)
    recipe["model"]["init_args"]["targets"] = {"Odd": "Red and not Blue", "Red": "Red"}
    Path("odd.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    Path("blue.yaml").write_text("model: {init_args: {targets: {Blue: Blue}}}")
    Path("short.yaml").write_text("trainer: {max_steps: 1}")
    assert helper_targets("odd.yaml") == helper_targets("odd.yaml+short.yaml") == ("Odd", "Red")
    assert helper_targets("odd.yaml+blue.yaml") == ("Blue",)
    targets = {"Hat": "Wearing_Hat", "Bald": "Bald"}
    path = write_checkpoint(tmp_path / "x.ckpt", hyper_parameters={"network": SPEC, "targets": targets})
    assert helper_targets(path) == ("Hat", "Bald")


def test_classifiers_of_classes_have_no_targets(tmp_path):
    with pytest.raises(UserError, match="street_classifier is no classifier of attributes"):
        helper_targets("street_classifier")
    with pytest.raises(UserError, match=r"x.ckpt is no classifier of attributes"):
        helper_targets(write_checkpoint(tmp_path / "x.ckpt"))


def test_a_helper_takes_images_of_another_size(tmp_path):
    spec = {"class_path": "AttributeNet", "init_args": {"classes": 2, "image_size": 32, "width": 2, "hidden": 4}}
    helper = Helper(spec)
    small = torch.rand(2, 3, 32, 32)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)  # whose halves are the small ones again
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(helper.prepared(large).mean((2, 3)), small.mean((2, 3)), atol=1e-4, rtol=0)
    assert (
        (helper.prepared(large) - small)[inner].abs().mean() < 0.15 < (small[inner] - small.flip(0)[inner]).abs().mean()
    )
    assert helper(large).shape == helper.features(large)[:, :2].shape == (2, 2)
    assert helper.prepared(small) is small
