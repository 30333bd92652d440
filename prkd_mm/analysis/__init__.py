"""The pictures behind the method: how hard a loss ties the student, where the
student ends up, how far its last checkpoints are apart, what it took over.

``tools/analyze.py`` draws them; every function here serves from Python too.
The numbers (``strength``, ``landscape``, ``spread``, ``compare``) are apart
from the pictures (``figures``) and from what loads and writes (``trained``,
``report``).
"""
