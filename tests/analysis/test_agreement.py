import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from prkd_mm.analysis.agreement import figure
from prkd_mm.analysis.agreement.measure import (
    Agreement,
    agreement,
    class_accuracy,
    class_correlation,
    compare,
    reliability,
)
from prkd_mm.methods import METHODS


def with_confidence(confidence, right):
    """Logits of two classes; the first one has the given probability."""
    p = torch.tensor(confidence).double()
    logits = torch.stack([p, 1 - p], 1).log()
    return logits, torch.tensor([0 if x else 1 for x in right])


def test_a_calibrated_predictor_has_no_calibration_error():
    found = reliability(*with_confidence([0.75] * 4, [1, 1, 1, 0]), bins=10)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.bin_accuracy[7] == 0.75
    assert found.bin_confidence[7] == pytest.approx(0.75)
    assert found.bin_share == [0] * 7 + [1, 0, 0]
    assert found.bin_accuracy[0] is None


def test_calibration_errors_are_weighted_by_samples():
    found = reliability(*with_confidence([0.95] * 4 + [0.65], [1, 1, 0, 0, 1]), bins=10)
    assert found.ece == pytest.approx((4 * 0.45 + 0.35) / 5)


def test_labels_drawn_from_the_probabilities_are_calibrated():
    torch.manual_seed(0)
    logits = 2 * torch.randn(20000, 10).double()
    labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
    assert reliability(logits, labels).ece < 0.02
    assert reliability(3 * logits, labels).ece > 0.1  # overconfident


def test_a_confidence_of_one_is_in_the_last_bin():
    found = reliability(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]))
    assert found.ece == 0 and found.bin_share == 14 * [0] + [1]


def test_class_correlation_equals_numpys():
    x = torch.tensor(np.random.RandomState(0).randn(20, 4))
    np.testing.assert_allclose(class_correlation(x), np.corrcoef(x.numpy().T), rtol=1e-10)
    x[:, 1] = 3.0
    assert not class_correlation(x)[1].any()


def test_agreement_counts_equal_predictions():
    eye = torch.eye(3)
    labels = torch.tensor([0, 1, 2, 0])
    teacher = eye[[0, 1, 2, 1]]  # errs on the last
    same = agreement(teacher, teacher, labels)
    assert same[:5] == (75.0, 100.0, 100.0, 0.0, 0.0)
    assert same[5:] == reliability(teacher, labels)
    other = agreement(eye[[0, 1, 0, 0]], teacher, labels)
    assert other[:3] == (75.0, 50.0, 0.0)
    assert other.kl > 0 and other.correlation > 0
    assert agreement(teacher, eye[labels], labels).top1_on_errors is None


def test_a_class_without_samples_has_no_accuracy():
    eye = torch.eye(3)
    found = class_accuracy(eye[[0, 1, 1]], torch.tensor([0, 0, 1]))
    assert found[:2].tolist() == [50.0, 100.0] and found[2].isnan()


def test_gains_refer_to_the_first_student():
    eye = torch.eye(2)
    labels = torch.tensor([0, 0, 1])
    teacher, one, other = eye[[0, 0, 0]], eye[[0, 1, 1]], eye[[0, 0, 1]]
    found = compare(dict(one=one, other=other), teacher, labels, classes=['cat', 'dog'])
    assert found.reference == 'one'
    assert list(found.nets) == ['teacher', 'one', 'other']
    assert found.classes[0].row() == {
        'class': 'cat',
        'accuracy teacher': 100.0,
        'accuracy one': 50.0,
        'accuracy other': 100.0,
        'gain one': 0.0,
        'gain other': 50.0,
    }
    alone = compare(dict(one=one), teacher, labels)
    assert alone.reference == 'teacher'
    assert [result.gain['one'] for result in alone.classes] == [-50.0, 100.0]
    assert alone.classes[1].name == '1'


def test_many_bins_without_enough_samples_are_left_out_of_the_figure():
    flat = [0.5] * 200, [0.5] * 200, [0.005] * 200
    net = Agreement(50.0, 100.0, None, 0.0, 0.0, 0.1, *flat)
    diagram = figure.agreement({'teacher': net, 'KD': net}).axes[0]
    assert [len(points.get_offsets()) for points in diagram.collections] == [0, 0]


@pytest.mark.parametrize('names', [list(METHODS.values()), ['KD (a long name of a folder)', 'KD']])
def test_the_legends_are_in_the_figure(names):
    net = Agreement(50.0, 100.0, 30.0, 0.0, 0.0, 0.1, [0.5], [0.5], [1.0])
    drawn = figure.agreement({name: net for name in ('teacher', *names)})
    renderer = FigureCanvasAgg(drawn).get_renderer()
    drawn.draw(renderer)
    panels = [axes.get_tightbbox(renderer) for axes in drawn.axes]
    one, other = (legend.get_window_extent(renderer) for legend in drawn.legends)
    assert 0 < one.x0 < one.x1 < other.x0 < other.x1 < drawn.bbox.x1
    for box in (one, other):
        assert 0 < box.y0 < box.y1 < min(panel.y0 for panel in panels)


@pytest.mark.parametrize(
    'names, shown',
    [
        (['tench, Tinca tinca', 'goldfish, Carassius auratus'], ['tench', 'goldfish']),
        (['cat, black', 'cat, white'], ['cat, black', 'cat, white']),
        (['x,y', 'x'], ['x,y', 'x']),
        (['x,y', 'z'], ['x,y', 'z']),
    ],
)
def test_class_names_lose_only_their_synonyms(names, shown):
    eye = torch.eye(2)
    found = compare(dict(a=eye, b=eye), eye, torch.tensor([0, 1]), classes=names)
    (axes,) = figure.class_gains(found).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == shown
