"""Results of a comparison, with one row per method."""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..stats.estimates import mean_and_deviation
from ..stats.paired import Difference, difference, mean_std
from .records import RunRecord
from .table import Table

HEADER = ('', 'last epoch, %', 'averaged, %', 'MA gain', 'best epoch, %', 'parameters', 'time')
# for a terminal of 80 columns
SHORT_HEADER = ('', 'last', 'averaged', 'MA gain', 'best', 'weights', 'time')
STRENGTH_HEADER = ('', 'first epoch', 'last epoch', 'last / first')
STEP_HEADER = ('', 'distance', 'of the norm', 'minus KD', '95 % interval', 'seeds', 'larger')
LAST_EPOCH = 'Paired differences in the last epoch'  # a table of the report only
SHORT_STEP_HEADER = ('', 'distance', 'of norm', *STEP_HEADER[3:])
PAIRED_HEADER = ('', 'points', 'SE', '95 % interval', 'seeds', 'better')
_FEW = 7  # more methods are not all compared with each other
_REFERENCES = ('kd', 'dist', 'prkd', 'prkd_to_1')  # prkd_to_1: what relaxing adds to PRKD
_SAME_STRENGTH = 0.01  # relative difference between the seeds of a method


@dataclass(frozen=True)
class Row:
    """The runs of one method under one group of settings, in the order of their seeds."""

    name: str
    method: Optional[str]
    runs: tuple[RunRecord, ...]

    def by_seed(self, attr: str) -> dict[int, Any]:
        """Values of a :class:`RunRecord` attribute by seed; runs without it are left out."""
        return {run.seed: getattr(run, attr) for run in self.runs if getattr(run, attr) is not None}

    @property
    def gains(self) -> dict[int, float]:
        """Gain of averaging over the last epoch by seed."""
        last, averaged = self.by_seed('last'), self.by_seed('averaged')
        return {seed: averaged[seed] - last[seed] for seed in last.keys() & averaged.keys()}

    @property
    def gain(self) -> Optional[Difference]:
        """Gain of averaging over the last epoch, run by run."""
        return difference(
            f'{self.name}, averaged', 'last epoch', self.by_seed('averaged'), self.by_seed('last')
        )

    @property
    def strength(self) -> Optional[tuple[float, float]]:
        """Strength of the supervision in the first and last epoch, averaged over the runs."""
        ends = [run.strength for run in self.runs if run.strength]
        if not ends:
            return None
        first, last = (statistics.fmean(values) for values in zip(*ends))
        return first, last

    @property
    def steps(self) -> dict[int, float]:
        """Distance between the students of the last two epochs by seed."""
        return {seed: distance for seed, (distance, _) in self.by_seed('step').items()}

    def cells(self) -> list[str]:
        """Cells of the row, in the order of :data:`HEADER`."""
        times = self.by_seed('seconds').values()
        seconds = sum(times) / len(times)
        return [
            self.name,
            mean_std(self.by_seed('last').values()),
            mean_std(self.by_seed('averaged').values()),
            mean_std(self.gain.values if self.gain else (), '+'),
            mean_std(self.by_seed('best').values()),
            f'{self.runs[0].parameters:,}',
            f'{seconds:.0f} s' if seconds < 600 else f'{seconds / 60:,.0f} min',
        ]


def rows_of(records: Sequence[RunRecord]) -> list[Row]:
    """One row per method and settings, in order of appearance.

    Names include the options that not all methods share. If a method has several rows, they
    include the config, the number of views or ``--amp`` that differs, too, or else the fingerprint
    of the settings.

    Raises:
        ValueError: If two records are of the same method, settings and seed, or the records of a
            method have different images or teachers.
    """
    groups: dict[tuple, list[RunRecord]] = {}
    for record in records:
        runs = groups.setdefault((record.title, record.method, record.settings), [])
        if record.seed in [run.seed for run in runs]:
            raise ValueError(
                f'two records are of {record.title} with seed {record.seed} and equal settings; '
                f'delete one of them. The command of one is: {record.command}'
            )
        for name in ('images', 'teacher'):
            if len({getattr(run, name) for run in [*runs, record]} - {None}) > 1:
                raise ValueError(
                    f'the {name} of {record.title} with seed {record.seed} differs from that of '
                    f'seed {runs[0].seed}, according to their hashes: report the runs separately'
                )
        runs.append(record)
    names = _names([runs[0] for runs in groups.values()])
    return [
        Row(name, method, tuple(sorted(runs, key=lambda run: run.seed)))
        for name, ((_, method, _), runs) in zip(names, groups.items())
    ]


