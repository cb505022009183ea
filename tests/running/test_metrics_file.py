"""The metrics file: whole rows, growing columns, no gaps and no doubles after a resume."""

import pytest

from xdomain.running.metrics_file import MetricsFile, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def opened(path, before_step=0):
    logger = MetricsFile()
    logger.open(path, before_step)
    return logger


def test_rows_and_growing_columns(path):
    logger = opened(path)
    logger.log_metrics({"loss": 0.1}, step=1)
    assert path.read_text() == "step,loss\n1,0.1\n"
    logger.log_metrics({"val/accuracy": 1.0}, step=1)
    logger.log_metrics({"loss": 1 / 3, "epoch": 2}, step=4)
    assert path.read_text() == f"step,loss,val/accuracy,epoch\n1,0.1,,\n1,,1.0,\n4,{1 / 3!r},,2\n"
    assert read_metrics(path)[2] == {"step": "4", "loss": repr(1 / 3), "val/accuracy": "", "epoch": "2"}
    assert float(read_metrics(path)[2]["loss"]) == 1 / 3  # no digit is lost


def test_nothing_is_written_before_it_is_opened(path):
    MetricsFile().log_metrics({"loss": 0.1}, step=1)
    assert not path.exists()


@pytest.mark.parametrize("cut", ["5", "5,0.", "5,0.5"])
def test_a_last_row_that_was_cut_off_is_left_out(path, cut):
    path.write_text(f"step,loss,acc\n1,0.1,0.5\n3,0.2,\n{cut}")
    assert [row["step"] for row in read_metrics(path)] == ["1", "3"]
    logger = opened(path, before_step=99)
    logger.log_metrics({"loss": 0.7}, step=5)
    assert path.read_text() == "step,loss,acc\n1,0.1,0.5\n3,0.2,\n5,0.7,\n"


def test_resuming_drops_the_rows_behind_the_checkpoint(path):
    first = opened(path)
    for step in range(6):
        first.log_metrics({"loss": float(step)}, step=step)
    second = opened(path, before_step=3)
    second.log_metrics({"loss": 30.0}, step=3)
    assert [(row["step"], row["loss"]) for row in read_metrics(path)] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "30.0"),
    ]


def test_resuming_at_the_beginning_starts_anew(path):
    opened(path).log_metrics({"old": 1.0}, step=0)
    opened(path, before_step=0).log_metrics({"new": 2.0}, step=0)
    assert read_metrics(path) == [{"step": "0", "new": "2.0"}]
