"""Compute cost of distillation, measured next to MMRazor as shipped.

Run ``python -m benchmarks step`` (or ``python tools/benchmark.py step``). Each
subject is a module with a function ``run``, which first checks that all cases
compute the same thing and then times them in turns.
"""
