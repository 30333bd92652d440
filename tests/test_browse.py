import runpy
import sys

import torch
from PIL import Image
from project import DIGITS, ROOT

from prkd_mm.browse import training_views
from prkd_mm.config import load_config
from prkd_mm.datasets import Digits


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


def test_the_tool_draws_a_page(tmp_path, monkeypatch):
    out = tmp_path / 'images.png'
    tool, options = ROOT / 'tools/browse_dataset.py', ['--number', '2', '--epochs', '3']
    arguments = [tool, ROOT / DIGITS, *options, '--out', out]
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    runpy.run_path(str(tool), run_name='__main__')
    assert Image.open(out).size == (520, 280)
