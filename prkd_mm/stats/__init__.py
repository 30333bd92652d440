"""Means with errors, and differences paired by seed with confidence intervals."""
