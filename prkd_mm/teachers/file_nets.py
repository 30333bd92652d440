"""Nets from files: TorchScript, ``torch.export`` and ONNX."""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn


def import_library(module: str, package: str) -> ModuleType:
    """Import a module; the ImportError names the package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'this teacher needs the package {package}, which is not installed: '
            f'pip install {package}'
        ) from error


class FileNet(nn.Module):
    """A module from a file, which always stays in evaluation mode.

    A frozen TorchScript file and an ONNX file have no parameters, so the ``state_dict`` contains a
    hash of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
        self.register_buffer('file_hash', torch.tensor(list(digest), dtype=torch.uint8))

    def train(self, mode: bool = True) -> 'FileNet':
        # The methods train() and eval() of an exported program raise an error.
        self.training = False
        return self


class TorchFile(FileNet):
    """A TorchScript or ``torch.export`` file."""

    def __init__(self, path: str, net: nn.Module) -> None:
        super().__init__(path)
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(N, C)``."""
        return self.net(inputs)


class OnnxNet(FileNet):
    """An ONNX file, run by ONNX Runtime.

    Its first input is a batch of images, and its first output the logits. If the file fixes the
    batch size, smaller batches are padded with zeros.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
        self._open()

    def _open(self) -> None:
        runtime = import_library('onnxruntime', 'onnxruntime')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = runtime.InferenceSession(
            self.path, options, providers=runtime.get_available_providers()
        )
        self.image, self.output = self.session.get_inputs()[0], self.session.get_outputs()[0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits ``(N, C)``, ``float32``."""
        fixed = self.image.shape[0]
        size = fixed if isinstance(fixed, int) else max(len(inputs), 1)
        parts = [self._run(part, size) for part in inputs.split(size)]
        return torch.cat(parts).to(inputs.device)

    def _run(self, images: Tensor, size: int) -> Tensor:
        padded = torch.zeros(size, *images.shape[1:])
        padded[: len(images)] = images
        dtype = torch.float16 if 'float16' in self.image.type else torch.float32
        arrays = {self.image.name: padded.to(dtype).numpy()}
        logits = self.session.run([self.output.name], arrays)[0]
        return torch.from_numpy(logits[: len(images)]).float()

    def __getstate__(self) -> dict:
        opened = ('session', 'image', 'output')  # they cannot be copied
        return {key: value for key, value in self.__dict__.items() if key not in opened}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()
