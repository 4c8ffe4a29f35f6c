"""Measurements: results of configs, speed, scaling. Not installed."""
