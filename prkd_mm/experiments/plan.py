"""The runs of a comparison: a teacher, then students by method and seed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from ..algorithms.student_alone import is_alone, net_config
from ..config import choose_method, load_config, seed_suffix
from ..methods import METHODS
from .job import Job
from .shared_store import default_views

DEFAULT_METHODS = ('ce', 'kd', 'prkd')
DEFAULT_SEEDS = 3


def training(
    title: str,
    config: str,
    method: Optional[str] = None,
    options: Sequence[str] = (),
    seed: Optional[int] = None,
    amp: bool = False,
    suffix: str = '',
    store_views: int = 0,
    **more,
) -> Job:
    """A run of ``tools/train.py``, in its own work dir.

    Args:
        title, config, method, **more: As for :class:`Job`.
        options: ``KEY=VALUE`` overrides.
        seed: Seed of the run; None for the seed of the config and the options. Seed 0 uses the
            default work dir of ``tools/train.py``.
        amp, store_views: Options of that tool; a student alone does not need ``store_views``.
        suffix: Suffix of the work dir.

    Raises:
        ValueError: If ``seed`` and the options both set a seed, if the options set the work dir, or
            if ``store_views`` does not fit the config.
    """
    arguments = [config]
    if method:
        arguments += ['--method', method]
    if amp:
        arguments += ['--amp']
    if store_views and not is_alone(load_config(config, method)):
        arguments += ['--store-views', str(store_views)]
    if seed is not None:
        if any(option.startswith('randomness.seed=') for option in options):
            raise ValueError(
                'randomness.seed is 0, 1, ... for the runs of a method: leave it out of the options'
            )
        options = [*options, f'randomness.seed={seed}']
    if any(option.startswith('work_dir=') for option in options):
        raise ValueError(
            'each run has its own work dir: set work_dir in the config, or leave it out, but not '
            'in the options'
        )
    suffix += seed_suffix(seed or 0)
    if suffix:
        first = load_config(config, method).work_dir.rstrip('/')
        arguments += ['--work-dir', f'{first}{suffix}']
    if options:
        arguments += ['--cfg-options', *options]
    return Job(title, arguments, method, seed or 0, **more)


def plan(
    config: str,
    methods: Optional[Sequence[str]] = None,
    options: Sequence[str] = (),
    teacher_options: Sequence[str] = (),
    seeds: int = 1,
    amp: bool = False,
    records: Optional[Path] = None,
    store_views: Optional[int] = 0,
) -> list[Job]:
    """The jobs of a comparison; the job of the teacher comes first.

    The teacher is trained once if ``teacher_ckpt`` is the work dir of ``teacher_config``; any
    other checkpoint must exist. A config with a single method, such as that of a teacher, has one
    job per seed. The runs of seed 0 keep all checkpoints that they average, for the studies.

    The arguments are the options of ``tools/reproduce.py``; ``options`` is ``--cfg-options``, and
    None the default of ``methods`` and of ``store_views``.

    Raises:
        ValueError: If the config counts iterations instead of epochs or has no validation, if it
            has a single method but ``methods`` are given, if the teacher to be trained has other
            classes than the student, if the options set the seed, or if ``store_views`` does not
            fit the config.
    """
    own = load_config(config)
    if not own.train_cfg.get('max_epochs'):
        raise ValueError(
            f"'{config}' is not trained by epochs (train_cfg: {own.train_cfg}), but runs are "
            'compared by epochs'
        )
    if not own.get('val_dataloader') or not own.get('val_evaluator'):
        raise ValueError(
            f"'{config}' has no val_dataloader and val_evaluator, but runs are compared by their "
            'top-1 on a validation set'
        )
    if methods and 'method' not in own:
        choose_method(config, methods[0])  # raises
    methods = DEFAULT_METHODS if methods is None else methods
    named = None
    if 'method' in own:
        distilled = [each for each in methods if not is_alone(load_config(config, each))]
        named = (distilled or methods)[-1]
    first = training('', config, named, options).cfg
    if store_views is None:
        store_views = default_views(first)
    train = partial(training, amp=amp, store_views=store_views, records=records)
    if 'method' not in own:
        title = Path(config).stem if 'distiller' in first.model else 'alone'
        return [train(title, config, None, options, seed) for seed in range(seeds)]
    teacher = _teacher(first, teacher_options, amp=amp, records=records)
    if teacher:
        _check_classes(teacher.cfg.model, first.model.architecture)
    averaged = [*_keep_the_tail(first), *options]
    students = [
        train(
            METHODS.get(method, method),
            config,
            method,
            options if seed else averaged,
            seed,
            teacher=teacher,
        )
        for seed in range(seeds)
        for method in methods
    ]
    return [teacher, *students] if teacher else students


def _teacher(cfg: Config, options: Sequence[str], **more) -> Optional[Job]:
    """The job that trains the teacher of a pair; None if its checkpoint is not from a run."""
    model = cfg.model
    config, checkpoint = model.get('teacher_config'), model.get('teacher_ckpt')
    if not (isinstance(config, str) and isinstance(checkpoint, str)):
        return None  # several teachers are trained beforehand
    try:
        job = training('teacher', config, None, options, **more)
    except ValueError as error:
        raise ValueError(str(error).replace('--cfg-options', '--teacher-options')) from error
    return job if Path(checkpoint).resolve() == job.work_dir.resolve() else None


def _check_classes(teacher: dict, student: dict) -> None:
    """Raise a ValueError, before the teacher is trained, if its student has other classes."""
    numbers = [(net_config(net).get('head') or {}).get('num_classes') for net in (teacher, student)]
    if None not in numbers and numbers[0] != numbers[1]:
        raise ValueError(
            f'the teacher has {numbers[0]} classes and the student {numbers[1]}: set num_classes '
            'of both heads to the number of classes in the training set'
        )


def _keep_the_tail(cfg: Config) -> list[str]:
    """Option to keep all checkpoints that a run averages."""
    tail = (cfg.default_hooks.get('tail_average') or {}).get('num_epochs', 0)
    saving = cfg.default_hooks.get('checkpoint')
    kept = saving.get('max_keep_ckpts', -1) if saving else -1
    return [f'default_hooks.checkpoint.max_keep_ckpts={tail}'] if 0 <= kept < tail else []
