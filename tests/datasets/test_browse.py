import runpy
import sys

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image
from project import DIGITS, ROOT

from prkd_mm.config import load_config
from prkd_mm.datasets import Digits
from prkd_mm.datasets.browse import training_views


@DATASETS.register_module()
class Listed(BaseDataset):
    """Images that are given in the config."""

    def __init__(self, infos, pipeline):
        self.infos = infos
        super().__init__(pipeline=pipeline)

    def load_data_list(self):
        return self.infos


@TRANSFORMS.register_module()
class LoadHere(LoadImageFromFile):
    """A loader of a user."""


def test_views_of_packed_images_are_shifts_that_change_by_epoch():
    cfg = load_config(str(ROOT / DIGITS))
    views = training_views(cfg, number=5, epochs=6)
    assert views.images.shape == (6, 5, 1, 8, 8)
    num_train = cfg.train_dataloader.dataset.dataset.num_train
    data = Digits(split='train', num_train=num_train, pipeline=[])
    indices = range(0, len(data), len(data) // 5)[:5]
    assert views.labels == [data[index]['gt_label'] for index in indices]
    assert views.classes == list('0123456789')
    for row, index in enumerate(indices):
        image = torch.from_numpy(data[index]['img']).float()
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        shifts = [padded[y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        for view in views.images[:, row, 0]:
            assert any(torch.equal(view, shift) for shift in shifts)
    assert not torch.equal(views.images[0], views.images[1])


def test_views_of_the_stock_data_path_are_augmented(tmp_path):
    (tmp_path / 'stock.py').write_text(
        f"_base_ = '{ROOT / DIGITS}'\n"
        'train_dataloader = dict('
        'dataset=dict(_delete_=True, **_base_.train_dataloader.dataset.dataset))\n'
    )
    views = training_views(load_config(str(tmp_path / 'stock.py')), number=3, epochs=2)
    assert views.images.shape == (2, 3, 1, 8, 8)
    assert views.images.max() > 200 and views.images.min() == 0


@pytest.mark.parametrize('kind', ['mmpretrain.ClsDataPreprocessor', 'mmengine.ImgDataPreprocessor'])
@pytest.mark.parametrize('loader', [None, 'LoadImageFromFile', 'LoadHere'])
def test_colors_are_shown_as_they_are(kind, loader, tmp_path):
    """MMCV reads files as BGR; the arrays of CIFAR and others are RGB."""
    orange = np.full((8, 8, 3), (250, 130, 10), np.uint8)
    Image.fromarray(orange).save(tmp_path / 'a.png')
    load = [dict(type=loader)] if loader else []
    infos = [dict(img_path=str(tmp_path / 'a.png'), img=orange, gt_label=0)]
    swap = {'to_rgb' if 'Cls' in kind else 'bgr_to_rgb': bool(loader)}
    cfg = load_config(str(ROOT / DIGITS), 'ce')
    cfg.train_dataloader = dict(
        batch_size=1,
        sampler=dict(type='DefaultSampler'),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(type='Listed', infos=infos, pipeline=[*load, dict(type='PackInputs')]),
    )
    cfg.data_preprocessor = dict(type=kind, mean=[100] * 3, std=[50] * 3, **swap)
    views = training_views(cfg, number=1, epochs=1)
    assert views.images[0, 0, :, 4, 4].tolist() == [250, 130, 10]


def test_the_tool_draws_a_page(tmp_path, monkeypatch):
    out = tmp_path / 'images.png'
    tool, options = ROOT / 'tools/browse_dataset.py', ['--number', '2', '--epochs', '3']
    arguments = [tool, ROOT / DIGITS, *options, '--out', out]
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    runpy.run_path(str(tool), run_name='__main__')
    assert Image.open(out).size == (520, 280)
