"""Training: rendered pairs, augmentation, fitting, evaluation, calibration, the starter recipe."""
