"""The four analyses from end to end: load, compute, print, draw, write.

Each takes the :class:`~prkd_mm.analysis.report.Run`s to look at and a
:class:`~prkd_mm.analysis.report.Report`, and returns the numbers that it also
writes as JSON.
"""
from functools import partial
from typing import Dict, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..batch_norm import recalibrate_bn
from ..checkpoints import plain_state_dict, read
from . import compare as agreement
from . import figures
from . import spread as scatter
from . import strength as curvature
from .report import Report, Run
from .strength import Term
from .trained import (Batches, build_nets, collect_logits, load_batches,
                      load_weights, tail_checkpoints, training_batches)


def strength(runs: Sequence[Run],
             report: Report,
             samples: int = 512,
             split: str = 'train',
             weights: str = 'latest',
             taus: Sequence[float] = (8., 4., 2., 1.),
             tau_cor: float = 4.,
             seed: int = 0,
             batch_size: Optional[int] = None,
             device='cpu') -> dict:
    """How hard each loss ties the student; see
    :mod:`prkd_mm.analysis.strength`.

    Args:
        runs (Sequence[Run]): Distillations from one teacher, the strength of
            whose losses is followed over the epochs. The last one's student
            is that of the gradients.
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
    """
    run = runs[-1]
    nets = build_nets(run.cfg, device, with_teacher=True)
    batches = load_batches(run.cfg, split, nets.preprocess, samples,
                           batch_size, seed)
    load_weights(nets.student, run.weights(weights))
    with report.progress():
        logits, labels = collect_logits(
            dict(teacher=nets.teacher, student=nets.student),
            report.track('logits of teacher and student')(batches))
        of_batch = min(run.cfg.train_dataloader.batch_size, len(labels))
        used = len(labels) // of_batch * of_batch
        preds_T, preds_S = (logits[name][:used].to(device)
                            for name in ('teacher', 'student'))
        schemes = {}
        for name, term in report.track('curvature and gradients')(
                list(_schemes(taus, tau_cor).items())):
            schemes[name] = dict(
                curvature.summary([term], preds_T, preds_S, of_batch),
                free_directions=curvature.free_directions(
                    term, preds_T.shape[1], of_batch))
            schemes[name]['without_tau2'] = (
                schemes[name]['strength']['mean'] / term.weight)
        along = {
            each.title: _along(each, nets, batches, preds_T, of_batch, report)
            for each in runs if 'distiller' in each.cfg.model
        }
    verdict = _order(schemes)
    title = (f'{run.title}: {used} images of {split}, {preds_T.shape[1]} '
             f'classes, batches of {of_batch}\n' +
             verdict.replace('; ', ';\n'))
    rows = [_strength_row(name, row) for name, row in schemes.items()]
    report.table('Strength at the match, τ² included', rows, dict(
        loss='', mean_curvature='curvature', without_tau2='without τ²',
        largest='largest', directions_above_1_percent='> 1 %',
        free_directions='free', gradient_norm='gradient',
        share_on_small_classes='small'))
    report.console.print(
        'curvature: mean eigenvalue of the Hessian in the logits; > 1 %: '
        'share of directions above 1 % of the largest; free: directions a '
        'sample that it does not tie; small: share of the gradient on '
        'classes that the teacher gives less than chance\n' + verdict,
        highlight=False)
    numbers = dict(samples=used, split=split, batch_size=of_batch, seed=seed,
                   classes=preds_T.shape[1], verdict=verdict, schemes=schemes,
                   along=along)
    report.save(numbers, {'': rows},
                {'': figures.strength(schemes, along, title)})
    return numbers


def _schemes(taus: Sequence[float], tau_cor: float) -> Dict[str, Term]:
    return {
        'logit MSE / 2': Term('logit'),
        **{f'KL, τ = {tau:g}': Term('kl', tau, tau**2)
           for tau in sorted(taus, reverse=True)},
        f'Cor inter, τ = {tau_cor:g}': Term('inter', tau_cor, tau_cor**2),
        f'Cor intra, τ = {tau_cor:g}': Term('intra', tau_cor, tau_cor**2)
    }


def _order(schemes: Dict[str, dict]) -> str:
    """Whether logit > KL(high τ) > KL(low τ) > Cor, which is inter."""
    claimed = [name for name in schemes if 'intra' not in name]
    found = sorted(
        claimed, key=lambda name: -schemes[name]['strength']['mean'])
    return ('mean curvature times τ²: ' + ' > '.join(found) + '; the order '
            'logit > KL (high τ) > KL (low τ) > Cor '
            f'{"holds" if found == claimed else "does not hold"}')


