"""Read checkpoints strictly and write them atomically."""

import argparse
import io
import os
import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlparse

import torch
from mmengine.runner import CheckpointLoader, find_latest_checkpoint
from torch import Tensor, nn
from torch.hub import load_state_dict_from_url

from .files import write_bytes

AVERAGE = 'student_avg.pth'  # name of the averaged student in a work dir
_HEAD = 5  # names listed of each kind in an error
_TRUST = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'  # PyTorch's own variable; it applies to MMEngine, too


def resolve(path: str) -> str:
    """Path of a checkpoint; for a work dir, the path of its latest checkpoint.

    Raises:
        FileNotFoundError: If the file does not exist, or the work dir has no checkpoint.
    """
    if '://' in path:
        return path
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        # MMEngine records an absolute path, which is wrong after the folder is moved
        recorded = find_latest_checkpoint(path) or ''
        latest = Path(path, os.path.basename(recorded))
        if not latest.is_file():
            raise FileNotFoundError(f'no checkpoint in the work dir {path!r}')
        return str(latest)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint {path!r}')
    return path


def filename_template(cfg: dict) -> Optional[str]:
    """The ``filename_tmpl`` of the checkpoint hook in a config, or None for its default."""
    return ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('filename_tmpl')


def checkpoint_name(template: Optional[str] = None) -> re.Pattern:
    """Pattern of the names of a run's checkpoints; its group ``number`` is the epoch or iteration.

    ``template`` is the ``filename_tmpl`` of the checkpoint hook. None stands for ``epoch_{}.pth``
    or ``iter_{}.pth``; the group ``unit`` says which.
    """
    if template is None:
        return re.compile(r'(?P<unit>epoch|iter)_(?P<number>\d+)\.pth')
    before, _, after = template.partition('{}')
    return re.compile(rf'{re.escape(before)}(?P<number>\d+){re.escape(after)}')


def epoch_checkpoints(work_dir: Union[str, Path]) -> dict[int, Path]:
    """The checkpoints ``epoch_N.pth`` of a work dir by N, ascending."""
    found = {
        int(match[1]): path
        for path in Path(work_dir).glob('epoch_*.pth')
        if (match := re.fullmatch(r'epoch_(\d+)\.pth', path.name))
    }
    return dict(sorted(found.items()))


def check_even_spacing(work_dir: Union[str, Path], used: Collection[int], advice: str) -> None:
    """Refuse checkpoints ``epoch_N.pth`` of a work dir that are not evenly spaced.

    The last one may follow sooner, because it ends the run. One that is missing between two others
    cannot be noticed if there are only these two.

    Args:
        work_dir, used: The work dir, and N of the checkpoints to use.
        advice: What to do instead, for the error message.

    Raises:
        FileNotFoundError: If they are not evenly spaced.
    """
    epochs = sorted(used)
    gaps = [later - earlier for earlier, later in zip(epochs, epochs[1:])]
    if len(gaps) > 1 and (len(set(gaps[:-1])) > 1 or gaps[-1] > gaps[0]):
        raise FileNotFoundError(
            f"the checkpoints in '{work_dir}' are of the epochs {', '.join(map(str, epochs))}, "
            f'which are not evenly spaced, so that one may be missing between them; {advice}'
        )


def read(path: str) -> dict:
    """Load a checkpoint (a file, a work dir or a URL) to the CPU.

    Only plain data is read. A file that would execute code is rejected.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, not a checkpoint, or would execute code.
    """
    path = resolve(path)
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'{path!r} is not a checkpoint: it holds a {type(checkpoint).__name__}, not a dict'
        )
    for part in ('state_dict', 'meta'):
        if not isinstance(checkpoint.get(part, {}), dict):
            kind = type(checkpoint[part]).__name__
            raise ValueError(f'{path!r} is not a checkpoint: its {part} is a {kind}, not a dict')
    return checkpoint


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint file, for MMEngine's ``CheckpointLoader``; see :func:`read`."""
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint {path!r}')
    with plain_data_only(path):
        return torch.load(path, map_location, weights_only=not _is_trusted())


def read_url(
    url: str, model_dir: Optional[str] = None, map_location: Any = None, progress: bool = True
) -> Any:
    """Load a checkpoint from a URL, with the arguments of ``torch.utils.model_zoo.load_url``."""
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    file = os.path.join(folder, os.path.basename(urlparse(url).path))
    try:
        with plain_data_only(file):
            return load_state_dict_from_url(
                url, model_dir, map_location, progress, weights_only=not _is_trusted()
            )
    except OSError as error:
        raise OSError(f'cannot download the checkpoint {url!r}: {error}') from error


