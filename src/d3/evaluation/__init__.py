"""Can a detector be trusted: data sets, scores, metrics with intervals, reports, calibration."""
