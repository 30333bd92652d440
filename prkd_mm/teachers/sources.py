"""Load classifiers of other libraries and file formats as modules that compute logits.

Each loader returns a :class:`SourceNet`. A library is imported only when it is needed. If it is
missing, the error names the package to install.
"""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..checkpoints import load_exported, load_strictly, plain_state_dict, read
from .file_nets import OnnxNet, TorchFile, import_library


class SourceNet(NamedTuple):
    """A classifier from another library, and the images it was trained on; None if unspecified."""

    module: nn.Module  # maps images (N, 3, H, W) to logits (N, C)
    num_classes: Optional[int] = None
    mean: Optional[list[float]] = None  # of the RGB channels, on the scale 0 to 255
    std: Optional[list[float]] = None
    image_size: Optional[tuple[int, int]] = None  # height and width


def _normalized(
    module: nn.Module, classes: int, mean: list, std: list, size: tuple[int, int]
) -> SourceNet:
    """A net that was trained on images in [0, 1] with this normalization."""
    mean, std = ([255 * value for value in values] for values in (mean, std))
    return SourceNet(module, classes, mean, std, size)


def load_source(
    source: str, checkpoint: Optional[str] = None, num_classes: Optional[int] = None, **options
) -> SourceNet:
    """Load a classifier.

    Args:
        source: ``timm::NAME``, ``torchvision::NAME``, ``transformers::NAME``, or the path of a
            TorchScript file (``.pt``, ``.torchscript``), a ``torch.export`` file (``.pt2``) or an
            ONNX file (``.onnx``).
        checkpoint: Weights for a net of a library: a file, a URL or a work dir. Without it, the
            library downloads its pre-trained weights.
        num_classes: Number of classes of the net in ``checkpoint``.
        **options: Further arguments of the library's function that creates the net.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the library is not installed.
        ValueError: If the source is unknown, or the weights do not match.
    """
    library, separator, name = source.partition('::')
    if separator:
        if library not in _LIBRARIES:
            raise ValueError(
                f'unknown library {library!r} of the teacher {source!r}; expected one of '
                f'{sorted(_LIBRARIES)}, a file, or a model name of MMPretrain without "::"'
            )
        return _from_library(_LIBRARIES[library], name, checkpoint, num_classes, options)
    if not Path(source).is_file():
        raise FileNotFoundError(f'FrozenTeacherDistill: no teacher file {source!r}')
    if checkpoint or options:
        needless = [*['teacher_ckpt'] * bool(checkpoint), *sorted(options)]
        raise ValueError(
            f'the teacher file {source!r} already contains its weights; remove '
            f'{", ".join(needless)}'
        )
    return _FORMATS[Path(source).suffix](source)


def is_source(teacher: object) -> bool:
    """Whether a teacher comes from another library or file format."""
    return isinstance(teacher, str) and ('::' in teacher or Path(teacher).suffix in _FORMATS)


def _from_library(
    create: Callable,
    name: str,
    checkpoint: Optional[str],
    num_classes: Optional[int],
    options: dict,
) -> SourceNet:
    if checkpoint is None:
        return create(name, True, options)
    if num_classes is not None:
        options = dict(dict(num_classes=num_classes), **options)
    net = create(name, False, options)
    state = plain_state_dict(read(checkpoint))[0]
    load_strictly(net.module, state, f'The teacher checkpoint {checkpoint!r}')
    return net


def _not_created(source: str, known: Sequence[str], error: Exception) -> ValueError:
    library, _, name = source.partition('::')
    similar = [f'{library}::{each}' for each in get_close_matches(name, known)]
    return ValueError(
        f'{library} cannot create the teacher {source!r}: {error}; similar names: '
        f'{", ".join(similar) or "none"}'
    )


def _timm(name: str, pretrained: bool, options: dict) -> SourceNet:
    timm = import_library('timm', 'timm')
    try:
        net = timm.create_model(name, pretrained=pretrained, **options)
    except RuntimeError as error:  # of an unknown name or tag
        known = timm.list_models(pretrained='.' in name)
        raise _not_created(f'timm::{name}', known, error) from error
    data = timm.data.resolve_model_data_config(net)
    size = tuple(data['input_size'][-2:])
    return _normalized(net, net.num_classes, data['mean'], data['std'], size)


