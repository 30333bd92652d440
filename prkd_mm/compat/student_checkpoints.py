"""Let MMPretrain's and MMRazor's own functions load the student of a run."""

import functools
import importlib
import os.path as osp
from types import SimpleNamespace
from typing import Any

from torch import nn


def _is_patched(function: Any) -> bool:
    return hasattr(function, '__wrapped__')


def _add_prefix(algorithm: Any, state: dict, prefix: str, *args) -> None:
    """Rename the weights in ``state`` if they are those of the student alone."""
    names = set(algorithm.architecture.state_dict())
    if names and all(f'{prefix}{name}' in state for name in names):
        for name in names:
            state[f'{prefix}architecture.{name}'] = state.pop(f'{prefix}{name}')


def plain_student() -> bool:
    """Let an algorithm load a checkpoint of its student alone, such as ``student_avg.pth``.

    MMEngine loads by name and only warns if no name matches, so the student would stay untrained
    (mmengine/runner/checkpoint.py).

    Returns:
        Whether the patch was needed.
    """
    from mmrazor.models.algorithms import BaseAlgorithm

    original = BaseAlgorithm.__init__
    if _is_patched(original):
        return False

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        # `register_load_state_dict_pre_hook` of torch 2.5 and newer
        self._register_load_state_dict_pre_hook(_add_prefix, with_module=True)

    BaseAlgorithm.__init__ = init
    return True


def student_of_algorithm() -> bool:
    """Let a plain net load the student in a checkpoint of a distillation, such as ``epoch_N.pth``.

    Its weights are under ``architecture.``; by name, MMEngine would load none of them.

    Returns:
        Whether the patch was needed.
    """
    from ..checkpoints import plain_state_dict

    module = importlib.import_module('mmengine.runner.checkpoint')
    original = module._load_checkpoint_to_model
    if _is_patched(original):
        return False

    @functools.wraps(original)
    def load(model: nn.Module, checkpoint: dict, *args, **kwargs):
        student, is_algorithm = plain_state_dict(checkpoint)
        if is_algorithm and set(getattr(model, 'module', model).state_dict()) <= set(student):
            checkpoint = dict(checkpoint, state_dict=student)
        return original(model, checkpoint, *args, **kwargs)

    for name in ('checkpoint', 'runner'):
        importlib.import_module(f'mmengine.runner.{name}')._load_checkpoint_to_model = load
    return True


def checkpoint_as_model() -> bool:
    """Let MMPretrain build a trained student from its checkpoint or work dir alone.

    ``get_model`` and the inferencers look the name up in their model zoo
    (mmpretrain/apis/model.py). The pipeline of the config prepares image files as in training, also
    where the data set of the run holds RGB arrays of one size.

    Returns:
        Whether the patch was needed.
    """
    from mmpretrain.apis import ModelHub

    original = ModelHub.get
    if _is_patched(original):
        return False

    @functools.wraps(original)
    def get(name: str) -> Any:
        if not name.endswith('.pth') and not osp.isdir(name):
            return original(name)
        from ..deploy.student import load_student
        from ..deploy.student_config import pipeline_for_files

        student = load_student(name)
        config = student.config.copy()

        def trained(data_preprocessor: Any = None) -> nn.Module:
            return student.net.net

        config.model = dict(type=trained)  # `get_model` loads no weights by default
        images = config.test_dataloader.dataset
        images.pipeline = pipeline_for_files(student.config, student.size)
        return SimpleNamespace(config=config, weights=student.source)

    ModelHub.get = staticmethod(get)
    return True


def pipeline_for_files() -> bool:
    """Let MMPretrain's inferencer explain which of our configs have no pipeline for image files.

    Returns:
        Whether the patch was needed.
    """
    from mmpretrain import ImageClassificationInferencer

    original = ImageClassificationInferencer._init_pipeline
    if _is_patched(original):
        return False

    @functools.wraps(original)
    def init_pipeline(self, cfg: Any) -> Any:
        if 'pipeline' not in cfg.test_dataloader.dataset:
            raise ValueError(
                'the config wraps its test images, so it has no pipeline for image files: '
                'pass the checkpoint or the work dir of the run instead of the config'
            )
        return original(self, cfg)

    ImageClassificationInferencer._init_pipeline = init_pipeline
    return True
