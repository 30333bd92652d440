"""docs/zoo.md and the metafile agree with the config of each pair."""

import functools
import json
import re
from pathlib import Path
from unittest.mock import patch

from project import ROOT

import prkd_mm  # noqa: F401  isort: skip
import pytest
import torch
import yaml
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import init_default_scope
from mmpretrain.models.utils import attention
from mmpretrain.models.utils.attention import scaled_dot_product_attention_pyimpl as plain_attention
from mmpretrain.registry import MODELS

from prkd_mm.config import load_config

ZOO = (ROOT / 'docs/zoo.md').read_text()
METAFILE = ROOT / 'configs/prkd/metafile.yml'
PAIRS = sorted((ROOT / 'configs/prkd').glob('*.py'))


@functools.cache
def _cost(model: str, size: int):
    init_default_scope('mmpretrain')
    # MMEngine does not count the products inside PyTorch's fused attention
    with patch.object(attention, 'scaled_dot_product_attention', plain_attention):
        net = MODELS.build(json.loads(model)).eval()
    with torch.no_grad():
        found = get_model_complexity_info(net, (3, size, size), show_table=False, show_arch=False)
    return sum(p.numel() for p in net.parameters()), found['flops']


def cost(cfg, net: str) -> tuple:
    """Parameters and multiply-adds of a config's teacher or student."""
    data = cfg.train_dataloader.dataset
    size = next(
        transform[name]
        for transform in data.get('dataset', data).pipeline
        for name in ('crop_size', 'scale')
        if name in transform
    )
    return _cost(json.dumps(cfg.model[net].to_dict()), size)


@pytest.fixture(scope='module')
def models() -> dict:
    return {model['Name']: model for model in yaml.safe_load(METAFILE.read_text())['Models']}


def row_of(path: Path) -> list:
    row = re.search(rf'^\|[^\n]*\]\(\.\./configs/prkd/{path.stem}\.py\)[^\n]*$', ZOO, re.M)
    assert row, f'{path.stem} has no row in docs/zoo.md'
    return [cell.strip() for cell in row[0].strip('|').split('|')]


@pytest.mark.parametrize('path', PAIRS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_the_zoo_and_the_metafile_agree_with_the_pair(path, models):
    cfg, model = load_config(str(path)), models[path.stem]
    (count_T, macs_T), (count_S, macs_S) = (cost(cfg, net) for net in ('teacher', 'architecture'))
    assert row_of(path)[1:3] == [
        f'{count_T / 1e6:.2f} → {count_S / 1e6:.2f}',
        f'{2 * macs_T / 1e9:.3g} → {2 * macs_S / 1e9:.3g}',
    ]
    metadata = model['Metadata']
    assert metadata['Parameters'] == count_S and metadata['FLOPs'] == macs_S
    assert metadata['Teacher'] == dict(
        Config=cfg.model.teacher_config, Parameters=count_T, FLOPs=macs_T
    )
    assert model['Config'] == f'configs/prkd/{path.name}'
    assert metadata['Training Data'] in ZOO


def test_the_metafile_lists_each_pair_once(models):
    assert sorted(models) == [path.stem for path in PAIRS]
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == ['configs/prkd/metafile.yml']
