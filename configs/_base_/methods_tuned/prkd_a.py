# The values of the literature: the search found nothing better.
_base_ = '../methods/prkd_a.py'
