import builtins
import importlib.metadata
import importlib.util
import os
import pickle
import subprocess
import sys
import types
import warnings

import mmengine.config.config
import mmengine.utils
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

import prkd_mm
from prkd_mm import compat

MADE = compat.apply()  # the first call was in `import prkd_mm`
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

QCONFIG = dict(
    w_observer=dict(type='MinMaxObserver'),
    a_observer=dict(type='MinMaxObserver'),
    w_fake_quant=dict(type='FakeQuantize'),
    a_fake_quant=dict(type='FakeQuantize'),
    w_qscheme=dict(qdtype='qint8', bit=8, is_symmetry=True),
    a_qscheme=dict(qdtype='quint8', bit=8, is_symmetry=True),
)


def run_python(code):
    """Run ``code`` in a new process, away from the checkout's folder."""
    path = os.pathsep.join([ROOT, os.environ.get('PYTHONPATH', '')])
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=os.path.dirname(sys.executable),
        env=dict(os.environ, PYTHONPATH=path),
        capture_output=True,
        text=True,
    )


class TestApply:
    def test_second_call_does_nothing(self, monkeypatch):

        def fail():
            raise AssertionError('a mend ran again')

        for mend in (
            'torchvision_ops',
            'mmrazor_quantization',
            'soft_cross_entropy',
            'checkpoint_globals',
            'package_lookup',
        ):
            monkeypatch.setattr(compat, mend, fail)
        assert compat.apply() == MADE

    def test_mended_things_count_as_working(self):
        # every probe sees its own mend, so that nothing is mended twice
        assert not compat.torchvision_ops()
        assert not compat.mmrazor_quantization()
        assert not compat.soft_cross_entropy()
        assert not compat.checkpoint_globals()

    def test_names_only_the_mends_that_were_needed(self, monkeypatch):
        monkeypatch.setattr(compat, '_made', None)
        monkeypatch.setattr(compat, 'torchvision_ops', lambda: False)
        monkeypatch.setattr(compat, 'mmrazor_quantization', lambda: True)
        monkeypatch.setattr(compat, 'soft_cross_entropy', lambda: False)
        monkeypatch.setattr(compat, 'checkpoint_globals', lambda: False)
        monkeypatch.setattr(compat, 'package_lookup', lambda: True)
        monkeypatch.setattr(compat.mmrazor_quantization, '__name__', 'one')
        monkeypatch.setattr(compat.package_lookup, '__name__', 'two')
        assert compat.apply() == ('one', 'two')

    def test_missing_mmcv_is_named_with_the_remedy(self, monkeypatch):
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
        with pytest.raises(ImportError, match='pip install mmcv-lite'):
            compat._import_quietly()


class TestImport:
    def test_is_quiet(self):
        child = run_python('import prkd_mm, mmpretrain.models, mmrazor.engine')
        assert (child.returncode, child.stdout, child.stderr) == (0, '', '')

    def test_hides_no_other_warning(self):
        filters = list(warnings.filters)
        with pytest.warns(UserWarning) as caught:
            with compat._without_warning('known'):
                warnings.warn('known to all')
                warnings.warn('news')
        assert [str(warning.message) for warning in caught] == ['news']
        assert warnings.filters == filters

    def test_after_an_import_that_failed(self):
        child = run_python("""
try:
    import mmrazor.models
except ImportError:
    pass
import prkd_mm
from mmrazor.registry import MODELS
print(MODELS.get('SingleTeacherDistill').__module__)
""")
        assert child.stdout.startswith('mmrazor.models.algorithms'), child


class TestTorchvision:
    def test_working_one_is_left_alone(self, monkeypatch):
        monkeypatch.setattr(compat, '_forget', None)  # would be called
        monkeypatch.setitem(sys.modules, 'torchvision', types.ModuleType('torchvision'))
        assert compat.torchvision_ops() is False

    def test_other_errors_pass(self, monkeypatch):

        def fail(name):
            raise RuntimeError('no such driver')

        monkeypatch.setattr(importlib, 'import_module', fail)
        with pytest.raises(RuntimeError, match='no such driver'):
            compat.torchvision_ops()

    @pytest.mark.skipif('torchvision_ops' not in MADE, reason='works here')
    def test_missing_operator_says_so_at_use(self):
        from torchvision import ops, transforms

        image = torch.ones(3, 4, 4)
        assert transforms.RandomCrop(2)(image).shape == (3, 2, 2)
        with pytest.raises(RuntimeError, match="Couldn't load custom C"):
            ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)