def _strength_row(name: str, row: dict) -> dict:
    columns = dict(
        mean_curvature='strength', largest='largest',
        directions_above_1_percent='noticeable_share',
        gradient_norm='gradient_norm',
        share_on_small_classes='small_class_share')
    return dict(
        loss=name,
        without_tau2=row['without_tau2'],
        free_directions=row['free_directions'],
        **{column: row[key]['mean'] for column, key in columns.items()},
        **{f'{column}_error': row[key]['error']
           for column, key in columns.items()})


def _along(run: Run, nets, batches, preds_T: Tensor, of_batch: int,
           report: Report) -> dict:
    length = curvature.run_length(run.cfg)
    epochs = sorted({round(e) for e in np.linspace(0, length - 1, 50)})
    kinds = dict(kl='KL', inter='Cor inter', intra='Cor intra', logit='logit')
    parts: Dict[str, List[float]] = {}
    for i, terms in enumerate(
            report.track(f'{run.title}: strength over the epochs')(
                curvature.run_terms(run.cfg, epochs))):
        for term in terms:
            values = parts.setdefault(kinds[term.kind], [0.] * len(epochs))
            values[i] += curvature.mean_curvature([term], preds_T.double(),
                                                  of_batch)
    gradients = {}
    kept = {} if run.checkpoints else tail_checkpoints(run.cfg.work_dir, 0)
    for epoch in report.track(f'{run.title}: gradients of its students')(
            [n for n in kept if n <= length]):
        load_weights(nets.student, kept[epoch])
        logits, _ = collect_logits(dict(student=nets.student), batches)
        terms, = curvature.run_terms(run.cfg, [epoch - 1])  # as it trained
        gradient = curvature.gradients(
            terms, logits['student'][:len(preds_T)].to(preds_T).double(),
            preds_T.double(), of_batch)
        gradients[epoch] = curvature.mean_and_error(gradient.norm(dim=1))
    return dict(
        epochs=epochs,
        strength=[sum(values) for values in zip(*parts.values())],
        parts=parts,
        gradients=gradients)


def spread(runs: Sequence[Run],
           report: Report,
           samples: Optional[int] = None,
           split: str = 'val',
           bn_batches: int = 100,
           seed: int = 0,
           batch_size: Optional[int] = None,
           device='cpu') -> dict:
    """Where averaging the tail pays; see :mod:`prkd_mm.analysis.spread`.

    The averages' batch-norm statistics come from the training batches that
    ``TailAverageHook`` would take.

    Args:
        runs (Sequence[Run]): With at least two checkpoints each.
        report (Report): Where the numbers go.
        samples (int, optional): Images to predict. Defaults to None: all.
        split (str): 'val' or 'train' (un-augmented). Defaults to 'val'.
        bn_batches (int): Defaults to 100.
        seed (int): Draws the images, where ``samples`` is given. Defaults
            to 0.
        batch_size (int, optional): Defaults to None: that of validation.
        device (str | torch.device): Defaults to 'cpu'.
    """
    tails = {run.title: run.tail() for run in runs}
    found = {}
    with report.progress():
        for run in runs:
            nets = build_nets(run.cfg, device)
            states, last_epoch = {}, 0
            for label, path in report.track(f'{run.title}: checkpoints')(
                    list(tails[run.title].items())):
                checkpoint = read(path)
                states[label] = plain_state_dict(checkpoint)[0]
                last_epoch = checkpoint.get('meta', {}).get('epoch', 1) - 1
            names = [name for name, p in nets.student.named_parameters()
                     if p.requires_grad]
            batches = load_batches(run.cfg, split, nets.preprocess, samples,
                                   batch_size, seed)
            train = training_batches(
                run.cfg, nets.preprocess, bn_batches,
                run.cfg.get('randomness', {}).get('seed') or seed, last_epoch)
            labels = torch.cat([labels for _, labels in batches]).cpu()
            predict = partial(_predict, batches)
            raw = [
                predict(load_weights(nets.student, path)) for path in
                report.track(f'{run.title}: raw students')(
                    list(tails[run.title].values()))
            ]
            averaged = scatter.averages(
                states, nets.student, partial(_recalibrate, train), predict,
                report.track(f'{run.title}: averages'))
            found[run.title] = dict(
                checkpoints=tails[run.title],
                disagreement=scatter.disagreement(
                    [x.argmax(1) for x in raw]),
                **scatter.weight_spread(
                    [scatter.flat(state, names) for state in states.values()]),
                by_number=_by_number(averaged, raw, labels))
    rows = [
        dict(
            run=title,
            checkpoints=len(row['checkpoints']),
            variance=row['variance'],
            relative_rms=row['relative_rms'],
            mean_distance=row['mean_distance'],
            disagreement=row['disagreement'],
            **row['by_number'][-1]) for title, row in found.items()
    ]
    report.table('The tail, and the mean of all of it', rows, dict(
        run='', checkpoints='n', variance='variance', relative_rms='rms/norm',
        mean_distance='distance', disagreement='disagree',
        raw_top1='raw top-1', top1='mean top-1', gain='gain',
        gain_error='±'))
    report.console.print(
        'variance: summed over the weights; rms/norm: its root over the norm '
        'of the mean; distance, disagree: of a pair, the latter as a share '
        'of the images; top-1 in %; ±: standard error', highlight=False)
    numbers = dict(split=split, seed=seed, runs=found)
    report.save(
        numbers, {
            '': rows,
            '_by_number': [dict(run=title, **row) for title in found
                           for row in found[title]['by_number']]
        }, {'': figures.spread(found)})
    return numbers


