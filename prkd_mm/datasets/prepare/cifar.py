"""Where CIFAR comes from; the data set classes are MMPretrain's own."""

from functools import partial
from os import path as osp

from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.datasets.utils import calculate_md5

from .source import Source


def check(cifar: type[CIFAR10], root: str) -> tuple[list[str], list[str]]:
    """Compare a folder with the MD5s of the official files.

    They fix the number of images (50,000 and 10,000), and are what
    MMPretrain's class asks for as well. So a part of the set is of no use.

    Args:
        cifar (type): MMPretrain's class.
        root (str): The folder.

    Returns:
        tuple: A list of faults, and an empty one.
    """
    faults = []
    meta = cifar.meta['filename'], cifar.meta['md5']
    for name, md5 in [*cifar.train_list, *cifar.test_list, meta]:
        path = osp.join(root, name)
        if not osp.isfile(path):
            faults.append(f'{name} is missing')
        elif (found := calculate_md5(path)) != md5:
            faults.append(f'{name} has MD5 {found} instead of {md5}')
    return faults, []


def _source(name: str, title: str, cifar: type[CIFAR10]) -> Source:
    return Source(
        name=name,
        title=title,
        folder=cifar.base_folder,
        url=cifar.url,
        md5=cifar.tgz_md5,
        marker=cifar.meta['filename'],
        check=partial(check, cifar),
    )


CIFAR_10 = _source('cifar10', 'CIFAR-10', CIFAR10)
CIFAR_100 = _source('cifar100', 'CIFAR-100', CIFAR100)
