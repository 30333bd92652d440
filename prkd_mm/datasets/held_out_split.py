"""Hold out part of the training images, for choosing settings without the test set."""

import logging
from collections import defaultdict
from typing import Optional

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from ..checks.number_checks import check_whole_number
from .wrapped import build_wrapped

PARTS = ('rest', 'held_out')
_SHOWN = 5  # classes named in a warning


@DATASETS.register_module()
def held_out_split(
    dataset: dict, part: str, every: int = 5, pipeline: Optional[list] = None
) -> BaseDataset:
    """Build one part of a data set, split within each class.

    Every ``every``-th image of each class, in the order of the data set, is held out; the rest is
    for training. A class with fewer images has none of them held out, which is a warning.

    Args:
        dataset (dict): Config of a data set of MMEngine's ``BaseDataset``.
        part (str): 'rest' or 'held_out'.
        every (int): Interval of the held-out images, at least 2. Defaults to 5, which holds out a
            fifth.
        pipeline (list[dict], optional): Pipeline of the part. Defaults to None: the pipeline of the
            data set.

    Raises:
        TypeError: If ``dataset`` wraps other data sets.
        ValueError: If ``part`` is unknown, ``every`` is out of range, or the part has no images.

    Examples:
        >>> train = dict(type='Digits', split='train', pipeline=[])
        >>> DATASETS.build(dict(
        ...     type='held_out_split', dataset=train, part='held_out'))
    """
    if part not in PARTS:
        raise ValueError(f'held_out_split: part must be one of {PARTS}, got {part!r}')
    check_whole_number('held_out_split: every', every, 2)
    whole = build_wrapped('held_out_split', dataset, pipeline)
    seen: dict[int, int] = defaultdict(int)
    parts: dict[str, list[int]] = {name: [] for name in PARTS}
    for i in range(len(whole)):
        label = whole.get_data_info(i)['gt_label']
        seen[label] += 1
        parts['rest' if seen[label] % every else 'held_out'].append(i)
    if not parts[part]:
        raise ValueError(
            f'held_out_split: no class in these {len(whole)} images has {every} images; '
            f'use a smaller `every` than {every}'
        )
    if part == 'held_out' and (few := [label for label, n in seen.items() if n < every]):
        names = dict(enumerate(whole.metainfo.get('classes') or ()))
        shown = [repr(names.get(label, label)) for label in sorted(few)[:_SHOWN]]
        print_log(
            f'held_out_split: {len(few)} of {len(seen)} classes have fewer than {every} images, so '
            f'that none of theirs is held out: {", ".join(shown)}'
            f'{", ..." if len(few) > _SHOWN else ""}; use a smaller `every`, or add images',
            logger='current',
            level=logging.WARNING,
        )
    # in place: MMEngine's get_subset() uses one deepcopy memo for all calls, which
    # mixes up objects whose addresses are reused
    whole.get_subset_(parts[part])
    return whole
