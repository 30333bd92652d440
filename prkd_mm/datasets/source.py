"""What is known of a published data set: its origin and its check."""
from dataclasses import dataclass
from typing import Callable, List, Sequence, Tuple


@dataclass(frozen=True)
class Source:
    """A published data set, for error messages and ``prepare_data.py``.

    Attributes:
        name (str): Its name on the command line.
        title (str): Its name in sentences.
        folder (str): The folder it is unpacked to.
        url (str): The official archive.
        md5 (str): MD5 of that archive.
        marker (str): A file that every copy has at its top.
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
    check: Callable[[str], Tuple[List[str], List[str]]]

    @property
    def how_to_get(self) -> str:
        """A sentence for whoever does not have the data."""
        return ('Run `python tools/prepare_data.py '
                f'{self.name}` (it downloads {self.url}, MD5 {self.md5}, or '
                'takes an archive that you have), or set data_root to where '
                'the data is')


def some(items: Sequence[str], most: int = 5) -> str:
    """List the first items; of the rest, the number."""
    rest = len(items) - most
    return ', '.join(items[:most]) + (f' and {rest:,} more'
                                      if rest > 0 else '')
