# Not searched.
_base_ = '../methods/prkd_to_2.py'
