import builtins
import os
import sys
from collections import OrderedDict

import mmengine.config.config
import mmengine.utils
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

import prkd_mm
from prkd_mm import compat
from prkd_mm.compat import mmengine_patches

APPLIED = compat.apply()


def save(path, **content):
    torch.save(dict(meta=dict(epoch=1), state_dict={}, **content), path)
    return str(path)


class Call:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def schedule_arguments(name: str) -> dict:
    """The arguments that a parameter schedule needs, from its name."""
    of_kind = dict(
        MultiStep=dict(milestones=[2]),
        Step=dict(step_size=2),
        Exponential=dict(gamma=0.9),
        CosineAnnealing=dict(T_max=10),
        CosineRestart=dict(periods=[5, 5], restart_weights=[1, 1], eta_min=0),
        OneCycle=dict(eta_max=1, total_steps=20),
        ReduceOnPlateau=dict(monitor='loss'),
    )
    kind = name.removesuffix('LR').removesuffix('Momentum').removesuffix('ParamScheduler')
    parameter = dict(param_name='lr') if name.endswith('ParamScheduler') else {}
    return dict(of_kind.get(kind, {}), **parameter)


class TestCheckpoint:
    @pytest.fixture
    def message_hub(self):
        hub = MessageHub.get_instance('test_compat')
        for loss in (3.0, 2.0, 1.0):
            hub.update_scalar('train/loss', loss)
        hub.update_info('eta', np.float64(1.5))
        hub.update_info('counts', [np.int64(3), np.float32(0.5), np.bool_(1)])
        return hub

    def test_training_checkpoint_round_trip(self, tmp_path, message_hub):
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        path = str(tmp_path / 'epoch_1.pth')
        torch.save(
            dict(
                meta=dict(epoch=1, seed=0, experiment_name='x'),
                state_dict=model.state_dict(),
                message_hub=message_hub.state_dict(),
                optimizer=optimizer.state_dict(),
            ),
            path,
        )

        other = nn.Linear(2, 2)
        loaded = load_checkpoint(other, path, strict=True)
        assert torch.equal(other.weight, model.weight)
        momentum = loaded['optimizer']['state'][0]['momentum_buffer']
        assert torch.equal(momentum, model.weight.grad)
        hub = MessageHub.get_instance('test_compat_loaded')
        hub.load_state_dict(loaded['message_hub'])
        loss = hub.get_scalar('train/loss')
        assert loss.data[0].tolist() == [3.0, 2.0, 1.0]
        assert loss.statistics('mean') == 2.0 and loss.mean(2) == 1.5
        eta = hub.get_info('eta')
        assert eta == 1.5 and type(eta) is np.float64
        assert hub.get_info('counts') == [3, 0.5, True]

    @pytest.mark.parametrize('name', sorted(PARAM_SCHEDULERS.module_dict))
    def test_state_of_a_schedule_round_trip(self, tmp_path, name):
        def schedule():
            optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1, momentum=0.9)
            return PARAM_SCHEDULERS.get(name)(optimizer, **schedule_arguments(name))

        saved, resumed = schedule(), schedule()
        for _ in range(3):
            saved.step(*[dict(loss=np.float64(1))] * name.startswith('ReduceOnPlateau'))
        path = save(tmp_path / 'a.pth', param_schedulers=[saved.state_dict()])
        resumed.load_state_dict(CheckpointLoader.load_checkpoint(path)['param_schedulers'][0])
        assert resumed.last_step == saved.last_step > 1
        assert str(resumed.state_dict()) == str(saved.state_dict())

    @pytest.mark.parametrize('name', ['SGD', 'AdamW', 'RMSprop', 'Adafactor', 'Lamb', 'NAdam'])
    def test_state_of_an_optimizer_round_trip(self, tmp_path, name):
        cls = OPTIMIZERS.get(name)
        if cls is None:
            pytest.skip(f'this torch has no {name}')
        model = nn.Linear(2, 2)
        optimizer = cls(model.parameters(), lr=0.1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        path = save(tmp_path / 'a.pth', optimizer=optimizer.state_dict())
        loaded = CheckpointLoader.load_checkpoint(path)['optimizer']
        assert str(loaded) == str(optimizer.state_dict())

    @pytest.mark.parametrize(
        'value',
        [
            ConfigDict(classes=['a'], parts=dict(a=1)),
            np.array(['a', 'b']),
            np.array([True]),
            np.complex64(1j),
            {1, 2},
            OrderedDict(a=(1, None)),
            torch.Size([2]),
            torch.amp.GradScaler('cpu').state_dict(),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_plain_value_round_trip(self, tmp_path, value):
        path = save(tmp_path / 'a.pth', value=value)
        loaded = CheckpointLoader.load_checkpoint(path)['value']
        assert type(loaded) is type(value) and str(loaded) == str(value)

    @pytest.mark.parametrize('module', ['numpy.core', 'numpy._core'])
    def test_from_numpy_1_and_2(self, tmp_path, module):
        path = tmp_path / 'a.pth'
        torch.save(
            [HistoryBuffer([1.0], [1]), np.float64(2)], path, _use_new_zipfile_serialization=False
        )
        written = np.zeros(1).__reduce__()[0].__module__
        name = f'{module}.multiarray'
        path.write_bytes(path.read_bytes().replace(written.encode(), name.encode()))
        history, scalar = CheckpointLoader.load_checkpoint(str(path))
        assert history.mean() == 1.0 and scalar == 2.0

    @pytest.mark.parametrize(
        'evil',
        [
            Call(os.mkdir, 'hacked'),
            Call(os.system, 'mkdir hacked'),
            Call(exec, "import os; os.mkdir('hacked')"),
            Call(builtins.__import__, 'antigravity'),
            Call(getattr, HistoryBuffer, '__init__'),
            Call(getattr, HistoryBuffer, '__class__'),
            Call(getattr, HistoryBuffer, 'register_statistics'),
            Call(getattr, HistoryBuffer, 'data'),
            Call(getattr, np.ndarray, 'tofile'),
            Call(getattr, OneCycleParamScheduler, '__init__'),
            Call(getattr, OneCycleParamScheduler, 'build_iter_from_epoch'),
            Call(getattr, Call(HistoryBuffer), 'mean'),
            Call(HistoryBuffer.mean, 1),
            Call(setattr, HistoryBuffer, 'mean', 0),
            Call(np.fromfile, 'hacked'),
        ],
        ids=lambda evil: f'{evil.call[0]}'.split(' at ')[0],
    )
    def test_arbitrary_code_is_refused(self, tmp_path, monkeypatch, evil):
        monkeypatch.chdir(tmp_path)
        path = save('evil.pth', message_hub=evil)
        with pytest.raises(ValueError, match="'evil.pth' was refused"):
            CheckpointLoader.load_checkpoint(path)
        assert os.listdir(tmp_path) == ['evil.pth']

    def test_nothing_is_patched_if_loading_works(self, monkeypatch):
        load = torch.load
        monkeypatch.setattr(torch, 'load', lambda f, **_: load(f, weights_only=False))
        monkeypatch.setattr(torch.serialization, 'add_safe_globals', None)
        assert mmengine_patches.checkpoint_globals() is False


class TestPackageLookup:
    @pytest.fixture
    def lookup(self, monkeypatch):
        """Put MMEngine's own two functions back, and the patched ones after the test."""
        from mmengine.utils import package_utils

        for name in ('is_installed', 'get_installed_path'):
            own = getattr(package_utils, name).__wrapped__
            for module in (mmengine.utils, package_utils, mmengine.config.config):
                monkeypatch.setattr(module, name, own)

    def test_it_is_that_of_import(self, lookup):
        assert mmengine_patches.package_lookup() is True
        config = mmengine.config.config
        assert config.is_installed('prkd_mm')
        assert config.get_installed_path('prkd_mm') == prkd_mm.__path__[0]

    def test_it_needs_no_pkg_resources(self, monkeypatch, lookup):
        monkeypatch.setitem(sys.modules, 'pkg_resources', None)
        assert mmengine_patches.package_lookup() is True
        path = mmengine.utils.get_installed_path('mmpretrain')
        assert os.path.isfile(os.path.join(path, '.mim/model-index.yml'))


def test_a_config_is_formatted_again_only_if_it_has_changed(monkeypatch):
    texts = []

    def format_code(text, style_config):
        texts.append(text)
        return text.upper(), True

    monkeypatch.setattr(mmengine.config.config, 'FormatCode', format_code)
    assert mmengine_patches.config_format() is True
    assert mmengine_patches.config_format() is False
    cfg = mmengine.Config(dict(a=1))
    assert cfg.pretty_text == cfg.pretty_text == 'A=1'
    assert len(texts) == 1
    cfg.a = 2
    assert cfg.pretty_text == 'A=2'
    assert len(texts) == 2
