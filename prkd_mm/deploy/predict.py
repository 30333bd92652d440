"""Predict the classes of image files with an exported student or a checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch

from ..visualization import new_figure
from .export import predictor, predictor_of_net
from .student import load_image, load_student, open_image

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.webp')


class Prediction(NamedTuple):
    """Predicted classes of one image file, most probable first."""

    image: Path
    classes: list[str]
    probabilities: list[float]


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List image files; folders are searched recursively.

    Raises:
        FileNotFoundError: If a path does not exist, or no image is found.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob('*'))
            found += [file for file in inside if file.suffix.lower() in SUFFIXES]
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f'there is no image {str(path)!r}')
    if not found:
        raise FileNotFoundError(
            f'no images in {", ".join(map(str, paths))}; they end with {", ".join(SUFFIXES)}'
        )
    return found


class Predictor:
    """Predict with a student, loaded from any of its files.

    Args:
        student: A work dir, a checkpoint, or a file of ``tools/export_student.py`` with its
            ``student.json`` (for safetensors, its ``student.pth``) next to it.
        config, size: As for :func:`load_student`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the file has neither a config nor a description.
    """

    def __init__(
        self, student: str, config: Optional[str] = None, size: Optional[int] = None
    ) -> None:
        path = Path(student)
        if path.suffix in ('.onnx', '.pt2'):
            description = path.with_name('student.json')
            if not description.is_file():
                raise FileNotFoundError(
                    f'{path} needs student.json next to it, which export_student.py writes'
                )
            try:
                about = json.loads(description.read_text())
                self.classes, self.size = about['classes'], about['size']
                self.channels = about['channels']
                self.resize = about.get('resize', self.size)  # absent in older files
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(f"'{description}' is damaged; export the student again") from error
            self._logits = predictor(path)
        else:
            has_weights_only = path.suffix == '.safetensors'
            source = str(path.with_suffix('.pth')) if has_weights_only else student
            loaded = load_student(source, config, size)
            self.classes, self.size, self.channels = loaded.classes, loaded.size, loaded.channels
            self.resize = loaded.resize
            self._logits = (
                predictor(path, loaded) if has_weights_only else predictor_of_net(loaded.net)
            )

    def predict(self, paths: Sequence[Path], top: int = 5, batch: int = 64) -> list[Prediction]:
        """Predict the ``top`` classes of image files, in batches.

        Raises:
            ValueError: If a file is not an image.
        """
        predictions = []
        for start in range(0, len(paths), batch):
            files = paths[start : start + batch]
            images = np.stack([self._load(file) for file in files])
            logits = torch.from_numpy(self._logits(images))
            for file, probabilities in zip(files, logits.softmax(1).numpy()):
                best = np.argsort(-probabilities)[:top]
                predictions.append(
                    Prediction(
                        file,
                        [self.classes[index] for index in best],
                        [float(probabilities[index]) for index in best],
                    )
                )
        return predictions

    def _load(self, path: Path) -> np.ndarray:
        return load_image(path, self.size, self.channels, self.resize)


def contact_sheet(predictions: Sequence[Prediction], path: Path, columns: int = 6) -> None:
    """Draw the images with their classes on one page."""
    rows = -(-len(predictions) // columns)
    figure = new_figure(2 * columns, 2.3 * rows)
    for index, prediction in enumerate(predictions):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(open_image(prediction.image))
        axes.set_title(f'{prediction.classes[0]} {prediction.probabilities[0]:.0%}', fontsize=8)
        axes.axis('off')
    figure.savefig(path, dpi=100)
