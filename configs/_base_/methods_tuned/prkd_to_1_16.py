# Not searched.
_base_ = '../methods/prkd_to_1_16.py'
