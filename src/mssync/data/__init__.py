"""The dataset in memory: clips, windows, sequences, splits, augmentation."""
