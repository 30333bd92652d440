# The student alone has nothing to tune.
_base_ = '../methods/ce.py'
