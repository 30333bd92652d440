"""The examples from stock configs compute losses and gradients."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from project import ROOT

EXAMPLES = {
    'cifar10_from_mmpretrain': (10, 32, 'loss_prkd'),
    'imagenet_from_mmrazor': (1000, 64, 'loss_kl'),
    'own_images_timm': (10, 64, 'loss_prkd'),
}


def with_random_teacher(cfg: Config, tmp_path) -> Config:
    """Replace published weights by random weights, so that nothing is downloaded."""
    model = cfg.model
    if model.teacher == 'resnet50_8xb16_cifar10':
        stock = get_config('mmpretrain::resnet/resnet50_8xb16_cifar10.py')
        model.teacher = dict(stock.model, _scope_='mmpretrain')
    if isinstance(model.teacher, str):
        import timm

        net = timm.create_model(model.teacher.partition('::')[2], num_classes=10)
    else:
        init_default_scope('mmpretrain')
        net = MODELS.build(model.teacher)
    model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    torch.save(net.state_dict(), model.teacher_ckpt)
    return cfg


@pytest.mark.parametrize('name', EXAMPLES)
def test_the_example_trains_from_a_stock_config(name, tmp_path):
    classes, size, loss = EXAMPLES[name]
    cfg = Config.fromfile(ROOT / 'examples' / f'{name}.py')
    if name == 'imagenet_from_mmrazor':
        cfg.model.teacher.pretrained = False
    cfg = with_random_teacher(cfg, tmp_path)
    init_default_scope(cfg.default_scope)
    if 'data_preprocessor' in cfg:  # as MMEngine's runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    model.train()
    images = torch.randint(0, 256, (2, 3, size, size))
    samples = [DataSample().set_gt_label(index % classes) for index in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    losses = model(**data, mode='loss')
    losses[f'distill.{loss}'].backward()
    gradients = [x.grad for x in model.architecture.parameters() if x.requires_grad]
    assert any(gradient is not None and gradient.any() for gradient in gradients)
    named = {schedule['loss'] for hook in hooks_of(cfg) for schedule in hook.get('schedules', [])}
    assert named == {loss}
    kinds = {hook['type'] for hook in hooks_of(cfg)}
    assert {'LossScheduleHook', 'TailAverageHook', 'TeacherCheckHook'} <= kinds


@pytest.mark.parametrize('names, same', [(('c_2', 'c_10'), False), (('c_02', 'c_10'), True)])
def test_the_order_of_classes_is_as_the_example_says(tmp_path, names, same):
    readers = pytest.importorskip('timm.data.readers.reader_image_folder')
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.png').touch()
    of_timm = readers.ReaderImageFolder(str(tmp_path)).class_to_idx
    assert of_timm == {names[0]: 0, names[1]: 1}
    for options in (dict(), dict(classes=list(names))):
        ours = CustomDataset(data_prefix=str(tmp_path), **options)
        labels = {Path(each['img_path']).parent.name: each['gt_label'] for each in ours}
        assert (labels == of_timm) == same
    text = (ROOT / 'examples/own_images_timm.py').read_text()
    assert all(name in text for name in names)


def hooks_of(cfg):
    return [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]
