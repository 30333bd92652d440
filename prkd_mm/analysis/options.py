"""Options of every study."""

from dataclasses import dataclass
from typing import Optional

from ..options import add_options, documented, option

__all__ = ['StudyOptions', 'add_options', 'documented', 'option']


@documented
@dataclass(frozen=True)
class StudyOptions:
    """Options of every study."""

    samples: Optional[int] = option(None, 'images, drawn by --seed', 'all', type=int)
    batch_size: Optional[int] = option(None, 'images at a time', 'that of validation', type=int)
    seed: int = option(0, 'seed of all random draws')
    device: Optional[str] = option(
        None, 'where to compute', "'cuda' if there is one, else 'cpu'", type=str
    )
