"""Options of every study."""

from dataclasses import dataclass
from typing import Any, Optional

from ..cli import whole_number
from ..options import documented, option


def count(default: Optional[int], help: str, shown: Optional[str] = None, at_least: int = 1) -> Any:
    """Declare an option that is a whole number."""
    return option(default, help, shown, type=whole_number(at_least))


def split_option(default: str) -> Any:
    """Declare the option ``--split``."""
    return option(default, 'images to use, without augmentation', choices=['train', 'val'])


def weights_option(default: str, verb: str = 'analyze') -> Any:
    """Declare the option ``--weights``; ``verb`` says what the study does with them."""
    text = f'weights to {verb}: the raw student (latest) or student_avg.pth (average)'
    return option(default, text, choices=['latest', 'average'])


@documented
@dataclass(frozen=True)
class StudyOptions:
    """Options of every study."""

    samples: Optional[int] = count(None, 'number of images, drawn with --seed', 'all')
    batch_size: Optional[int] = count(None, 'images per batch', 'the batch size of validation')
    seed: int = option(0, 'seed of all random draws', type=whole_number(0, 2**32 - 1))
    device: Optional[str] = option(
        None, 'device to compute on', "'cuda' if there is a GPU, else 'cpu'", type=str
    )
