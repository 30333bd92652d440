"""The comparison with the teacher from end to end."""

from collections.abc import Sequence
from typing import Optional

from ..batches import collect_logits, load_batches
from ..device import exact_float32
from ..nets import build_nets, load_weights
from ..output import Report
from ..runs import Run
from . import figure
from . import measure as agreement


@exact_float32()
def compare(
    runs: Sequence[Run],
    report: Report,
    samples: Optional[int] = None,
    split: str = 'val',
    weights: str = 'average',
    bins: int = 15,
    seed: int = 0,
    batch_size: Optional[int] = None,
    device='cpu',
) -> dict:
    """Student against teacher; see :mod:`prkd_mm.analysis.agreement.measure`.

    Args:
        runs (Sequence[Run]): Distillations from one teacher; gains refer to
            the first one. Of a run with ``checkpoints`` each is a student.
        report (Report): Where the numbers go.
        samples (int, optional): Images. Defaults to None: all.
        split (str): 'val' or 'train' (un-augmented). Defaults to 'val'.
        weights (str): Of the students, 'latest' or 'average'. Defaults to
            'average'.
        bins (int): Of the confidence. Defaults to 15.
        seed (int): Draws the images, where ``samples`` is given. Defaults
            to 0.
        batch_size (int, optional): Defaults to None: that of validation.
        device (str | torch.device): Defaults to 'cpu'.

    Returns:
        dict: :func:`~prkd_mm.analysis.agreement.measure.comparison`, the
        ``correlation_difference`` ``(C, C)`` by student, and what was looked
        at; as in ``compare.json``.

    Raises:
        FileNotFoundError: A checkpoint is not there.
        ValueError: No run has a teacher.
    """
    # a distillation among them knows the teacher; 'ce' does not
    cfg = next((run.cfg for run in runs if 'distiller' in run.cfg.model), runs[0].cfg)
    nets = build_nets(cfg, device, with_teacher=True)
    paths = {}
    for run in runs:
        paths.update(run.tail(1) if run.checkpoints else {run.title: run.weights(weights)})
    if 'teacher' in paths:
        raise ValueError(
            f'{paths["teacher"]} is a student here, and would be '
            'shown as the teacher; give the file another name'
        )
    batches = load_batches(cfg, split, nets.preprocess, samples, batch_size, seed)
    with report.progress():
        logits, labels = collect_logits(
            dict(teacher=nets.teacher), report.track('teacher')(batches)
        )
        for name, path in paths.items():
            load_weights(nets.student, path)
            logits[name] = collect_logits(dict(student=nets.student), report.track(name)(batches))[
                0
            ]['student']
    preds_T = logits.pop('teacher')
    found = agreement.comparison(
        logits, preds_T, labels, bins, getattr(_dataset(batches), 'metainfo', {}).get('classes', ())
    )
    maps = {
        name: (agreement.class_correlation(x) - agreement.class_correlation(preds_T)).numpy()
        for name, x in logits.items()
    }
    rows = _show(found['nets'], len(labels), report)
    numbers = dict(
        split=split,
        seed=seed,
        samples=len(labels),
        checkpoints=paths,
        correlation_difference={k: x.tolist() for k, x in maps.items()},
        **found,
    )
    report.save(
        numbers,
        {'': rows, '_classes': found['classes']},
        {
            '': figure.agreement(found['nets']),
            '_correlation': figure.correlation_maps(maps),
            '_classes': figure.class_gains(found['classes'], list(logits), found['reference']),
        },
    )
    return numbers


def _show(nets: dict[str, dict], images: int, report: Report) -> list[dict]:
    headings = dict(
        net='',
        accuracy='top-1 %',
        top1='as teacher %',
        top1_on_errors='where it errs %',
        kl='KL, nats',
        correlation='correlation',
        ece='ECE',
    )
    rows = [{key: {'net': name, **row}[key] for key in headings} for name, row in nets.items()]
    report.table(f'Agreement and calibration, {images} images', rows, headings)
    report.console.print(
        'as teacher: the same top-1; KL: of the student from the teacher, '
        'τ = 1; correlation: mean absolute difference of the correlations '
        "between the classes' logits",
        highlight=False,
    )
    return rows


def _dataset(batches):
    dataset = batches.loader.dataset
    return getattr(dataset, 'dataset', dataset)  # inside a Subset
