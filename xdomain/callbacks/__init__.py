"""Lightning callbacks: evaluation, pictures, results, averaging, exact resume."""

from xdomain.callbacks.accuracy import ClassificationAccuracy, TransferAccuracy
from xdomain.callbacks.compile import CompileNetworks
from xdomain.callbacks.ema import GeneratorEMA
from xdomain.callbacks.pictures import LearningCurves, SampleGrid
from xdomain.callbacks.predictions import PredictionWriter
from xdomain.callbacks.results import Results

__all__ = [
    "ClassificationAccuracy",
    "CompileNetworks",
    "GeneratorEMA",
    "LearningCurves",
    "PredictionWriter",
    "Results",
    "SampleGrid",
    "TransferAccuracy",
]
