"""The numbers of the results page and the READMEs, recomputed from the records by other means."""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from statistics import mean, stdev

import pytest
from project import ROOT
from scipy.stats import t

RESULTS = ROOT / 'docs/results'
NUMBER = r'[+-]?\d+(?:\.\d+)?'
FEW = 5  # the controls are compared with the first seeds of the trials
EARLIER = 24  # seeds of DIST when the page first compared it
TRIALS = {'ResNet-8': 'too_small', 'ResNet-20': 'could_follow'}


def lines_of(page: str) -> list[str]:
    return (ROOT / page).read_text(encoding='utf-8').replace('−', '-').splitlines()


def on_one_line(page: str) -> str:
    return ' '.join(' '.join(lines_of(page)).split())


def recorded_runs() -> Iterator[dict]:
    for file in RESULTS.glob('*/*-????????.json'):
        yield json.loads(file.read_text())


@pytest.fixture(scope='module')
def trainings() -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """Numbers of all trainings, by experiment, group of equal settings, and seed."""
    found = defaultdict(lambda: defaultdict(dict))
    for run in recorded_runs():
        if run['method']:
            numbers = {name: run[name] for name in ('last', 'averaged', 'best')}
            numbers['gain'] = run['averaged'] - run['last']
            if run.get('step'):
                numbers['distance'] = run['step'][0]
            found[run['config']][run['settings']][run['seed']] = numbers
    for file in RESULTS.glob('studies/*_landscape.json'):
        for method, values in json.loads(file.read_text())['sharpness'].items():
            found[file.stem][method] = {
                seed: {name: x for name, x in each.items() if name != 'checkpoint'}
                for seed, each in enumerate(values)
            }
    with (RESULTS / 'studies/digits_sharpness.csv').open() as file:
        for row in csv.DictReader(file):
            group = found['digits'][row['run']]
            group[len(group)] = {'normalized_trace': float(row['normalized_trace'])}
    search = json.loads((RESULTS / 'studies/too_small_tuning.json').read_text())
    for method, settings in search['trials'].items():
        for number, each in enumerate(settings):
            found['search'][f'{method} {number}'] = {
                seed: {'averaged': top1} for seed, top1 in enumerate(each['averaged'])
            }
    return found


def paired(groups: dict) -> Iterator[list[float]]:
    """Differences in the order of the seeds: of each two groups, and those of averaging."""
    for runs in groups.values():
        yield [runs[seed]['gain'] for seed in sorted(runs) if 'gain' in runs[seed]]
    for one, other in permutations(groups.values(), 2):
        for name in sorted({name for numbers in one.values() for name in numbers}):
            yield [
                one[seed][name] - other[seed][name]
                for seed in sorted(one.keys() & other.keys())
                if name in one[seed] and name in other[seed]
            ]


@cache
def quantile(degrees: int) -> float:
    return float(t.ppf(0.975, degrees))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean, and the ends of the 95 % confidence interval by Student's t."""
    center = mean(values)
    half = quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return center, center - half, center + half


def signed(values: list[float]) -> str:
    return '{:+.2f} ({:+.2f} to {:+.2f})'.format(*interval(values))


def spread(values: list[float], sign: str = '') -> str:
    return f'{mean(values):{sign}.2f} ± {stdev(values):.2f}'


def three_digits(number: float) -> str:
    return f'{round(number, 3 - len(str(int(number)))):.0f}' if number > 1000 else f'{number:.0f}'


def test_each_difference_is_one_of_the_records(trainings):
    """``d (low to high)`` and ``d (low to high, n seeds)``, which prose writes without a sign."""
    known = defaultdict(set)
    for groups in trainings.values():
        for values in paired(groups):
            for part in (values, values[:EARLIER], values[EARLIER:]):
                if len(set(part)) > 1:
                    numbers = interval(part)
                    for decimals in (0, 2):
                        known[tuple(f'{x:.{decimals}f}' for x in numbers)].add(len(part))
    pattern = rf'({NUMBER})(?: points)? \(({NUMBER}) to ({NUMBER})(?:, (\d+) seeds)?\)'
    found = re.findall(pattern, on_one_line('docs/results.md'))
    assert len(found) > 130
    wrong = [
        f'{number} ({low} to {high}), {seeds or "?"} seeds'
        for number, low, high, seeds in found
        for key in [tuple(x.lstrip('+') for x in (number, low, high))]
        if not known[key] or (seeds and int(seeds) not in known[key])
    ]
    assert not wrong, 'not a paired difference of the records: ' + '; '.join(wrong)


@pytest.mark.parametrize('page', ['docs/results.md', 'README.md', 'README_zh-CN.md'])
def test_each_deviation_is_one_of_the_records(trainings, page):
    known = set()
    for groups in trainings.values():
        for runs in groups.values():
            for name in {name for numbers in runs.values() for name in numbers}:
                values = [runs[seed][name] for seed in sorted(runs) if name in runs[seed]]
                for some in (values, values[:FEW]):
                    if len(some) > 1:
                        known.add(spread(some))
                        known.add(' ± '.join(map(three_digits, (mean(some), stdev(some)))))
    for file in RESULTS.glob('studies/*_last_*_epochs.csv'):  # one training each
        with file.open() as lines:
            for row in csv.DictReader(lines):
                known.add(f'{float(row["gain"]):.2f} ± {float(row["gain_error"]):.2f}')
    found = re.findall(rf'({NUMBER}) ± ({NUMBER})', on_one_line(page))
    assert len(found) > 28
    wrong = [f'{x} ± {error}' for x, error in found if f'{x.lstrip("+")} ± {error}' not in known]
    assert not wrong, 'not a mean of the records: ' + '; '.join(wrong)


@pytest.mark.parametrize('student', TRIALS)
def test_the_rows_of_a_trial_are_those_of_its_records(student):
    """Top-1 of all methods, and the differences in the first table below it."""
    runs = defaultdict(dict)
    for file in (RESULTS / TRIALS[student]).glob('*.json'):
        run = json.loads(file.read_text())
        runs[run['title']][run['seed']] = run
    lines = lines_of('docs/results.md')
    section = lines[lines.index(f'### {student}') : lines.index('### Controls')]
    table = [line for line in section if line.startswith('|')][2 : 2 + len(runs)]
    for line in table:
        name, _, _, *cells = (cell.strip() for cell in line.strip('|').split('|'))
        some = [*runs[name.replace(' (`cor`)', '')].values()]
        last, averaged = ([run[key] for run in some] for key in ('last', 'averaged'))
        gain = [b - a for a, b in zip(last, averaged)]
        assert cells == [str(len(some)), spread(last), spread(averaged), spread(gain, '+')], name
    column = 1 + 2 * [*TRIALS].index(student)
    rows = [line.strip('|').split('|') for line in section if re.match(r'\| PRKD.* - ', line)]
    assert len(rows) == 5
    for row in rows:
        one, other = (runs[name] for name in row[0].strip().split(' - '))
        for cell, key in zip(row[column:], ('averaged', 'last')):
            values = [one[seed][key] - other[seed][key] for seed in one if seed in other]
            assert cell.strip() == signed(values), row[0]


def test_the_records_have_no_copies():
    """Reports read several folders, so a run needs one record; copies get out of step."""
    seen = [(run['config'], run['settings'], run['seed']) for run in recorded_runs()]
    assert len(seen) == len(set(seen))
