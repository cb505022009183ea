"""Lightning callbacks: evaluation, image grids, weight averaging, compilation, memory layout."""

from xdomain.callbacks.accuracy import ClassificationAccuracy, GuidedAccuracy, ShuffledCastAccuracy, TransferAccuracy
from xdomain.callbacks.ada import AdaptiveAugmentation
from xdomain.callbacks.adaptation import AdaptationScores
from xdomain.callbacks.analogy import AnalogyQuality
from xdomain.callbacks.attribute_edits import AttributeEdits, EditPictures
from xdomain.callbacks.attribute_removal import AttributeRemoval
from xdomain.callbacks.attribute_transfer import AttributeTransfer
from xdomain.callbacks.attributes import AttributeAccuracy
from xdomain.callbacks.channels_last import ChannelsLast
from xdomain.callbacks.codes import CodeScores
from xdomain.callbacks.compile import CompileNetworks
from xdomain.callbacks.content import ContentTransfer
from xdomain.callbacks.content_masks import ContentMasks
from xdomain.callbacks.content_pictures import TransferPictures
from xdomain.callbacks.corruptions import CorruptionRobustness
from xdomain.callbacks.distribution import DistributionDistance
from xdomain.callbacks.drawn import DrawnQuality
from xdomain.callbacks.ema import GeneratorEMA
from xdomain.callbacks.face_swap import FaceSwapScores
from xdomain.callbacks.identity import IdentityRetrieval, IdentityVerification
from xdomain.callbacks.label_maps import LabelMapScores
from xdomain.callbacks.latents import LatentScores
from xdomain.callbacks.one_shot import OneShotScores
from xdomain.callbacks.padain import InsertPermutedAdaIN
from xdomain.callbacks.pairs import PairScores
from xdomain.callbacks.parameters import ParameterRecovery
from xdomain.callbacks.pictures import SampleGrid
from xdomain.callbacks.predictions import PredictionWriter
from xdomain.callbacks.segmentation import SegmentationAccuracy, SegmentationGrid
from xdomain.callbacks.single import SampleQuality, SampleSheet
from xdomain.running.curves import LearningCurves
from xdomain.running.results import Results

__all__ = [
    "AdaptationScores",
    "AdaptiveAugmentation",
    "AnalogyQuality",
    "AttributeAccuracy",
    "AttributeEdits",
    "AttributeRemoval",
    "AttributeTransfer",
    "ChannelsLast",
    "ClassificationAccuracy",
    "CodeScores",
    "CompileNetworks",
    "ContentMasks",
    "ContentTransfer",
    "CorruptionRobustness",
    "DistributionDistance",
    "DrawnQuality",
    "EditPictures",
    "FaceSwapScores",
    "GeneratorEMA",
    "GuidedAccuracy",
    "IdentityRetrieval",
    "IdentityVerification",
    "InsertPermutedAdaIN",
    "LabelMapScores",
    "LatentScores",
    "LearningCurves",
    "OneShotScores",
    "PairScores",
    "ParameterRecovery",
    "PredictionWriter",
    "Results",
    "SampleGrid",
    "SampleQuality",
    "SampleSheet",
    "SegmentationAccuracy",
    "SegmentationGrid",
    "ShuffledCastAccuracy",
    "TransferAccuracy",
    "TransferPictures",
]
