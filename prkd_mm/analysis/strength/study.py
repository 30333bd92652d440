"""The strength analysis from end to end: load, compute, print, draw, write."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Optional

import numpy as np
from torch import Tensor

from ..batches import collect_logits, load_batches
from ..device import exact_float32
from ..nets import build_nets, load_weights
from ..output import Report
from ..runs import Run, tail_checkpoints
from . import figure
from . import measure as curvature
from .along_run import run_length, run_terms
from .measure import Term


@exact_float32()
def strength(
    runs: Sequence[Run],
    report: Report,
    samples: int = 512,
    split: str = 'train',
    weights: str = 'latest',
    taus: Sequence[float] = (8.0, 4.0, 2.0, 1.0),
    tau_cor: float = 4.0,
    seed: int = 0,
    batch_size: Optional[int] = None,
    device='cpu',
) -> dict:
    """How hard each loss ties the student; see
    :mod:`prkd_mm.analysis.strength.measure`.

    Args:
        runs (Sequence[Run]): Distillations from one teacher, the strength of
            whose losses is followed over the epochs. The student of the
            gradients is that of the last which has a teacher.
        report (Report): Where the numbers go.
        samples (int): Images; cut to whole batches of the run, since 'intra'
            is a matter of the batch. Defaults to 512.
        split (str): 'train' (un-augmented) or 'val'. Defaults to 'train'.
        weights (str): Of the student, 'latest' or 'average'. Defaults to
            'latest'.
        taus (Sequence[float]): Temperatures of KL. Defaults to 8, 4, 2, 1.
        tau_cor (float): Temperature of Cor. Defaults to 4.
        seed (int): Draws the images. Defaults to 0.
        batch_size (int, optional): To load images. Defaults to None: that of
            validation.
        device (str | torch.device): Defaults to 'cpu'.

    Returns:
        dict: ``schemes``, :func:`~prkd_mm.analysis.strength.measure.summary` by loss;
        ``along``, the strength over the epochs by run; ``verdict`` on the
        order; as in ``strength.json``. A run whose loss or epochs cannot be
        followed is told and left out of ``along``.

    Raises:
        FileNotFoundError: A checkpoint is not there.
        ValueError: No run has a teacher.
    """
    distilled = [run for run in runs if 'distiller' in run.cfg.model]
    run = (distilled or runs)[-1]
    nets = build_nets(run.cfg, device, with_teacher=True)
    batches = load_batches(run.cfg, split, nets.preprocess, samples, batch_size, seed)
    load_weights(nets.student, run.weights(weights))
    with report.progress():
        logits, labels = collect_logits(
            dict(teacher=nets.teacher, student=nets.student),
            report.track('logits of teacher and student')(batches),
        )
        of_batch = min(run.cfg.train_dataloader.batch_size, len(labels))
        used = len(labels) // of_batch * of_batch
        preds_T, preds_S = (logits[name][:used].to(device) for name in ('teacher', 'student'))
        schemes = {
            name: _summary(term, preds_T, preds_S, of_batch)
            for name, term in report.track('curvature and gradients')(
                list(_schemes(taus, tau_cor).items())
            )
        }
        along = {}
        for each in distilled:
            try:
                along[each.title] = _along(each, nets, batches, preds_T, of_batch, report)
            except ValueError as error:
                report.console.print(f'{each.title} over its epochs: {error}', highlight=False)
    verdict = _order(schemes)
    title = (
        f'{run.title}: {used} images of {split}, {preds_T.shape[1]} '
        f'classes, batches of {of_batch}\n' + verdict.replace('; ', ';\n')
    )
    rows = _show(schemes, verdict, report)
    numbers = dict(
        samples=used,
        split=split,
        batch_size=of_batch,
        seed=seed,
        classes=preds_T.shape[1],
        verdict=verdict,
        schemes=schemes,
        along=along,
    )
    report.save(numbers, {'': rows}, {'': figure.strength(schemes, along, title)})
    return numbers


def _schemes(taus: Sequence[float], tau_cor: float) -> dict[str, Term]:
    return {
        'logit MSE / 2': Term('logit'),
        **{f'KL, τ = {tau:g}': Term('kl', tau, tau**2) for tau in sorted(taus, reverse=True)},
        f'Cor inter, τ = {tau_cor:g}': Term('inter', tau_cor, tau_cor**2),
        f'Cor intra, τ = {tau_cor:g}': Term('intra', tau_cor, tau_cor**2),
    }


def _summary(term: Term, preds_T: Tensor, preds_S: Tensor, of_batch: int) -> dict:
    found = curvature.summary([term], preds_T, preds_S, of_batch)
    return dict(
        found,
        free_directions=curvature.free_directions(term, preds_T.shape[1], of_batch),
        without_tau2=found['strength']['mean'] / term.weight,
    )


def _show(schemes: dict[str, dict], verdict: str, report: Report) -> list[dict]:
    rows = [_row(name, row) for name, row in schemes.items()]
    report.table(
        'Strength at the match, τ² included',
        rows,
        dict(
            loss='',
            mean_curvature='curvature',
            without_tau2='without τ²',
            largest='largest',
            directions_above_1_percent='> 1 %',
            free_directions='free',
            gradient_norm='gradient',
            share_on_small_classes='small',
        ),
    )
    report.console.print(
        'curvature: mean eigenvalue of the Hessian in the logits; > 1 %: '
        'share of directions above 1 % of the largest; free: directions a '
        'sample that it does not tie; small: share of the gradient on '
        'classes that the teacher gives less than chance\n' + verdict,
        highlight=False,
    )
    return rows


def _order(schemes: dict[str, dict]) -> str:
    """Whether logit > KL(high τ) > KL(low τ) > Cor, which is inter."""
    claimed = [name for name in schemes if 'intra' not in name]
    found = sorted(claimed, key=lambda name: -schemes[name]['strength']['mean'])
    return (
        'mean curvature times τ²: ' + ' > '.join(found) + '; the order '
        'logit > KL (high τ) > KL (low τ) > Cor '
        f'{"holds" if found == claimed else "does not hold"}'
    )


def _row(name: str, row: dict) -> dict:
    columns = dict(
        mean_curvature='strength',
        largest='largest',
        directions_above_1_percent='noticeable_share',
        gradient_norm='gradient_norm',
        share_on_small_classes='small_class_share',
    )
    return dict(
        loss=name,
        without_tau2=row['without_tau2'],
        free_directions=row['free_directions'],
        **{column: row[key]['mean'] for column, key in columns.items()},
        **{f'{column}_error': row[key]['error'] for column, key in columns.items()},
    )


def _along(run: Run, nets, batches, preds_T: Tensor, of_batch: int, report: Report) -> dict:
    length = run_length(run.cfg)
    epochs = sorted({round(e) for e in np.linspace(0, length - 1, 50)})
    kinds = dict(kl='KL', inter='Cor inter', intra='Cor intra', logit='logit')
    parts: dict[str, list[float]] = {}
    unweighted = lru_cache(None)(
        lambda term: curvature.mean_curvature([term], preds_T.double(), of_batch)
    )
    for i, terms in enumerate(
        report.track(f'{run.title}: strength over the epochs')(run_terms(run.cfg, epochs))
    ):
        for term in terms:
            values = parts.setdefault(kinds[term.kind], [0.0] * len(epochs))
            values[i] += term.weight * unweighted(term._replace(weight=1.0))
    gradients = {}
    kept = {} if run.checkpoints else tail_checkpoints(run.cfg.work_dir, 0)
    for epoch in report.track(f'{run.title}: gradients of its students')(
        [n for n in kept if n <= length]
    ):
        load_weights(nets.student, kept[epoch])
        logits, _ = collect_logits(dict(student=nets.student), batches)
        (terms,) = run_terms(run.cfg, [epoch - 1])  # as it trained
        gradient = curvature.gradients(
            terms,
            logits['student'][: len(preds_T)].to(preds_T).double(),
            preds_T.double(),
            of_batch,
        )
        gradients[epoch] = curvature.mean_and_error(gradient.norm(dim=1))
    return dict(
        epochs=epochs,
        strength=[sum(values) for values in zip(*parts.values())],
        parts=parts,
        gradients=gradients,
    )
