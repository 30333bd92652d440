"""tools/tune.py on short runs of the quickstart."""

import json

import pytest
from project import DIGITS, ROOT, link_checkout, type_command

from prkd_mm.checkpoints import read

LOGGED = 'default_hooks.logger.interval=5'
SHORT = ['train_cfg.max_epochs=2', LOGGED]
SHORT_TEACHER = ['train_cfg.max_epochs=8', LOGGED]  # with fewer it is no better than chance


def tune(folder, *arguments, fails=False):
    return type_command('tools/tune.py', DIGITS, *arguments, cwd=folder, fails=fails, COLUMNS='200')


def test_a_search_writes_its_trials_and_the_final_comparison(tmp_path):
    link_checkout(tmp_path)
    options = '--methods kd --trials 2 --finalists 1 --seeds 1 --tail 2 --jobs 2'
    overrides = [
        'default_hooks.tail_average.num_epochs=2',
        'model.distiller.distill_losses.loss_kl.tau=3.0',
    ]
    command = [*options.split(), '--teacher-options', *SHORT_TEACHER]
    command += ['--cfg-options', *SHORT, *overrides]
    tune(tmp_path, *command)
    out = tmp_path / 'results/tune_prkd_digits'
    found = json.loads((out / 'tuning.json').read_text())
    runs = tmp_path / 'work_dirs'
    stem = 'prkd_digits_held_out_kd_trial'
    for i, trial in enumerate(found['trials']['kd']):
        meta = read(str(runs / f'{stem}{i}/student_avg.pth'))['meta']
        assert trial['number'] == i and len(trial['averaged']) == 1
        assert trial['averaged'][0] == pytest.approx(meta['metrics']['accuracy/top1'], abs=1e-4)
        assert trial['last'][0] == pytest.approx(meta['raw_metrics']['accuracy/top1'], abs=1e-4)
    assert found['trials']['kd'][0]['values']['tau'] == 3
    chosen = found['chosen']['kd']
    best = max(trial['averaged'] for trial in found['trials']['kd'])
    assert chosen['averaged'] == best
    # the average of the run itself, reproduced from its checkpoints
    tail = {(row['bn'], row['num_epochs']): row['top1'][0] for row in found['tails']['kd']}
    assert set(tail) == {('recalibrate', 2), ('average', 2), ('latest', 2), ('latest', 1)}
    assert tail['recalibrate', 2] == pytest.approx(best[0], abs=1e-4)
    assert tail['latest', 1] == pytest.approx(chosen['last'][0], abs=1e-4)
    # by default, as many views as epochs
    assert (runs / 'teacher_digits_held_out_2_views').is_dir()
    assert 'Teacher: stored logits, 2 views' in (out / 'tuning.md').read_text()
    before = (out / 'tuning.json').read_bytes()
    again = tune(tmp_path, *command)
    assert 'already finished' in again and 'epoch 1/2' not in again
    assert (out / 'tuning.json').read_bytes() == before


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--methods', 'ce,kd'], "unknown methods ['ce']; choose from logit, kd"),
        (['--held-out', '1'], "--held-out: must be a whole number, at least 2; got '1'"),
        (['--trials', '0'], "--trials: must be a whole number, at least 1; got '0'"),
    ],
)
def test_bad_arguments_are_errors(arguments, words):
    assert words in tune(ROOT, *arguments, fails=True)
