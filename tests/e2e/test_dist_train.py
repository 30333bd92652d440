"""`tools/dist_train.sh` as a user types it, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

FAILING_RANK = """
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class FailingRankHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if get_rank() == 1 and batch_idx == 2:
            raise ValueError('rank 1 fails')
"""
FAILING_CONFIG = """
_base_ = 'configs/quickstart/prkd_digits.py'
custom_imports = dict(imports=['prkd_mm', 'failing_rank'])
default_hooks = dict(failing=dict(type='FailingRankHook'))
"""


def type_command(folder, *options, config='configs/quickstart/prkd_digits.py'):
    command = ['bash', 'tools/dist_train.sh', config, '2']
    short = ['train_cfg.max_epochs=1', 'default_hooks.tail_average.num_epochs=1']
    return subprocess.run(
        [*command, '--method', 'ce', '--cfg-options', *short, *options],
        cwd=folder,
        env=dict(
            os.environ,
            CUDA_VISIBLE_DEVICES='',
            OMP_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')]),
            PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_trains_on_two_processes_and_warns_about_the_batch_size(checkout):
    result = type_command(checkout, 'train_dataloader.batch_size=64')
    assert result.returncode == 0, result.stderr[-2000:]
    assert 'the learning rate is for 32 images per step, but this run has 64 × 2' in result.stdout
    checkpoint = torch.load(checkout / 'work_dirs/prkd_digits_ce/epoch_1.pth', weights_only=True)
    assert checkpoint['meta']['world_size'] == 2
    assert (checkout / 'work_dirs/prkd_digits_ce/student_avg.pth').exists()


def test_an_error_of_one_process_ends_the_job_with_its_traceback(checkout):
    """The other process waits for gradients, which would take half an hour."""
    (checkout / 'failing_rank.py').write_text(FAILING_RANK)
    (checkout / 'config.py').write_text(FAILING_CONFIG)
    result = type_command(checkout, 'work_dir=run', config='config.py')
    assert result.returncode != 0
    assert 'Traceback' in result.stderr and 'error: rank 1 fails' in result.stderr
    assert 'student_avg.pth' not in os.listdir(checkout / 'run')
