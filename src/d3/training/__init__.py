"""Training: rendered data, augmentation, fitting, evaluation, calibration and the starter recipe."""