def load_exported(path: Union[str, Path]) -> nn.Module:
    """Load a ``torch.export`` file (``.pt2``), whose pickled parts are read as plain data.

    ``torch.export.load`` reads these parts without restrictions if they hold more than plain data
    (torch/_export/serde/serialize.py).
    """
    load = torch.load

    def load_plain_data(file, *args, **kwargs):
        return load(file, *args, **dict(kwargs, weights_only=not _is_trusted()))

    torch.load = load_plain_data  # type: ignore[assignment]
    try:
        with plain_data_only(str(path)):
            return torch.export.load(path).module()
    finally:
        torch.load = load


def _is_trusted() -> bool:
    return os.environ.get(_TRUST) in ('1', 'y', 'yes', 'true')


@contextmanager
def plain_data_only(path: str) -> Iterator[None]:
    """Turn the errors of torch's reader into a ValueError that names the file and the problem.

    The options of a training script, a Namespace, are plain data.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    except pickle.UnpicklingError as error:
        if not _is_whole(path):
            raise ValueError(_damaged(path)) from error
        raise ValueError(
            f'{path!r} was refused, because it holds more than plain weights and could run code '
            f'when it is opened ({_first_sentence(error)}). If you made this file yourself, set '
            f'{_TRUST}=1'
        ) from error
    except (MemoryError, torch.cuda.OutOfMemoryError):  # the file may be intact
        raise
    except Exception as error:  # torch does not wrap the errors of its reader
        full = "can't allocate memory" in str(error)  # how torch reports it for a CPU
        if full or isinstance(error, PermissionError) or not os.path.isfile(path):
            raise
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
    match = re.search(r'(?:GLOBAL|global) (\S+)', str(error))
    return f'it needs {match[1]}' if match else type(error).__name__


def plain_state_dict(checkpoint: dict) -> tuple[dict[str, Tensor], bool]:
    """The weights of one plain net, and whether it was the student in a checkpoint of an algorithm.

    A net that was trained alone needs no change. torchvision's scripts save it as ``model``. A
    distillation algorithm keeps its student under ``architecture.``; MMRazor's algorithms also keep
    their teacher, which is dropped.
    """
    state = checkpoint.get('state_dict', checkpoint)
    nested = state.get('model')
    if isinstance(nested, dict) and all(isinstance(value, Tensor) for value in nested.values()):
        state = nested
    state = {k.removeprefix('module.'): value for k, value in state.items()}
    prefix = 'architecture.'
    student = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return (student, True) if student else (state, False)


def recorded_classes(checkpoint: dict) -> Optional[Sequence[str]]:
    """Names of the classes that a checkpoint was trained on, or None if it has no names."""
    return (checkpoint.get('meta', {}).get('dataset_meta') or {}).get('classes')


def load_strictly(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load ``state`` into ``model``; all names and shapes must match.

    Raises:
        ValueError: If names are missing or unexpected, or shapes differ. The message describes the
            state as ``what`` and lists the first names of each kind.
    """
    own = model.state_dict()
    problems = dict(
        missing=[key for key in own if key not in state],
        unexpected=[key for key in state if key not in own],
    )
    problems['with a different shape'] = [
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
            f'{what} does not fit the model of the config:{"".join(lines)}\n{_cause(own, state)}'
        )
    model.load_state_dict(state)


def _cause(own: dict[str, Tensor], state: dict[str, Tensor]) -> str:
    """The likely cause if the names or shapes of ``state`` are not those of a model."""
    first = next(iter(own), '')
    for prefix in [key.removesuffix(first) for key in state if key.endswith(f'.{first}')]:
        if all(prefix + key in state for key in own):
            return (
                f'All names of the model are there after {prefix!r}, as in a checkpoint of '
                f'Lightning; save the weights without {prefix!r}: '
                f'{{k.removeprefix({prefix!r}): v for k, v in state_dict.items()}}'
            )
    return 'Does it have a different architecture, or a different number of classes?'


def write_atomically(checkpoint: dict, path: Union[str, Path]) -> None:
    """Save a checkpoint; after a crash, ``path`` holds either the old or the new file."""
    buffer = io.BytesIO()  # torch.save hides the reason when it fails to write a file
    torch.save(checkpoint, buffer)
    write_bytes(path, buffer.getbuffer())


def describe(checkpoint: dict) -> str:
    """Short description of the weights in a checkpoint."""
    meta = checkpoint.get('meta', {})
    if 'tail_average' in meta:
        epochs = meta['tail_average']
        gaps = len(epochs) != epochs[-1] - epochs[0] + 1
        return 'mean of the students of epochs ' + (
            ', '.join(map(str, epochs)) if gaps else f'{epochs[0]} to {epochs[-1]}'
        )
    owner = 'the student' if plain_state_dict(checkpoint)[1] else 'the net'
    when = ''
    if meta.get('epoch'):
        when = f' after epoch {meta["epoch"]}'
    elif meta.get('iter'):
        when = f' after iteration {meta["iter"]}'
    return f'weights of {owner}{when}'
