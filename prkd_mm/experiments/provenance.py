"""The images and the teacher of a run: its settings name them, but do not tell if they changed."""

import copy
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import set_random_seed

from ..algorithms.student_alone import is_alone
from ..checkpoints import plain_state_dict, read, resolve
from ..datasets import hash_of_dataset
from ..randomness import untouched_random_state
from ..teachers.logit_store import hash_of_weights

if TYPE_CHECKING:
    from .job import Job

_known: dict[str, Optional[str]] = {}  # by the config of the data sets, or path and time of a file


def images_of(cfg: Config) -> Optional[str]:
    """Hash of the training and validation images of a run and of their labels.

    It is None if a data set is not MMEngine's ``BaseDataset``, or its images have neither a path
    nor pixels. Errors are those of the data sets, such as a FileNotFoundError.
    """
    datasets = [cfg[name].dataset for name in ('train_dataloader', 'val_dataloader')]
    text = json.dumps([each.to_dict() for each in datasets], sort_keys=True, default=str)
    if text not in _known:
        init_default_scope(cfg.get('default_scope', 'mmpretrain'))
        with untouched_random_state(gpu=False):
            parts = [_hash(each) for each in datasets]
        _known[text] = None if None in parts else _digest(json.dumps(parts).encode())
    return _known[text]


def available_images_of(cfg: Config) -> Optional[str]:
    """The hash of :func:`images_of`, or None if the images are not available."""
    try:
        return images_of(cfg)
    except Exception:  # of any data set; the run itself reports it
        return None


def _hash(cfg: ConfigDict) -> Optional[str]:
    set_random_seed(0)  # for a data set that draws its images
    return hash_of_dataset(DATASETS.build(copy.deepcopy(cfg)))


def teacher_of(cfg: Config) -> Optional[str]:
    """Hash of the weights of a run's teacher, or None without a teacher from a local file."""
    checkpoint = cfg.model.get('teacher_ckpt')
    if is_alone(cfg) or not isinstance(checkpoint, str) or '://' in checkpoint:
        return None
    try:
        path = Path(resolve(checkpoint))
    except FileNotFoundError:
        return None  # it is not trained yet
    key = f'{path} {path.stat().st_mtime_ns}'
    if key not in _known:
        try:
            _known[key] = hash_of_weights(plain_state_dict(read(str(path)))[0])
        except (ValueError, AttributeError):  # a file of another format
            _known[key] = _digest(path.read_bytes())
    return _known[key]


def agree(before: Optional[str], now: Optional[str]) -> bool:
    """Whether two hashes are equal, or one is unknown."""
    return None in (before, now) or before == now


def check_record(job: 'Job') -> None:
    """Check that the record of a job is of the present images and teacher.

    Raises:
        ValueError: If they have changed since.
    """
    record, cfg = job.record(), job.cfg
    is_trained = job.teacher is None or job.teacher.has_results
    now = dict(images=available_images_of(cfg), teacher=teacher_of(cfg) if is_trained else None)
    for name, used in dict(images='other images', teacher='another teacher').items():
        if not agree(getattr(record, name), now[name]):
            raise ValueError(
                f"the run '{job.record_file}' used {used}, so new runs cannot be compared with it: "
                f'restore the {name}, or use another --records folder'
            )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
