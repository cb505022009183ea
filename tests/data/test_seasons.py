import numpy as np
import pytest
import torch

from xdomain.data import FacadeWorld, ResizeCropFlip, SeasonWorld
from xdomain.data.drawn import DrawnPairs
from xdomain.engines import seasons as engine
from xdomain.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDOMAIN_CACHE", str(tmp_path / "cache"))


def world(**options):
    return SeasonWorld(**{"image_size": 16, "train_size": 6, "val_size": 3, "test_size": 4, **options})


def test_pairs_show_the_same_place():
    module = world()
    assert (module.domains, module.channels, module.paired) == (("summer", "winter"), (3, 3), True)
    for split, count in (("val", 3), ("test", 4)):
        u = module.parameters("a", split)
        assert torch.equal(u, module.parameters("b", split))
        for role, season in zip("ab", module.domains, strict=True):
            images = module.data(role, split).images
            assert images.shape == (count, 3, 16, 16)
            np.testing.assert_array_equal(images, engine.render(u, 16, season))


def test_no_place_is_in_two_parts_or_in_both_training_sets():
    module = world()
    places = [module.parameters("a", split) for split in ("train", "val", "test")] + [module.parameters("b", "train")]
    assert len(torch.cat(places).unique(dim=0)) == 6 + 3 + 4 + 6
    np.testing.assert_array_equal(module.data("b", "train").images, engine.render(places[3], 16, "winter"))
    other = world(world_seed=1)
    assert (other.data("a", "val").images != module.data("a", "val").images).any()


def test_with_pairs_both_training_sets_and_every_batch_show_the_same_places():
    module = world(pairs=True, batch_size=2)
    assert torch.equal(module.parameters("a", "train"), module.parameters("b", "train"))
    for batch, _, _ in module.train_dataloader():
        assert torch.equal(batch["a"].position, batch["b"].position)


def test_what_is_drawn_is_kept(tmp_path, monkeypatch):
    first = world().data("a", "val").images.copy()
    names = {path.name.split("-val")[0] for path in (tmp_path / "cache" / "worlds").iterdir()}
    assert names == {"season-summer"}
    monkeypatch.setattr(engine, "render", None)
    np.testing.assert_array_equal(world().data("a", "val").images, first)
    monkeypatch.setattr(engine, "VERSION", 0)
    with pytest.raises(TypeError):
        world().data("a", "val")


@pytest.mark.parametrize("kind", [SeasonWorld, FacadeWorld])
def test_options_of_all_drawn_pairs(kind):
    assert isinstance(kind(jitter=True).augmentation("a"), ResizeCropFlip)
    assert kind().augmentation("b") is None
    with pytest.raises(UserError, match="test_size is 0"):
        kind(test_size=0)
    with pytest.raises(NotImplementedError, match="must implement render"):
        DrawnPairs.render(kind(), torch.zeros(1, 1), "a")
