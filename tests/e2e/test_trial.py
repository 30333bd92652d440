"""The commands of docs/results.md, from an empty folder, on ten classes and few epochs."""

import json
from pathlib import Path

import pytest
import torch
from project import ROOT, link_checkout, type_command

D, V = 'train_dataloader.dataset.dataset', 'val_dataloader.dataset.dataset'
TRIAL = 'configs/trials/too_small.py'
FEW = [
    f'{D}.num_classes=10',
    f'{D}.samples_per_class=3',
    f'{V}.num_classes=10',
    'train_dataloader.batch_size=10',
    'train_cfg.max_epochs=2',
    'default_hooks.tail_average.num_epochs=2',
    'default_hooks.logger.interval=1',
]

NAMELESS = 'model.teacher_ckpt=teacher.pth'

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def folder(mini_zip, tmp_path_factory) -> Path:
    folder = link_checkout(tmp_path_factory.mktemp('trial'))
    prepare = ['tools/prepare_data.py', 'tinyimagenet', '--source', str(mini_zip), '--partial']
    type_command(*prepare, cwd=folder)
    # the trial's teacher knows other classes by the labels of these ten
    teacher = torch.load(ROOT / 'docs/results/teacher_tinyimagenet100.pth', weights_only=True)
    torch.save(dict(state_dict=teacher['state_dict']), folder / 'teacher.pth')
    return folder


def test_the_trial_leaves_records_that_make_its_report(folder):
    methods = ['ce', 'prkd_to_1_4', 'prkd_to_1']
    command = ['tools/reproduce.py', TRIAL, '--methods', ','.join(methods), '--seeds', '2']
    command += '--jobs 2 --store-views 2 --records records/too_small --figures'.split() + ['']
    few = [*FEW, f'{V}.skip_per_class=3', 'train_cfg.val_interval=2', NAMELESS]
    type_command(*command, '--cfg-options', *few, cwd=folder)
    records = [json.loads(file.read_text()) for file in (folder / 'records').rglob('*.json')]
    found = sorted((record['method'], record['seed']) for record in records)
    assert found == sorted((method, seed) for method in methods for seed in (0, 1))
    said = type_command('tools/reproduce.py', '--records', 'records/too_small', cwd=folder)
    assert 'PRKD to 1 − PRKD to 1/4' in said and 'Teacher: stored logits, 2 views' in said
    for name in ('relaxation.png', 'report.html', 'results.md', 'results.json'):
        assert (folder / 'results/too_small' / name).is_file()
    rows = json.loads((folder / 'results/too_small/results.json').read_text())['rows']
    by_method = {record['method']: record['averaged'] for record in records if record['seed'] == 1}
    assert [row['averaged'][1] for row in rows] == [by_method[method] for method in methods]


def test_the_search_tries_settings_of_several_methods(folder):
    command = ['tools/tune.py', TRIAL, '--methods', 'kd,prkd', '--views', '2', '--trials', '2']
    command += '--finalists 1 --seeds 1 --tail 2 --held-out 3 --jobs 2'.split()
    teacher = [f'{D}.num_classes=10', f'{D}.samples_per_class=3', 'train_cfg.max_epochs=1']
    teacher += ['train_dataloader.batch_size=10', 'default_hooks.logger.interval=1']
    type_command(*command, '--teacher-options', *teacher, '--cfg-options', *FEW, cwd=folder)
    out = folder / 'results/tune_too_small'
    found = json.loads((out / 'tuning.json').read_text())
    assert [trial['number'] for trial in found['trials']['prkd']] == [0, 1]
    assert set(found['trials']['kd'][1]['values']) == {'tau', 'loss_weight'}
    assert set(found['trials']['prkd'][1]['values']) == {
        'tau',
        'tau_L',
        'loss_weight',
        'cor_weight',
    }
    assert (out / 'tuning.png').is_file()


def test_a_study_of_views_compares_stored_logits_with_a_live_teacher(folder):
    command = ['tools/benchmark.py', 'views', TRIAL, '--views', '1', '--methods', 'kd']
    few = [*FEW, f'{V}.skip_per_class=3', 'train_cfg.val_interval=2', NAMELESS]
    said = type_command(*command, '--seeds', '1', '--cfg-options', *few, cwd=folder)
    cells = [line.split('|')[1].strip() for line in said.splitlines() if line.startswith('| ')]
    assert cells == ['views', '---', '1', 'live']
    assert (folder / 'results/views/views.png').is_file()
