"""CycleGAN against its formulas, written without anything shared."""

import copy

import pytest
import torch

from tests.methods.domains import cyclegan_losses, score, tiny
from tests.methods.faces import Faces, assert_gradients, first_batch, fitted, one_step, owners, pictures
from tests.running.test_resume import differences
from tests.toys import trainer
from xdomain.errors import UserError
from xdomain.methods import CycleGAN
from xdomain.optim import GANAdam

GOLDEN = {"CycleGAN": lambda: (tiny(CycleGAN, optimizer=GANAdam), Faces())}


@pytest.mark.parametrize("settings", [{}, {"identity": 0}, {"cycle": 0}, {"gan": 0, "cycle": 3.0}], ids=str)
def test_cyclegan_shares_passes_and_keeps_the_gradients(settings):
    method = tiny(CycleGAN, **settings)
    m = copy.deepcopy(method)
    updates, logged = one_step(method)
    x, y = first_batch()
    losses = cyclegan_losses(m, x, y, **settings)
    assert [update.name for update in updates] == (["g"] if settings.get("gan") == 0 else ["g", "d"])
    assert owners(updates[0].gradients) == {"G", "F"}
    assert_gradients(updates[0].gradients, sum(losses.values()), m, noise=1e-4)
    assert {name: logged[name] for name in losses} == pytest.approx({n: v.item() for n, v in losses.items()}, rel=1e-4)
    if len(updates) == 2:  # on the translations of before the generators' update
        with torch.no_grad():
            fake_x, fake_y = m.F(y), m.G(x)
        judged = score(m.D_X(x), 1) + score(m.D_X(fake_x), 0) + score(m.D_Y(y), 1) + score(m.D_Y(fake_y), 0)
        assert owners(updates[1].gradients) == {"D_X", "D_Y"}
        assert_gradients(updates[1].gradients, judged / 2, m, noise=1e-4)


def test_cyclegan_translates_each_way_by_its_network():
    method = tiny(CycleGAN)
    images = pictures(0)
    for source, target, network in (("plus", "plain", method.G), ("plain", "plus", method.F)):
        torch.testing.assert_close(method.translate(images, source, target), network(images))
    with pytest.raises(
        UserError, match="target is plus, but this CycleGAN translates from plus to plain or from plain to plus"
    ):
        method.translate(images, "plus", "plus")


def test_cyclegan_needs_equal_channels_for_the_identity_loss_only():
    with pytest.raises(
        UserError, match=r"identity is 0.5, which needs as many channels .* they have 3 and 1: set it to 0"
    ):
        tiny(CycleGAN, channels=(3, 1))
    assert tiny(CycleGAN, channels=(3, 1), identity=0).translate(pictures(0), "plus", "plain").shape[1] == 1
    with pytest.raises(UserError, match="neither gan nor cycle"):
        tiny(CycleGAN, gan=0, cycle=0)


def test_a_run_resumes_with_a_pool_that_is_half_full(tmp_path):
    def run(folder, steps, **more):
        method = tiny(CycleGAN, pool=11, optimizer=GANAdam)  # 4 images a batch: full in the third
        fitted(method, steps, run_dir=str(folder), **more)
        return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)

    straight = run(tmp_path / "straight", 6)
    stopped = run(tmp_path / "stopped", 2)
    assert int(stopped["state_dict"]["pool_x.stored"]) == 8
    method = tiny(CycleGAN, pool=11, optimizer=GANAdam)
    job = trainer(max_steps=6, limit_val_batches=0, run_dir=str(tmp_path / "stopped"))
    job.fit(method, datamodule=Faces(), ckpt_path=str(tmp_path / "stopped/checkpoints/last.ckpt"), weights_only=True)
    resumed = torch.load(tmp_path / "stopped/checkpoints/last.ckpt", weights_only=True)
    for part in ("state_dict", "optimizer_states", "random_states"):
        assert differences(straight[part], resumed[part], part) == []
