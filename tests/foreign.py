"""A net without any OpenMMLab interface as a teacher, and the logits that are expected of it."""

import torch
import toy
from torch import nn

STUDENT = dict(mean=[127.5] * 3, std=[60.0] * 3)  # the normalization in toy.distillation
PACK = [dict(type='PackInputs')]
MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


class SmallNet(nn.Module):
    """A classifier of RGB images without any OpenMMLab interface."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, toy.NUM_CLASSES)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def write_onnx(onnx, net, path, batch='N'):
    make = onnx.helper
    weights = {name: value.numpy() for name, value in net.state_dict().items() if value.ndim}
    nodes = [
        make.make_node('Conv', ['x', 'conv.weight', 'conv.bias'], ['c'], pads=[1, 1, 1, 1]),
        make.make_node(
            'BatchNormalization',
            ['c', *(f'norm.{n}' for n in ('weight', 'bias', 'running_mean', 'running_var'))],
            ['b'],
        ),
        make.make_node('Relu', ['b'], ['r']),
        make.make_node('GlobalAveragePool', ['r'], ['p']),
        make.make_node('Flatten', ['p'], ['f']),
        make.make_node('Gemm', ['f', 'fc.weight', 'fc.bias'], ['y'], transB=1),
    ]
    value = make.make_tensor_value_info
    graph = make.make_graph(
        nodes,
        'net',
        [value('x', onnx.TensorProto.FLOAT, [batch, 3, 8, 8])],
        [value('y', onnx.TensorProto.FLOAT, [batch, toy.NUM_CLASSES])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid('', 17)], ir_version=9)
    onnx.save(model, path)


def distillation(teacher, ckpt=None, to_rgb=True, student=None, **kwargs):
    cfg = toy.distillation(ckpt, teacher=teacher, student=student, **kwargs)
    cfg['data_preprocessor']['to_rgb'] = to_rgb
    return cfg


def raw_images(n=5, size=8):
    return torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(0))


def logits(model, images):
    with torch.no_grad():
        return model.teacher.logits(model.data_preprocessor(dict(inputs=images))['inputs'])


def expected(net, images, mean=MEAN, std=STD, size=None):
    """The expected logits: BGR to RGB, normalization, resizing, net."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    x = (images.flip(1).float() - mean) / std
    if size:
        x = nn.functional.interpolate(x, (size, size), mode='bilinear', antialias=True)
    with torch.no_grad():
        return net(x)
