"""Loading trained methods from checkpoints and running their tasks."""
