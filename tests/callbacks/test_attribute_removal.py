"""Removals by editors have the numbers of methods of content transfer that remove the same."""

import pytest
from torch import nn

from tests.callbacks.judges import Held
from tests.callbacks.test_content import Blocks, Judge, Surgeon, draw
from tests.toys import trainer
from xdomain.callbacks import AttributeRemoval, ContentMasks, ContentTransfer, content, content_masks
from xdomain.errors import UserError
from xdomain.features import Extractor
from xdomain.methods.editor import AttributeEditor

NAMES = ("Eyeglasses", "Smiling")


class Eraser(AttributeEditor):
    """Paints the ground over what is taken away, or over everything."""

    def __init__(self, everything=False, attributes=NAMES):
        super().__init__(domains=("face",), channels=(3,), image_size=16, attributes=list(attributes))
        self.everything, self.weight = everything, nn.Linear(1, 1)

    def edit(self, images, attributes, strength=1.0):
        place, ground = {"-Eyeglasses": "glasses", "-Smiling": "smile"}[attributes], strength * images[..., :1, :1]
        return ground.expand_as(images) if self.everything else draw(images.clone(), place, ground)


class Few(Extractor):
    """The means of the channels: distances between them take no time."""

    name, dim, layers = "few", 3, ()

    def features(self, images):
        return images.mean((2, 3))


@pytest.fixture(autouse=True)
def _judges(monkeypatch):
    reads = Judge("glasses", "smile")
    for room in (content, content_masks):
        monkeypatch.setattr(room, "helper_targets", lambda _: NAMES)
        monkeypatch.setattr(room, "build_judge", lambda _: Held(reads))
        monkeypatch.setattr(room, "fetch_judge", lambda judge, *_: judge)
        monkeypatch.setattr(room, "check_judge_fits", lambda *_: True)
    monkeypatch.setattr(content, "build_features", lambda _: Few())
    monkeypatch.setattr(content_masks.ContentMasks, "_cam", lambda self, images, domain: images[:, :1])


def measured(method, callbacks, domains):
    run = trainer(callbacks=callbacks)
    run.test(method, datamodule=Blocks(domains), verbose=False)
    return {name: value.item() for name, value in run.callback_metrics.items()}


def of_editor(domains=("glasses",), **options):
    return measured(Eraser(**options), [AttributeRemoval(domains, "reads", "sees", pairs=40)], {"face": "*"})


def test_an_editor_has_the_numbers_of_a_method_of_content_transfer():
    other = Surgeon(("glasses", "plain"), guided=False)
    callbacks = [ContentTransfer(attributes="reads", embedder="sees", pairs=40), ContentMasks("reads")]
    expected = measured(other, callbacks, "glasses")
    found = of_editor(everything=True)
    assert found["removed/glasses_to_plain"] == 1
    assert found["l1_outside/glasses_to_plain"] > 0.01  # smiles are gone, too
    wanted = ("kid/", "fid/", "removed", "identity", "identified", "l1", "n_fake", "mask_iou_difference")
    shared = {name for name in expected if name.startswith(wanted) and "plain_to_glasses" not in name}
    assert {"kid/glasses_to_plain@few", "removed_identified/glasses_to_plain"} <= shared
    assert {"l1_outside/glasses_to_plain", "l1_outside_mask/glasses", "removed_blurred/glasses_to_plain"} <= shared
    for name in shared:
        assert found[name] == pytest.approx(expected[name], abs=1e-6), name


def test_several_removals_and_no_probes():
    found = of_editor(("glasses", "smile"))
    assert found["removed/glasses_to_plain"] == found["removed/smile_to_neutral"] == 1
    assert found["l1/smile_to_neutral"] == pytest.approx(0, abs=1e-6)
    assert not [name for name in found if "probe" in name or "plain_to" in name or "neutral_to" in name]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"domains": ["smile_glasses"]}, "domains is smile_glasses, whose domains do not differ in Eyeglasses or"),
        ({"domains": ["glasses"], "attributes": ["Smiling"]}, "whose domains do not differ in Smiling alone: leave it"),
        ({"domains": ["glases"]}, "domains is 'glases', but the presets are"),
    ],
)
def test_domains_that_the_editor_does_not_remove_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        of_editor(**options)
