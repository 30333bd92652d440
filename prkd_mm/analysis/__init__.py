"""The pictures behind the method: how hard a loss ties the student, where the
student ends up, how far its last checkpoints are apart, what it took over.

``tools/analyze.py`` draws them; every function here serves from Python too.
The numbers (``strength``, ``landscape``, ``spread``, ``compare``) are apart
from the pictures (``figures``), from what loads and writes (``trained``,
``report``), and from what does all of it in turn (``*_study``).
"""

from .agreement import study as compare_study
from .landscape import study as landscape_study
from .spread import study as spread_study
from .strength import study as strength_study

STUDIES = dict(
    strength=strength_study.strength,
    spread=spread_study.spread,
    compare=compare_study.compare,
    landscape=landscape_study.landscape,
)

__all__ = ['STUDIES']
