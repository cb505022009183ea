"""Renderers: from parameters to images, batched tensor code."""
