# The student alone has no settings to tune.
_base_ = '../methods/ce.py'
