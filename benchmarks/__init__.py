"""Measurements: scripts that run for minutes and write what came out; never part of a test."""
