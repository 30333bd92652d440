"""Let MMPretrain's and MMRazor's own functions load the student of a run."""

import importlib
import os.path as osp
from types import SimpleNamespace
from typing import Any, Callable

from torch import nn

from .wrapping import wrap


def _init_with_prefix(init: Callable, self: nn.Module, *args, **kwargs) -> None:
    init(self, *args, **kwargs)
    # `register_load_state_dict_pre_hook` of torch 2.5 and newer
    self._register_load_state_dict_pre_hook(_add_prefix, with_module=True)


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
    """
    from mmrazor.models.algorithms import BaseAlgorithm

    return wrap(BaseAlgorithm, '__init__', _init_with_prefix)


def _remove_in_place(remove: Callable, net: nn.Module, state: dict, *args) -> dict:
    renamed = remove(net, state, *args)
    state.clear()  # of an inner module, PyTorch ignores the returned dict
    state.update(renamed)
    return state


def nets_of_other_libraries() -> bool:
    """Let an algorithm, and EMA, load the nets of timm and transformers that they have saved.

    MMPretrain's ``TimmClassifier`` and ``HuggingFaceClassifier`` add ``model.`` to the names of the
    weights that they load, but only remove it from those that they save if they are the whole model
    (mmpretrain/models/classifiers/timm.py). Inside of another module, no name would match.
    """
    from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier

    kinds = TimmClassifier, HuggingFaceClassifier
    return all([wrap(kind, '_remove_state_dict_prefix', _remove_in_place) for kind in kinds])


def _load_student(load: Callable, model: nn.Module, checkpoint: dict, *args, **kwargs) -> Any:
    from ..checkpoints import plain_state_dict

    student, is_algorithm = plain_state_dict(checkpoint)
    if is_algorithm and set(getattr(model, 'module', model).state_dict()) <= set(student):
        checkpoint = dict(checkpoint, state_dict=student)
    return load(model, checkpoint, *args, **kwargs)


def student_of_algorithm() -> bool:
    """Let a plain net load the student in a checkpoint of a distillation, such as ``epoch_N.pth``.

    Its weights are under ``architecture.``; by name, MMEngine would load none of them.
    """
    modules = [
        importlib.import_module(f'mmengine.runner.{name}') for name in ('checkpoint', 'runner')
    ]
    return all([wrap(module, '_load_checkpoint_to_model', _load_student) for module in modules])


def _get_student(get: Callable, name: str) -> Any:
    if not name.endswith('.pth') and not osp.isdir(name):
        return get(name)
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


def checkpoint_as_model() -> bool:
    """Let MMPretrain build a trained student from its checkpoint or work dir alone.

    ``get_model`` and the inferencers look the name up in their model zoo
    (mmpretrain/apis/model.py). The pipeline of the config prepares image files as in training, also
    where the data set of the run holds RGB arrays of one size.
    """
    from mmpretrain.apis import ModelHub

    return wrap(ModelHub, 'get', _get_student)


def _pipeline_or_reason(init_pipeline: Callable, self: Any, cfg: Any) -> Any:
    if 'pipeline' not in cfg.test_dataloader.dataset:
        raise ValueError(
            'the config wraps its test images, so it has no pipeline for image files: '
            'pass the checkpoint or the work dir of the run instead of the config'
        )
    return init_pipeline(self, cfg)


def pipeline_for_files() -> bool:
    """Let MMPretrain's inferencer explain which of our configs have no pipeline for image files."""
    from mmpretrain import ImageClassificationInferencer

    return wrap(ImageClassificationInferencer, '_init_pipeline', _pipeline_or_reason)
