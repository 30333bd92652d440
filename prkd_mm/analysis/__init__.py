"""Studies of trained students, as ``tools/analyze.py`` runs them.

A study is a folder: ``measure.py`` has the numbers, ``figure.py`` the figures, and
``study.py`` its options and ``run(runs, report, options)``, which loads, computes, prints
and writes. The studies share ``runs`` (which students), ``nets``, ``batches`` (fixed
images), ``study_options``, ``device`` and ``output``.
"""

from typing import Any, Callable, NamedTuple

from . import agreement, landscape, spread, strength


class Study(NamedTuple):
    """A study.

    Attributes:
        run (Callable): ``run(runs, report, options)``; the first line of its docstring
            describes the study.
        options (type): The class of its options.
        checkpoints (str): How it uses several ``--checkpoints``.
    """

    run: Callable[..., Any]
    options: type
    checkpoints: str

    @property
    def description(self) -> str:
        """One line."""
        return (self.run.__doc__ or '').partition('\n')[0]


STUDIES = dict(
    strength=Study(strength.run, strength.StrengthOptions, 'the last one is used'),
    spread=Study(spread.run, spread.SpreadOptions, 'all are the tail'),
    compare=Study(agreement.run, agreement.AgreementOptions, 'each is a student'),
    landscape=Study(
        landscape.run,
        landscape.LandscapeOptions,
        'the last one is the student, and three span the plane',
    ),
)

__all__ = ['STUDIES', 'Study']
