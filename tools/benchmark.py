"""Measure what distillation costs: the command line of ``benchmarks``."""

import runpy
import sys
from pathlib import Path

# the benchmarks are not part of the installed package
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
runpy.run_module('benchmarks', run_name='__main__', alter_sys=False)
