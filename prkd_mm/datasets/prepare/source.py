"""Origin of the published data sets, for error messages and ``prepare_data.py``."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import path as osp

from mmpretrain.datasets import CIFAR10, CIFAR100

from ...cli import command_of


@dataclass(frozen=True)
class Source:
    """Origin of a published data set."""

    name: str  # on the command line
    title: str  # name in sentences
    folder: str  # name of the folder in the archive
    url: str  # official archive
    md5: str  # of that archive
    marker: str  # file at the top of every copy, or a pattern for `glob`
    num_files: int  # in that archive, rounded up
    num_bytes: int  # total size, rounded up

    @property
    def _command(self) -> str:
        return f'{command_of("prepare_data.py")} {self.name}'

    @property
    def how_to_get(self) -> str:
        """Instructions for obtaining the data."""
        return (
            f'Run `{self._command}` (it downloads {self.url}, MD5 '
            f'{self.md5}, or uses an archive that you have), or set data_root to the folder '
            'that contains the data'
        )

    def expect_folder(self, data_root: str) -> str:
        """Check that ``data_root`` is a folder, and expand a leading ``~``.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is a file.
        """
        data_root = osp.expanduser(data_root)
        if osp.isfile(data_root):
            raise ValueError(
                f"data_root is the file '{data_root}', but must be a folder; unpack the file "
                f"with `{self._command} --source '{data_root}'`"
            )
        if not osp.isdir(data_root):
            raise FileNotFoundError(
                f"there is no {self.title} in '{osp.abspath(data_root)}'. {self.how_to_get}"
            )
        return data_root

    def incomplete(self, data_root: str, faults: str) -> FileNotFoundError:
        """Error for a folder that lacks a part of the data set."""
        return FileNotFoundError(
            f"{self.title} in '{osp.abspath(data_root)}' is incomplete: {faults}. {self.how_to_get}"
        )


def some(items: Sequence[str], most: int = 5) -> str:
    """List the first items and count the rest."""
    rest = len(items) - most
    return ', '.join(items[:most]) + (f' and {rest:,} more' if rest > 0 else '')


def _cifar(name: str, title: str, cifar: type[CIFAR10]) -> Source:
    # the data set classes are MMPretrain's own
    marker = cifar.meta['filename']
    return Source(name, title, cifar.base_folder, cifar.url, cifar.tgz_md5, marker, 10, 187_000_000)


CIFAR_10 = _cifar('cifar10', 'CIFAR-10', CIFAR10)
CIFAR_100 = _cifar('cifar100', 'CIFAR-100', CIFAR100)
TINY_IMAGENET = Source(
    name='tinyimagenet',
    title='Tiny ImageNet',
    folder='tiny-imagenet-200',
    url='http://cs231n.stanford.edu/tiny-imagenet-200.zip',
    md5='90528d7ca1a48142e341f4ef8d21d0de',
    marker='wnids.txt',
    num_files=121_000,
    num_bytes=260_000_000,
)
CALTECH_256 = Source(
    name='caltech256',
    title='Caltech-256',
    folder='256_ObjectCategories',
    url='https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar',
    md5='67b4f42ca05d46448c6bb8ecd2220f6d',
    marker='???.*/???_????.jpg',
    num_files=31_000,
    num_bytes=1_200_000_000,
)
SOURCES = {source.name: source for source in (CALTECH_256, CIFAR_10, CIFAR_100, TINY_IMAGENET)}
