"""Unpaired cross-domain image translation on PyTorch Lightning."""

__version__ = "0.1.0"
