"""Read and write checkpoints without guessing."""

import io
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, Union

import torch
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import Tensor, nn

from .files import write_bytes

_HEAD = 5  # names listed of each kind in an error
_TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'  # torch's own switch, which MMEngine obeys, too


def resolve(path: str) -> str:
    """A checkpoint's path: of a work dir, its latest checkpoint.

    Raises:
        FileNotFoundError: No such file, or no checkpoint in that work dir.
    """
    if '://' in path:
        return path
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        # MMEngine notes an absolute path, which a moved folder breaks
        latest = find_latest_checkpoint(path) or ''
        noted = Path(path, os.path.basename(latest))
        if not noted.is_file():
            raise FileNotFoundError(f'no checkpoint in the work dir {path!r}')
        return str(noted)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint {path!r}')
    return path


def read(path: str) -> dict:
    """Load a checkpoint (a file, a work dir or a URL) to the CPU.

    Only plain data is read: a file that would execute code is refused.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, not a checkpoint, or would execute
            code.
    """
    path = resolve(path)
    if '://' in path:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    else:
        checkpoint = _read_file(path)
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{path!r} is not a checkpoint: it holds a {type(checkpoint).__name__}, not a dict'
        )
    return checkpoint


def _read_file(path: str) -> Any:
    trusted = os.environ.get(_TRUST) in ('1', 'y', 'yes', 'true')
    try:
        return torch.load(path, map_location='cpu', weights_only=not trusted)
    except pickle.UnpicklingError as error:
        if not _is_whole(path):
            raise ValueError(_damaged(path)) from error
        raise ValueError(
            f'{path!r} was refused, because it holds more than plain weights and could run code '
            f'when it is opened ({_first_sentence(error)}). If you made this file yourself, set '
            f'{_TRUST}=1'
        ) from error
    except PermissionError:
        raise
    # torch raises what its reader stumbles over
    except (RuntimeError, OSError, EOFError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(_damaged(path)) from error


def _damaged(path: str) -> str:
    size = os.path.getsize(path)
    return f'{path!r} ({size:,} bytes) is damaged, cut short or not a checkpoint'


def _is_whole(path: str) -> bool:
    """Whether a file is a pickle or a zip archive, as checkpoints are."""
    with open(path, 'rb') as file:
        first = file.read(2)
    return first[:1] == b'\x80' or zipfile.is_zipfile(path)


def _first_sentence(error: Exception) -> str:
    lines = [
        line.strip() for line in str(error).splitlines() if 'GLOBAL' in line or 'global' in line
    ]
    match = re.search(r'(?:GLOBAL|global) (\S+)', ' '.join(lines))
    return f'it asks for {match[1]}' if match else type(error).__name__


def plain_state_dict(checkpoint: dict) -> tuple[dict[str, Tensor], bool]:
    """The weights of one plain net, whatever the checkpoint is of.

    A net trained alone has them as they are; a distillation algorithm keeps
    its student under ``architecture.`` (and MMRazor's its teacher beside it).

    Returns:
        tuple: the state dict, and whether it was a student in an algorithm.
    """
    state = checkpoint.get('state_dict', checkpoint)
    state = {k.removeprefix('module.'): value for k, value in state.items()}
    prefix = 'architecture.'
    student = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return (student, True) if student else (state, False)


def load_strictly(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load ``state``, every tensor of it and nothing less.

    Args:
        model (nn.Module): Where to.
        state (dict): Weights by name.
        what (str): What is loaded from where, for the error.

    Raises:
        ValueError: Names missing in ``state``, left over, or of another
            shape; the first of each are listed.
    """
    own = model.state_dict()
    problems = dict(
        missing=[key for key in own if key not in state],
        unexpected=[key for key in state if key not in own],
    )
    problems['of another shape'] = [
        f'{key}: {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model'
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    lines = [
        f'\n  {len(keys)} {kind}: {", ".join(keys[:_HEAD])}{", ..." if len(keys) > _HEAD else ""}'
        for kind, keys in problems.items()
        if keys
    ]
    if lines:
        raise ValueError(
            f'{what} does not fit the model of the config:'
            f'{"".join(lines)}\n'
            'Is it of another architecture, or trained on '
            'another number of classes?'
        )
    model.load_state_dict(state)


def accept_plain_student(algorithm: nn.Module) -> None:
    """Let an algorithm load a checkpoint of its student alone, such as ``student_avg.pth``.

    MMEngine loads by name and only warns of names that do not fit: the
    student would stay untrained.

    Args:
        algorithm (nn.Module): Keeps its student in ``architecture``.
    """

    def add_prefix(module: nn.Module, state: dict, prefix: str, *args) -> None:
        names = set(module.architecture.state_dict())
        if names and all(f'{prefix}{name}' in state for name in names):
            for name in names:
                state[f'{prefix}architecture.{name}'] = state.pop(f'{prefix}{name}')

    algorithm.register_load_state_dict_pre_hook(add_prefix)


def write_atomically(checkpoint: dict, path: Union[str, Path]) -> None:
    """Save a checkpoint so that ``path`` holds the old file or the new one.

    Raises:
        OSError: If the file cannot be written.
    """
    buffer = io.BytesIO()  # torch.save hides why the writing of a file fails
    torch.save(checkpoint, buffer)
    write_bytes(path, buffer.getbuffer())


def describe(checkpoint: dict) -> str:
    """Whose weights a checkpoint holds, in a few words."""
    meta = checkpoint.get('meta', {})
    if 'tail_average' in meta:
        epochs = meta['tail_average']
        gaps = len(epochs) != epochs[-1] - epochs[0] + 1
        return 'mean of the students of epochs ' + (
            ', '.join(map(str, epochs)) if gaps else f'{epochs[0]} to {epochs[-1]}'
        )
    of = 'the student' if plain_state_dict(checkpoint)[1] else 'the net'
    when = ''
    if meta.get('epoch'):
        when = f' after epoch {meta["epoch"]}'
    elif meta.get('iter'):
        when = f' after iteration {meta["iter"]}'
    return f'weights of {of}{when}'
