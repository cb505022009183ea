"""What a run is: trainer, folder, record, checkpoints, results."""
