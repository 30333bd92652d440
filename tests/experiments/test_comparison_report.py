import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from rich.console import Console

from prkd_mm.experiments.comparison_report import write_report
from prkd_mm.experiments.figures import mean_curve
from prkd_mm.experiments.finding import finding
from prkd_mm.experiments.records import RunRecord
from prkd_mm.experiments.results import (
    differences,
    labels,
    paired_table,
    recorded_sources,
    rows_of,
    tables,
)
from prkd_mm.experiments.run_comparison import show
from prkd_mm.methods import METHODS

RUN = RunRecord(
    'KD', 'kd', 0, 'configs/pair.py', 'abc', 2.0, 10, 'train pair', 70.0, 71.0, 90.0, {1: 70.0}, {}
)


def runs(method, *averaged, **changes):
    """One run per seed, with the last epoch one point below the average."""
    return [
        dataclasses.replace(
            RUN,
            title=METHODS[method],
            method=method,
            settings=method,
            seed=seed,
            averaged=top1,
            last=top1 - 1,
            seconds=2.0 * (seed + 1),
            **changes,
        )
        for seed, top1 in enumerate(averaged)
    ]


def test_the_gain_is_computed_for_each_run():
    """Its deviation is not that of the accuracies, which are correlated."""
    (row,) = rows_of(runs('kd', 71.0, 81.0))
    assert row.cells() == [
        'KD',
        '75.00 ± 7.07',
        '76.00 ± 7.07',
        '+1.00 ± 0.00',
        '90.00 ± 0.00',
        '10',
        '3 s',
    ]


@pytest.mark.parametrize('seconds, shown', [(599.0, '599 s'), (1800.0, '30 min')])
def test_long_times_are_in_minutes(seconds, shown):
    (row,) = rows_of([dataclasses.replace(RUN, seconds=seconds)])
    assert row.cells()[-1] == shown


def test_a_checkpoint_without_a_log_has_no_numbers():
    bare = dataclasses.replace(RUN, last=None, averaged=None, best=None, curve={})
    (row,) = rows_of([bare])
    assert row.cells()[1:5] == ['–'] * 4 and row.gain is None


def test_rows_of_one_method_are_named_by_what_differs():
    commands = [
        'python tools/train.py pair.py --cfg-options a.tau=4.0 b.lr=1 randomness.seed=0',
        'python tools/train.py pair.py --cfg-options a.tau=1.0 b.lr=1 randomness.seed=1',
    ]
    names = [
        row.name
        for row in rows_of(
            [dataclasses.replace(RUN, command=command, settings=command) for command in commands]
            + runs('prkd', 1.0)
        )
    ]
    assert names == ['KD (tau=4.0, lr=1)', 'KD (tau=1.0, lr=1)', 'PRKD']


def test_options_that_all_methods_share_are_not_in_their_names():
    shared = 'python tools/train.py pair.py --cfg-options b.lr=1 randomness.seed=0'
    teacher = dataclasses.replace(RUN, title='teacher', method=None, command='a.lr=3')
    found = [teacher, *runs('kd', 60.0, command=shared), *runs('prkd', 61.0, command=shared)]
    heavy = runs('dist', 62.0, command=f'{shared} a.loss_weight=9')
    assert [row.name for row in rows_of(found)] == ['teacher', 'KD', 'PRKD']
    names = [row.name for row in rows_of([*found, *heavy])]
    assert names == ['teacher', 'KD', 'PRKD', 'DIST (loss_weight=9)']


def test_no_two_rows_have_the_same_name():
    plain = 'python tools/train.py pair.py --cfg-options a.loss_weight=1'
    others = [f'{plain} --amp', plain.replace('a.', 'b.'), plain]
    found = [
        dataclasses.replace(RUN, command=command, settings=f'{i}23456789')
        for i, command in enumerate(others)
    ]
    assert [row.name for row in rows_of(found)] == ['KD (amp)', 'KD [12345678]', 'KD [22345678]']


