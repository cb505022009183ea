"""Everything about a run: trainer, folder, record, checkpoints, results."""
