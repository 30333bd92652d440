"""What is known of a published data set: its origin and its check."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import path as osp
from typing import Callable


@dataclass(frozen=True)
class Source:
    """A published data set, for error messages and ``prepare_data.py``.

    Attributes:
        name (str): Its name on the command line.
        title (str): Its name in sentences.
        folder (str): The folder it is unpacked to.
        url (str): The official archive.
        md5 (str): MD5 of that archive.
        marker (str): What every copy has at its top: a file, or a pattern for
            :mod:`glob`.
        check (Callable): Looks through the folder given and returns two lists
            of sentences: faults that make it unusable, and what it lacks of
            the official set.
    """

    name: str
    title: str
    folder: str
    url: str
    md5: str
    marker: str
    check: Callable[[str], tuple[list[str], list[str]]]

    @property
    def how_to_get(self) -> str:
        """A sentence for whoever does not have the data."""
        return (
            'Run `python tools/prepare_data.py '
            f'{self.name}` (it downloads {self.url}, MD5 {self.md5}, or '
            'takes an archive that you have), or set data_root to where '
            'the data is'
        )

    def expect_folder(self, data_root: str) -> str:
        """Refuse a ``data_root`` that is no folder.

        Args:
            data_root (str): What the user gave.

        Returns:
            str: The same with a leading ``~`` replaced.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is a file.
        """
        data_root = osp.expanduser(data_root)
        if osp.isfile(data_root):
            raise ValueError(
                f"data_root is the file '{data_root}', but a folder is "
                'needed; unpack it with `python tools/prepare_data.py '
                f"{self.name} --source '{data_root}'`"
            )
        if not osp.isdir(data_root):
            raise FileNotFoundError(
                f"there is no {self.title} in '{osp.abspath(data_root)}'. {self.how_to_get}"
            )
        return data_root


def some(items: Sequence[str], most: int = 5) -> str:
    """List the first items; of the rest, the number."""
    rest = len(items) - most
    return ', '.join(items[:most]) + (f' and {rest:,} more' if rest > 0 else '')
