"""What distillation costs, measured side by side with MMRazor as shipped.

``tools/benchmark.py`` is the command line. Each subject is a module whose
``run`` first checks that what it compares computes the same, and then lets
the cases take turns.
"""
