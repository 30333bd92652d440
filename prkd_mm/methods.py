"""Titles of the training methods, by the names of their files in ``configs/_base_/methods``."""

METHODS = dict(
    ce='student alone',
    logit='logit matching',
    kd='KD',
    dist='DIST',
    cor='correlation only',
    prkd_a='PRKDa',
    prkd_b='PRKDb',
    prkd='PRKD',
    prkd_to_1_16='PRKD to 1/16',
    prkd_to_1_4='PRKD to 1/4',
    prkd_to_1='PRKD to 1',
    prkd_to_2='PRKD to 2',
)
