import pytest
import torch
from foreign import SmallNet, write_onnx


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