def test_two_records_of_one_run_are_an_error():
    with pytest.raises(ValueError, match='two records are of KD with seed 1 and equal settings'):
        rows_of([*runs('kd', 60.0, 61.0), runs('kd', 60.0, 99.0)[1]])


def test_methods_with_unequal_seeds_have_a_column_for_their_number(tmp_path):
    rows = rows_of(runs('ce', 50.0, 51.0) + runs('kd', 60.0, 62.0, 64.0))
    table = tables(rows, {})['Top-1']
    assert [line[-1] for line in (table.header, *table.rows)] == ['seeds', '2', '3']
    assert 'compare them by the differences' in table.caption
    assert labels(rows) == {'student alone': 'student alone, 2 seeds', 'KD': 'KD, 3 seeds'}
    equal = rows_of([dataclasses.replace(RUN, method=None, title='teacher'), *runs('kd', 1.0, 2.0)])
    table = tables(equal, {})['Top-1']
    assert table.header[-1] == 'time' and not table.caption
    assert labels(equal) == {'teacher': 'teacher', 'KD': 'KD'}


def test_every_method_is_compared_with_those_before_it():
    rows = rows_of(runs('ce', 60.0, 61.0) + runs('kd', 62.0, 65.0) + runs('prkd', 63.0, 64.0))
    found = {(each.better, each.worse): each.values for each in differences(rows)}
    assert found == {
        ('KD', 'student alone'): (2.0, 4.0),
        ('PRKD', 'student alone'): (3.0, 3.0),
        ('PRKD', 'KD'): (1.0, -1.0),
        **{
            (f'{name}, averaged', 'last epoch'): (1.0, 1.0)
            for name in ('student alone', 'KD', 'PRKD')
        },
        ('MA gain, PRKD', 'MA gain, KD'): (0.0, 0.0),
    }
    cells = paired_table(differences(rows)).rows
    # 1 and -1: deviation √2, standard error √2/√2, half the interval 12.706 times that
    assert ['PRKD − KD', '+0.00', '1.00', '-12.71 to +12.71', '2', 'cannot tell'] in cells
    single = rows_of(runs('kd', 62.0) + runs('prkd', 63.0))
    cells = paired_table(differences(single)).rows
    assert ['PRKD − KD', '+1.00', '–', '–', '1', 'cannot tell'] in cells


def test_many_methods_are_compared_with_four_of_them_only():
    methods = ('ce', 'logit', 'kd', 'dist', 'cor', 'prkd_a', 'prkd', 'prkd_to_1', 'prkd_to_1_4')
    found = differences(rows_of([run for method in methods for run in runs(method, 60.0)]))
    titles = {METHODS[method] for method in methods}
    pairs = {frozenset((each.better, each.worse)) for each in found} & {
        frozenset(pair) for pair in itertools.combinations(titles, 2)
    }
    assert pairs == {
        frozenset((one, other))
        for one in ('KD', 'DIST', 'PRKD', 'PRKD to 1')
        for other in titles
        if other != one
    }


def test_two_settings_of_a_method_are_compared_also_among_many_methods():
    methods = ('ce', 'logit', 'kd', 'dist', 'cor', 'prkd_a', 'prkd')
    others = [
        dataclasses.replace(run, settings='other', command='train pair --cfg-options a.lr=0.1')
        for run in runs('dist', 61.0, 62.5)
    ]
    usual = [run for method in methods for run in runs(method, 60.0, 60.0)]
    found = differences(rows_of(usual + others))
    (one,) = (each for each in found if {each.better, each.worse} == {'DIST', 'DIST (lr=0.1)'})
    assert abs(one.mean) == 1.75