def _predict(batches: Batches, net: nn.Module) -> Tensor:
    return collect_logits(dict(net=net), batches)[0]['net']


def _recalibrate(batches: Batches, net: nn.Module) -> None:
    recalibrate_bn(net, (inputs for inputs, _ in batches))


def _by_number(averaged: Dict[int, Tensor], raw: List[Tensor],
               labels: Tensor) -> List[dict]:
    rows = []
    for number, logits in averaged.items():
        gain = scatter.gain(logits, raw[-number:], labels)
        rows.append(
            dict(
                averaged=number,
                top1=scatter.accuracy(logits, labels),
                raw_top1=float(np.mean([scatter.accuracy(x, labels)
                                        for x in raw[-number:]])),
                oldest_top1=scatter.accuracy(raw[-number], labels),
                gain=gain['gain'],
                gain_error=gain['error']))
    return rows


def compare(runs: Sequence[Run],
            report: Report,
            samples: Optional[int] = None,
            split: str = 'val',
            weights: str = 'average',
            bins: int = 15,
            seed: int = 0,
            batch_size: Optional[int] = None,
            device='cpu') -> dict:
    """Student against teacher; see :mod:`prkd_mm.analysis.compare`.

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
    """
    # a distillation among them knows the teacher; 'ce' does not
    cfg = next((run.cfg for run in runs if 'distiller' in run.cfg.model),
               runs[0].cfg)
    nets = build_nets(cfg, device, with_teacher=True)
    paths = {}
    for run in runs:
        paths.update(run.tail(1) if run.checkpoints else
                     {run.title: run.weights(weights)})
    batches = load_batches(cfg, split, nets.preprocess, samples, batch_size,
                           seed)
    with report.progress():
        logits, labels = collect_logits(
            dict(teacher=nets.teacher), report.track('teacher')(batches))
        for name, path in paths.items():
            load_weights(nets.student, path)
            logits[name] = collect_logits(
                dict(student=nets.student),
                report.track(name)(batches))[0]['student']
    preds_T = logits.pop('teacher')
    found = agreement.comparison(
        logits, preds_T, labels, bins,
        getattr(_dataset(batches), 'metainfo', {}).get('classes', ()))
    maps = {
        name: (agreement.class_correlation(x) -
               agreement.class_correlation(preds_T)).numpy()
        for name, x in logits.items()
    }
    headings = dict(
        net='', accuracy='top-1 %', top1='as teacher %',
        top1_on_errors='where it errs %', kl='KL, nats',
        correlation='correlation', ece='ECE')
    rows = [{key: {'net': name, **row}[key] for key in headings}
            for name, row in found['nets'].items()]
    report.table(f'Agreement and calibration, {len(labels)} images', rows,
                 headings)
    report.console.print(
        'as teacher: the same top-1; KL: of the student from the teacher, '
        'τ = 1; correlation: mean absolute difference of the correlations '
        "between the classes' logits", highlight=False)
    numbers = dict(
        split=split, seed=seed, samples=len(labels), checkpoints=paths,
        correlation_difference={k: x.tolist() for k, x in maps.items()},
        **found)
    report.save(
        numbers, {'': rows, '_classes': found['classes']}, {
            '': figures.agreement(found['nets']),
            '_correlation': figures.correlation_maps(maps),
            '_classes': figures.class_gains(
                found['classes'], list(logits), found['reference'])
        })
    return numbers


def _dataset(batches):
    dataset = batches.loader.dataset
    return getattr(dataset, 'dataset', dataset)  # inside a Subset
