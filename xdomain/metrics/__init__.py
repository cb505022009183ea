"""Metrics as torchmetrics."""

from xdomain.features import build_extractor
from xdomain.metrics.attributes import AttributeHitRate, BalancedAccuracy
from xdomain.metrics.cam import cam_layer, gradcam
from xdomain.metrics.colour import ColourCorrelation
from xdomain.metrics.counterfactual import CounterfactualError
from xdomain.metrics.distribution import FID, KID, InceptionScore, frechet_distance
from xdomain.metrics.layout import LayoutCorrelation
from xdomain.metrics.masks import MaskIoU
from xdomain.metrics.nearest import NearestNeighbourAccuracy
from xdomain.metrics.parameters import ParameterErrors
from xdomain.metrics.perceptual import LPIPS, ContentDistance, GramStyleDistance, PerceptualDistance
from xdomain.metrics.probes import probe_balanced_accuracy, proxy_a_distance
from xdomain.metrics.retrieval import RetrievalRanks
from xdomain.metrics.single import SIFID, SVFID, PatchCopyRate, PixelDiversity
from xdomain.metrics.verification import IdentificationRate, IdentitySimilarity, VerificationAUC

__all__ = [
    "FID",
    "KID",
    "LPIPS",
    "SIFID",
    "SVFID",
    "AttributeHitRate",
    "BalancedAccuracy",
    "ColourCorrelation",
    "ContentDistance",
    "CounterfactualError",
    "GramStyleDistance",
    "IdentificationRate",
    "IdentitySimilarity",
    "InceptionScore",
    "LayoutCorrelation",
    "MaskIoU",
    "NearestNeighbourAccuracy",
    "ParameterErrors",
    "PatchCopyRate",
    "PerceptualDistance",
    "PixelDiversity",
    "RetrievalRanks",
    "VerificationAUC",
    "build_extractor",
    "cam_layer",
    "frechet_distance",
    "gradcam",
    "probe_balanced_accuracy",
    "proxy_a_distance",
]
