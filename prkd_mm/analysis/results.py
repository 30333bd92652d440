"""Write an analysis down: a picture twice, its numbers twice."""
import csv
import json
import math
from pathlib import Path
from typing import Any, List


def save_figure(figure, stem: Path) -> List[Path]:
    """Write ``<stem>.png`` and ``<stem>.svg``."""
    from matplotlib import rc_context
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(f'{stem}.png'), Path(f'{stem}.svg')]
    with rc_context({'svg.hashsalt': stem.name}):  # the same file every time
        figure.savefig(paths[0], dpi=120)
        figure.savefig(paths[1], metadata={'Date': None})
    return paths


def save_json(numbers: dict, stem: Path) -> Path:
    """Write ``<stem>.json``; what is not a number becomes null."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = Path(f'{stem}.json')
    path.write_text(json.dumps(_plain(numbers), indent=1, ensure_ascii=False))
    return path


def save_csv(rows: List[dict], stem: Path) -> Path:
    """Write ``<stem>.csv`` with the first row's keys as its header."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    path = Path(f'{stem}.csv')
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _plain(x: Any) -> Any:
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None
    return x
