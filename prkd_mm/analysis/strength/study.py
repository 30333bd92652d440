"""The strength study from end to end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from torch import Tensor

from ...cli import positive_number, positive_numbers
from ...options import documented, option
from ...strength import Term
from ..batches import Batches, collect_logits, load_batches
from ..device import choose_device, exact_float32
from ..nets import Nets, build_pair, check_class_order, load_weights
from ..output import Report
from ..runs import Run
from ..study_options import StudyOptions, count, split_option, weights_option
from . import figure, measure
from .along_run import StrengthOverRun, checkpoints_of, strength_over_run
from .measure import Summary

_SUBSETS = dict(train='training', val='validation')


@documented
@dataclass(frozen=True)
class StrengthOptions(StudyOptions):
    """Options of the strength study."""

    samples: int = count(
        512, 'number of images, drawn with --seed, cut to whole batches of the run'
    )
    split: str = split_option('train')
    weights: str = weights_option('latest')
    taus: Sequence[float] = option(
        (8.0, 4.0, 2.0, 1.0), 'temperatures of KL', '8,4,2,1', type=positive_numbers, metavar='T,T'
    )
    tau_cor: float = option(4.0, 'temperature of the correlation', type=positive_number)


@exact_float32()
def run(runs: Sequence[Run], report: Report, options: StrengthOptions) -> dict[str, Summary]:
    """How strongly each loss constrains the student, and how that changes over a run.

    The runs are distillations from one teacher. A run whose strength over the epochs cannot be
    computed is reported and skipped. The gradients are computed for the student of the last run
    that has a teacher.

    Raises:
        FileNotFoundError: If a checkpoint is missing.
        ValueError: If no run has a teacher, or the images have another order of classes.
    """
    distilled = [run for run in runs if 'distiller' in run.cfg.model]
    run = (distilled or runs)[-1]
    nets = build_pair(run.cfg, choose_device(options.device))
    batches = load_batches(
        run.cfg, options.split, nets.preprocess, options.samples, options.batch_size, options.seed
    )
    weights = run.weights(options.weights)
    paths: list[Union[str, Path]] = [weights]
    paths += [path for each in distilled for path in checkpoints_of(each).values()]
    check_class_order(run.cfg, paths, [options.split], nets.teachers_classes)
    load_weights(nets.student, weights)
    with report.progress():
        preds_S, preds_T, batch_size = _logits(run, nets, batches, report)
        terms = _terms(options.taus, options.tau_cor)
        schemes = {
            name: measure.summary(term, preds_S, preds_T, batch_size)
            for name, term in report.track('curvature and gradients')(list(terms.items()))
        }
        along: dict[str, StrengthOverRun] = {}
        for each in distilled:
            try:
                along[each.title] = strength_over_run(
                    each, nets.student, batches, preds_T, batch_size, report
                )
            except ValueError as error:
                report.note(f'{each.title} over its epochs: {error}')
    verdict, (used, classes) = _order(schemes), preds_T.shape
    about = dict(
        samples=used,
        split=options.split,
        batch_size=batch_size,
        seed=options.seed,
        classes=classes,
        verdict=verdict,
    )
    title = (
        f'{used} {_SUBSETS[options.split]} images, {classes} classes, batches of {batch_size}; '
        f'(c) and (d): student of {run.title}\n' + verdict.replace('; ', ';\n')
    )
    rows = _show(schemes, verdict, report)
    drawn = {'': figure.strength(schemes, along, title)}
    report.save(dict(about, schemes=schemes, along=along), {'': rows}, drawn)
    return schemes


def _logits(run: Run, nets: Nets, batches: Batches, report: Report) -> tuple[Tensor, Tensor, int]:
    """Logits in whole batches of the run, as 'intra' needs them."""
    logits, labels = collect_logits(
        dict(teacher=nets.teacher, student=nets.student),
        report.track('logits of teacher and student')(batches),
    )
    batch_size = min(run.cfg.train_dataloader.batch_size, len(labels))
    used = len(labels) // batch_size * batch_size
    device = next(nets.student.parameters()).device
    preds_S, preds_T = (logits[name][:used].to(device) for name in ('student', 'teacher'))
    return preds_S, preds_T, batch_size


def _terms(taus: Sequence[float], tau_cor: float) -> dict[str, Term]:
    return {
        'logit MSE / 2': Term('logit'),
        **{f'KL, τ = {tau:g}': Term('kl', tau, tau**2) for tau in sorted(taus, reverse=True)},
        f'Cor inter, τ = {tau_cor:g}': Term('inter', tau_cor, tau_cor**2),
        f'Cor intra, τ = {tau_cor:g}': Term('intra', tau_cor, tau_cor**2),
    }


def _order(schemes: dict[str, Summary]) -> str:
    """Whether logit > KL(high τ) > KL(low τ) > Cor inter."""
    expected = [name for name in schemes if 'intra' not in name]
    found = sorted(expected, key=lambda name: -schemes[name].strength.mean)
    holds = 'holds' if found == expected else 'does not hold'
    return (
        f'mean curvature times τ²: {" > ".join(found)}; '
        f'the order logit > KL (high τ) > KL (low τ) > Cor {holds}'
    )


def _show(schemes: dict[str, Summary], verdict: str, report: Report) -> list[dict]:
    rows = [_row(name, summary) for name, summary in schemes.items()]
    headings = dict(
        loss='',
        mean_curvature='curvature',
        without_tau2='without τ²',
        largest='largest',
        directions_above_1_percent='> 1 %',
        free_directions='free',
        gradient_norm='gradient',
        share_on_small_classes='small',
    )
    report.table('Strength at the match, τ² included', rows, headings)
    report.note(
        'curvature: mean eigenvalue of the Hessian in the logits; > 1 %: share of directions '
        'above 1 % of the largest; free: unconstrained directions per sample; small: '
        f'share of the gradient on classes with a teacher probability below 1/C\n{verdict}'
    )
    return rows


def _row(name: str, summary: Summary) -> dict:
    columns = dict(
        mean_curvature=summary.strength,
        largest=summary.largest,
        directions_above_1_percent=summary.noticeable_share,
        gradient_norm=summary.gradient_norm,
        share_on_small_classes=summary.small_class_share,
    )
    return dict(
        loss=name,
        without_tau2=summary.without_tau2,
        free_directions=summary.free_directions,
        **{column: estimate.mean for column, estimate in columns.items()},
        **{f'{column}_error': estimate.error for column, estimate in columns.items()},
    )
