"""Convert teachers of RepDistiller and mdistiller to MMPretrain checkpoints.

Papers on distillation share the teachers for CIFAR-100 of `RepDistiller
<https://github.com/HobbitLong/RepDistiller>`_ (`Contrastive Representation Distillation
<https://arxiv.org/abs/1910.10699>`_) and `mdistiller
<https://github.com/megvii-research/mdistiller>`_, as ``{'model': state_dict, ...}``. This package
has the same nets; only the names of their weights differ.
"""

import hashlib
import re
from pathlib import Path
from typing import Callable, Union

from torch import Tensor, nn

from ..checkpoints import load_from_local, load_strictly
from ..version import __version__

# MMPretrain's statistics of CIFAR-100. The shared teachers were trained with
# rounded statistics, (0.5071, 0.4867, 0.4408) and (0.2675, 0.2565, 0.2761) for
# images in [0, 1]. The normalized inputs differ by at most 0.0013.
INPUT_NORMALIZATION = dict(
    channels='RGB', mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)


_LAYERS = ('conv', 'bn')  # in MobileNetV2's triples; the third layer, ReLU, has no weights
# Patterns and replacements, applied to each name in this order.
_RULES: list[tuple[str, Union[str, Callable[[re.Match], str]]]] = [
    (r'^module\.', ''),  # DataParallel
    (r'^block(\d)\.layer\.', r'layer\1.'),  # WRN
    (r'\.(shortcut|convShortcut)\.', '.downsample.'),  # ResNet-50, WRN
    # MobileNetV2: stages, numbered from 0 in the files; blocks, a sequence of triples; stem
    (r'^blocks\.(\d)\.', lambda m: f'layer{int(m[1]) + 1}.'),
    (r'\.conv\.([013467])\.', lambda m: f'.conv.{int(m[1]) // 3}.{_LAYERS[int(m[1]) % 3]}.'),
    (r'^(conv\d)\.([01])\.', lambda m: f'{m[1]}.{_LAYERS[int(m[2])]}.'),
    (r'^(fc|linear|classifier\.0)\.', 'head.fc.'),
    (r'^(?!head\.)', 'backbone.'),
]


def read(path: Union[str, Path]) -> tuple[dict[str, Tensor], dict]:
    """The state dict in a shared file, read as plain data, and ``meta``, which records its origin.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file contains code, or is not ``{'model': state_dict}``.
    """
    path = Path(path)
    checkpoint = load_from_local(str(path), 'cpu')
    state = checkpoint.get('model') if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        found = list(checkpoint)[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(f"{str(path)!r} should be {{'model': state_dict}}, but contains {found}")
    return state, dict(
        source=path.name,
        source_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        converted_by=f'prkd_mm {__version__}',
        input_normalization=INPUT_NORMALIZATION,
    )


def rename(key: str) -> str:
    """MMPretrain's name for a weight in a shared file."""
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    return key


def net_of(state: dict[str, Tensor]) -> str:
    """Name of the net with these weights, under MMPretrain's names: 'resnet56, 100 classes'."""
    blocks = {
        key.split('.conv')[0] for key in state if re.match(r'backbone\.layer\d\.\d+\.conv', key)
    }
    depth = 2 * len(blocks) + 2
    # nets of every family have a second stage
    width = len(state.get('backbone.layer2.0.conv1.weight', ())) // 32
    if 'backbone.layer2.0.conv.0.conv.weight' in state:
        net = 'MobileNetV2'
    elif 'backbone.layer2.0.conv3.weight' in state:
        net = f'ResNet{3 * len(blocks) + 2}'
    elif 'backbone.layer2.0.downsample.weight' in state:
        net = f'wrn_{depth + 2}_{width}'
    elif 'backbone.layer4.0.conv1.weight' in state:
        net = f'ResNet{depth}'
    elif blocks and width > 1:
        net = f'resnet{depth}x{width}'
    elif blocks:
        net = f'resnet{depth}'
    else:
        net = 'unknown net'
    return f'{net}, {len(state.get("head.fc.weight", ()))} classes'


def convert(source: dict[str, Tensor], model: nn.Module, what: str) -> str:
    """Load all weights of a shared file into MMPretrain's net; returns the name of the net.

    Raises:
        ValueError: If the net or its number of classes differs, or weights are missing or
            unexpected; their names are listed.
    """
    own = model.state_dict()
    state = {}
    for key, value in source.items():
        name = rename(key)
        matched = name in own and name not in state
        state[name if matched else f'{key} of the file'] = value
    try:
        load_strictly(model, state, what)
    except ValueError as error:
        theirs = net_of({rename(key): value for key, value in source.items()})
        raise ValueError(f'{error}\nThe file: {theirs}. The config: {net_of(own)}.') from None
    return net_of(own)
