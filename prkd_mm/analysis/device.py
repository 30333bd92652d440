"""Choose the device and the precision of computations."""

import contextlib
from collections.abc import Iterator
from typing import Optional

import torch


def choose_device(name: Optional[str] = None) -> torch.device:
    """The named device; by default the GPU if there is one, else the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f'there is no device {name!r} on this computer; use cpu, cuda or cuda:N'
        ) from error
    return device


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Compute in full float32, without TF32 and with deterministic convolutions.

    Second derivatives and small differences between losses need the digits that TF32
    drops. The settings of cuDNN and cuBLAS are global; they are restored at the end.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32
    cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = False, True, False
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.deterministic, matmul.allow_tf32 = before
