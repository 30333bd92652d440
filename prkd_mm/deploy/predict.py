"""Predict the classes of image files with an exported student or a checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

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
    """List image files; folders are searched recursively, without macOS's ``._`` files.

    Raises:
        FileNotFoundError: If a path does not exist, or no image is found.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob('*'))
            found += [file for file in inside if _is_named_as_image(file)]
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f'there is no image {str(path)!r}')
    if not found:
        raise FileNotFoundError(
            f'no images in {", ".join(map(str, paths))}; they end with {", ".join(SUFFIXES)}'
        )
    return found


def _is_named_as_image(path: Path) -> bool:
    # macOS stores the metadata of a.jpg as ._a.jpg on other file systems
    named = path.suffix.lower() in SUFFIXES and not path.name.startswith('._')
    return named and not path.is_dir()


class Predictor:
    """Predict with a student, loaded from any of its files.

    Args:
        student: A work dir, a checkpoint, or a file of ``tools/export_student.py`` with its
            ``student.json`` (for safetensors, its ``student.pth``) next to it.
        config, size: As for :func:`load_student`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the file has neither a config nor a description, is damaged, or is a complete
            exported file and ``config`` or ``size`` is set.
    """

    def __init__(
        self, student: str, config: Optional[str] = None, size: Optional[int] = None
    ) -> None:
        path = Path(student)
        if path.suffix in ('.onnx', '.pt2', '.safetensors') and not path.is_file():
            raise FileNotFoundError(
                f'there is no exported file {student!r}; tools/export_student.py writes it'
            )
        if path.suffix in ('.onnx', '.pt2'):
            if config is not None or size is not None:
                raise ValueError(
                    f'--config and --size are fixed in the exported file {student!r}: leave them '
                    'out, or set them when you export the student'
                )
            description = path.with_name('student.json')
            if not description.is_file():
                raise FileNotFoundError(
                    f'{path} needs student.json next to it, which export_student.py writes'
                )
            try:
                about = json.loads(description.read_text())
                self.classes, self.size = about['classes'], about['size']
                self.channels = about['channels']
                self.pipeline = about['pipeline']
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(
                    f"'{description}' is damaged or of an older version; export the student again"
                ) from error
            self._logits = predictor(path)
        else:
            has_weights_only = path.suffix == '.safetensors'
            source = str(path.with_suffix('.pth')) if has_weights_only else student
            loaded = load_student(source, config, size)
            self.classes, self.size, self.channels = loaded.classes, loaded.size, loaded.channels
            self.pipeline = loaded.pipeline
            self._logits = (
                predictor(path, loaded) if has_weights_only else predictor_of_net(loaded.net)
            )

    def predict(
        self,
        paths: Sequence[Path],
        top: int = 5,
        batch: int = 64,
        skip: Optional[Callable[[ValueError], None]] = None,
    ) -> list[Prediction]:
        """Predict the classes of image files.

        Args:
            paths, top, batch: The files, the number of classes of each, and of files at a time.
            skip: Called with the error of each file that is not an image, which is left out;
                default: it is raised.

        Raises:
            ValueError: If a file is not an image, without ``skip``.
        """
        predictions = []
        for start in range(0, len(paths), batch):
            files, images = [], []
            for file in paths[start : start + batch]:
                try:
                    images.append(load_image(file, self.size, self.channels, self.pipeline))
                    files.append(file)
                except ValueError as error:
                    if skip is None:
                        raise
                    skip(error)
            if not images:
                continue
            logits = torch.from_numpy(self._logits(np.stack(images)))
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


def contact_sheet(predictions: Sequence[Prediction], path: Path, columns: int = 6) -> None:
    """Draw the images with their classes on one page."""
    rows = -(-len(predictions) // columns)
    figure = new_figure(2 * columns, 2.3 * rows)
    for index, prediction in enumerate(predictions):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(open_image(prediction.image))
        title = f'{prediction.classes[0]} {prediction.probabilities[0]:.0%}'
        axes.set_title(title, fontsize=8, parse_math=False)
        axes.axis('off')
    figure.savefig(path, dpi=100)
