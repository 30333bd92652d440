import prkd_mm  # noqa: F401  # before a test imports mmrazor by itself
