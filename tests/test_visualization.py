import struct
from unittest import mock

import pytest
from matplotlib.figure import Figure

from prkd_mm.methods import METHODS
from prkd_mm.visualization import METHOD_STYLES, method_styles, plot_accuracy, plot_schedules

EPOCHS = [0, 1, 2, 3]
TAU, WEIGHT = [4, 3, 2, 1], [1, 0.5, 0.25, 0]


def drawn_by(folder, *args):
    """The figure of plot_schedules, which it also writes to ``folder / 'a.png'``."""
    figures = []
    savefig = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return savefig(figure, *args, **kwargs)

    with mock.patch.object(Figure, 'savefig', keep):
        plot_schedules(*args[:2], folder / 'a.png', *args[2:])
    return figures[0]


@pytest.mark.parametrize(
    'curves, panels',
    [
        ({'loss.tau': TAU}, {'temperature τ': ['loss.tau']}),
        ({'loss.kl_weight': WEIGHT}, {'weight': ['loss.kl_weight']}),
        (
            {'a.tau': TAU, 'a.kl_weight': WEIGHT, 'tau.cor_weight': WEIGHT},
            {'temperature τ': ['a.tau'], 'weight': ['a.kl_weight', 'tau.cor_weight']},
        ),
    ],
    ids=['temperature', 'weight', 'both'],
)
def test_there_is_one_panel_for_each_kind_of_value(tmp_path, curves, panels):
    figure = drawn_by(tmp_path, EPOCHS, curves)
    drawn = {axes.get_ylabel(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    assert drawn == panels
    for axes in figure.axes:
        for line in axes.lines:
            assert list(line.get_xdata()) == EPOCHS
            assert list(line.get_ydata()) == curves[line.get_label()]
    assert figure.axes[-1].get_xlabel() == 'epoch'
    width, height = struct.unpack('>II', (tmp_path / 'a.png').read_bytes()[16:24])
    assert width > 400 and height > 200 * len(panels)


def test_the_third_panel_has_the_strength_of_each_term_and_their_sum(tmp_path):
    kl, cor, total = [4, 2, 1], [0, 1, 3], [4, 3, 4]
    curves = {'a.tau': TAU[:3], 'a.kl_weight': WEIGHT[:3]}
    terms = {'a: KL': kl, 'a: Cor': cor}
    axes = drawn_by(tmp_path, EPOCHS, curves, dict(a=total), terms).axes
    assert [x.get_ylabel() for x in axes] == ['temperature τ', 'weight', 'strength']
    lines = {line.get_label(): line for line in axes[2].lines}
    # the last epoch lasts until the end of the run
    assert {name: list(line.get_ydata()) for name, line in lines.items()} == {
        'a: KL': [*kl, 1], 'a: Cor': [*cor, 3], 'a: sum': [*total, 4]
    }  # fmt: skip
    assert all(list(line.get_xdata()) == EPOCHS for line in lines.values())
    assert lines['a: sum'].get_linewidth() > lines['a: KL'].get_linewidth()


def test_lines_differ_without_colors(tmp_path):
    with mock.patch.object(Figure, 'savefig', autospec=True) as savefig:
        plot_schedules(EPOCHS, {f'a.w{i}': WEIGHT for i in range(4)}, 'a.png')
    (axes,) = savefig.call_args.args[0].axes
    assert len({line.get_linestyle() for line in axes.lines}) == 4


def test_a_method_has_one_style_by_key_and_by_title():
    names = ['teacher', *METHODS]
    styles = method_styles(names)
    assert len({style.color for style in styles.values()}) == len(names)
    assert len({style.dash for style in styles.values()}) == len(names) - 1  # two are solid
    for key, title in METHODS.items():
        # one at a time and in another order: the style does not depend on the others
        assert method_styles([title]) == {title: styles[key]}
    assert method_styles(['PRKD', 'teacher', 'KD'])['KD'] == METHOD_STYLES['kd']


def test_other_names_differ_from_the_methods_and_from_each_other():
    names = ['KD', 'epoch_3', 'PRKD (twin)', 'PRKD']
    assert len(set(method_styles(names).values())) == 4


def test_accuracy_has_the_methods_styles(tmp_path):
    with mock.patch.object(Figure, 'savefig', autospec=True) as savefig:
        plot_accuracy({'PRKD': ({1: 50.0, 2: 60.0}, {2: 61.0})}, 'a.png', {'PRKD': 'PRKD'})
    raw, averaged = savefig.call_args.args[0].axes[0].lines
    color, dash = METHOD_STYLES['prkd']
    assert (raw.get_color(), averaged.get_color(), raw.get_linestyle()) == (color, color, dash)
    assert list(averaged.get_ydata()) == [61.0]


def test_a_teacher_can_be_drawn_alone(tmp_path):
    """With records, a comparison begins with its teacher, which may have any top-1."""
    curves = dict(teacher=({1: 20.0, 2: 43.0}, {}))
    plot_accuracy(curves, tmp_path / 'a.png', dict(teacher='teacher'))
    assert (tmp_path / 'a.png').exists()


@pytest.mark.parametrize('teacher, place', [(43.0, ''), (61.0, ' (above: 61.0 %)')])
def test_no_curve_squeezes_those_of_the_students(teacher, place):
    tops = dict(teacher=teacher, CE=9.0, KD=26.0, PRKD=28.0)
    curves = {name: ({1: top1, 2: top1}, {}) for name, top1 in tops.items()}
    with mock.patch.object(Figure, 'savefig', autospec=True) as savefig:
        plot_accuracy(curves, 'a.png', {name: name for name in tops})
    axes = savefig.call_args.args[0].axes[0]
    low, high = axes.get_ylim()
    assert 9 < low < 26 and 28 < high < 50 and (high > 43) == (teacher == 43)
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith('_')]
    assert labels == [f'teacher{place}', 'CE (below: 9.0 %)', 'KD', 'PRKD']
    assert all(tick == int(tick) for tick in axes.get_xticks())
