"""The options of ``tools/reproduce.py`` and ``tools/tune.py``."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch

from ..analysis import STUDIES
from ..cli import whole_number
from ..config import METHODS
from ..options import option


def names_of(what: str, known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """The ``type`` of a comma-separated option.

    Args:
        what: What the names are, in the plural.
        known: The names to choose from.
    """

    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(name for name in text.split(',') if name)
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(
                f'unknown {what} {unknown}; choose from {", ".join(known)}'
            )
        return chosen

    return names


TUNABLE = [method for method in METHODS if method != 'ce']


def _default_jobs() -> int:
    """Two small runs side by side use two cores better than one after the other."""
    return 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)


@dataclass
class RunOptions:
    """Options of a group of runs.

    Attributes:
        config: A config, of a pair or of a net alone.
    """

    config: Optional[str] = None
    out: Optional[Path] = option(
        None, 'folder of the report', 'results/ and the name of the config', type=Path
    )
    jobs: int = option(
        _default_jobs(),
        'runs side by side: on a CPU they share its cores, otherwise they take turns on the GPUs',
        '1, or 2 on a CPU with several cores',
        type=whole_number(1),
        metavar='N',
    )
    cfg_options: Sequence[str] = option(
        (),
        "override settings of the students' runs",
        'none',
        type=str,
        nargs='+',
        metavar='KEY=VALUE',
    )
    teacher_options: Sequence[str] = option(
        (),
        "override settings of the teacher's run",
        'none',
        type=str,
        nargs='+',
        metavar='KEY=VALUE',
    )
    amp: bool = option(False, 'automatic mixed precision (GPU)')


@dataclass
class ComparisonOptions(RunOptions):
    """Options of ``tools/reproduce.py``."""

    methods: Sequence[str] = option(
        ('ce', 'kd', 'prkd'),
        f'comma-separated, from {",".join(METHODS)}',
        'ce,kd,prkd',
        type=names_of('methods', list(METHODS)),
        metavar='A,B',
    )
    seeds: int = option(
        3,
        'runs of each method, with the seeds 0 to N-1; a single one cannot tell methods apart',
        type=whole_number(1),
        metavar='N',
    )
    store_views: Optional[int] = option(
        None,
        "store the teacher's logits for K augmented views of each image once, in a folder that "
        'all runs fill and share',
        'a live teacher in each run',
        type=whole_number(1),
        metavar='K',
    )
    figures: Sequence[str] = option(
        tuple(STUDIES),
        'comma-separated analyses (tools/analyze.py) for the report: landscapes of all seeds, the '
        "others of seed 0; '' for none",
        ','.join(STUDIES),
        type=names_of('figures', list(STUDIES)),
        metavar='A,B',
    )
    records: Optional[Path] = option(
        None,
        'folder with a small JSON file per finished run; a run with the same settings and seed '
        'that is recorded there is not trained again, even on another machine. Without a config, '
        'the report is made from the records alone',
        'none',
        type=Path,
        metavar='FOLDER',
    )


@dataclass
class TuningOptions(RunOptions):
    """Options of ``tools/tune.py``."""

    methods: Sequence[str] = option(
        ('kd', 'dist', 'prkd'),
        f'comma-separated, from {",".join(TUNABLE)}',
        'kd,dist,prkd',
        type=names_of('methods', TUNABLE),
        metavar='A,B',
    )
    trials: int = option(
        8,
        'settings of each method; the first is that of the config',
        type=whole_number(1),
        metavar='N',
    )
    finalists: int = option(
        2,
        'settings of each method, besides the first, that are run with all seeds',
        type=whole_number(1),
        metavar='N',
    )
    seeds: int = option(
        3,
        'runs of each finalist, with the seeds 0 to N-1; other settings have seed 0 only',
        type=whole_number(1),
        metavar='N',
    )
    held_out: int = option(
        5, 'every N-th training image of a class is held out', type=whole_number(2), metavar='N'
    )
    tail: int = option(
        15,
        'try to average up to N last epochs; every run keeps their checkpoints',
        type=whole_number(1),
        metavar='N',
    )
    views: Optional[int] = option(
        None,
        "store the teacher's logits for K augmented views of each image once, in a folder that "
        'all runs fill and share; with as many views as epochs, no view is repeated',
        'a live teacher in each run',
        type=whole_number(1),
        metavar='K',
    )
