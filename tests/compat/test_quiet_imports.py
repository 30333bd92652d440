import importlib
import importlib.util
import sys
import types
import warnings

import pytest
import torch

from prkd_mm import compat
from prkd_mm.compat import imports

APPLIED = compat.apply()


def test_missing_mmcv_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install mmcv-lite'):
        imports.import_quietly()


class TestImport:
    @pytest.mark.slow
    def test_is_quiet(self, run_python):
        child = run_python('import prkd_mm, mmpretrain.models, mmrazor.engine')
        assert (child.returncode, child.stdout, child.stderr) == (0, '', '')

    def test_hides_no_other_warning(self):
        filters = list(warnings.filters)
        with pytest.warns(UserWarning) as caught:
            with imports.without_warning('known'):
                warnings.warn('known to all', stacklevel=1)
                warnings.warn('news', stacklevel=1)
        assert [str(warning.message) for warning in caught] == ['news']
        assert warnings.filters == filters

    @pytest.mark.slow
    def test_after_an_import_that_failed(self, run_python):
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
        monkeypatch.setattr(imports, 'forget', None)  # would be called
        monkeypatch.setitem(sys.modules, 'torchvision', types.ModuleType('torchvision'))
        assert imports.torchvision_ops() is False

    def test_other_errors_pass(self, monkeypatch):

        def fail(name):
            raise RuntimeError('no such driver')

        monkeypatch.setattr(importlib, 'import_module', fail)
        with pytest.raises(RuntimeError, match='no such driver'):
            imports.torchvision_ops()

    @pytest.mark.skipif('torchvision_ops' not in APPLIED, reason='works here')
    def test_a_missing_operator_is_an_error_when_used(self):
        from torchvision import ops, transforms

        image = torch.ones(3, 4, 4)
        assert transforms.RandomCrop(2)(image).shape == (3, 2, 2)
        with pytest.raises(RuntimeError, match="Couldn't load custom C"):
            ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
