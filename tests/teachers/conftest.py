import pytest
import torch
import toy
from filling import FOUR_CHUNKS, VIEWS, config
from foreign import SmallNet, write_onnx

from prkd_mm.teachers.fill_store import store_teacher


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = SmallNet()
    net(torch.randn(64, 3, 8, 8))  # running statistics that differ from those of a test batch
    return net.eval()


@pytest.fixture(scope='module')
def files(net, tmp_path_factory):
    """The same net in each file format, by suffix."""
    folder = tmp_path_factory.mktemp('files')
    example = torch.randn(2, 3, 8, 8)
    torch.jit.trace(net, example).save(str(folder / 'net.pt'))
    batch = torch.export.Dim('batch', min=1, max=512)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / 'net.pt2')
    return folder


@pytest.fixture(scope='module')
def onnx():
    pytest.importorskip('onnxruntime', reason='the teacher runs in ONNX Runtime')
    return pytest.importorskip('onnx', reason='the test writes an ONNX file')


@pytest.fixture(scope='module')
def onnx_file(onnx, net, tmp_path_factory):
    """The net as an ONNX file, written without an exporter."""
    path = tmp_path_factory.mktemp('onnx') / 'net.onnx'
    write_onnx(onnx, net, path)
    return path


@pytest.fixture(scope='module')
def four_chunks():
    """Stores of the toy images have four chunks."""
    with FOUR_CHUNKS:
        yield


@pytest.fixture(scope='module')
def reference(four_chunks, ckpt, tmp_path_factory):
    """The student of a run on a store that was filled beforehand."""
    folder = tmp_path_factory.mktemp('reference')
    cfg = config(ckpt, folder / 'run', str(folder / 'logits'))
    store_teacher(cfg, folder / 'logits', VIEWS)
    return folder, toy.student(toy.train(cfg)).state_dict()
