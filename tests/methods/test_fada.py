"""FADA: which losses reach which networks in each phase, frozen layers, and labels that may not be read."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.methods.faces import SIZE, Faces, Watch, assert_gradients, fitted, owners, sgd
from tests.running.test_resume import differences
from tests.toys import trainer, weights
from xdomain.batch import to_float
from xdomain.data import ImageData
from xdomain.errors import UserError
from xdomain.methods import FADA
from xdomain.networks import DilatedHeads, FineGrainedDiscriminator, SmallFeatures
from xdomain.optim import GANAdam

CLASSES = {"dark": [0, 0, 0], "grey": [100, 100, 100], "light": [255, 255, 0]}


class Labelled(Faces):
    """Random pictures whose classes are thirds of the red channel; a few pixels are unknown."""

    pixel_classes = tuple(CLASSES)

    def data(self, role, split):
        images = super().data(role, split).images
        maps = (images[:, 0] // 86).astype(np.uint8)
        maps[:, 0, :3] = 255
        return ImageData(images, label_maps=maps)


class Secret(Labelled):
    """The same, without label maps of the training images of the second domain."""

    def data(self, role, split):
        data = super().data(role, split)
        return ImageData(data.images) if role == "b" and split == "train" else data


class NormedFeatures(nn.Module):
    """Features with BatchNorm."""

    def __init__(self, in_channels):
        super().__init__()
        self.dim = 8
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, images):
        return self.layers(images)


def make(**options):
    torch.manual_seed(1)
    networks = {
        "features": partial(SmallFeatures, width=4),
        "classifier": partial(DilatedHeads, dilations=(1, 2)),
        "discriminator": partial(FineGrainedDiscriminator, widths=(8, 8)),
    }
    common = {"domains": Faces.domains, "channels": Faces.channels, "image_size": SIZE, "optimizer": sgd}
    steps = {"source_steps": 2, "adversarial_steps": 2, "distil_steps": 2}
    classes = {"classes": [*CLASSES], "colours": [*CLASSES.values()]}
    return FADA(**{**common, **classes, **networks, **steps, "weight": 0.5, **options})


GOLDEN = {
    "FADA": lambda: (make(source_steps=1, distil_steps=1, optimizer=GANAdam), Labelled()),
    "FADA with pAdaIN": lambda: (make(source_steps=1, distil_steps=1, optimizer=GANAdam, padain=0.5), Labelled()),
}


def updates_of(method, steps=-1, data=None):
    watch = Watch()
    fitted(method, steps, data=data or Labelled(), callbacks=[watch], max_epochs=-1)
    return watch.updates


def batches(data, steps):
    loader = iter(data.train_dataloader())
    return [batch for batch, _, _ in (next(loader) for _ in range(steps))]


def up(maps):
    return F.interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=True)


def test_each_phase_updates_its_own_networks():
    updates = updates_of(make())
    names = ["source"] * 2 + ["adversarial", "d"] * 2 + ["distil"] * 2
    assert [update.name for update in updates] == names
    of = {"source": {"labeller"}, "adversarial": {"labeller"}, "d": {"d"}, "distil": {"student"}}
    for update in updates:
        assert owners(update.gradients) == of[update.name]


def test_the_source_phase_is_cross_entropy_of_known_pixels():
    method = make()
    update = updates_of(method, 1)[0]
    sample = batches(Labelled(), 1)[0]["a"]
    method.load_state_dict(update.state)
    logits = up(method.labeller["c"](method.labeller["f"](to_float(sample.image))))
    loss = F.cross_entropy(logits, sample.label_map.long(), ignore_index=255)
    assert_gradients(update.gradients, loss, method)


def test_the_adversarial_phase_is_the_formula_of_the_paper():
    method = make(source_steps=1)
    of_f, of_d = updates_of(method, 2)[1:]
    batch = batches(Labelled(), 2)[1]
    x_s, x_t, y_s = to_float(batch["a"].image), to_float(batch["b"].image), batch["a"].label_map.long()
    method.load_state_dict(of_f.state)
    f, c, d = method.labeller["f"], method.labeller["c"], method.d
    h_s, h_t = f(x_s), f(x_t)
    p_s, p_t = (torch.softmax(up(c(h)) / 1.8, 1) for h in (h_s, h_t))
    q_s, q_t = (torch.where(p > 0.9, 0.9, p).detach() for p in (p_s, p_t))
    zeros = torch.zeros_like(q_t)

    def soft(features, label):
        return -(label * torch.log_softmax(up(d(features)), 1)).sum(1).mean()

    l_source = F.nll_loss(p_s.log(), y_s, ignore_index=255)
    loss = l_source + 0.5 * soft(h_t, torch.cat([q_t, zeros], 1))
    assert_gradients(of_f.gradients, loss, method)
    judged = 0.5 * soft(h_s.detach(), torch.cat([q_s, zeros], 1)) + 0.5 * soft(h_t.detach(), torch.cat([zeros, q_t], 1))
    assert_gradients(of_d.gradients, judged, method)


def test_the_adversarial_loss_reaches_the_classifier_only_through_the_segmentation_loss():
    found = []
    for weight in (0.0, 0.5):
        of_f = updates_of(make(source_steps=1, weight=weight), 2)[1]
        found.append(of_f.gradients)
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]) == (".c." in name), name


def test_the_last_phase_learns_from_the_labels_that_f_and_c_find():
    method = make(source_steps=1, adversarial_steps=1)
    first = updates_of(method, data=Secret())[-2]
    teacher, student = make(), make()
    teacher.load_state_dict(first.state)
    assert bool(teacher.distilled)
    for name, value in weights(make().student).items():  # as it began
        assert torch.equal(first.state[f"student.{name}"], value)
    sample = batches(Secret(), 3)[2]["b"]
    images = to_float(sample.image)
    teacher.distilled.fill_(False)
    labels = teacher.eval()(images).argmax(1)
    student.load_state_dict(first.state)
    loss = F.cross_entropy(student.train()(images), labels)
    assert_gradients(first.gradients, loss, student)
    assert not torch.equal(method.eval()(images), teacher(images))


def test_pixels_of_low_confidence_are_unknown():
    method, data = make().eval(), Labelled()
    most, classes = method(to_float(torch.from_numpy(data.data("b", "train").images))).softmax(1).max(1)
    method.confidence = float(most.median())
    method.trainer = trainer()
    method.trainer.datamodule = data
    found = method.find_labels()
    unknown = found == 255
    assert torch.equal(unknown, most < method.confidence)
    assert 0.4 < unknown.float().mean() < 0.6
    assert torch.equal(found[~unknown].long(), classes[~unknown])


def test_label_maps_of_the_second_domain_are_not_read():
    found = []
    for kind in (Labelled, Secret):
        method = make()
        updates_of(method, data=kind())
        found.append(weights(method))
    assert differences(*found) == []


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_is_constant_until_the_last_phase(frozen):
    method = make(features=NormedFeatures, frozen_norm=frozen)
    before = weights(method)
    updates_of(method)
    after = weights(method)
    for network in ("labeller", "student"):
        still = [torch.equal(before[n], after[n]) for n in before if n.startswith(f"{network}.f.layers.1")]
        assert all(still) if frozen and network == "labeller" else not any(still)


def test_rates_fall_over_25_16ths_of_each_phase_and_c_has_ten_times_that_of_f():
    rates = []

    class Rates(Watch):
        def on_train_batch_start(self, trainer, module, *_):
            of = {n: module.named_optimizer(n) for n in ("source", "adversarial", "d", "distil")}
            rates.append({n: [g["lr"] for g in optimizer.param_groups] for n, optimizer in of.items()})

    options = {"source_steps": 16, "adversarial_steps": 2, "distil_steps": 1}
    quick = partial(torch.optim.SGD, lr=0.01)
    fitted(make(adversarial_optimizer=quick, **options), -1, data=Labelled(), callbacks=[Rates()], max_epochs=-1)
    for t, rate in enumerate(rates[:16]):
        lr = 0.1 * (1 - t / 25) ** 0.9
        assert rate["source"] == pytest.approx([lr, 10 * lr])
        assert (rate["adversarial"], rate["distil"]) == (pytest.approx([0.01, 0.1]), pytest.approx([0.1, 1.0]))
    assert rates[17]["adversarial"] == pytest.approx([0.01 * (2 / 3) ** 0.9, 0.1 * (2 / 3) ** 0.9])
    assert rates[17]["d"] == pytest.approx([0.1 * (2 / 3) ** 0.9])
    assert rates[18]["distil"] == pytest.approx([0.1, 1.0])


def test_with_padain_the_source_takes_statistics_of_the_target():
    for padain, expected in ((1.0, True), (0.0, False)):
        method = make(padain=padain)
        method.labeller.train()
        x_s, x_t = torch.rand(2, 4, 3, SIZE, SIZE)
        before = method.labeller["f"].layers[0]
        with torch.no_grad():
            plain = [make().labeller["f"].train()(x) for x in (x_s, x_t)]
            h_s, _ = method.features_of(x_s, 5 * x_t)
            assert torch.equal(method.features_of(x_s, x_t)[1], plain[1])  # the pass of the target alone
            assert torch.equal(h_s, plain[0]) != expected
            if expected:
                seen = []
                before.register_forward_hook(lambda *args, seen=seen: seen.append(args[-1].mean((2, 3))))
                method.labeller.train()
                method.features_of(x_s, 5 * x_t)
                torch.testing.assert_close(seen[0][:4], seen[0][4:])  # channel means after the first convolution
                torch.testing.assert_close(seen[0][4:], seen[1])


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_resumed_training_is_bit_for_bit_the_straight_one(stop, tmp_path):
    """Stopped inside and at the ends of the phases; pAdaIN draws random numbers."""
    options = {"optimizer": GANAdam, "padain": 0.5}
    for name, steps in (("straight", -1), ("stopped", stop)):
        fitted(make(**options), steps, data=Labelled(), run_dir=str(tmp_path / name), max_epochs=-1)
    run = trainer(max_epochs=-1, limit_val_batches=0, run_dir=str(tmp_path / "stopped"))
    last = [str(tmp_path / name / "checkpoints/last.ckpt") for name in ("straight", "stopped")]
    run.fit(make(**options), datamodule=Labelled(), ckpt_path=last[1], weights_only=True)
    one, other = (torch.load(file, weights_only=True) for file in last)
    assert one["global_step"] == other["global_step"] == 6
    for key in ("state_dict", "optimizer_states"):
        assert differences(one[key], other[key]) == []


def test_the_student_labels_images_once_it_has_begun_to_learn():
    method = make().eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    before = method(images)
    method.distilled.fill_(True)
    assert not torch.equal(method(images), before)
    assert torch.equal(make(distil_steps=0).eval()(images), before)


def test_label_maps_are_shown_in_the_colours_of_the_classes():
    method = make().eval()
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    classes = method(images).argmax(1)
    colours = torch.tensor([*CLASSES.values()])[classes].movedim(-1, 1) / 127.5 - 1
    assert set(method.tasks) == {"segment", "overlay"}
    torch.testing.assert_close(method.segment(images), colours)
    torch.testing.assert_close(method.overlay(images, 0.25), 0.75 * images + 0.25 * colours)
    assert (method.painted(torch.full((1, 2, 2), 255)) == -1).all()


def test_what_does_not_fit_is_refused():
    for name in ("adversarial_steps", "distil_steps"):
        with pytest.raises(UserError, match=f"{name} is -1: give a number of batches of at least 0"):
            make(**{name: -1})
    with pytest.raises(UserError, match="source_steps is 0: give a number of batches of at least 1"):
        make(source_steps=0)
    for colours in ([[0, 0, 0]], [[0, 0, 300]] * 3):
        with pytest.raises(UserError, match="give red, green and blue from 0 to 255 for 3 classes"):
            make(colours=colours)
    with pytest.raises(UserError, match="FADA has a schedule of its own"):
        make(scheduler=torch.optim.lr_scheduler.LinearLR)
    with pytest.raises(UserError, match="learns from label maps, but plus has none"):
        fitted(make())
    method = make()
    method.classes.reverse()
    with pytest.raises(UserError, match="the classes of the data are dark, grey, light: give these"):
        fitted(method, data=Labelled())
    with pytest.raises(UserError, match="opacity is 2"):
        make().overlay(torch.zeros(1, 3, SIZE, SIZE), 2)
