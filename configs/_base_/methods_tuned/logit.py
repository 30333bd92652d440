# The values of the literature: the search found nothing better.
_base_ = '../methods/logit.py'
