"""The nets of the CIFAR-100 tables as plain functions of their weights.

These nets are written from the papers and from the names and shapes in the
published files, independently of prkd_mm's nets, which are compared with them.
The first run of a net on an empty :class:`Weights` creates random weights under
the names of the files. Later runs on these weights give the same function.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

torch.set_num_threads(1)  # more threads are slower for such small nets


class Weights(dict):
    """A state dict to which a net adds its weights during its first run."""

    def _get(self, name: str, value: Tensor) -> Tensor:
        return self.setdefault(name, value)

    def conv(self, x, name, channels, kernel=3, stride=1, groups=1):
        weight = torch.randn(channels, x.shape[1] // groups, kernel, kernel)
        weight *= (2 / weight[0].numel()) ** 0.5
        return F.conv2d(
            x,
            self._get(f'{name}.weight', weight),
            stride=stride,
            padding=kernel // 2,
            groups=groups,
        )

    def bn(self, x, name):
        n = x.shape[1]
        weight = self._get(f'{name}.weight', 0.5 + 1.5 * torch.rand(n))
        bias = self._get(f'{name}.bias', 0.3 * torch.randn(n))
        # close to the statistics of x, as after training; otherwise deep nets explode
        var, mean = torch.var_mean(x, (0, 2, 3))
        var, mean = var + 0.01, mean + 0.3 * var.sqrt() * torch.randn(n)
        mean = self._get(f'{name}.running_mean', mean)
        var = self._get(f'{name}.running_var', var * (0.5 + torch.rand(n)))
        self._get(f'{name}.num_batches_tracked', torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, x, name, classes):
        weight = torch.randn(classes, x.shape[1]) / x.shape[1] ** 0.5
        return F.linear(
            x, self._get(f'{name}.weight', weight), self._get(f'{name}.bias', torch.randn(classes))
        )


def resnet(w, x, depth, stem=16, width=16, classes=100):
    x = F.relu(w.bn(w.conv(x, 'conv1', stem), 'bn1'))
    for stage in range(3):
        channels = width * 2**stage
        for block in range((depth - 2) // 6):
            name = f'layer{stage + 1}.{block}'
            stride = 2 if stage > 0 and block == 0 else 1
            out = w.conv(x, f'{name}.conv1', channels, stride=stride)
            out = F.relu(w.bn(out, f'{name}.bn1'))
            out = w.bn(w.conv(out, f'{name}.conv2', channels), f'{name}.bn2')
            if x.shape[1] != channels:
                x = w.conv(x, f'{name}.downsample.0', channels, 1, stride)
                x = w.bn(x, f'{name}.downsample.1')
            x = F.relu(out + x)
    return w.linear(F.avg_pool2d(x, 8).flatten(1), 'fc', classes)


def wrn(w, x, depth, width, classes=100):
    x = w.conv(x, 'conv1', 16)
    for stage in range(3):
        channels = 16 * width * 2**stage
        for block in range((depth - 4) // 6):
            name = f'block{stage + 1}.layer.{block}'
            stride = 2 if stage > 0 and block == 0 else 1
            active = F.relu(w.bn(x, f'{name}.bn1'))
            out = w.conv(active, f'{name}.conv1', channels, stride=stride)
            out = F.relu(w.bn(out, f'{name}.bn2'))
            out = w.conv(out, f'{name}.conv2', channels)
            if x.shape[1] != channels:  # the shortcut starts after BN, ReLU
                x = w.conv(active, f'{name}.convShortcut', channels, 1, stride)
            x = x + out
    x = F.avg_pool2d(F.relu(w.bn(x, 'bn1')), 8)
    return w.linear(x.flatten(1), 'fc', classes)


def mobilenet_v2(w, x, classes=100):
    x = F.relu(w.bn(w.conv(x, 'conv1.0', 16, stride=2), 'conv1.1'))
    stages = [
        (1, 8, 1, 1),
        (6, 12, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    ]
    for stage, (factor, channels, blocks, first_stride) in enumerate(stages):
        for block in range(blocks):
            name = f'blocks.{stage}.{block}.conv'
            stride = first_stride if block == 0 else 1
            hidden = factor * x.shape[1]
            out = w.conv(x, f'{name}.0', hidden, 1)
            out = F.relu(w.bn(out, f'{name}.1'))
            out = w.conv(out, f'{name}.3', hidden, 3, stride, groups=hidden)
            out = F.relu(w.bn(out, f'{name}.4'))
            out = w.bn(w.conv(out, f'{name}.6', channels, 1), f'{name}.7')
            same = stride == 1 and x.shape[1] == channels
            x = x + out if same else out
    x = F.relu(w.bn(w.conv(x, 'conv2.0', 1280, 1), 'conv2.1'))
    return w.linear(F.avg_pool2d(x, 2).flatten(1), 'classifier.0', classes)


def resnet50(w, x, classes=100):
    x = F.relu(w.bn(w.conv(x, 'conv1', 64), 'bn1'))
    for stage, blocks in enumerate((3, 4, 6, 3)):
        channels = 64 * 2**stage
        for block in range(blocks):
            name = f'layer{stage + 1}.{block}'
            stride = 2 if stage > 0 and block == 0 else 1
            out = F.relu(w.bn(w.conv(x, f'{name}.conv1', channels, 1), f'{name}.bn1'))
            out = w.conv(out, f'{name}.conv2', channels, stride=stride)
            out = F.relu(w.bn(out, f'{name}.bn2'))
            out = w.bn(w.conv(out, f'{name}.conv3', 4 * channels, 1), f'{name}.bn3')
            if block == 0:
                x = w.conv(x, f'{name}.shortcut.0', 4 * channels, 1, stride)
                x = w.bn(x, f'{name}.shortcut.1')
            x = F.relu(out + x)
    return w.linear(x.mean((2, 3)), 'linear', classes)


# By name in the tables: net, arguments, number of parameters for 100 classes
# (from the published implementations), name of our config file and variable.
NETS = {
    'resnet20': (resnet, dict(depth=20), 278324, 'resnet20'),
    'resnet32': (resnet, dict(depth=32), 472756, 'resnet32'),
    'resnet56': (resnet, dict(depth=56), 861620, 'resnet56'),
    'resnet110': (resnet, dict(depth=110), 1736564, 'resnet110'),
    'resnet8x4': (resnet, dict(depth=8, stem=32, width=64), 1233540, 'resnet8x4'),
    'resnet32x4': (resnet, dict(depth=32, stem=32, width=64), 7433860, 'resnet32x4'),
    'wrn_16_2': (wrn, dict(depth=16, width=2), 703284, 'wrn_16_2'),
    'wrn_40_1': (wrn, dict(depth=40, width=1), 569780, 'wrn_40_1'),
    'wrn_40_2': (wrn, dict(depth=40, width=2), 2255156, 'wrn_40_2'),
    'MobileNetV2': (mobilenet_v2, {}, 812836, 'mobilenetv2'),
    'ResNet50': (resnet50, {}, 23705252, 'resnet50'),
}


@functools.cache
def _make(net, classes, **arguments):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images, weights = torch.randn(2, 3, 32, 32), Weights()
        return weights, images, net(weights, images, classes=classes, **arguments)


def make(net, classes=100, **arguments):
    """Weights of a net, two images, and the logits of the images."""
    weights, images, logits = _make(net, classes, **arguments)
    return dict(weights), images, logits
