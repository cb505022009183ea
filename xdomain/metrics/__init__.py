"""Metrics as torchmetrics."""

from xdomain.metrics.nearest import NearestNeighbourAccuracy

__all__ = ["NearestNeighbourAccuracy"]
