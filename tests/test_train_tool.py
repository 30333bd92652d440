import os

import project
import pytest
import torch


@pytest.mark.parametrize('named', [False, True])
@pytest.mark.parametrize('place', ['config', 'options'])
def test_resume_in_the_config_is_checked_like_the_option(checkout, place, named):
    """MMEngine would resume from the checkpoint of any run."""
    path = checkout / ('other.pth' if named else 'work_dirs/mine/epoch_1.pth')
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(epoch=1, iter=9, cfg='randomness = dict(seed=9)')
    torch.save(dict(meta=meta, state_dict={}, optimizer={}, message_hub={}), path)
    settings = dict(resume=True, load_from=str(path)) if named else dict(resume=True)
    text, command = f'_base_ = {project.TEACHER_DIGITS!r}\n', ['train', 'mine.py']
    if place == 'config':
        text += ''.join(f'{name} = {value!r}\n' for name, value in settings.items())
    else:
        command += ['--cfg-options', *(f'{name}={value}' for name, value in settings.items())]
    (checkout / 'mine.py').write_text(text)
    error = project.error_of(*command)
    assert f"{path.name}' belongs to a run with different settings" in error
    assert '--allow-changes' in error


@pytest.mark.parametrize('work_dir', ['work_dirs/mine', 'work_dirs/mine/'])
def test_checkpoints_of_an_earlier_run_elsewhere_are_not_replaced(checkout, work_dir):
    """MMEngine appends the name of the work dir to the folder."""
    (checkout / 'weights/mine').mkdir(parents=True)
    (checkout / 'weights/mine/epoch_7.pth').write_bytes(b'old')
    command = ['train', project.TEACHER_DIGITS, '--work-dir', work_dir, '--cfg-options']
    error = project.error_of(*command, 'default_hooks.checkpoint.out_dir=weights')
    assert "'weights/mine' has the checkpoints of an earlier run" in error
    assert os.listdir('weights/mine') == ['epoch_7.pth'] and not os.path.exists('work_dirs')
    # another name of checkpoints, another run, and the work dir itself, which is moved
    (checkout / 'work_dirs/mine').mkdir(parents=True)
    (checkout / 'work_dirs/mine/epoch_7.pth').write_bytes(b'old')
    for end in (
        'weights default_hooks.checkpoint.filename_tmpl=e{}.pth',
        'others',
        'work_dirs',
        str(checkout / 'work_dirs/mine'),
    ):
        options = f'default_hooks.checkpoint.out_dir={end}'.split()
        assert 'GPU' in project.error_of(*command[:-1], '--amp', '--cfg-options', *options)


def test_workers_of_a_stock_config_are_seeded_by_epoch(checkout, monkeypatch):
    path = str(project.ROOT / 'examples/cifar10_from_mmpretrain.py')
    monkeypatch.setattr('sys.argv', ['train.py', path])
    train = project.tool('train')
    loader = train.prepare(train.parse_args()).train_dataloader
    assert loader.num_workers and loader.worker_init_fn.type == 'seed_worker_by_epoch'
