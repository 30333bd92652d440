"""The agreement study from end to end."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...options import documented
from ..batches import Batches, collect_logits, load_batches
from ..device import choose_device, exact_float32
from ..nets import Nets, build_pair, check_class_order, load_weights
from ..output import Report
from ..runs import Run
from ..study_options import StudyOptions, count, split_option, weights_option
from . import figure, measure


@documented
@dataclass(frozen=True)
class AgreementOptions(StudyOptions):
    """Options of the agreement study."""

    split: str = split_option('val')
    weights: str = weights_option('average', 'compare')
    bins: int = count(15, 'number of bins for the confidence')


@exact_float32()
def run(runs: Sequence[Run], report: Report, options: AgreementOptions) -> measure.Comparison:
    """Agreement of the students with the teacher, calibration, and gains by class.

    The runs are distillations from one teacher; gains are over the first student. Each of the
    ``checkpoints`` of a run is a student.

    Raises:
        FileNotFoundError: If a checkpoint is missing.
        ValueError: If no run has a teacher, a student is named 'teacher', or the images have
            another order of classes.
    """
    # only the config of a distillation specifies the teacher
    cfg = next((run.cfg for run in runs if 'distiller' in run.cfg.model), runs[0].cfg)
    nets = build_pair(cfg, choose_device(options.device))
    paths = _checkpoints(runs, options.weights)
    check_class_order(cfg, paths.values(), [options.split], nets.teachers_classes)
    batches = load_batches(
        cfg, options.split, nets.preprocess, options.samples, options.batch_size, options.seed
    )
    with report.progress():
        logits, labels = _all_logits(nets, paths, batches, report)
    preds_T = logits.pop('teacher')
    found = measure.compare(logits, preds_T, labels, options.bins, _classes(batches))
    correlation_T = measure.class_correlation(preds_T)
    maps = {
        name: (measure.class_correlation(x) - correlation_T).numpy() for name, x in logits.items()
    }
    rows = _show(found.nets, len(labels), report)
    classes = [result.row() for result in found.classes]
    numbers = dict(
        split=options.split,
        seed=options.seed,
        samples=len(labels),
        checkpoints=paths,
        correlation_difference={name: x.tolist() for name, x in maps.items()},
        reference=found.reference,
        nets=found.nets,
        classes=classes,
    )
    figures = {
        '': figure.agreement(found.nets),
        '_correlation': figure.correlation_maps(maps),
        '_classes': figure.class_gains(found),
    }
    report.save(numbers, {'': rows, '_classes': classes}, figures)
    return found


def _checkpoints(runs: Sequence[Run], weights: str) -> dict[str, str]:
    paths = {}
    for run in runs:
        paths.update(run.tail(1) if run.checkpoints else {run.title: run.weights(weights)})
    if 'teacher' in paths:
        raise ValueError(
            f'the results of {paths["teacher"]}, a student, would be labeled "teacher"; '
            'rename the file'
        )
    return paths


def _all_logits(
    nets: Nets, paths: dict[str, str], batches: Batches, report: Report
) -> tuple[dict[str, Tensor], Tensor]:
    logits, labels = collect_logits(dict(teacher=nets.teacher), report.track('teacher')(batches))
    for name, path in paths.items():
        load_weights(nets.student, path)
        found, _ = collect_logits({name: nets.student}, report.track(name)(batches))
        logits.update(found)
    return logits, labels


def _classes(batches: Batches) -> Sequence[str]:
    """Names of the classes, if the data set has them."""
    dataset = batches.loader.dataset
    dataset = getattr(dataset, 'dataset', dataset)  # inside a Subset
    return getattr(dataset, 'metainfo', {}).get('classes', ())


def _show(nets: dict[str, measure.Agreement], images: int, report: Report) -> list[dict]:
    headings = dict(
        net='',
        accuracy='top-1 %',
        top1='as teacher %',
        top1_on_errors='teacher wrong %',
        kl='KL, nats',
        correlation='correlation',
        ece='ECE',
    )
    rows = [
        {'net': name, **{key: getattr(net, key) for key in headings if key != 'net'}}
        for name, net in nets.items()
    ]
    report.table(f'Agreement and calibration, {images} images', rows, headings)
    report.note(
        'as teacher: same top-1 as the teacher; teacher wrong: the same on images that the '
        'teacher gets wrong; KL: divergence from the teacher at τ = 1; correlation: mean '
        "absolute difference of the correlations between the classes' logits"
    )
    return rows