def _names(firsts: Sequence[RunRecord]) -> list[str]:
    names = []
    options = [_options(record) for record in firsts if record.method]
    for record in firsts:
        same = [_words(other) for other in firsts if other.title == record.title]
        own = [
            word
            for word in _words(record)
            if not all(word in words for words in same)
            or (record.method and '=' in word and not all(word in words for words in options))
        ]
        names.append(f'{record.title} ({", ".join(own)})' if own else record.title)
    return [
        name if names.count(name) == 1 else f'{name} [{record.settings[:8]}]'
        for name, record in zip(names, firsts)
    ]


def _words(record: RunRecord) -> list[str]:
    """Short form of the settings in a command: config, views, ``--amp`` and the options."""
    views, amp = _views(record), '--amp' in shlex.split(record.command)
    words = [Path(record.config).stem, f'{views} views' if views else '', 'amp' if amp else '']
    return [*filter(None, words), *_options(record)]


def _options(record: RunRecord) -> list[str]:
    """Short form of the options in a command, ``<last part of the key>=<value>``."""
    words = []
    for word in shlex.split(record.command):
        key, sign, value = word.partition('=')
        if sign and not key.startswith(('randomness.seed', 'default_hooks.checkpoint')):
            words.append(f'{key.rpartition(".")[2]}={value}')
    return words


def _views(record: RunRecord) -> str:
    """The value of ``--store-views`` in the command of a run; empty without it."""
    words = shlex.split(record.command)
    return words[words.index('--store-views') + 1] if '--store-views' in words else ''


def recorded_sources(rows: Sequence[Row]) -> str:
    """Sources of the teacher's logits, according to the commands of the runs."""
    views = {_views(run) for row in rows for run in row.runs if run.is_distilled}
    named = {
        number: f'stored logits, {number} views' if number else 'live teacher' for number in views
    }
    return ' or '.join(named[number] for number in sorted(named))


def tables(rows: Sequence[Row], about: Mapping[str, str]) -> dict[str, Table]:
    """Top-1 of all methods, their strengths, and the differences between methods.

    Tables without rows are left out.

    The ``teacher_logits`` in ``about``, the protocol of the runs, become the caption.
    """
    source = about.get('teacher_logits')
    caption = [f'Teacher: {source}'] if source else []
    seeds: list[str] = []  # one more column
    cells = [row.cells() for row in rows]
    if have_unequal_seeds(rows):
        seeds = ['seeds']
        cells = [[*line, str(len(row.runs))] for line, row in zip(cells, rows)]
        caption.append('The rows are means over different seeds: compare them by the differences')
    title = 'Validation top-1, %: last epoch, averaged, best epoch'
    header, short = [*HEADER, *seeds], [*SHORT_HEADER, *seeds]
    top1 = Table(header, cells, title, short, '. '.join(caption))
    others = {
        'Strength of the supervision': strength_table(rows),
        'Spread of the last students': step_table(rows),
        'Paired differences': paired_table(differences(rows)),
        LAST_EPOCH: paired_table(pair_differences(rows, 'last')),
    }
    if compared_by(students(rows)) == 'last':
        del others[LAST_EPOCH]  # they are the paired differences
    return {'Top-1': top1, **{name: table for name, table in others.items() if table.rows}}


def strength_table(rows: Sequence[Row]) -> Table:
    """Table of the strength at both ends of the runs, for the methods that log it."""
    cells = [
        [row.name, f'{first:#.2g}', f'{last:#.2g}', f'{last / first:.2g}' if first else '–']
        for row in rows
        if row.strength
        for first, last in [row.strength]
    ]
    caption = ' '.join(filter(None, map(_differing_strengths, rows)))
    return Table(STRENGTH_HEADER, cells, 'Strength of the supervision', caption=caption)


def step_table(rows: Sequence[Row]) -> Table:
    """Table of the distance between the students of the last two epochs, compared with KD."""
    kd, cells = _kd(rows), []
    measured = [row for row in rows if row.steps]
    unequal = len({len(row.steps) for row in measured}) > 1
    for row in measured:
        found = difference(row.name, 'KD', row.steps, kd.steps) if kd and kd is not row else None
        shares = [100 * distance / norm for distance, norm in row.by_seed('step').values()]
        cells.append(
            [
                row.name,
                f'{mean_and_deviation(list(row.steps.values())):.3f}'
                + (f' ({len(row.steps)})' if unequal else ''),
                f'{statistics.fmean(shares):.2g} %',
                f'{found.mean:+.3f}' if found else '–',
                *(_verdict_cells(found, '+.3f') if found else ['–'] * 3),
            ]
        )
    title = 'Distance between the students of the last two epochs'
    caption = 'In parentheses: the number of seeds, if they differ.' if unequal else ''
    return Table(STEP_HEADER, cells, title, SHORT_STEP_HEADER, caption)


