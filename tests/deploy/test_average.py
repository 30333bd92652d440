from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub
from project import DIGITS, ROOT, type_command

from prkd_mm.averaging import mean_of
from prkd_mm.checkpoints import plain_state_dict, read
from prkd_mm.deploy.average import average_checkpoints, last_checkpoints
from prkd_mm.deploy.student import load_student


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


def test_too_few_checkpoints(run):
    with pytest.raises(FileNotFoundError, match='has 2 checkpoints.*max_keep_ckpts=3'):
        last_checkpoints(Path(run.work_dir), 3)


def test_a_missing_checkpoint_is_not_replaced_by_an_older_one(tmp_path):
    for epoch in (1, 2, 3, 5):
        (tmp_path / f'epoch_{epoch}.pth').touch()
    assert [path.name for path in last_checkpoints(tmp_path, 1)] == ['epoch_5.pth']
    with pytest.raises(FileNotFoundError, match='lacks epoch_4.pth.* name the files instead of'):
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
