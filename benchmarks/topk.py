"""Measure what is lost if a store keeps only the k largest logits of each image."""

from typing import Optional

import torch
from mmengine.config import Config
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from prkd_mm.config import load_config
from prkd_mm.datasets.packed.packed_images import whole_batch
from prkd_mm.experiments.table import Table
from prkd_mm.teachers.fill_store import build_live
from prkd_mm.teachers.logit_arrays import pack, size_in_bytes, unpack

KEPT = (4, 8, 16, 32, 64)
TAUS = (1.0, 4.0)


def run(
    config: str, console: Console, images: int = 2000, cfg_options: Optional[dict] = None
) -> None:
    """What a teacher's probabilities lose if only its k largest logits are stored."""
    logits = teacher_logits(load_config(config, options=cfg_options), images)
    for text in (
        losses(logits).markdown(),
        f'\n{len(logits):,} augmented training images, {logits.size(1):,} classes; means over '
        'the images, in nats',
    ):
        console.print(text, highlight=False, soft_wrap=True)


@torch.inference_mode()
def teacher_logits(cfg: Config, images: int) -> Tensor:
    """Logits ``(N, C)`` of a pair's teacher for evenly spaced training images in one view."""
    model, dataset = build_live(cfg)
    model.eval()
    preprocess = model.data_preprocessor
    preprocess.epoch, preprocess.seed = 0, 0
    preprocess.choose_view(dataset)
    step = max(1, len(dataset) // images)
    batches = torch.arange(0, len(dataset), step)[:images].split(250)
    loader = DataLoader(
        dataset, batch_sampler=[b.tolist() for b in batches], collate_fn=whole_batch
    )
    return torch.cat([model.teacher.logits(preprocess(batch, True)['inputs']) for batch in loader])


def losses(logits: Tensor) -> Table:
    """For each k: size, divergence from the teacher's distribution, and top-1 agreement."""
    classes = logits.size(1)
    header = ['k', 'bytes per image', *(f'KL at tau = {tau:g}' for tau in TAUS), 'same top-1']
    rows = []
    for k in (*(k for k in KEPT if k < classes), None):
        stored = unpack([torch.from_numpy(part) for part in pack(logits, k)], classes)
        divergences = [f'{divergence(logits, stored, tau):.2g}' for tau in TAUS]
        same = (stored.argmax(1) == logits.argmax(1)).double().mean()
        size = size_in_bytes(1, 1, classes, k)
        rows.append([str(k or 'all'), str(size), *divergences, f'{same:.2%}'])
    return Table(header, rows)


def divergence(logits: Tensor, stored: Tensor, tau: float) -> float:
    """Mean over the images of KL(p ‖ q), p and q being the softmax of the logits at ``tau``."""
    p, q = ((z.double() / tau).log_softmax(1) for z in (logits, stored))
    return float((p.exp() * (p - q)).sum(1).mean())
