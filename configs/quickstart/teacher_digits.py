# The teacher of the quickstart, alone on scikit-learn's handwritten digits.
_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/models/digits.py',
    '../_base_/schedules/sgd_40e_bs64.py',
    '../_base_/default_runtime.py',
]
model = _base_.teacher
