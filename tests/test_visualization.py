import struct
from unittest import mock

import pytest
from matplotlib.figure import Figure

from prkd_mm.visualization import plot_schedules

EPOCHS = [0, 1, 2, 3]
TAU, WEIGHT = [4, 3, 2, 1], [1, 0.5, 0.25, 0]


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
def test_panels(tmp_path, curves, panels):
    figures = []
    savefig = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        return savefig(figure, *args, **kwargs)

    with mock.patch.object(Figure, 'savefig', keep):
        plot_schedules(EPOCHS, curves, tmp_path / 'a.png')
    drawn = {
        axes.get_ylabel(): [line.get_label() for line in axes.lines] for axes in figures[0].axes
    }
    assert drawn == panels
    for axes in figures[0].axes:
        for line in axes.lines:
            assert list(line.get_xdata()) == EPOCHS
            assert list(line.get_ydata()) == curves[line.get_label()]
    assert figures[0].axes[-1].get_xlabel() == 'epoch'
    width, height = struct.unpack('>II', (tmp_path / 'a.png').read_bytes()[16:24])
    assert width > 400 and height > 200 * len(panels)


def test_lines_are_told_apart_without_colours(tmp_path):
    with mock.patch.object(Figure, 'savefig', autospec=True) as savefig:
        plot_schedules(EPOCHS, {f'a.w{i}': WEIGHT for i in range(4)}, 'a.png')
    (axes,) = savefig.call_args.args[0].axes
    assert len({line.get_linestyle() for line in axes.lines}) == 4
