"""What the machine can do at most, to hold the measurements against."""

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
    """Measured peaks of the device, with the threads that are in use.

    Args:
        flops (float): FLOP/s, the best of a matrix product and 3 × 3
            convolutions.
        bytes (float): Bytes/s read or written in a long copy.
    """

    flops: float
    bytes: float


def measure_peaks(device: torch.device, quick: bool = False) -> Peaks:
    """Measure the peaks: on a CPU per second of CPU time.

    Args:
        device (torch.device): Which.
        quick (bool): Smaller operands, for a trial. Defaults to False.
    """
    on_gpu = device.type == 'cuda'
    n, seconds = (256, 0.05) if quick else (8192 if on_gpu else 2048, 0.5)
    a = torch.randn(n, n, device=device)
    source = torch.randn(2**20 if quick else 2**26, device=device)
    target = torch.empty_like(source)
    work = [(2 * n**3, lambda: a @ a)]
    for channels, size in _CONVOLUTIONS[: 1 if quick else None]:
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(
            device, memory_format=torch.channels_last
        )
        x = torch.randn(64, channels, size, size, device=device).contiguous(
            memory_format=torch.channels_last
        )
        work.append((18 * channels * x.numel(), partial(layer, x)))
    # on a GPU the steps are under autocast, too
    with torch.inference_mode(), torch.autocast(device.type, enabled=on_gpu):
        flops = max(count / _best(run, device, seconds) for count, run in work)
        copy = 2 * source.nbytes / _best(lambda: target.copy_(source), device, seconds)
    return Peaks(flops, copy)


def _best(run: Callable, device: torch.device, seconds: float) -> float:
    clock = Clock(device)
    kind = 0 if device.type == 'cpu' else 1
    best, end = float('inf'), time.perf_counter() + seconds
    while best == float('inf') or time.perf_counter() < end:
        start = clock()[kind]
        run()
        best = min(best, clock()[kind] - start)
    return best


def forward_flops(net: nn.Module, size: int) -> float:
    """FLOPs (two a multiply-add) of a forward pass of one image.

    Args:
        net (nn.Module): A classifier.
        size (int): Height and width of the image.
    """
    parameter = next(net.parameters())
    image = torch.zeros(1, 3, size, size, device=parameter.device)
    training = net.training
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of operations that it does not count
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            macs = FlopAnalyzer(net.eval(), (image,)).total()
    finally:
        logging.disable(level)
        net.train(training)
    return 2.0 * macs
