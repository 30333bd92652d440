# As in ../methods: the search did not include it.
_base_ = '../methods/cor.py'
