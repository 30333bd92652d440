"""Evaluate a model on a run's validation set without changing the state of the run."""

from typing import Callable

import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner, autocast
from torch.utils.data import DataLoader

from .randomness import untouched_random_state


def unwrap(model: torch.nn.Module) -> BaseModel:
    """The model inside a (distributed) wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def evaluate(runner: Runner, predict: Callable) -> dict[str, float]:
    """Metrics of ``predict`` on the validation set of ``runner``, which has a validation loop.

    Uses the validation loop's data and evaluator but calls no hook, because MMEngine's hooks would
    log the result and select checkpoints by it. The random state of the run is unchanged.

    ``predict(inputs, data_samples)`` gets preprocessed inputs, like a model's forward with
    ``mode='predict'``.
    """
    loop = runner.val_loop
    with untouched_random_state(), autocast(enabled=loop.fp16):
        return evaluate_on(
            loop.dataloader, loop.evaluator, unwrap(runner.model).data_preprocessor, predict
        )


@torch.no_grad()
def evaluate_on(
    dataloader: DataLoader, evaluator: Evaluator, preprocess: Callable, predict: Callable
) -> dict[str, float]:
    """Metrics of ``predict`` on the images of a data loader."""
    for batch in dataloader:
        data = preprocess(batch, False)
        samples = predict(data['inputs'], data['data_samples'])
        evaluator.process(data_samples=samples, data_batch=batch)
    return evaluator.evaluate(len(dataloader.dataset))  # type: ignore[arg-type]
