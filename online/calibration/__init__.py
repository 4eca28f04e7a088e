"""Calibration: what a model's own refusals look like."""
