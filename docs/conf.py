"""Sphinx configuration: make docs."""

project = 'prkd_mm'
author = 'The prkd_mm authors'
copyright = author
extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['_build']
html_theme = 'furo'
myst_heading_anchors = 4
# Links to code and configs lead out of the pages: on the site they stay plain text.
suppress_warnings = ['myst.xref_missing']
