"""The quality of analogies: numbers against the metrics themselves, and pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.methods.single import TwoImages, facts, train
from tests.methods.test_structural_analogy import ClipAndPicture
from tests.toys import trainer
from xdomain.batch import to_float
from xdomain.callbacks import AnalogyQuality
from xdomain.callbacks.analogy import row
from xdomain.data.video import read_video
from xdomain.methods import GramStyleTransfer, SinGAN, StructuralAnalogy
from xdomain.metrics import SIFID, GramStyleDistance, LayoutCorrelation, build_extractor
from xdomain.running.metrics_file import read_metrics

SMALL = {"iterations": 1, "min_size": 16, "width": 4, "layers": 3}


def evaluated(folder, method, data=TwoImages, **options):
    train(method, data(), folder)
    run = trainer(run_dir=str(folder), callbacks=[AnalogyQuality(**options)])
    (values,) = run.test(method, data(), verbose=False)
    return values


def test_numbers_are_those_of_the_metrics(tmp_path):
    m = StructuralAnalogy(**SMALL, **facts(TwoImages()))
    values = evaluated(tmp_path, m, samples=3, options={"start": 1}, seed=5, layer="1")
    network = build_extractor("random-conv")
    a, b = (to_float(TwoImages().samples[role][None]) for role in "ab")
    metrics = [
        SIFID(network, "1"),
        GramStyleDistance(network),
        LayoutCorrelation("luminance"),
        LayoutCorrelation("edges"),
    ]
    torch.manual_seed(5)
    back = []
    for _ in range(3):
        y = m.translate(a, "left", "right", start=1)
        for metric, real in zip(metrics, (b, b, a, a), strict=True):
            metric.update(real, y)
        back.append((m.translate(y, "right", "left", start=1) - a).abs().mean().item())
    expected = {metric.name: metric.compute().item() for metric in metrics}
    for metric in metrics[:2]:
        metric.reset()
        metric.update(b, a)
        expected[metric.name.replace("@", "_source@")] = metric.compute().item()
    expected |= {"cycle_l1": np.mean(back), "n": 3}
    assert values == pytest.approx(expected, rel=1e-4)
    assert set(expected) >= {"sifid@random-conv/1", "sifid_source@random-conv/1", "style_source@random-conv"}
    height, width = Image.open(tmp_path / "samples/analogy.png").size[::-1]
    assert (height, width) == (20, 26 + 2 + 17 + 2 + 26 + 2 + 17)  # a, b, a with b's look, b with a's


def test_random_numbers_of_the_run_are_left_alone(tmp_path):
    m = StructuralAnalogy(**SMALL, **facts(TwoImages()))
    train(m, TwoImages(), tmp_path)
    states = []
    for samples in (1, 4):
        torch.manual_seed(1)
        trainer(run_dir=str(tmp_path), callbacks=[AnalogyQuality(samples=samples)]).test(m, TwoImages(), verbose=False)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_singan_translates_into_the_second_image_only(tmp_path):
    m = SinGAN(**{**SMALL, "iterations": 1}, **facts(TwoImages()))
    values = evaluated(tmp_path, m, samples=2, options={"start": 1})
    assert "cycle_l1" not in values
    assert values["n"] == 2
    assert Image.open(tmp_path / "samples/analogy.png").size == (
        26 + 2 + 17 + 2 + 27,
        20,
    )  # the finest scale of b has 24 pixels


def test_gram_style_transfer(tmp_path):
    m = GramStyleTransfer(iterations=2, **facts(TwoImages()))
    values = evaluated(tmp_path, m, samples=5)
    assert values["n"] == 1  # nothing about it is random
    assert values["layout_luminance"] > 0.9
    assert "cycle_l1" not in values


def test_validations_wait_for_the_finest_scale(tmp_path):
    m = SinGAN(**{**SMALL, "iterations": 2}, **facts(TwoImages()))
    train(m, TwoImages(), tmp_path, callbacks=[AnalogyQuality(options={"start": 2})], val_check_interval=2)
    rows = [r for r in read_metrics(tmp_path / "metrics.csv") if r["val/layout_edges"]]
    assert len(rows) == 1
    assert float(rows[0]["val/n"]) == 1
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["analogy_0000006.png"]


def test_clips(tmp_path):
    m = StructuralAnalogy(**{**SMALL, "min_size": 12, "lambda_self": 1.0}, **facts(ClipAndPicture()))
    values = evaluated(tmp_path, m, ClipAndPicture, samples=2)
    assert values["n"] == 8  # frames
    assert Image.open(tmp_path / "samples/analogy.png").size == (24 + 2 + 16 + 2 + 24 + 2 + 16, 16)
    assert read_video(tmp_path / "samples/analogy.gif").shape == (4, 3, 16, 24)


def test_pictures_side_by_side():
    strip = row([torch.ones(1, 3, 10, 20), -torch.ones(1, 3, 20, 20), -torch.ones(1, 3, 5, 10, 10)])
    assert strip.shape == (3, 10, 20 + 2 + 10 + 2 + 10)
    assert (strip[:, :, :20] == 255).all()
    assert (strip[:, :, 22:32] == 0).all()