def test_the_gains_of_averaging_are_compared():
    kd = [dataclasses.replace(run, last=58.0) for run in runs('kd', 59.0, 60.0)]
    prkd = [dataclasses.replace(run, last=57.0) for run in runs('prkd', 60.0, 62.0)]
    relaxed = [dataclasses.replace(run, last=58.5) for run in runs('prkd_to_1_4', 59.0, 59.0)]
    rows = rows_of(kd + prkd + relaxed + runs('cor', 60.0, 61.0))
    found = {(each.better, each.worse): each.values for each in differences(rows)}
    assert found['MA gain, PRKD', 'MA gain, KD'] == (3.0 - 1.0, 5.0 - 2.0)
    assert found['MA gain, PRKD to 1/4', 'MA gain, KD'] == (0.5 - 1.0, 0.5 - 2.0)
    assert not [each for each in found if each[0] == 'MA gain, correlation only']


def test_the_strength_at_both_ends_is_a_table():
    found = rows_of(
        [
            *runs('ce', 50),
            *runs('kd', 50, 51, strength=(0.04, 0.04)),
            *runs('prkd', 50, strength=(0.04, 0.083)),
        ]
    )
    table = tables(found, {})['Strength of the supervision']
    assert table.rows == [['KD', '0.040', '0.040', '1'], ['PRKD', '0.040', '0.083', '2.1']]
    assert 'Strength of the supervision' not in tables(rows_of(runs('ce', 50)), {})


def test_the_distance_of_the_last_students_is_compared_with_that_of_kd():
    steps = dict(ce=[(9.0, 90.0)], kd=[(2.0, 20.0), (3.0, 20.0)], prkd=[(1.0, 50.0), (2.1, 50.0)])
    runs_of = [
        dataclasses.replace(run, step=step)
        for method, pairs in steps.items()
        for run, step in zip(runs(method, *[50] * len(pairs)), pairs)
    ]
    table = tables(rows_of([*runs_of, *runs('dist', 60)]), {})['Spread of the last students']
    # the differences -1 and -0.9: deviation 0.1/√2, half the interval 12.706 · 0.05
    assert table.rows == [
        ['student alone', '9.000 (1)', '10 %', '+7.000', '–', '1', 'cannot tell'],
        ['KD', '2.500 ± 0.707 (2)', '12 %', *['–'] * 4],
        ['PRKD', '1.550 ± 0.778 (2)', '3.1 %', '-0.950', '-1.585 to -0.315', '2', 'no'],
    ]
    equal = tables(rows_of(runs_of[1:]), {})['Spread of the last students']
    assert equal.rows[0][1] == '2.500 ± 0.707' and table.caption and not equal.caption
    two_kds = [dataclasses.replace(runs_of[1], settings='x', config='b.py'), *runs_of]
    assert tables(rows_of(two_kds), {})['Spread of the last students'].rows[-1][3:] == ['–'] * 4
    assert 'Spread of the last students' not in tables(rows_of(runs('kd', 50)), {})


@pytest.mark.parametrize('last, says', [(0.0201, False), (0.0205, True)])
def test_seeds_that_end_with_unequal_strengths_are_named(last, says):
    seeds = runs('prkd_to_1_4', 50, 51, strength=(0.08, 0.02))
    other = dataclasses.replace(seeds[1], strength=(0.08, last))
    table = tables(rows_of([seeds[0], other]), {})['Strength of the supervision']
    said = 'PRKD to 1/4: the runs end with strengths from 0.02 to 0.0205.' in table.caption
    assert said == says


def test_the_gains_of_a_method_with_two_settings_are_not_compared():
    other = [dataclasses.replace(run, settings='x', config='b.py') for run in runs('kd', 60, 62)]
    found = rows_of([*runs('kd', 60, 62), *other, *runs('prkd', 63, 65)])
    assert not [each for each in differences(found) if each.better.startswith('MA gain')]


