"""Every config can be built and takes one training step at its input size."""

from pathlib import Path

from project import ROOT

import prkd_mm.checkpoints  # noqa: F401  isort: skip
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.methods import METHODS
from prkd_mm.start.launch import Processes, learning_rate_note

CONFIGS = ROOT / 'configs'

PAIRS = sorted(
    [
        *CONFIGS.glob('prkd/*.py'),
        *CONFIGS.glob('quickstart/prkd_*.py'),
        *CONFIGS.glob('trials/too_small*.py'),
    ]
)
TEACHERS = sorted([*CONFIGS.glob('teachers/*.py'), *CONFIGS.glob('*/teacher_*.py')])
DIGITS = CONFIGS / 'quickstart/prkd_digits.py'


def build(cfg, folder: Path) -> torch.nn.Module:
    init_default_scope('mmpretrain')
    model = cfg.model.to_dict()
    model['data_preprocessor'] = cfg.data_preprocessor.to_dict()
    if model['type'] == 'FrozenTeacherDistill':
        teacher = MODELS.build(dict(model['teacher']))
        write_atomically(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')
        model['teacher_ckpt'] = str(folder / 'teacher.pth')
    return MODELS.build(model)


def step(cfg, model: torch.nn.Module) -> dict:
    """One step on random images of the config's size and number of classes."""
    data = cfg.train_dataloader.dataset
    size = next(
        transform[name]
        for name in ('crop_size', 'scale')
        for transform in data.get('dataset', data).pipeline
        if name in transform
    )
    channels = len(cfg.data_preprocessor.mean)
    classes = cfg.data_preprocessor.num_classes
    data = dict(
        inputs=torch.randint(0, 256, (2, channels, size, size)).byte(),
        data_samples=[DataSample().set_gt_label(label) for label in (0, classes - 1)],
    )
    model.train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.clone() for name, p in model.named_parameters()}
    logged = model.train_step(data, wrapper)
    # a first step may leave some layers unchanged, but not the head
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.endswith(('head.fc.weight', 'head.layers.head.weight')) for name in moved)
    assert all(torch.isfinite(value) for value in logged.values())
    with torch.no_grad():
        assert model(model.data_preprocessor(data)['inputs'], mode='tensor').shape == (2, classes)
    return logged


@pytest.mark.parametrize('path', PAIRS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_a_pair_takes_one_training_step(path, tmp_path):
    cfg = load_config(str(path))
    model = build(cfg, tmp_path)
    logged = step(cfg, model)
    assert {'loss', 'student.loss', 'distill.loss_prkd'} <= set(logged)
    terms = model.distiller.distill_losses.loss_prkd.terms
    assert terms['kl'] > 0 and terms['cor'] > 0  # the recorders found the logits
    assert cfg.model.architecture.backbone != cfg.model.teacher.backbone
    students, teachers = (
        sum(p.numel() for p in net.parameters()) for net in (model.student, model.teacher)
    )
    assert students < teachers
    hooks = {hook['type']: hook for hook in cfg.custom_hooks}
    assert hooks['LossScheduleHook'].get('end') is None  # the whole run
    tail = cfg.default_hooks.tail_average
    assert tail.num_epochs <= cfg.train_cfg.max_epochs


@pytest.mark.parametrize('method', METHODS)
def test_a_method_takes_one_training_step(method, tmp_path):
    cfg = load_config(str(DIGITS), method)
    logged = step(cfg, build(cfg, tmp_path))
    losses = cfg.model.get('distiller', {}).get('distill_losses', {})
    assert {f'distill.{name}' for name in losses} <= set(logged)


@pytest.mark.parametrize('path', TEACHERS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_a_teacher_takes_one_training_step(path, tmp_path):
    cfg = load_config(str(path))
    assert 'loss' in step(cfg, build(cfg, tmp_path))


@pytest.mark.parametrize('path', PAIRS, ids=lambda path: path.stem)
def test_a_pair_and_its_teacher_agree(path):
    """Same net, same data; the checkpoint is that of the teacher's run or in docs."""
    cfg = load_config(str(path))
    teacher = load_config(str(ROOT / cfg.model.teacher_config))
    assert teacher.model == cfg.model.teacher
    if cfg.model.teacher_ckpt.startswith('docs/'):
        assert (ROOT / cfg.model.teacher_ckpt).is_file()
        assert Path(cfg.model.teacher_ckpt).stem == Path(cfg.model.teacher_config).stem
    elif '://' not in cfg.model.teacher_ckpt:  # not a published one
        assert teacher.work_dir == f'./{cfg.model.teacher_ckpt}'
    for key in ('train_dataloader', 'val_dataloader', 'data_preprocessor'):
        if (path, key) == (DIGITS, 'train_dataloader'):  # the student sees some of the digits
            assert cfg[key].dataset.dataset.pop('num_train') < 1287
            cfg[key].batch_size = teacher[key].batch_size
        assert teacher[key] == cfg[key]


@pytest.mark.slow
def test_work_dirs_are_unique():
    own = [load_config(str(path)).work_dir for path in PAIRS + TEACHERS]
    assert len(set(own)) == len(own)
    others = [method for method in METHODS if method != 'prkd']
    for method in others:  # the rule, for one pair
        cfg = load_config(str(DIGITS), method)
        assert cfg.work_dir == f'./work_dirs/prkd_digits_{method}'
    assert not {f'{name}_{method}' for name in own for method in others} & set(own)


@pytest.mark.slow
def test_learning_rates_fit_the_batches_of_one_process():
    """Except on ImageNet, which is trained on several GPUs."""
    small = [path for path in PAIRS + TEACHERS if not path.stem.endswith('_imagenet')]
    notes = [learning_rate_note(load_config(str(path)), Processes(0, 1)) for path in small]
    assert len(small) > 30 and set(notes) == {None}


def test_cifar10_can_be_image_files(monkeypatch):
    monkeypatch.setenv('PRKD_CIFAR10', 'cifar10_images')
    cfg = load_config(str(CONFIGS / 'prkd/resnet56_resnet20_cifar10.py'))
    for phase in ('train', 'val', 'test'):
        packed = cfg[f'{phase}_dataloader'].dataset
        assert packed.dataset.type == 'CustomDataset'
        pipeline = packed.get('pipeline', packed.dataset.get('pipeline'))
        assert pipeline[0].type == 'LoadImageFromFile'
    assert cfg.data_preprocessor.to_rgb
    assert cfg.data_preprocessor.num_classes == 10


@pytest.mark.parametrize(
    'method, name, literature',
    [('kd', 'loss_kl', (4, 0.9)), ('dist', 'loss_dist', (4, 2)), ('prkd', 'loss_prkd', (4, 0.9))],
)
@pytest.mark.parametrize(
    'config',
    [
        'quickstart/prkd_digits.py',
        'quickstart/prkd_tinyimagenet20.py',
        'trials/too_small.py',
        'prkd/resnet56_resnet20_cifar100.py',
    ],
)
def test_methods_have_the_settings_of_the_literature(config, method, name, literature):
    losses = load_config(str(CONFIGS / config), method).model.distiller.distill_losses
    assert list(losses) == [name]
    assert (losses[name].tau, losses[name].loss_weight) == literature
