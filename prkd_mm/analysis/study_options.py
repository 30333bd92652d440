"""Options of every study."""

from dataclasses import dataclass
from typing import Optional

from ..cli import whole_number
from ..options import documented, option


@documented
@dataclass(frozen=True)
class StudyOptions:
    """Options of every study."""

    samples: Optional[int] = option(
        None, 'number of images, drawn with --seed', 'all', type=whole_number(1)
    )
    batch_size: Optional[int] = option(
        None, 'images per batch', 'the batch size of validation', type=whole_number(1)
    )
    seed: int = option(0, 'seed of all random draws')
    device: Optional[str] = option(
        None, 'device to compute on', "'cuda' if there is a GPU, else 'cpu'", type=str
    )