def _torchvision(name: str, pretrained: bool, options: dict) -> SourceNet:
    models = import_library('torchvision.models', 'torchvision')
    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError as error:
        raise _not_created(f'torchvision::{name}', models.list_models(), error) from error
    net = models.get_model(name, weights=weights if pretrained else None, **options)
    transform = weights.transforms()
    classes = options.get('num_classes', len(weights.meta['categories']))
    size = transform.crop_size[0]
    return _normalized(net, classes, transform.mean, transform.std, (size, size))


class _LogitsOfOutput(nn.Module):
    """Logits of a Hugging Face classifier, whose output is an object."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(pixel_values=inputs).logits

    def state_dict(self, *args, **kwargs) -> dict:  # type: ignore[override]
        return self.net.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping, *args, **kwargs) -> object:
        return self.net.load_state_dict(state_dict, *args, **kwargs)


def _transformers(name: str, pretrained: bool, options: dict) -> SourceNet:
    transformers = import_library('transformers', 'transformers')
    create = transformers.AutoModelForImageClassification
    options = dict(options)
    if pretrained:
        net = create.from_pretrained(name, **options)
    else:
        if 'num_classes' in options:
            options['num_labels'] = options.pop('num_classes')
        net = create.from_config(transformers.AutoConfig.from_pretrained(name, **options))
    processor = transformers.AutoImageProcessor.from_pretrained(name)
    edges = processor.size
    size = getattr(net.config, 'image_size', 0) or edges.get('shortest_edge') or edges['height']
    mean, std = processor.image_mean, processor.image_std
    return _normalized(_LogitsOfOutput(net), net.config.num_labels, mean, std, (size, size))


def _torchscript(path: str) -> SourceNet:
    try:
        net = torch.jit.load(path, map_location='cpu')
    except RuntimeError as error:
        raise ValueError(
            f'{path!r} is not a TorchScript file; if it is a checkpoint, name the net in '
            '`teacher` and the checkpoint in `teacher_ckpt`'
        ) from error
    return SourceNet(TorchFile(path, net.eval()))


def _exported(path: str) -> SourceNet:
    return _as_described(path, SourceNet(TorchFile(path, load_exported(path))))


def _as_described(path: str, net: SourceNet) -> SourceNet:
    """Add what ``student.json`` of ``tools/export_student.py`` says about the file next to it.

    These files normalize RGB or gray images from 0 to 255 themselves (prkd_mm/deploy/export.py).
    """
    file = Path(path)
    try:
        about = json.loads(file.with_name('student.json').read_text())
        classes, size, channels = about['classes'], about['size'], about['channels']
    except (OSError, ValueError, TypeError, KeyError):
        return net
    if not file.name.startswith('student.'):
        return net
    raw = [0.0] * channels, [1.0] * channels
    return SourceNet(net.module, len(classes), *raw, image_size=(size, size))


def _onnx(path: str) -> SourceNet:
    try:
        net = OnnxNet(path)
    except ImportError:
        raise
    except Exception as error:  # each error of ONNX Runtime has a type of its own
        raise ValueError(f'{path!r} cannot be opened as an ONNX file: {error}') from error
    _check_input(path, net.image.type, net.image.shape)
    classes, size = net.output.shape[-1], tuple(net.image.shape[-2:])
    fixed_size = all(isinstance(side, int) for side in size)
    loaded = SourceNet(
        net, classes if isinstance(classes, int) else None, image_size=size if fixed_size else None
    )
    return _as_described(path, loaded)


def _check_input(path: str, kind: str, shape: list) -> None:
    """Raise a ValueError unless an ONNX file takes float images ``(N, C, H, W)``."""
    # a dimension of any size has a name, or none
    channels_last = len(shape) == 4 and shape[3] in (1, 3) and shape[1] not in (1, 3)
    fits = len(shape) in (0, 4) and not channels_last  # 0 if the file does not tell
    if fits and kind in ('tensor(float)', 'tensor(float16)'):
        return
    raise ValueError(
        f'the teacher {path!r} takes a {kind} of shape {shape}, expected float images '
        '(N, channels, H, W); export the net again with such an input, and transpose or convert '
        'the images inside'
    )


_LIBRARIES = dict(timm=_timm, torchvision=_torchvision, transformers=_transformers)
_FORMATS = {'.pt': _torchscript, '.torchscript': _torchscript, '.pt2': _exported, '.onnx': _onnx}
