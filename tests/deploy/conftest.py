import pytest
from mmengine.runner import Runner
from project import DIGITS, ROOT

from prkd_mm.config import load_config


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    """Work dir of a student of the digits, trained for two epochs."""
    options = {
        'train_cfg.max_epochs': 2,
        'default_hooks.tail_average.num_epochs': 2,
        'train_dataloader.dataset.dataset.indices': 256,
    }
    cfg = load_config(
        str(ROOT / DIGITS), 'ce', options, str(tmp_path_factory.mktemp('deploy') / 'run')
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner
