"""Studies of trained students for ``tools/analyze.py``.

Each study is a folder. ``measure.py`` computes the numbers, ``figure.py`` draws the figures,
and ``study.py`` has the options and ``run(runs, report, options)``, which loads the students,
calls the other two, and prints and writes the results. The studies share ``runs`` (the
students), ``nets``, ``batches`` (fixed images), ``study_options``, ``device`` and ``output``.
"""

from typing import Any, Callable, NamedTuple

from .agreement import study as agreement
from .landscape import study as landscape
from .spread import study as spread
from .strength import study as strength


class Study(NamedTuple):
    """A study; the first line of the docstring of ``run`` describes it."""

    run: Callable[..., Any]  # run(runs, report, options)
    options: type  # the class of its options
    checkpoints: str  # how the study uses several --checkpoints


STUDIES = dict(
    strength=Study(strength.run, strength.StrengthOptions, 'the last one is used'),
    spread=Study(spread.run, spread.SpreadOptions, 'together they form the tail'),
    compare=Study(agreement.run, agreement.AgreementOptions, 'each is a student'),
    landscape=Study(
        landscape.run,
        landscape.LandscapeOptions,
        'the last one is the student; the plane needs at least three',
    ),
)

__all__ = ['STUDIES', 'Study']
