"""Benchmarks of the cost of distillation, compared with MMRazor as shipped.

Run ``python -m benchmarks step`` (or ``python tools/benchmark.py step``). Each subject is a
function ``run``. It first checks that all cases compute the same thing, which raises an
``UnequalError`` if they do not, and then times them alternately.
"""
