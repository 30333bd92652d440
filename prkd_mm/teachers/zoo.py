"""Load teachers by their name in MMPretrain's model zoo."""

from typing import Optional, Union

from mmengine.config import Config
from mmpretrain.apis import ModelHub, get_model, list_models

from .frozen_teacher import FrozenTeacher, MissingWeights, load_teacher
from .normalization import check_image_options


def load_from_zoo(
    name: str,
    checkpoint: Optional[str] = None,
    image_size: Union[int, tuple[int, int], None] = None,
    **options,
) -> FrozenTeacher:
    """Load a net from MMPretrain's model zoo, or from any MMPretrain config file.

    Args:
        name: A model name, such as 'resnet50_8xb32_in1k', or the path of a config.
        checkpoint: A checkpoint with its weights; None uses the published one.
        image_size: Height and width of its images; None uses the size in the config of the model.
        **options: Overrides of the model config; ``mean``, ``std`` and ``to_rgb`` are those of its
            data preprocessor.

    Raises:
        ValueError: If there is no such model, or it has no weights.
    """
    if name.endswith('.py'):
        config, weights = Config.fromfile(name), None
    else:
        config, weights = _look_up(name)
    checkpoint = checkpoint or weights
    if not checkpoint:
        raise MissingWeights(
            f'FrozenTeacherDistill: teacher_ckpt is missing, and {name!r} has no published weights'
        )
    check_image_options(name, options.get('mean'), options.get('std'), image_size)
    images = {key: options.pop(key) for key in ('mean', 'std', 'to_rgb') if key in options}
    if images:
        own = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
        options['data_preprocessor'] = dict(own, **images)
    net = get_model(name, pretrained=False, **options)
    return load_teacher(net, checkpoint, image_size=image_size or _image_size(config))


def _look_up(name: str) -> tuple[Config, Optional[str]]:
    try:
        found = ModelHub.get(name)
    except ValueError as error:
        similar = list_models(f'*{name.split("_")[0]}*')[:5]
        raise ValueError(
            f'FrozenTeacherDistill: there is no model {name!r} in MMPretrain; similar names: '
            f'{", ".join(similar) or "none"}. For a teacher from another library, use '
            "'timm::NAME', 'torchvision::NAME' or 'transformers::NAME'; for a file, a path "
            'that ends with .pt, .pt2 or .onnx'
        ) from error
    return found.config, found.weights


def _image_size(config: Config) -> Optional[int]:
    """Size of the images after the test pipeline of a config, if it is square."""
    loader = config.get('test_dataloader') or {}
    size = None
    for step in loader.get('dataset', {}).get('pipeline', []):
        size = step.get('crop_size', step.get('scale', size))
    return size if isinstance(size, int) else None
