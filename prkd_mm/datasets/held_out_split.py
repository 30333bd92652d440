"""Part of the training images to choose settings by, instead of the test."""

from collections import defaultdict
from typing import Optional

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

PARTS = ('rest', 'held_out')


@DATASETS.register_module()
def held_out_split(
    dataset: dict, part: str, every: int = 5, pipeline: Optional[list] = None
) -> BaseDataset:
    """One part of a data set, split within each class.

    Of the images of a class, in the order of the set, every ``every``-th is
    held out; the rest is there to train on.

    Args:
        dataset (dict): Config of a data set of MMEngine's ``BaseDataset``.
        part (str): 'rest' or 'held_out'.
        every (int): At least 2. Defaults to 5, which holds out a fifth.
        pipeline (list[dict], optional): Of the part. Defaults to None: that
            of the set.

    Raises:
        TypeError: The set is a wrapper of others.
        ValueError: Another ``part``, an ``every`` out of range, or a part
            without images.

    Examples:
        >>> train = dict(type='Digits', split='train', pipeline=[])
        >>> DATASETS.build(dict(
        ...     type='held_out_split', dataset=train, part='held_out'))
    """
    if part not in PARTS:
        raise ValueError(f'held_out_split: part must be one of {PARTS}, got {part!r}')
    if type(every) is not int or every < 2:
        raise ValueError(f'held_out_split: every must be a whole number, at least 2, got {every!r}')
    whole = DATASETS.build(dict(dataset, pipeline=pipeline) if pipeline else dataset)
    if not isinstance(whole, BaseDataset):
        raise TypeError(
            f'held_out_split: {type(whole).__name__} is a wrapper; split the set inside of it'
        )
    whole.full_init()
    seen, parts = defaultdict(int), {name: [] for name in PARTS}
    for i in range(len(whole)):
        label = whole.get_data_info(i)['gt_label']
        seen[label] += 1
        parts['rest' if seen[label] % every else 'held_out'].append(i)
    if not parts[part]:
        raise ValueError(
            f'held_out_split: no class of the {len(whole)} images'
            f' has {every} of them; lower every={every}'
        )
    # in place: MMEngine's get_subset() copies with a memo that all calls
    # share, and takes one thing for another where addresses are used again
    whole.get_subset_(parts[part])
    return whole