class TestMMRazor:
    def test_distillation_is_registered(self):
        from mmrazor.registry import MODELS

        for name in (
            'SingleTeacherDistill',
            'ConfigurableDistiller',
            'KLDivergence',
            'DISTLoss',
            'MMArchitectureQuant',
        ):
            assert MODELS.get(name) is not None

    def test_version_lookup_is_restored(self):
        import mmrazor
        from mmengine.utils import digit_version

        assert mmrazor.digit_version is digit_version

    def test_working_quantization_is_left_alone(self, monkeypatch):
        import mmrazor

        name = 'mmrazor.structures.quantization'
        working = types.ModuleType(name)
        working.BackendConfigs = dict(native='a table')
        monkeypatch.setitem(sys.modules, name, working)
        monkeypatch.setattr(mmrazor, 'digit_version', None)  # is not called
        assert compat.mmrazor_quantization() is False
        assert working.BackendConfigs == dict(native='a table')

    @pytest.mark.skipif('mmrazor_quantization' not in MADE, reason='works here')
    @pytest.mark.parametrize(
        'quantizer',
        [
            dict(type='OpenVINOQuantizer', global_qconfig=QCONFIG),
            dict(type='TensorRTQuantizer', global_qconfig=QCONFIG),
            dict(type='AcademicQuantizer', qconfig_mapping=dict(_global_=QCONFIG)),
        ],
        ids=lambda cfg: cfg['type'],
    )
    def test_quantizer_says_that_it_cannot_work(self, quantizer):
        from mmrazor.registry import MODELS

        with pytest.raises(RuntimeError, match='needs torch 1.13'):
            MODELS.build(dict(quantizer, _scope_='mmrazor'))


def save(path, **content):
    torch.save(dict(meta=dict(epoch=1), state_dict={}, **content), path)
    return str(path)


class Call:
    """Pickled as a call of ``function``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


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

    @pytest.mark.skipif('checkpoint_globals' not in MADE, reason='this torch loads anything')
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
        with pytest.raises(pickle.UnpicklingError):
            CheckpointLoader.load_checkpoint(path)
        assert os.listdir(tmp_path) == ['evil.pth']

    def test_nothing_is_allowed_where_loading_works(self, monkeypatch):
        load = torch.load
        monkeypatch.setattr(torch, 'load', lambda f: load(f, weights_only=False))
        monkeypatch.setattr(torch.serialization, 'add_safe_globals', None)
        assert compat.checkpoint_globals() is False


class TestPackageLookup:
    @pytest.fixture
    def lookup(self, monkeypatch):
        """The two functions of MMEngine, to be put back after the test."""
        from mmengine.utils import package_utils

        for module in (mmengine.utils, package_utils, mmengine.config.config):
            for name in ('is_installed', 'get_installed_path'):
                monkeypatch.setattr(module, name, getattr(module, name))
        return mmengine.utils.get_installed_path

    def install_at(self, monkeypatch, folder):
        installed = types.SimpleNamespace(locate_file=lambda name: os.path.join(folder, name))
        monkeypatch.setattr(importlib.metadata, 'distribution', lambda name: installed)

    def test_working_one_is_left_alone(self, monkeypatch, lookup):
        self.install_at(monkeypatch, os.path.dirname(prkd_mm.__path__[0]))
        monkeypatch.setattr(importlib.util, 'find_spec', lambda name: True)
        assert compat.package_lookup() is False
        assert mmengine.utils.get_installed_path is lookup

    def test_editable_install(self, monkeypatch, lookup, tmp_path):
        self.install_at(monkeypatch, tmp_path)
        assert compat.package_lookup() is True
        config = mmengine.config.config
        assert config.is_installed('prkd_mm')
        assert config.get_installed_path('prkd_mm') == prkd_mm.__path__[0]

    def test_without_pkg_resources(self, monkeypatch, lookup):
        monkeypatch.setitem(sys.modules, 'pkg_resources', None)
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            'find_spec',
            lambda name: None if name == 'pkg_resources' else find_spec(name),
        )
        assert compat.package_lookup() is True
        path = mmengine.utils.get_installed_path('mmpretrain')
        assert os.path.isfile(os.path.join(path, '.mim/model-index.yml'))
