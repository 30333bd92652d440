"""Evaluate a model on a run's validation set without touching the run."""
import random
from contextlib import contextmanager
from typing import Callable, Dict, Iterator

import numpy as np
import torch
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner, autocast


def unwrap(model: torch.nn.Module) -> BaseModel:
    """The model inside a (distributed) wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Whatever is drawn inside, the streams go on as if nothing was."""
    states = random.getstate(), np.random.get_state()
    gpu = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(gpu):  # by default of all, with a warning
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@torch.no_grad()
def evaluate(runner: Runner, predict: Callable) -> Dict[str, float]:
    """Metrics of ``predict`` on the validation set of ``runner``.

    Uses the validation loop's data and evaluator but fires no hook: MMEngine's
    hooks would log, save and select checkpoints by the result.

    Args:
        runner (Runner): A runner with a validation loop.
        predict (Callable): ``predict(inputs, data_samples)`` on preprocessed
            inputs, as a model's forward with ``mode='predict'``.
    """
    loop = runner.val_loop
    preprocess = unwrap(runner.model).data_preprocessor
    with untouched_random_state(), autocast(enabled=loop.fp16):
        for batch in loop.dataloader:
            data = preprocess(batch, False)
            samples = predict(data['inputs'], data['data_samples'])
            loop.evaluator.process(data_samples=samples, data_batch=batch)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))
