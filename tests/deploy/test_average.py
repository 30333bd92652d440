from pathlib import Path

import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.logging import MessageHub
from project import DIGITS, ROOT, type_command

from prkd_mm.analysis.output import Report
from prkd_mm.analysis.runs import Run
from prkd_mm.analysis.spread import study as spread
from prkd_mm.averaging import mean_of
from prkd_mm.checkpoints import plain_state_dict, read
from prkd_mm.deploy.average import average_checkpoints, last_checkpoints, seed_of_run
from prkd_mm.deploy.student import load_student
from prkd_mm.experiments.tune import tail_choice


def test_the_average_of_the_checkpoints_is_that_of_the_run(run):
    """The weights bit for bit, the batch norm from the same training batches."""
    paths = last_checkpoints(Path(run.work_dir), 2)
    MessageHub.get_instance('another run')  # as in a new process
    found = average_checkpoints(run.cfg, paths)
    expected = torch.load(f'{run.work_dir}/student_avg.pth')['state_dict']
    for name, value in found['state_dict'].items():
        if 'running' in name:  # the run convolves in another memory format
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, expected[name])
    assert found['meta']['averaged'] == ['epoch_1.pth', 'epoch_2.pth']
    assert tuple(found['meta']['dataset_meta']['classes']) == tuple('0123456789')


def test_other_batch_norm_statistics(run):
    paths = last_checkpoints(Path(run.work_dir), 2)
    states = [plain_state_dict(read(str(path)))[0] for path in paths]
    mean = average_checkpoints(run.cfg, paths, bn='average')['state_dict']
    assert all(torch.equal(value, mean[name]) for name, value in mean_of(states).items())
    latest = average_checkpoints(run.cfg, paths, bn='latest')['state_dict']
    name = next(name for name in latest if name.endswith('running_var'))
    assert torch.equal(latest[name], states[1][name])
    assert not torch.equal(mean[name], states[1][name])


@pytest.fixture(scope='module')
def seedless(tmp_path_factory):
    """Config of a run for which MMEngine drew the seed."""
    tail = dict(type='TailAverageHook', num_epochs=2, bn_batches=1)
    net = toy.distillation(toy.save_teacher(tmp_path_factory.mktemp('teacher') / 'teacher.pth'))
    cfg = toy.config(net, tmp_path_factory.mktemp('run'), tail)
    cfg.randomness = dict(seed=None)
    cfg.default_hooks.tail_average = cfg.custom_hooks.pop()
    assert toy.train(cfg).seed != 0
    cfg.test_dataloader = cfg.val_dataloader
    return cfg


def test_the_training_batches_of_a_run_without_a_seed_are_those_of_the_seed_it_drew(seedless):
    paths = last_checkpoints(Path(seedless.work_dir), 2)
    found = average_checkpoints(seedless, paths, bn_batches=1)['state_dict']
    expected = read(f'{seedless.work_dir}/student_avg.pth')['state_dict']
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('study', ['spread', 'tune'])
def test_studies_use_the_seed_that_a_run_drew(seedless, study, monkeypatch):
    class Stopped(Exception):
        """The seed of the training batches."""

    def training_batches(cfg, preprocess, limit, seed, epoch):
        raise Stopped(seed)

    module = spread if study == 'spread' else tail_choice
    monkeypatch.setattr(module, 'training_batches', training_batches)
    with pytest.raises(Stopped) as stopped:
        if study == 'tune':
            tail_choice.tail_choices(seedless)
        report = Report(seedless.work_dir, 'spread')
        spread.run([Run('a run', seedless)], report, spread.SpreadOptions())
    assert stopped.value.args == (read(f'{seedless.work_dir}/epoch_2.pth')['meta']['seed'],)


def test_the_seed_of_a_run_is_recorded_or_in_its_config_or_the_default():
    recorded, config = dict(meta=dict(seed=0)), Config(dict(randomness=dict(seed=3)))
    assert seed_of_run(recorded, config, 7) == 0
    assert seed_of_run(dict(meta={}), config, 7) == 3
    assert seed_of_run({}, Config(dict(randomness=None)), 7) == 7


def test_too_few_checkpoints(run):
    with pytest.raises(FileNotFoundError, match='has 2 checkpoints.*max_keep_ckpts=3'):
        last_checkpoints(Path(run.work_dir), 3)


def test_a_missing_checkpoint_is_not_replaced_by_an_older_one(tmp_path):
    for epoch in (1, 2, 3, 5):
        (tmp_path / f'epoch_{epoch}.pth').touch()
    assert [path.name for path in last_checkpoints(tmp_path, 1)] == ['epoch_5.pth']
    with pytest.raises(FileNotFoundError, match='1, 2, 3, 5, which .* name the files instead of'):
        last_checkpoints(tmp_path, 4)


@pytest.mark.slow
def test_the_tool_writes_a_student_that_contains_its_config(run, tmp_path):
    out = tmp_path / 'averaged.pth'
    shown = type_command(
        'tools/average_checkpoints.py',
        ROOT / DIGITS,
        run.work_dir,
        '--last',
        '2',
        '--bn',
        'latest',
        '--out',
        out,
    )
    assert f'mean of epoch_1.pth, epoch_2.pth -> {out}' in shown
    assert load_student(str(out)).size == 8
