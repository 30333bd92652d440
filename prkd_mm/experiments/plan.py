"""Which runs a comparison needs: a teacher, then students by method and seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from ..config import METHODS, load_config, seed_suffix
from .job import Job


def training(
    title: str,
    config: str,
    method: Optional[str] = None,
    options: Sequence[str] = (),
    seed: Optional[int] = None,
    amp: bool = False,
    suffix: str = '',
) -> Job:
    """A run of ``tools/train.py``, in a work dir of its own.

    Args:
        title (str): What the user reads.
        config (str): A config.
        method (str, optional): Of :data:`METHODS`. Defaults to None: a net
            alone.
        options (Sequence[str]): ``KEY=VALUE``. Defaults to none.
        seed (int, optional): Seed 0 has the work dir that
            ``tools/train.py`` would take. Defaults to None: what the config
            and the options say.
        amp (bool): Mixed precision. Defaults to False.
        suffix (str): Of the work dir. Defaults to ''.

    Raises:
        ValueError: ``seed``, and the options say another.
    """
    arguments = [config]
    if method:
        arguments += ['--method', method]
    if amp:
        arguments += ['--amp']
    if seed is not None:
        if any(option.startswith('randomness.seed=') for option in options):
            raise ValueError(
                'randomness.seed is what tells the runs of a '
                'method apart, 0, 1, ...: leave it out of the '
                'options'
            )
        options = [*options, f'randomness.seed={seed}']
    if seed:
        title += f', seed {seed}'
        suffix += seed_suffix(seed)
    if suffix:
        first = load_config(config, method).work_dir
        arguments += ['--work-dir', f'{first}{suffix}']
    if options:
        arguments += ['--cfg-options', *options]
    return Job(title, arguments, method, seed or 0)


def plan(
    config: str,
    methods: Sequence[str],
    options: Sequence[str] = (),
    teacher_options: Sequence[str] = (),
    seeds: int = 1,
    amp: bool = False,
) -> list[Job]:
    """The jobs that a comparison needs; the teacher's first.

    The teacher is trained, once, if ``teacher_ckpt`` is the work dir of
    ``teacher_config``; any other checkpoint has to be there. A config that
    knows no methods, as a teacher's, is one job a seed. The runs of seed 0
    keep all checkpoints that they average, for the analyses.

    Args:
        config (str): A config.
        methods (Sequence[str]): Of :data:`METHODS`.
        options (Sequence[str]): ``KEY=VALUE`` for the students' runs.
            Defaults to none.
        teacher_options (Sequence[str]): The same for the teacher's. Defaults
            to none.
        seeds (int): Runs of each method, with the seeds 0, 1, ... Seed 0 has
            the work dir that ``tools/train.py`` would take. Defaults to 1.
        amp (bool): Mixed precision. Defaults to False.

    Raises:
        ValueError: The config counts iterations, not epochs; or see
            :func:`training`.
    """
    own = load_config(config)
    if not own.train_cfg.get('max_epochs'):
        raise ValueError(
            f'{config} is not trained by epochs (train_cfg: '
            f'{own.train_cfg}), which a comparison goes by'
        )
    if 'method' not in own:
        return [training('alone', config, None, options, k, amp) for k in range(seeds)]
    kept = _keep_the_tail(training('', config, methods[0], options).cfg)
    jobs = [
        training(METHODS[method], config, method, options if k else [*kept, *options], k, amp)
        for k in range(seeds)
        for method in methods
    ]
    model = jobs[-1].cfg.model
    if model.get('teacher_config') and model.get('teacher_ckpt'):
        teacher = training('teacher', model.teacher_config, None, teacher_options, amp=amp)
        if Path(model.teacher_ckpt).resolve() == teacher.work_dir.resolve():
            jobs.insert(0, teacher)
    return jobs


def _keep_the_tail(cfg: Config) -> list[str]:
    """The option that keeps all checkpoints that a run averages."""
    tail = (cfg.default_hooks.get('tail_average') or {}).get('num_epochs', 0)
    saving = cfg.default_hooks.get('checkpoint')
    if not saving:
        return []
    kept = saving.get('max_keep_ckpts', -1)
    if kept < 0 or kept >= tail:
        return []
    return [f'default_hooks.checkpoint.max_keep_ckpts={tail}']
