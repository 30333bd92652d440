"""Peak throughput of the machine, for lower bounds on time."""

import contextlib
import io
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Callable

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

from .timing import Clock

_CONVOLUTIONS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels, size


@dataclass
class Peaks:
    """Measured peak throughput of the device, with the threads in use."""

    flops: float  # per second, the best of a matrix product and 3x3 convolutions
    bytes: float  # per second, read or written in a long copy


def measure_peaks(device: torch.device, quick: bool = False) -> Peaks:
    """Measure the peak throughput; on a CPU, per second of CPU time.

    ``quick`` uses small operands, for a trial.
    """
    on_gpu = device.type == 'cuda'
    n, seconds, length, layers = 8192 if on_gpu else 2048, 0.5, 2**26, _CONVOLUTIONS
    if quick:
        n, seconds, length, layers = 256, 0.05, 2**20, _CONVOLUTIONS[:1]
    a = torch.randn(n, n, device=device)
    source = torch.randn(length, device=device)
    target = torch.empty_like(source)
    work = [(2 * n**3, lambda: a @ a)]
    layout = dict(device=device, memory_format=torch.channels_last)
    for channels, size in layers:
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(**layout)
        x = torch.randn(64, channels, size, size).to(**layout)
        work.append((18 * channels * x.numel(), partial(layer, x)))
    # on a GPU the training steps run under autocast as well
    with torch.inference_mode(), torch.autocast(device.type, enabled=on_gpu):
        flops = max(count / _fastest(run, device, seconds) for count, run in work)
        copy = 2 * source.nbytes / _fastest(lambda: target.copy_(source), device, seconds)
    return Peaks(flops, copy)


def _fastest(run: Callable, device: torch.device, seconds: float) -> float:
    clock, kind = Clock(device), 0 if device.type == 'cpu' else 1
    fastest, end = float('inf'), time.perf_counter() + seconds
    while fastest == float('inf') or time.perf_counter() < end:
        start = clock()[kind]
        run()
        fastest = min(fastest, clock()[kind] - start)
    return fastest


def forward_flops(net: nn.Module, size: int) -> float:
    """Count the FLOPs (two per multiply-add) of a forward pass of one ``size`` x ``size`` image."""
    image = torch.zeros(1, 3, size, size, device=next(net.parameters()).device)
    training, level = net.training, logging.root.manager.disable
    logging.disable(logging.WARNING)  # warnings about operations that are not counted
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return 2.0 * FlopAnalyzer(net.eval(), (image,)).total()
    finally:
        logging.disable(level)
        net.train(training)
