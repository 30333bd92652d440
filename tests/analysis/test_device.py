import pytest
import torch

from prkd_mm.analysis.device import choose_device, exact_float32

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture
def tf32():
    """TF32 is allowed; restored at the end."""
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = True
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


def test_tf32_is_off_inside_and_restored_after_an_error(tf32):
    with pytest.raises(KeyError):
        with exact_float32():
            assert not cudnn.allow_tf32 and not matmul.allow_tf32
            assert cudnn.deterministic
            raise KeyError
    assert cudnn.allow_tf32 and matmul.allow_tf32
    assert not cudnn.deterministic


def test_choosing_a_device_changes_no_setting(tf32):
    assert choose_device('cpu') == torch.device('cpu')
    assert choose_device().type == ('cuda' if torch.cuda.is_available() else 'cpu')
    assert cudnn.allow_tf32 and not cudnn.deterministic


@pytest.mark.parametrize('name', ['cuda:99', 'mps', 'gpu'])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match=f"no device '{name}' on this computer; use cpu, cuda"):
        choose_device(name)
