from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS

import prkd_mm  # noqa: F401

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets'


def build(name, **kwargs):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        sets = [
            DATASETS.build({**cfg[f'{part}_dataloader'].dataset, **kwargs})
            for part in ('train', 'val', 'test')
        ]
        return cfg, sets, MODELS.build(cfg.data_preprocessor)


def batch(data, preprocessor):
    indices = np.linspace(0, len(data) - 1, 200).astype(int)
    collated = default_collate([data[i] for i in indices])
    return preprocessor(collated)['inputs']


def test_tinyimagenet(mini):
    cfg, sets, preprocessor = build('tinyimagenet', data_root=str(mini))
    assert [len(d) for d in sets] == [500, 200, 200]
    for data in sets:
        inputs = batch(data, preprocessor)
        assert inputs.shape == (200, 3, 64, 64)
        # ten classes are not two hundred, and padding is black
        assert inputs.mean().abs() < 0.3 and 0.8 < inputs.std() < 1.25
    # red, green, blue in this order
    image = sets[1][0]['inputs']
    first = preprocessor(default_collate([sets[1][0]]))['inputs'][0]
    red = (image[2].float() - cfg.data_preprocessor.mean[0]
           ) / cfg.data_preprocessor.std[0]
    assert (first[0] - red).abs().max() < 1e-5


def test_digits():
    cfg, sets, preprocessor = build('digits')
    assert [len(d) for d in sets] == [1287, 510, 510]
    for data in sets:
        assert batch(data, preprocessor).shape == (200, 1, 8, 8)
    train = np.stack([sets[0].get_data_info(i)['img'] for i in range(1287)])
    assert cfg.data_preprocessor.mean == [pytest.approx(train.mean(), 1e-4)]
    assert cfg.data_preprocessor.std == [pytest.approx(train.std(), 1e-4)]


def test_training_crops_shift_and_keep_the_digit():
    _, (train, *_), _ = build('digits')
    np.random.seed(0)
    image = np.pad(train.get_data_info(5)['img'], 1)
    shifts = {image[y:y + 8, x:x + 8].tobytes(): (y, x)
              for y in range(3) for x in range(3)}
    seen = {shifts[train[5]['inputs'].numpy().tobytes()] for _ in range(100)}
    assert len(seen) == 9
