"""Read the scalars that MMEngine's ``LocalVisBackend`` logs."""

import json
from pathlib import Path
from typing import Union


def read_scalars(work_dir: Union[str, Path]) -> list[dict]:
    """All rows of ``<work_dir>/*/vis_data/scalars.json``, in the order they were logged.

    Lines that are incomplete because of a crash are skipped.
    """
    rows = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text(errors='replace').splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows


def validated_steps(work_dir: Union[str, Path]) -> set[int]:
    """Epochs (or iterations) whose validation was logged.

    Training rows have a learning rate; validation rows do not.
    """
    return {row['step'] for row in read_scalars(work_dir) if 'step' in row and 'lr' not in row}
