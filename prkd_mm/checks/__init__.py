"""Checks of settings, numbers, classes and metrics before a run computes anything."""
