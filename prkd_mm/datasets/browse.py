"""A page of training images as the student sees them, epoch by epoch."""

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..algorithms.student_alone import student_alone
from ..teachers.normalization import Normalization
from ..visualization import new_figure
from . import BatchClsDataPreprocessor
from .pipelines import reads_files


class Views(NamedTuple):
    """Augmented training images."""

    images: Tensor  # (epochs, N, channels, height, width), 0 to 255, RGB or gray
    labels: list[int]  # class of each image
    classes: list[str]  # names of the classes; empty if there are none


def training_views(cfg: Config, number: int, epochs: int) -> Views:
    """Augmented versions of evenly spaced training images in the first epochs of a run.

    Raises:
        ValueError: If the config does not tell whether color images are RGB or BGR.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    loader = Runner.build_dataloader(dict(cfg.train_dataloader, num_workers=0,
                                          persistent_workers=False), seed=0)  # fmt: skip
    preprocessor = MODELS.build(student_alone(cfg)).data_preprocessor
    seed = (cfg.get('randomness') or {}).get('seed') or 0
    MessageHub.get_current_instance().update_info('augmentation_seed', seed)
    dataset = loader.dataset
    step = max(1, len(dataset) // number)
    indices = range(0, len(dataset), step)[:number]
    drawn = []
    for epoch in range(epochs):
        set_random_seed(seed + epoch)
        if isinstance(preprocessor, BatchClsDataPreprocessor):
            preprocessor.epoch = epoch
            preprocessor.choose_view(dataset)
        same_images = DataLoader(
            dataset, batch_size=number, sampler=indices, collate_fn=loader.collate_fn
        )
        (batch,) = same_images
        data = preprocessor(batch, False)
        drawn.append(_denormalize(data['inputs'], preprocessor, cfg.train_dataloader.dataset))
    labels = [int(sample.gt_label) for sample in data['data_samples']]
    return Views(torch.stack(drawn), labels, list(dataset.metainfo.get('classes') or []))


def _denormalize(inputs: Tensor, preprocessor: nn.Module, dataset: dict) -> Tensor:
    normalization = Normalization.of(preprocessor)
    images = inputs * normalization.std + normalization.mean
    if images.size(1) == 3 and reads_files(dataset) != normalization.swaps_channels:
        images = images.flip(1)
    return images.round().clamp(0, 255)


def draw(views: Views, path: Path) -> None:
    """Draw one row per image and one column per epoch."""
    epochs, number = views.images.shape[:2]
    figure = new_figure(1.4 * epochs + 1, 1.4 * number)
    axes = figure.subplots(number, epochs, squeeze=False)
    for row, label in enumerate(views.labels):
        for column in range(epochs):
            image = views.images[column, row].byte().permute(1, 2, 0).numpy()
            axes[row, column].imshow(image, cmap='gray', vmin=0, vmax=255)
            axes[row, column].set(xticks=[], yticks=[])
            if row == 0:
                axes[row, column].set_title(f'epoch {column}', fontsize=8)
        name = views.classes[label] if views.classes else str(label)
        axes[row, 0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=100)
