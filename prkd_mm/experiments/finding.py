"""Main result of a comparison, in one or two sentences."""

from collections.abc import Sequence

from ..stats.paired import Difference, mean_std
from .results import Row, compare, compared_by, students

_WORDS = dict(averaged='averaged', last='after the last epoch')


def finding(rows: Sequence[Row]) -> str:
    """Compare PRKD with KD and the student alone, or else with the method before or after it.

    Of several settings of PRKD, it is the one with the shortest name, which has the fewest options.
    Without PRKD, the last method takes its place. The interval and ± are given only for several
    seeds.
    """
    compared = students(rows)
    prkd = [row for row in compared if row.method == 'prkd']
    main = min(prkd, key=lambda row: len(row.name)) if prkd else compared[-1]
    index, by = compared.index(main), compared_by(compared)
    references = [row for method in ('kd', 'ce') for row in compared if row.method == method]
    others = [row for row in references if row is not main] or [
        *compared[:index][-1:],
        *compared[index + 1 :],
    ][:1]
    if others:
        return ' '.join(
            _sentence(found, _WORDS[by]) if found else f'{main.name} and {row.name} share no seed.'
            for row in others
            for found in [compare(main, row, by)]
        )
    return f'{main.name}, {_WORDS[by]}, has top-1 {mean_std(main.by_seed(by).values())} %.'


def _sentence(found: Difference, when: str) -> str:
    where, sign = ('above', 1) if found.mean >= 0 else ('below', -1)
    points = mean_std([sign * value for value in found.values])
    article = 'the ' if found.worse.startswith('student') else ''
    text = f'{found.better}, {when}, is {points} points {where} {article}{found.worse}'
    if found.interval is None:
        if len(found.values) == 1:
            return f'{text} with one seed, which is not enough to tell which is better.'
        return (
            f'{text} with each of {len(found.values)} seeds; equal differences do not show how '
            'much they vary, so these seeds are not enough to tell which is better.'
        )
    low, high = sorted(sign * end for end in found.interval)
    text += f' (95 % interval {low:.2f} to {high:.2f}, {len(found.values)} seeds, paired)'
    if found.verdict == 'cannot tell':
        text += ', so these seeds are not enough to tell which is better'
    return f'{text}.'
