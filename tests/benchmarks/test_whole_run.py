"""The cost of whole runs is extrapolated from their parts."""

import numpy as np
import pytest
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import DATASETS
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.registry import MODELS

from benchmarks import whole_run
from benchmarks.timing import STOCK
from benchmarks.whole_run import Parts, total


class FakeRuns:
    """Runs of 10 s, 1 s per epoch, 2 s for its images, 3 s per stored view; wall time is double.

    One epoch is disturbed.
    """

    images = 128

    def time(self, name, views, images):
        share = images / self.images
        first = 5 + 3 * share * bool(views)  # the first view is stored before the first epoch
        epochs = [1 + 2 * share + 3 * share * (0 < i < views) for i in range(11)]
        epochs[7] += 100
        marks = np.cumsum([first, *epochs[:-1]])
        total = marks[-1] + epochs[-1] + 5
        return whole_run.split_epochs(np.array([total, 2 * total]), np.outer(marks, [1, 2]), views)


@pytest.mark.parametrize('name, view', [('ours, live', 0), (whole_run._STORED, 3)])
def test_cost_of_a_whole_run_is_extrapolated_from_its_parts(name, view):
    parts = whole_run.measure(FakeRuns(), name)
    expected = [[10, 20], [1, 2], [2, 4], [view, 2 * view]]
    np.testing.assert_allclose(parts, expected, atol=1e-12)
    for epochs, options, seconds in (
        (5, {}, 25 + 5 * view),
        (100, {}, 310 + whole_run.VIEWS * view),
        (100, dict(scale=10), 110 + 10 * (200 + whole_run.VIEWS * view)),
        (100, dict(runs=3), 3 * 310 + whole_run.VIEWS * view),  # on one store
    ):
        np.testing.assert_allclose(
            total([parts] * 2, epochs, **options), [[seconds, 2 * seconds]] * 2
        )


def both(*seconds):
    """Parts whose wall time is their CPU time."""
    return [Parts(*(np.full(2, each) for each in seconds))]


def test_a_table_pays_for_its_store_once():
    parts = {
        'stock': both(10, 0, 3, 0),
        'student alone': both(10, 0, 1, 0),
        'ours, live': both(10, 0, 2, 0),
        whole_run._STORED: both(10, 0, 1, 1),
    }
    table = whole_run.compare_tables('some pair', parts, images=whole_run.ALL_IMAGES)
    alone = 3 * 40
    stock, live, stored = alone + 18 * 100, alone + 18 * 70, alone + 18 * 40 + whole_run.VIEWS
    assert [result.time.median for result in table.results] == [stock, live, stored]
    speedups = [result.speedups[STOCK].median for result in table.results[1:]]
    assert speedups == [stock / live, stock / stored]


def test_target_of_a_table_is_relative_to_our_live_teachers():
    parts = {name: both(0, 0, 4, 0) for name in whole_run._CASES}
    parts['ours, live'] = both(0, 0, 2, 0)
    (target,) = whole_run.compare_tables(
        'quickstart/prkd_tinyimagenet20', parts, images=whole_run.ALL_IMAGES
    ).targets
    assert target.value == (3 * 4 + 18 * 2) / (21 * 4) and not target.reached


def test_runs_list_the_median_of_each_part():
    parts = {name: both(10, 0, 2, 1) + both(20, 0, 4, 2) for name in whole_run._CASES}
    runs = whole_run.compare_runs('some pair', 10, parts, images=whole_run.ALL_IMAGES)
    assert runs['stock'].sections == dict(start=15, epoch=0, images=3, view=1.5)
    assert runs['stock'].time.median == (10 + 20 + 8 + 20 + 40 + 16) / 2


def test_runs_too_short_to_be_measured_are_an_error():
    disturbed, good = both(10, 1, -2, 0), both(10, 1, 2, 0)
    whole_run.check_parts('stock', 2 * good + disturbed)
    with pytest.raises(RuntimeError, match='increase --images'):
        whole_run.check_parts('stock', good + 2 * disturbed)


@pytest.mark.parametrize(
    'pair, classes', [('wrn_40_2_wrn_16_2_cifar100', 100), ('quickstart/prkd_tinyimagenet20', 20)]
)
def test_stock_run_uses_nothing_of_ours(pair, classes, tmp_path):
    runs = whole_run._Runs(pair, tmp_path, images=128)
    cfg = runs.load('kd', 128)
    runs.make_stock(cfg)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    assert type(model) is SingleTeacherDistill
    assert type(model.data_preprocessor) is ClsDataPreprocessor
    text = cfg.dump()
    for ours in ('PackedImages', 'whole_batch', 'TailAverage', 'Lean', 'EpochSeed', 'TeacherCheck'):
        assert ours not in text
    images = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(images) == 128 and images[0]['inputs'].shape == (3, 32, 32)
