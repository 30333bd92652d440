# Not searched.
_base_ = '../methods/prkd_to_1.py'
