"""What ``predict`` writes."""

import numpy as np
import pytest
import torch

from tests.commands.test_translate import names
from tests.inference.test_tasks import LEFT, RIGHT, SIZE, TOP, Quarters
from tests.toys import ToyPair, trainer
from xdomain.callbacks import PredictionWriter
from xdomain.data import UnpairedFolders
from xdomain.data.images import read_image, write_image
from xdomain.errors import UserError
from xdomain.methods import Method


@pytest.fixture
def folders(tmp_path):
    """Two domains with three and two test images, one of them in a subfolder and one broken; by name."""
    rng, found = np.random.default_rng(0), {}
    trained = [f"train{side}/{i}" for side in "AB" for i in range(10)]
    for name in (*trained, "testA/0", "testA/1", "testA/deep/2", "testB/x", "testB/y"):
        found[name] = rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
        write_image(torch.from_numpy(found[name]), tmp_path / "data" / f"{name}.png")
    (tmp_path / "data/testA/1.png").write_bytes(b"hello")
    return found


@pytest.mark.filterwarnings("ignore:.*images in .* cannot be used")
def test_predictions_have_the_names_of_their_images_and_guides_of_the_target(folders):
    data = UnpairedFolders("data", image_size=SIZE, on_bad_file="skip", eval_batch_size=1)
    run = trainer(callbacks=[PredictionWriter()])
    method = Quarters(contents=data.domains, domains=data.domains, channels=data.channels, image_size=SIZE)
    run.predict(method, datamodule=data, return_predictions=False)
    assert names(run.run_dir / "predictions") == ["testA/0.png", "testA/deep/2.png"]
    for name, guide in {"testA/0": "testB/x", "testA/deep/2": "testB/y"}.items():
        found = read_image(run.run_dir / "predictions" / f"{name}.png", 3).numpy()
        assert np.array_equal(found[TOP], folders[name][TOP])
        assert np.array_equal(found[RIGHT], folders[guide][RIGHT])
        assert (found[LEFT] == 0).all()


def test_a_list_of_files_writes_nowhere_else(folders, tmp_path):
    rows = [f"data/train{side.upper()}/{i}.png,{side},train" for side in "ab" for i in range(1, 10)]
    rows += ["../lists/../data/trainA/0.png,a,test", f"{tmp_path}/data/testB/y.png,b,test"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/data").symlink_to(tmp_path / "data")
    (tmp_path / "lists/x.csv").write_text("path,domain,split\n" + "\n".join(rows))
    data = UnpairedFolders(manifest="lists/x.csv", image_size=SIZE)
    run = trainer(callbacks=[PredictionWriter()], run_dir=str(tmp_path / "run"))
    (tmp_path / "run/predictions").mkdir(parents=True)
    (tmp_path / f"run/predictions/.{0:016x}.part").write_bytes(b"of a call that was killed")
    method = Quarters(contents=data.domains, domains=data.domains, channels=data.channels, image_size=SIZE)
    run.predict(method, datamodule=data, return_predictions=False)
    assert names(tmp_path / "run/predictions") == ["lists/data/trainA/0.png"]


class Silent(Method):
    """Does not translate."""


def test_a_method_that_does_not_translate_says_so():
    with pytest.raises(UserError, match="Silent does not translate: there is nothing to predict"):
        trainer().predict(Silent(domains=("red", "grey"), channels=(3, 1), image_size=8), datamodule=ToyPair())
