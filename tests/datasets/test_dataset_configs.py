import numpy as np
import pytest
from mmengine import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from project import ROOT

import prkd_mm  # noqa: F401

CONFIGS = ROOT / 'configs/_base_/datasets'


def build(name, cache=None, **kwargs):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        sets = []
        for part in ('train', 'val', 'test'):
            data = cfg[f'{part}_dataloader'].dataset
            data.get('dataset', data).update(kwargs)
            if cache:  # only PackedImages has this argument
                data.cache = str(cache)
            sets.append(DATASETS.build(data))
        return cfg, sets, MODELS.build(cfg.data_preprocessor)


def batch(data, preprocessor):
    indices = np.linspace(0, len(data) - 1, 200).astype(int)
    return preprocessor(data.__getitems__(indices.tolist()))['inputs']


def test_the_tinyimagenet_config_gives_normalized_batches(mini, tmp_path):
    cfg, sets, preprocessor = build('tinyimagenet', tmp_path, data_root=str(mini))
    assert [len(d) for d in sets] == [50, 20, 20]
    for data in sets:
        inputs = batch(data, preprocessor)
        assert inputs.shape == (200, 3, 64, 64)
        # with loose limits, since these are few images, and padding is black
        assert inputs.mean().abs() < 0.5 and 0.8 < inputs.std() < 1.25
    # the channel order is red, green, blue
    first = batch(sets[1], preprocessor)[0]
    red = (
        sets[1][0]['inputs'][2].float() - cfg.data_preprocessor.mean[0]
    ) / cfg.data_preprocessor.std[0]
    assert (first[0] - red).abs().max() < 1e-5


def test_the_tinyimagenet20_config_halves_the_images(mini, tmp_path):
    cfg, sets, preprocessor = build('tinyimagenet20', tmp_path, data_root=str(mini), num_classes=10)
    assert [len(d) for d in sets] == [50, 20, 20]
    assert cfg.train_dataloader.dataset.dataset.samples_per_class == 250
    for data in sets:
        assert batch(data, preprocessor).shape == (200, 3, 32, 32)
    # each pixel is the mean of 2x2 pixels
    whole = build('tinyimagenet', tmp_path, data_root=str(mini))[1][1]
    mean = whole[3]['inputs'].float().reshape(3, 32, 2, 32, 2).mean((2, 4))
    assert (sets[1][3]['inputs'] - mean).abs().max() <= 0.5


def test_the_digits_config_has_the_statistics_of_the_images():
    cfg, sets, preprocessor = build('digits')
    assert [len(d) for d in sets] == [1287, 510, 510]
    for data in sets:
        assert batch(data, preprocessor).shape == (200, 1, 8, 8)
    train = sets[0].images
    assert cfg.data_preprocessor.mean == [pytest.approx(train.mean(), 1e-4)]
    assert cfg.data_preprocessor.std == [pytest.approx(train.std(), 1e-4)]


def test_training_crops_shift_and_keep_the_digit():
    _, (train, *_), preprocessor = build('digits')
    image = np.pad(train.images[5, 0], 1)
    mean, std = preprocessor.mean.item(), preprocessor.std.item()
    shifts = {image[y : y + 8, x : x + 8].tobytes(): (y, x) for y in range(3) for x in range(3)}
    seen = set()
    for preprocessor.epoch in range(100):
        inputs = preprocessor(train.__getitems__([5]), True)['inputs']
        crop = (inputs[0, 0] * std + mean).round().byte().numpy()
        seen.add(shifts[crop.tobytes()])
    assert len(seen) == 9