def _differing_strengths(row: Row) -> str:
    """Warn about the runs of a method that end with unequal strengths."""
    ends = [run.strength[1] for run in row.runs if run.strength]
    if not ends or max(ends) <= (1 + _SAME_STRENGTH) * min(ends):
        return ''
    return (
        f'{row.name}: the runs end with strengths from {min(ends):.3g} to {max(ends):.3g}. Their '
        'versions, teachers or stored logits differ, so do not pool them.'
    )


def students(rows: Sequence[Row]) -> list[Row]:
    """Rows to compare: those with a method, or all rows if none has one."""
    return [row for row in rows if row.method] or list(rows)


def have_unequal_seeds(rows: Sequence[Row]) -> bool:
    """Whether the rows to compare have different seeds, so that their means do not compare."""
    return len({tuple(run.seed for run in row.runs) for row in students(rows)}) > 1


def labels(rows: Sequence[Row]) -> dict[str, str]:
    """Labels for a figure by name: the name, with the number of seeds if the seeds differ."""
    unequal = have_unequal_seeds(rows)
    return {
        row.name: f'{row.name}, {number_of_seeds(len(row.runs))}'
        if unequal and row.method
        else row.name
        for row in rows
    }


def number_of_seeds(number: int) -> str:
    """The number with its noun."""
    return f'{number} seed' if number == 1 else f'{number} seeds'


def compared_by(rows: Sequence[Row]) -> str:
    """Attribute to compare the rows by: 'averaged', or 'last' if a row has no average."""
    return 'averaged' if all(row.by_seed('averaged') for row in rows) else 'last'


def compare(row: Row, other: Row, by: str) -> Optional[Difference]:
    """Difference between two rows; None without a common seed."""
    return difference(row.name, other.name, row.by_seed(by), other.by_seed(by))


def differences(rows: Sequence[Row]) -> list[Difference]:
    """The :func:`pair_differences`, then the gain of averaging for each method.

    The last differences are those between the gains of each variant of PRKD and that of KD.
    """
    compared = students(rows)
    gains = [*(row.gain for row in compared), *_gains_over_kd(compared)]
    pairs = pair_differences(compared, compared_by(compared))
    return [*pairs, *(each for each in gains if each)]


def pair_differences(rows: Sequence[Row], by: str) -> list[Difference]:
    """Each method minus every earlier method.

    More than seven methods are compared with KD, DIST, PRKD and PRKD to 1 only, and with
    themselves in other settings. ``by`` is the attribute to compare, 'averaged' or 'last'.
    """
    compared = students(rows)
    pairs = [(row, other) for i, row in enumerate(compared) for other in compared[:i]]
    if len(compared) > _FEW:
        pairs = [
            (row, other)
            for row, other in pairs
            if {row.method, other.method} & set(_REFERENCES) or row.method == other.method
        ] or pairs
    found = (compare(row, other, by) for row, other in pairs)
    return [each for each in found if each]


def _gains_over_kd(rows: Sequence[Row]) -> list[Optional[Difference]]:
    """Gain of averaging for each variant of PRKD minus that for KD."""
    kd = _kd(rows)
    return [
        difference(f'MA gain, {row.name}', f'MA gain, {kd.name}', row.gains, kd.gains)
        for row in rows
        if kd and (row.method or '').startswith('prkd')
    ]


def _kd(rows: Sequence[Row]) -> Optional[Row]:
    """The row of KD; None if it is missing or has several settings."""
    found = [row for row in rows if row.method == 'kd']
    return found[0] if len(found) == 1 else None


def paired_table(found: Sequence[Difference]) -> Table:
    """Table of differences with standard errors, confidence intervals and verdicts."""
    rows = [
        [
            f'{each.better} − {each.worse}',
            f'{each.mean:+.2f}',
            '–' if each.standard_error is None else f'{each.standard_error:.2f}',
            *_verdict_cells(each, '+.2f'),
        ]
        for each in found
    ]
    title = 'Paired by seed: is the first better than the second?'
    return Table(PAIRED_HEADER, rows, title, caption='SE: standard error of the mean')


def _verdict_cells(found: Difference, number: str) -> list[str]:
    """Interval, number of seeds and verdict; ``number`` is the format of the interval."""
    interval = [format(end, number) for end in found.interval or ()]
    return [' to '.join(interval) or '–', str(len(found.values)), found.verdict]
