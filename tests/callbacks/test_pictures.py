"""Grids and curves: size, content, order, and who gets them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from tests.toys import ToyGAN, ToyPair, trainer
from xdomain.batch import to_float, to_uint8
from xdomain.callbacks import LearningCurves, PredictionWriter, SampleGrid
from xdomain.callbacks.pictures import save_png
from xdomain.running import curves
from xdomain.running.curves import draw_curves


class Marked(ToyGAN):
    """Translates into the negative of the first channel, whatever the domain."""

    directions = (("red", "grey"), ("grey", "grey"))

    def translate(self, images, source, target, **options):
        return -images[:, :1]


def fitted(callbacks, steps=2, **options):
    run = trainer(max_steps=steps, val_check_interval=2, log_every_n_steps=1, callbacks=callbacks, **options)
    run.fit(Marked(), datamodule=ToyPair())
    return run


def tile(picture, row, column):
    """The 8x8 image at a place of a grid with a border of one pixel."""
    return picture[1 + 9 * row : 9 + 9 * row, 1 + 9 * column : 9 + 9 * column]


def test_grid_shows_inputs_above_their_translations():
    run = fitted([SampleGrid(count=5)])
    picture = np.array(Image.open(run.run_dir / "samples" / "step_0000002.png"))
    assert picture.shape == (4 * 9 + 1, 5 * 9 + 1, 3)
    data = ToyPair()
    for first_row, role in ((0, "a"), (2, "b")):
        images = data.data(role, "val").images
        for column in range(5):
            image = images[column].transpose(1, 2, 0)
            assert np.array_equal(tile(picture, first_row, column), np.broadcast_to(image, (8, 8, 3)))
            negative = np.broadcast_to(255 - image[..., :1].astype(int), (8, 8, 3))
            assert np.abs(tile(picture, first_row + 1, column).astype(int) - negative).max() <= 1


def test_grid_leaves_out_what_the_method_does_not_translate():
    class Forward(Marked):
        directions = (("red", "grey"),)

    picture = SampleGrid(count=5).grid(ToyPair(), Forward().eval(), testing=False)
    assert picture.shape == (3, 2 * 9 + 1, 5 * 9 + 1)


def test_grid_of_chosen_directions_and_of_few_images():
    run = trainer(callbacks=[SampleGrid(count=99, directions=[("grey", "grey")])])
    run.test(Marked(), datamodule=ToyPair(), verbose=False)
    picture = np.array(Image.open(run.run_dir / "samples" / "test.png"))
    assert picture.shape == (2 * 9 + 1, 10 * 9 + 1, 3)
    images = ToyPair().data("b", "test").images
    assert np.array_equal(tile(picture, 0, 9)[..., 0], images[9, 0])


def test_rows_of_domains_with_few_images_stay_apart():
    class Uneven(ToyPair):
        def data(self, role, split):
            data = super().data(role, split)
            return data.keep(np.arange({"a": 5, "b": 2}[role]))

    data = Uneven()
    picture = SampleGrid(count=4).grid(data, Marked().eval(), testing=False).permute(1, 2, 0).numpy()
    assert picture.shape == (4 * 9 + 1, 4 * 9 + 1, 3)
    for first_row, role in ((0, "a"), (2, "b")):
        images = data.data(role, "val").images[:4]
        for column, image in enumerate(images):
            assert np.array_equal(
                tile(picture, first_row, column), np.broadcast_to(image.transpose(1, 2, 0), (8, 8, 3))
            )
    assert (tile(picture, 2, 2) == 255).all()
    assert (tile(picture, 3, 3) == 255).all()


def test_grid_draws_no_random_numbers():
    grid, model, data = SampleGrid(), Marked().eval(), ToyPair()
    before = torch.get_rng_state()
    assert torch.equal(grid.grid(data, model, False), grid.grid(data, model, False))
    assert torch.equal(torch.get_rng_state(), before)


def test_curves_are_drawn():
    run = fitted([LearningCurves()], steps=4)
    picture = np.array(Image.open(run.run_dir / "curves.png").convert("RGB"))
    assert picture.shape[0] >= 200
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_more_metrics_make_a_larger_picture(tmp_path):
    sizes = []
    for count in (1, 5):
        names = [f"m{i}" for i in range(count)]
        (tmp_path / "m.csv").write_text("\n".join([",".join(["step", *names]), ",".join("1" * (count + 1)), ""]))
        draw_curves(tmp_path / "m.csv", tmp_path / "c.png")
        sizes.append(Image.open(tmp_path / "c.png").size)
    assert sizes[1][0] == 4 * sizes[0][0]
    assert sizes[1][1] == 2 * sizes[0][1]


def test_curves_take_a_small_share_of_the_time(monkeypatch):
    """A validation every 20 s and plots that take 1 s: every third is plotted, since 50 s must lie between two."""
    seconds, plotted = [0.0], []

    def plot(*_):
        plotted.append(seconds[0])
        seconds[0] += 1

    class Clock(Callback):
        def on_validation_start(self, trainer, pl_module):
            seconds[0] += 20

    monkeypatch.setattr(curves, "draw_curves", plot)
    monkeypatch.setattr(curves, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    fitted([Clock(), LearningCurves()], steps=16)  # 8 validations
    assert plotted == [60, 121, 162]  # after the third and the sixth, and at the end


@pytest.mark.parametrize("content", [None, "step\n", "step,epoch\n1,0\n"])
def test_no_metrics_no_curves(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_tensorboard_shows_the_grid(tmp_path):
    shown = []
    logger = TensorBoardLogger(tmp_path / "tb")
    logger.experiment.add_image = lambda key, image, step: shown.append((key, image, step))
    run = fitted([SampleGrid(count=2)], logger=logger)
    ((key, image, step),) = shown
    assert (key, step) == ("samples", 2)
    picture = np.array(Image.open(run.run_dir / "samples" / "step_0000002.png"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), picture)


def test_wandb_shows_the_grid():
    shown = []

    class Offline(WandbLogger):
        name, version, save_dir, experiment = "x", "0", None, None

        def log_image(self, key, images, step=None, **_):
            shown.append((key, images, step))

        def log_metrics(self, metrics, step=None):
            pass

        log_hyperparams = log_graph = after_save_checkpoint = finalize = lambda self, *_: None

    run = fitted([SampleGrid(count=2)], logger=Offline())
    ((key, (image,), step),) = shown
    assert (key, step) == ("samples", 2)
    assert np.array_equal(image, np.array(Image.open(run.run_dir / "samples" / "step_0000002.png")))


def test_predictions_are_written_under_their_positions():
    run = trainer(callbacks=[PredictionWriter()])
    run.predict(Marked(), datamodule=ToyPair(), return_predictions=False)
    files = sorted((run.run_dir / "predictions").iterdir())
    assert [path.name for path in files] == [f"{i:06d}.png" for i in range(10)]
    source = torch.from_numpy(ToyPair().data("a", "test").images)
    expected = to_uint8(-to_float(source)[:, :1])
    for image, path in zip(expected, files, strict=True):
        assert np.array_equal(np.array(Image.open(path)), image[0].numpy())


def test_pictures_are_whole_or_not_there(tmp_path, monkeypatch):
    def dies(self, file, format=None):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        save_png(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / "new" / "x.png")
    assert list((tmp_path / "new").iterdir()) == []
