"""What all methods of adaptation have in common: no label of the target, exact resumes, no translation."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import SGD

from tests.methods.adaptation import FACTS, KINDS, LR, Digits, fitted, make, network
from tests.running.test_resume import Stopped, differences
from tests.toys import trainer
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.inference.tasks import no_translation, of_images
from xdomain.optim import PowerDecay


class Other(Digits):
    """The images and labels of the second domain are changed."""

    change = None

    def data(self, role, split):
        data = super().data(role, split)
        return data if role == "a" else ImageData(*self.change(data.images, data.labels))


def trained(kind, change=None):
    method, data = make(KINDS[kind]), Other()
    data.change = change or (lambda images, labels: (images, labels))
    fitted(method, data=data)
    return method.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_updates_read_images_of_the_target_and_no_label(kind):
    straight = trained(kind)
    for labels in (None, np.full(20, 10**6)):
        assert differences(straight, trained(kind, lambda images, _, new=labels: (images, new))) == []
    moved = differences(straight, trained(kind, lambda images, labels: (255 - images, labels)))
    assert {name.split(".")[0] for name in moved} >= {"/network", "/d"}


class StopAt:
    """Dies in the middle of the update of one batch."""

    stop_at = None

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.trainer.global_step == self.stop_at:
            raise Stopped


STOPPING = {name: type(f"Stopping{name}", (StopAt, kind), {}) for name, kind in KINDS.items()}


def run(kind, folder, stop_at=None, resume=False):
    """The checkpoint at the end of six batches; None if it died."""
    phases = {"source_steps": 3, "steps": 3} if kind == "ADDA" else {}
    rates = {"optimizer": partial(SGD, lr=LR, momentum=0.9), "scheduler": partial(PowerDecay, steps=6)}
    torch.manual_seed(1)
    method = make(STOPPING[kind], network=network(batch_norm=True), **rates, **phases)
    method.stop_at = stop_at
    job = trainer(max_steps=6, max_epochs=-1, val_check_interval=1, limit_val_batches=1, run_dir=str(folder))
    last = folder / "checkpoints" / "last.ckpt"
    data = Digits(jitter=True, batch_size=2)
    try:
        job.fit(method, datamodule=data, ckpt_path=str(last) if resume else None, weights_only=True)
    except Stopped:
        return None
    return torch.load(last, weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_resume_bit_for_bit(kind, tmp_path):
    straight = run(kind, tmp_path / "straight")
    for stop_at in (2, 3, 5):
        folder = tmp_path / f"stopped {stop_at}"
        assert run(kind, folder, stop_at) is None
        resumed = run(kind, folder, resume=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "random_states", "global_step"):
            assert differences(straight[part], resumed[part], part) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_domain_is_refused(kind):
    with pytest.raises(UserError, match=f"{kind} adapts from one domain to another, but the data has 1: use a pair"):
        make(KINDS[kind], **FACTS | {"domains": ("red",), "channels": (3,)})


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_translate_and_says_so(kind):
    method = make(KINDS[kind])
    assert not of_images(method)
    assert str(no_translation(method)) == f"a {kind} does not translate: give another."
