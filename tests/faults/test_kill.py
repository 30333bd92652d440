import pytest
from kill import Trial, kill

TRIALS = [
    Trial('after a checkpoint', epoch=3, delay=0.0, workers=0, teacher='live'),
    Trial('while a checkpoint is written', epoch=3, delay=0.0, workers=0, teacher='live'),
    Trial('twice', epoch=2, delay=0.5, workers=0, teacher='live'),
]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_killed_and_resumed_runs_end_with_the_same_bits_and_rows(tmp_path):
    """`python tests/faults/kill.py 20` also draws data workers and a logit store being filled."""
    assert kill(tmp_path, len(TRIALS), 0, TRIALS) == 0
