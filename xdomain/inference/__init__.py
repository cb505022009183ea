"""Trained methods out of checkpoints, and what can be asked of them."""
