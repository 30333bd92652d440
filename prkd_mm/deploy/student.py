"""Load a trained student from a checkpoint of its run."""

import json
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.registry import TRANSFORMS
from torch import Tensor, nn

from ..checkpoints import AVERAGE, load_strictly, plain_state_dict, read, resolve
from ..config import load_config
from ..config_types import is_type
from ..datasets.pipelines import pipeline_of
from ..start.recorded_config import parse
from .student_config import at_size, describe, preparation, reads_bgr

if TYPE_CHECKING:
    from PIL import Image


class StudentNet(nn.Module):
    """A classifier that includes the normalization of its images.

    ``mean`` and ``std`` of each channel are for values from 0 to 255.
    """

    def __init__(
        self, net: nn.Module, mean: Sequence[float], std: Sequence[float], is_bgr: bool
    ) -> None:
        super().__init__()
        self.net = net
        self.is_bgr = is_bgr
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, C)`` of RGB or gray images ``(N, 1 or 3, H, W)``, from 0 to 255."""
        if self.is_bgr:
            images = images.flip(1)
        return self.net((images - self.mean) / self.std)


@dataclass
class Student:
    """A trained student, with the information needed to use it."""

    net: StudentNet  # from images (values 0 to 255) to logits, in evaluation mode
    config: Config  # plain MMPretrain config
    state: dict[str, Tensor]  # weights of the plain MMPretrain model
    classes: list[str]  # names of the classes; their numbers if there are no names
    size: int  # side length of the training images in pixels
    pipeline: list[dict]  # steps of MMPretrain that prepare an image as in the validation
    channels: int  # 3 (RGB) or 1 (gray)
    source: str  # path of the checkpoint
    meta: dict[str, Any] = field(default_factory=dict)  # of the checkpoint, with its config
    train_dataset: Optional[dict] = None  # training images, prepared as the test images are
    teacher: Optional[dict] = None  # config of its teacher


def load_student(path: str, config: Optional[str] = None, size: Optional[int] = None) -> Student:
    """Load the student of a run.

    Args:
        path: A checkpoint, or a work dir, for its averaged student or else its latest one.
        config: Config of the run; default: the one in the checkpoint.
        size: Side length of the images in pixels; default: that in the pipelines of the config,
            which are adapted to another one.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If there is no config, it belongs to another net, it does not define the size of
            the images, or its test pipeline normalizes them.
    """
    average = osp.join(path, AVERAGE)
    source = average if osp.isfile(average) else resolve(path)
    checkpoint = read(source)
    meta = checkpoint.get('meta', {})
    described = _describe(source, meta, config)
    size = size or described['size']
    if not size:
        raise ValueError(
            f'the config of {source!r} does not crop or resize its images: set their side length '
            'with --size'
        )
    described = at_size(described, size)
    meta = dict(meta, student_config=json.dumps(described))
    plain = Config(described['config'])
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(plain.model, data_preprocessor=plain.data_preprocessor))
    steps = json.loads(json.dumps(preparation(plain, size)))  # plain lists, as in student.json
    if any(is_type(step, 'Normalize') for step in steps):
        raise ValueError(
            f'the test pipeline of {source!r} normalizes its images with Normalize, which an '
            'exported student does itself: move the mean and std of Normalize to the '
            'data_preprocessor of the config, and set that config with --config'
        )
    state = plain_state_dict(checkpoint)[0]
    load_strictly(model, state, f'The checkpoint {source!r}')
    preprocessor = plain.data_preprocessor
    channels = len(preprocessor.mean)
    is_bgr = channels == 3 and reads_bgr(plain) != preprocessor.to_rgb
    net = StudentNet(model.eval(), preprocessor.mean, preprocessor.std, is_bgr).eval()
    names = (meta.get('dataset_meta') or {}).get('classes')
    with torch.no_grad():
        number = net(torch.zeros(1, channels, size, size)).shape[1]
    classes = [str(name) for name in names or range(number)]
    others = (described.get(key) for key in ('train_dataset', 'teacher'))
    return Student(net, plain, state, classes, size, steps, channels, source, meta, *others)


def _describe(source: str, meta: dict, config: Optional[str]) -> dict[str, Any]:
    if config is not None:
        return describe(load_config(config))
    try:
        if 'student_config' in meta:
            described = json.loads(meta['student_config'])
            pipeline_of(described['config']['test_dataloader']['dataset'])  # raises if unknown
            return described
        if 'cfg' in meta:
            return describe(Config(parse(meta['cfg'])))
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f'the config that {source!r} contains cannot be used ({error}); set it with --config'
        ) from error
    raise ValueError(f'{source!r} does not contain its config: set it with --config')


def load_image(path: Path, size: int, channels: int, pipeline: Sequence[dict]) -> np.ndarray:
    """Load an image as ``(channels, size, size)``, float32 from 0 to 255, RGB or gray.

    The image is turned upright, then prepared by the ``pipeline``, transforms of MMPretrain.

    Raises:
        ValueError: As :func:`open_image` does, or if the pipeline results in another size.
    """
    image = np.array(open_image(path, 'RGB' if channels == 3 else 'L'))
    prepare = Compose([TRANSFORMS.build(_with_tuples(step)) for step in pipeline])
    image = prepare(dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2]))['img']
    if image.shape[:2] != (size, size):
        raise ValueError(
            f'{str(path)!r}: the test pipeline prepares an array of shape {tuple(image.shape)}, '
            f'but the net expects {size}x{size} pixels; let the pipeline end with '
            f"dict(type='CenterCrop', crop_size={size})"
        )
    image = image.astype(np.float32)
    return image[None] if channels == 1 else image.transpose(2, 0, 1)


def _with_tuples(value: Any) -> Any:
    """A step from JSON with tuples of numbers, which some transforms require."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        is_plain = all(isinstance(each, (int, float)) for each in value)
        return tuple(value) if is_plain else [_with_tuples(each) for each in value]
    return value


def open_image(path: Path, mode: str = 'RGB') -> 'Image.Image':
    """Open an image with Pillow as OpenCV would: upright, with 8 bits per channel.

    Raises:
        ValueError: If the file is not an image, or has 32 bits per channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            # some versions of Pillow open 16-bit PNG files in the mode for 32 bits
            if image.mode.startswith('I;16') or (image.mode == 'I' and file.format == 'PNG'):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ('I', 'F'):
                raise ValueError('it has 32 bits per channel; convert it to 8 bits')
            return image.convert(mode)
    except Exception as error:  # Pillow does not wrap the errors of its readers
        raise ValueError(f'{str(path)!r} is not an image that can be read: {error}') from error