def test_the_finding_is_about_prkd_in_any_order():
    mixed = rows_of([*runs('ce', 50, 52), *runs('prkd', 60, 62), *runs('prkd_to_2', 70, 71)])
    text = finding(mixed)
    assert text.startswith('PRKD, averaged, is 10.00') and 'PRKD to 2' not in text
    assert finding(rows_of([*runs('ce', 50), *runs('dist', 60)])).startswith('DIST')
    text = finding(rows_of([*runs('dist', 50), *runs('prkd', 60), *runs('prkd_to_2', 70)]))
    assert text.startswith('PRKD, averaged, is 10.00 points above DIST with')
    text = finding(rows_of([*runs('prkd', 60), *runs('prkd_to_2', 70)]))
    assert text.startswith('PRKD, averaged, is 10.00 points below PRKD to 2 with')


def test_the_finding_is_about_the_prkd_with_the_fewest_options():
    other = runs('prkd', 9.0, command='python tools/train.py pair.py --cfg-options a.tau=9')
    other = [dataclasses.replace(run, settings='x') for run in other]
    rows = rows_of([*runs('kd', 50), *runs('prkd', 60), *other])
    assert finding(rows).startswith('PRKD, averaged, is 10.00 points above KD')


def test_the_finding_names_methods_without_a_common_seed():
    late = [dataclasses.replace(run, seed=7) for run in runs('prkd', 60.0)]
    assert finding(rows_of([*runs('kd', 50.0), *late])) == 'PRKD and KD share no seed.'


def test_the_finding_states_the_interval():
    rows = rows_of(runs('ce', 50.0, 50.0, 50.0) + runs('kd', 60, 60, 60) + runs('prkd', 61, 62, 63))
    assert finding(rows) == (
        'PRKD, averaged, is 2.00 ± 1.00 points above KD (95 % interval -0.48 to 4.48, 3 seeds, '
        'paired), so these seeds are not enough to tell which is better. '
        'PRKD, averaged, is 12.00 ± 1.00 points above the student alone (95 % interval 9.52 to '
        '14.48, 3 seeds, paired).'
    )
    worse = finding(rows_of(runs('kd', 61.0, 62.0, 63.0) + runs('prkd', 50.0, 52.0, 54.0)))
    assert worse == (
        'PRKD, averaged, is 10.00 ± 1.00 points below KD (95 % interval 7.52 to 12.48, 3 seeds, '
        'paired).'
    )


def test_equal_differences_are_no_certain_verdict():
    """Of two seeds and 48 images, two equal differences are common, but no error is 0."""
    tops = [float(np.float32(100 * right / 48)) for right in (29, 31, 31, 33)]
    rows = rows_of(runs('kd', *tops[::2]) + runs('prkd', *tops[1::2]))
    assert finding(rows) == (
        'PRKD, averaged, is 4.17 ± 0.00 points above KD with each of 2 seeds; equal differences do '
        'not show how much they vary, so these seeds are not enough to tell which is better.'
    )
    cells = paired_table(differences(rows)).rows
    assert ['PRKD − KD', '+4.17', '0.00', '–', '2', 'cannot tell'] in cells


def test_one_seed_has_no_plus_minus():
    found = finding(rows_of(runs('kd', 60.0) + runs('prkd', 61.5)))
    assert found == (
        'PRKD, averaged, is 1.50 points above KD with one seed, which is not enough to tell which '
        'is better.'
    )
    assert finding(rows_of(runs('kd', 60.0))) == 'KD, averaged, has top-1 60.00 %.'


def test_methods_without_an_average_are_compared_by_the_last_epoch():
    bare = [dataclasses.replace(run, averaged=None) for run in runs('kd', 61.0)]
    assert finding(rows_of(runs('ce', 60.0) + bare)).startswith(
        'KD, after the last epoch, is 1.00 points above the student alone'
    )


