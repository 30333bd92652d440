"""Teachers trained elsewhere, as MMPretrain checkpoints.

The files which papers on distillation share for CIFAR-100 come from
`RepDistiller <https://github.com/HobbitLong/RepDistiller>`_ (`Contrastive
Representation Distillation <https://arxiv.org/abs/1910.10699>`_) and
`mdistiller <https://github.com/megvii-research/mdistiller>`_, as
``{'model': state_dict, ...}``. Their nets are ours under other names.
"""

import argparse
import hashlib
import io
import re
from pathlib import Path
from typing import Callable, Union

import torch
from torch import Tensor, nn

from ..checkpoints import load_strictly
from ..version import __version__

# What their nets expect, in the numbers of MMPretrain's own CIFAR-100. Theirs
# are the same statistics rounded: (0.5071, 0.4867, 0.4408), (0.2675, 0.2565,
# 0.2761) for images in 0..1, which moves no input by more than 0.0013.
INPUT_NORMALISATION = dict(
    channels='RGB', mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418]
)

_CONV_BN_RELU = ('conv', 'bn')  # the third has no weights
# Applied one after the other to each name.
_RULES: list[tuple[str, Union[str, Callable[[re.Match], str]]]] = [
    (r'^module\.', ''),  # of DataParallel
    (r'^block(\d)\.layer\.', r'layer\1.'),  # WRN
    (r'\.(shortcut|convShortcut)\.', '.downsample.'),  # ResNet-50, WRN
    # MobileNetV2: sequences of convolution, BN, ReLU
    (r'^blocks\.(\d)\.', lambda m: f'layer{int(m[1]) + 1}.'),
    (r'\.conv\.([013467])\.', lambda m: f'.conv.{int(m[1]) // 3}.{_CONV_BN_RELU[int(m[1]) % 3]}.'),
    (r'^(conv\d)\.([01])\.', lambda m: f'{m[1]}.{_CONV_BN_RELU[int(m[2])]}.'),
    (r'^(fc|linear|classifier\.0)\.', 'head.fc.'),
    (r'^(?!head\.)', 'backbone.'),
]


def read(path: Union[str, Path]) -> tuple[dict[str, Tensor], dict]:
    """Read a shared file; nothing in it is executed.

    Returns:
        tuple: the state dict, and ``meta`` of where it is from.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds more than data, or no ``{'model': state_dict}``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {str(path)!r}')
    data = path.read_bytes()
    # RepDistiller's *_last.pth keep their command line: a bag of attributes
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        checkpoint = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except Exception as error:  # of any type: the bytes may be anything
        other = re.search(r'GLOBAL ([\w.]+)', str(error))
        raise ValueError(
            f'{str(path)!r} holds {other[1]} besides weights, which could run '
            'code here and is not loaded'
            if other
            else f'{str(path)!r} is damaged, or no file of torch.save'
        ) from error
    state = checkpoint.get('model') if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        found = list(checkpoint)[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise ValueError(f"{str(path)!r} should be {{'model': state_dict}}, but holds {found}")
    return state, dict(
        source=path.name,
        source_sha256=hashlib.sha256(data).hexdigest(),
        converted_by=f'prkd_mm {__version__}',
        input_normalisation=INPUT_NORMALISATION,
    )


def rename(key: str) -> str:
    """The name in MMPretrain of a weight in a community file."""
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    return key


def net_of(state: dict[str, Tensor]) -> str:
    """Which net these weights are of, by the name that tables give it.

    Args:
        state (dict): Weights by MMPretrain's names.

    Returns:
        str: Such as 'resnet56, 100 classes'.
    """
    blocks = {
        key.split('.conv')[0] for key in state if re.match(r'backbone\.layer\d\.\d+\.conv', key)
    }
    depth = 2 * len(blocks) + 2
    # in the second stage, which all have
    width = len(state.get('backbone.layer2.0.conv1.weight', ())) // 32
    if 'backbone.layer2.0.conv.0.conv.weight' in state:
        net = 'MobileNetV2'
    elif 'backbone.layer2.0.conv3.weight' in state:
        net = f'ResNet{3 * len(blocks) + 2}'
    elif 'backbone.layer2.0.downsample.weight' in state:
        net = f'wrn_{depth + 2}_{width}'
    elif 'backbone.layer4.0.conv1.weight' in state:
        net = f'ResNet{depth}'
    elif blocks:
        net = f'resnet{depth}' + (f'x{width}' if width > 1 else '')
    else:
        net = 'no net known here'
    return f'{net}, {len(state.get("head.fc.weight", ()))} classes'


def convert(source: dict[str, Tensor], model: nn.Module, what: str) -> str:
    """Load a community net's weights into MMPretrain's net, all of them.

    Args:
        source (dict): Weights by the names of the community file.
        model (nn.Module): MMPretrain's classifier.
        what (str): What is loaded, for the error.

    Returns:
        str: Which net it is, as :func:`net_of` says.

    Raises:
        ValueError: It is another net or has another number of classes, or
            weights are missing or left over; they are named.
    """
    own = model.state_dict()
    state = {}
    for key, value in source.items():
        name = rename(key)
        placed = name in own and name not in state
        state[name if placed else f'{key} of the file'] = value
    try:
        load_strictly(model, state, what)
    except ValueError as error:
        theirs = net_of({rename(key): value for key, value in source.items()})
        raise ValueError(f'{error}\nThe file: {theirs}. The config: {net_of(own)}.') from None
    return net_of(own)
