"""What the benchmarks share."""

import statistics
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.cli import instantiate_module

from xdomain.data import DomainPair, Handwritten, Street
from xdomain.discover import find_config
from xdomain.methods import DTN, Method
from xdomain.runs import git_commit, hardware, write_json


def small_pair(batch_size: int = 64) -> DomainPair:
    """The data of dtn.yaml with fewer images to draw."""
    return DomainPair(Street(train_size=4000, val_size=50, test_size=50), Handwritten(), batch_size=batch_size)


def dtn(data: DomainPair, **settings: Any) -> DTN:
    """The method of dtn.yaml with an untrained f: the time of a step does not depend on its weights."""
    recipe = yaml.safe_load(find_config("dtn.yaml").read_text())["model"]["init_args"]
    classifier = yaml.safe_load(find_config(recipe["f"]).read_text())["model"]["init_args"]["network"]
    f = {**classifier, "class_path": f"xdomain.networks.{classifier['class_path']}"}
    linked = {"domains": list(data.domains), "channels": list(data.channels), "image_size": data.image_size}
    arguments = {"_class_path": "xdomain.methods.DTN", **recipe, **linked, "f": f, **settings}
    method: Method = instantiate_module(Method, arguments)
    assert isinstance(method, DTN)
    method.f.ready.fill_(True)
    return method


def report(name: str, metrics: dict[str, float], **more: Any) -> None:
    """Print the numbers and write results/<name>.json."""
    for key, value in metrics.items():
        print(f"{key:<32} {value:.4f}")
    content = {"recipe": name, "metrics": metrics, "commit": git_commit(), "hardware": hardware(), **more}
    write_json(Path("results") / f"{name}.json", content)


def median(values: list[float]) -> float:
    """The median, rounded for a JSON file."""
    return round(statistics.median(values), 6)
