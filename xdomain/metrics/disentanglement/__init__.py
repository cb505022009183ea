"""Metrics of disentanglement, on codes [N, D] and known factors [N, K] of N images; NumPy arrays.

The definitions are those of the common library of Locatello et al., "Challenging Common Assumptions in the Unsupervised
Learning of Disentangled Representations", ICML 2019; where ours differ, the docstring says so. Every score draws by its
seed alone. Factors must be independent of each other: sample them so, with an engine. No value is absolute: measure a
floor (noise, or principal components of pixels) and a ceiling (the factors themselves) with the same rows.
"""

from xdomain.metrics.disentanglement.blocks import block_gap, block_importance, group_importance, moved
from xdomain.metrics.disentanglement.dimensions import (
    DCI,
    completeness,
    dci,
    disentanglement,
    explicitness,
    mig,
    modularity,
    modularity_of,
    mutual_information,
    sap,
)
from xdomain.metrics.disentanglement.fixed_factor import beta_vae_score, factor_vae_score, irs
from xdomain.metrics.disentanglement.unsupervised import (
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
    relative_strength,
    udr,
)

__all__ = [
    "DCI",
    "beta_vae_score",
    "block_gap",
    "block_importance",
    "completeness",
    "dci",
    "disentanglement",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
    "group_importance",
    "irs",
    "mig",
    "modularity",
    "modularity_of",
    "moved",
    "mutual_information",
    "relative_strength",
    "sap",
    "udr",
]