def test_the_page_opens_with_the_finding_and_needs_no_other_file(tmp_path):
    rows = rows_of(runs('kd', 60.0, 62.0) + runs('prkd', 61.0, 63.5))
    write_report(rows, tmp_path, 'a <title>', dict(command='python x'))
    page = (tmp_path / 'report.html').read_text()
    body = page.partition('</h1>')[2].strip()
    assert body.startswith(f'<p class="finding">{finding(rows)}</p>')
    assert '<h1>a &lt;title&gt;</h1>' in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.index('</details>') < page.index('<code>python x</code>')
    numbers = json.loads((tmp_path / 'results.json').read_text())
    text = (tmp_path / 'results.md').read_text()
    for name, shown in tables(rows, {}).items():
        assert shown.html() in page and f'## {name}\n\n{shown.markdown()}' in text
    (first, *_) = numbers['differences']
    assert first['values'] == [1.0, 1.5] and first['verdict'] == 'cannot tell'
    assert first['standard_error'] == pytest.approx(0.25)  # of 1 and 1.5: (0.5/√2)/√2
    assert numbers['rows'][1]['averaged'] == [61.0, 63.5]


def test_numbers_belong_to_their_seeds(tmp_path):
    first, second = runs('kd', 60.0, 62.0)
    rows = rows_of([first, dataclasses.replace(second, step=(1.0, 2.0), averaged=None)])
    write_report(rows, tmp_path, 'title', {})
    (numbers,) = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert numbers['seeds'] == [0, 1] and numbers['averaged'] == [60.0, None]
    assert numbers['step'] == [None, [1.0, 2.0]] and numbers['gain'] == [1.0, None]


def test_the_report_compares_the_last_epoch_too():
    kd, prkd = (
        [dataclasses.replace(run, last=run.last - 5 * (run.method == 'kd')) for run in each]
        for each in (runs('kd', 60.0, 62.0), runs('prkd', 61.0, 63.5))
    )
    found = tables(rows_of(kd + prkd), {})
    names = list(found)
    assert names[-2:] == ['Paired differences', 'Paired differences in the last epoch']
    (cells,) = found[names[-1]].rows
    assert cells[:3] == ['PRKD − KD', '+6.25', '0.25']  # +1.25 for the averages
    console = Console(record=True, width=100)
    show(rows_of(kd + prkd), {}, console)
    assert '+1.25' in console.export_text(clear=False) and '+6.25' not in console.export_text()
    bare = [dataclasses.replace(run, averaged=None) for run in kd + prkd]
    assert list(tables(rows_of(bare), {}))[-1] == 'Paired differences'


def test_the_table_names_the_source_of_the_teachers_logits(tmp_path):
    rows = rows_of(runs('kd', 60.0) + runs('prkd', 61.0))
    about = dict(command='python x', teacher_logits='stored logits, 8 views')
    write_report(rows, tmp_path, 'title', about)
    caption = 'Teacher: stored logits, 8 views'
    assert f'</table>\n<p>{caption}</p>' in (tmp_path / 'report.html').read_text()
    assert f'|\n\n{caption}\n' in (tmp_path / 'results.md').read_text()
    console = Console(record=True, width=100)
    show(rows, about, console)
    assert caption in console.export_text()


def test_records_name_the_sources_of_the_teachers_logits():
    live = runs('ce', 60.0) + runs('kd', 61.0)
    stored = runs('kd', 62.0, command='python tools/train.py configs/pair.py --store-views 8')
    stored = [dataclasses.replace(run, settings='other') for run in stored]
    assert recorded_sources(rows_of(live)) == 'live teacher'
    own = [dataclasses.replace(run, method='mine') for run in runs('kd', 60.0)]
    assert recorded_sources(rows_of(own)) == ''
    own = [dataclasses.replace(run, strength=(0.1, 0.1)) for run in own]
    assert recorded_sources(rows_of(own)) == 'live teacher'
    assert recorded_sources(rows_of(stored)) == 'stored logits, 8 views'
    assert recorded_sources(rows_of(live + stored)) == 'live teacher or stored logits, 8 views'
    names = [row.name for row in rows_of(live + stored)]
    assert names == ['student alone', 'KD', 'KD (8 views)']


def test_curves_are_averaged_where_all_runs_have_a_value():
    assert mean_curve([{1: 2.0, 2: 4.0}, {2: 8.0, 3: 1.0}]) == {2: pytest.approx(6.0)}
