# The values of ../methods: the search did not include this method.
_base_ = '../methods/prkd_b.py'
