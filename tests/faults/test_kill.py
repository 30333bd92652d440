import itertools

import pytest
from kill import BEFORE_VALIDATION, EPOCHS, MOMENTS, TEACHERS, TWICE, WRITING, Trial, draw, kill

TRIALS = [
    Trial(BEFORE_VALIDATION, epoch=3, delay=0.0, workers=0, teacher='live'),
    Trial(WRITING, epoch=3, delay=0.0, workers=0, teacher='live'),
    Trial(TWICE, epoch=2, delay=0.5, workers=0, teacher='live'),
]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_killed_and_resumed_runs_end_with_the_same_bits_and_rows(tmp_path):
    """`python tests/faults/kill.py 20` also draws data workers and stored logits."""
    assert kill(tmp_path, len(TRIALS), 0, TRIALS) == 0


def test_twenty_trials_cover_every_moment_epoch_teacher_and_number_of_workers():
    trials = list(itertools.islice(draw(0), 20))
    for values, name in (
        (MOMENTS, 'moment'),
        (range(1, EPOCHS + 1), 'epoch'),
        (TEACHERS, 'teacher'),
        ((0, 2), 'workers'),
    ):
        assert {getattr(trial, name) for trial in trials} == set(values)
    assert trials == list(itertools.islice(draw(0), 20)) != list(itertools.islice(draw(1), 20))
