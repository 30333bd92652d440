"""The options of ``tools/reproduce.py`` and ``tools/tune.py``."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch

from ..analysis import STUDIES
from ..cli import output_folder, whole_number
from ..methods import METHODS
from ..options import Extend, option
from .plan import DEFAULT_METHODS, DEFAULT_SEEDS
from .shared_store import DEFAULT_VIEWS

_TUNED = [name for name in METHODS if name != 'ce']


def names_of(what: str, known: Optional[Sequence[str]]) -> Callable[[str], tuple[str, ...]]:
    """Argument type: comma-separated names, all of them ``known`` unless that is None.

    ``what`` is their plural noun for errors.
    """

    def names(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(name for name in text.split(',') if name))
        if known is not None and (unknown := [name for name in chosen if name not in known]):
            raise argparse.ArgumentTypeError(
                f'unknown {what} {unknown}; choose from {", ".join(known)}'
            )
        return chosen

    return names


def _count(default: int, help: str, at_least: int = 1) -> Any:
    return option(default, help, type=whole_number(at_least), metavar='N')


def _override(text: str) -> str:
    if not text.partition('=')[0].strip() or '=' not in text:
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE, got {text!r}')
    return text


def _overrides(runs: str) -> Any:
    words = f'override settings for the {runs}'
    return option((), words, 'none', type=_override, nargs='+', action=Extend, metavar='KEY=VALUE')


def _default_jobs() -> int:
    """Number of runs at a time; two small runs use two CPU cores better than one run."""
    return 1 if torch.cuda.is_available() else min(2, os.cpu_count() or 1)


@dataclass
class RunOptions:
    """Options of a group of runs."""

    config: str = ''  # path of the config of a pair or of a net alone
    out: Optional[Path] = option(
        None, 'folder of the report', 'results/<name of the config>', type=output_folder
    )
    jobs: int = option(
        _default_jobs(),
        'number of runs at a time: each gets one of the GPUs, or a share of the CPU cores',
        '1, or 2 on a CPU with several cores',
        type=whole_number(1),
        metavar='N',
    )
    cfg_options: Sequence[str] = _overrides('runs of the students')
    teacher_options: Sequence[str] = _overrides('run of the teacher')
    store_views: Optional[int] = option(
        None,
        "compute the teacher's logits for K augmented views of each image once, in a store that "
        'all runs fill and share; 0: a live teacher in each run',
        f'the number of epochs, at most {DEFAULT_VIEWS}; 0 if the logits cannot be stored',
        type=whole_number(0),
        metavar='K',
        aliases=['--views'],
    )
    amp: bool = option(False, 'automatic mixed precision (GPU)')


@dataclass
class ComparisonOptions(RunOptions):
    """Options of ``tools/reproduce.py``."""

    methods: Optional[Sequence[str]] = option(
        None,
        f'comma-separated, from {", ".join(METHODS)}, or other files in configs/_base_/methods',
        f'{",".join(DEFAULT_METHODS)}; all that are recorded, without a config; none for a config '
        'with a single method',
        type=names_of('methods', None),
        metavar='A,B',
    )
    seeds: Optional[int] = option(
        None,
        'number of runs per method, with the seeds 0 to N-1; one run is not enough to compare '
        'methods',
        f'{DEFAULT_SEEDS}, or all that are recorded, without a config',
        type=whole_number(1),
        metavar='N',
    )
    figures: Sequence[str] = option(
        tuple(STUDIES),
        'comma-separated studies (see tools/analyze.py) for the report: landscape uses all seeds, '
        "the others seed 0; '' for none",
        ','.join(STUDIES),
        type=names_of('figures', list(STUDIES)),
        metavar='A,B',
    )
    records: Sequence[Path] = option(
        (),
        'folder with a small JSON file per finished run; a run is not trained again if its '
        'settings and seed are recorded there, even on another machine. Without a config, the '
        'report uses the records alone, and the option can be repeated',
        'none',
        type=output_folder,
        nargs=1,
        action=Extend,
        metavar='FOLDER',
    )


@dataclass
class TuningOptions(RunOptions):
    """Options of ``tools/tune.py``."""

    out: Optional[Path] = option(
        None, 'folder of the report', 'results/tune_<name of the config>', type=output_folder
    )
    methods: Sequence[str] = option(
        ('kd', 'dist', 'prkd'),
        f'comma-separated, from {", ".join(_TUNED)}',
        'kd,dist,prkd',
        type=names_of('methods', _TUNED),
        metavar='A,B',
    )
    trials: int = _count(8, 'number of settings per method; the first is that of the config')
    finalists: int = _count(
        2, 'number of settings per method, in addition to the first, to run with all seeds'
    )
    seeds: int = _count(
        3, 'number of runs per finalist, with the seeds 0 to N-1; other settings use seed 0 only'
    )
    held_out: int = _count(5, 'every N-th training image of each class is held out', at_least=2)
    tail: int = _count(
        15, 'average at most this many of the last epochs; every run keeps their checkpoints'
    )
