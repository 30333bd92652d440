"""The figure of accuracy against relax_to shows the means of the runs at their shares."""

import dataclasses
from fractions import Fraction

import pytest

from prkd_mm.experiments import relaxation_figure
from prkd_mm.experiments.records import RunRecord
from prkd_mm.experiments.relaxation_figure import draw_relaxation, relax_to
from prkd_mm.experiments.results import rows_of
from prkd_mm.methods import METHODS


def rows(strength=None, **averaged):
    rest = {}, {}, strength
    return rows_of(
        [
            RunRecord(METHODS[method], method, seed, 'a.py', method, 1, 1, '', 1, top1, 1, *rest)
            for method, values in averaged.items()
            for seed, top1 in enumerate(values)
        ]
    )


@pytest.fixture
def axes(monkeypatch):
    """Axes of the figures that the test draws."""
    drawn = []

    def keep(width, height):
        figure = relaxation_figure_new(width, height)
        drawn.append(figure)
        return figure

    relaxation_figure_new = relaxation_figure.new_figure
    monkeypatch.setattr(relaxation_figure, 'new_figure', keep)
    return lambda: drawn[-1].axes[0]


def test_shares_follow_from_the_names_of_the_methods():
    assert relax_to('prkd_to_1_16') == Fraction(1, 16)
    assert relax_to('prkd_to_2') == 2


def test_points_are_the_means_and_standard_errors_in_the_order_of_the_shares(tmp_path, axes):
    found = rows(prkd_to_2=[60, 62], kd=[50, 51], prkd_to_1_4=[58, 59, 60], ce=[40])
    path = tmp_path / 'relaxation.png'
    assert draw_relaxation(found, path) == [path] and path.stat().st_size > 1000
    container = axes().containers[0]
    points = container.lines[0]
    assert list(points.get_xdata()) == [0.25, 2]
    assert list(points.get_ydata()) == [59, 61]
    bars = [segment[:, 1] for segment in container.lines[2][0].get_segments()]
    assert bars[0] == pytest.approx([59 - 3**-0.5, 59 + 3**-0.5])  # deviation 1, 3 seeds
    assert bars[1] == pytest.approx([60, 62])  # deviation √2, 2 seeds
    levels = {line.get_label(): line.get_ydata()[0] for line in axes().get_lines()}
    assert levels['KD, 2 seeds'] == 50.5 and levels['student alone, 1 seed'] == 40


def test_the_shares_are_those_that_the_runs_reached(tmp_path, axes):
    found = [
        *rows((2.0, 0.3), prkd_to_1_16=[50, 52]),
        *rows((2.0, 2.0), prkd_to_1=[55, 57], kd=[53, 53]),
        *rows((2.0, 6.0), prkd=[60, 60]),
    ]
    draw_relaxation(found, tmp_path / 'relaxation.png')
    relaxed, shipped = (container.lines[0] for container in axes().containers)
    assert list(relaxed.get_xdata()) == [0.15, 1] and list(relaxed.get_ydata()) == [51, 56]
    assert list(shipped.get_xdata()) == [3] and list(shipped.get_ydata()) == [60]
    assert [label.get_text() for label in axes().get_xticklabels()] == ['0.15', '1', '3']
    levels = {line.get_label() for line in axes().get_lines() if len(line.get_xdata()) == 2}
    assert 'KD' in levels and 'PRKD' not in levels


def test_prkd_with_other_options_has_a_curve_of_its_own(tmp_path, axes):
    usual = rows(prkd_to_1_4=[50, 52], prkd_to_1=[55, 57])
    heavy = [
        dataclasses.replace(run, settings=f'heavy {run.method}', command='t.py a.loss_weight=9')
        for row in rows(prkd_to_1_4=[58, 58], prkd_to_1=[59])
        for run in row.runs
    ]
    found = rows_of([*(run for row in usual for run in row.runs), *heavy])
    draw_relaxation(found, tmp_path / 'relaxation.png')
    curves = {each.get_label(): each.lines[0] for each in axes().containers}
    assert {name: list(line.get_ydata()) for name, line in curves.items()} == {
        'PRKD with relax_to, 2 seeds': [51, 56],
        'PRKD with relax_to (loss_weight=9), 1 to 2 seeds': [58, 59],
    }
    assert len({line.get_color() for line in curves.values()}) == 2
    assert [label.get_text() for label in axes().get_xticklabels()] == ['0.25', '1']


def test_one_share_is_not_a_figure(tmp_path):
    assert draw_relaxation(rows(kd=[50], prkd_to_2=[60]), tmp_path / 'a.png') == []
    assert list(tmp_path.iterdir()) == []
