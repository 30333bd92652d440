"""Configs under the names ``mmcls::`` and ``prkd_mm.configs``."""

import importlib.util
from pathlib import Path

import mmrazor
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from project import ROOT

from prkd_mm import compat

SHIPPED = Path(mmrazor.__file__).parent / '.mim/configs/distill/mmcls'
CONFIGS = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob('*/*.py'))

if 'mmcls_name' not in compat.apply():
    pytest.skip('MMClassification itself is installed', allow_module_level=True)


@pytest.mark.parametrize('name', CONFIGS)
def test_shipped_config_of_mmrazor_loads(name):
    if name.startswith('deit/'):  # its base was renamed in MMPretrain
        with pytest.raises(FileNotFoundError, match='deit-base_pt-16xb64_in1k.py'):
            Config.fromfile(SHIPPED / name)
    else:
        assert 'type' in Config.fromfile(SHIPPED / name).model


@pytest.mark.parametrize(
    ('name', 'losses'),
    [
        ('kd/kd_logits_resnet34_resnet18_8xb32_in1k.py', ['loss_kl']),
        ('dist/dist_logits_resnet34_resnet18_8xb32_in1k.py', ['loss_kl']),
        (
            'fitnets/fitnets_backbone_logits_resnet50_resnet18_8xb32_in1k.py',
            ['loss_s4', 'loss_s3', 'loss_kl'],
        ),
    ],
)
@pytest.mark.slow
def test_shipped_config_of_mmrazor_trains(name, losses, tmp_path):
    """Two steps on small generated images, with random weights instead of downloads."""
    cfg = Config.fromfile(SHIPPED / name)
    cfg.model.teacher.pretrained = False
    cfg.model.teacher_ckpt = None
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    pipeline = loader.dataset.pipeline
    next(step for step in pipeline if step.type == 'RandomResizedCrop').scale = 64
    loader.dataset = dict(
        type='mmpretrain.CustomDataset', data_prefix=str(_images(tmp_path)), pipeline=pipeline
    )
    cfg.merge_from_dict(
        dict(
            train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2),
            val_cfg=None,
            val_dataloader=None,
            val_evaluator=None,
            test_cfg=None,
            test_dataloader=None,
            test_evaluator=None,
            work_dir=str(tmp_path / 'run'),
            experiment_name=name.partition('/')[0],
        )
    )
    cfg.param_scheduler = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    for loss in losses:
        assert runner.message_hub.get_scalar(f'train/distill.{loss}').current() > 0
    assert runner.iter == 2


def _images(folder: Path) -> Path:
    """A folder of two classes with two images each."""
    import cv2
    import numpy as np

    for label in 'ab':
        for index in range(2):
            path = folder / 'images' / label / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            image = np.random.RandomState(index).randint(0, 256, (40, 40, 3), np.uint8)
            cv2.imwrite(str(path), image)
    return folder / 'images'


def test_a_module_of_mmcls_is_the_one_of_mmpretrain():
    import mmcls.models.heads
    import mmpretrain.models.heads

    assert mmcls.models.heads is mmpretrain.models.heads
    assert mmpretrain.models.heads.__spec__.name == 'mmpretrain.models.heads'
    assert importlib.util.find_spec('mmcls.not_there') is not None
    with pytest.raises(ImportError):
        importlib.import_module('mmcls.not_there')


def test_types_with_the_scope_mmcls():
    from mmengine.registry import MODELS
    from mmpretrain.models import GlobalAveragePooling

    with DefaultScope.overwrite_default_scope('mmengine'):
        assert type(MODELS.build(dict(type='mmcls.GlobalAveragePooling'))) is GlobalAveragePooling
        cfg = dict(type='GlobalAveragePooling', _scope_='mmcls')
        assert type(MODELS.build(cfg)) is GlobalAveragePooling


@pytest.mark.parametrize('name', ['prkd.resnet34_resnet18_tinyimagenet', 'quickstart.prkd_digits'])
def test_a_pure_python_config_inherits_from_ours(name, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(
        'from mmengine.config import read_base\n'
        'from torch.optim import AdamW\n'
        f'with read_base():\n    from prkd_mm.configs.{name} import *\n'
        'optim_wrapper = dict(optimizer=dict(type=AdamW, lr=0.5))\n'
    )
    cfg = Config.fromfile(child)
    base = Config.fromfile(ROOT / 'configs' / f'{name.replace(".", "/")}.py')
    from torch.optim import AdamW

    assert cfg.optim_wrapper.optimizer == dict(type=AdamW, lr=0.5)
    assert cfg.model.distiller.to_dict() == base.model.distiller.to_dict()
    assert cfg.train_dataloader.to_dict() == base.train_dataloader.to_dict()
