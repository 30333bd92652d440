"""Choose a method's temperatures and weights on held-out training images."""
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config, ConfigDict
from rich.console import Console
from scipy.stats import qmc

from ..runs import load_config
from ..storing import default_folder, store_teacher
from .comparison import METHODS, run_all, training
from .job import AVERAGED_TOP1, TOP1, Job

# from, to, in units of: 'value' the config's own, 'tau' the trial's tau
RANGES = dict(
    tau=(1., 8., None),
    tau_L=(1 / 8, 1., 'tau'),
    loss_weight=(1 / 8, 2., 'value'),
    cor_weight=(1 / 8, 2., 'value'))


@dataclass
class Trial:
    """One setting of a method, and what came of it with each seed.

    Attributes:
        method (str): Of :data:`~prkd_mm.experiments.METHODS`.
        number (int): Its place in the search; 0 is the config as it stands.
        values (dict): By parameter.
        options (list[str]): ``KEY=VALUE`` that say the same to a config.
        last (list[float]): Top-1 of the last epoch, in percent, by seed.
        averaged (list[float]): The same of the tail average.
    """
    method: str
    number: int
    values: Dict[str, float]
    options: List[str]
    last: List[float] = field(default_factory=list)
    averaged: List[float] = field(default_factory=list)

    @property
    def score(self) -> float:
        """What is chosen by: mean top-1 of the average over the seeds."""
        return statistics.fmean(self.averaged)


def parameters(cfg: Config) -> Dict[str, List[str]]:
    """Where a config has what can be searched: keys by parameter.

    ``tau`` and ``loss_weight`` of its one distillation loss; ``tau_L`` and
    ``cor_weight``, at the end of the run, where schedules drive them.

    Raises:
        ValueError: There is not exactly one distillation loss.
    """
    losses = cfg.model.get('distiller', {}).get('distill_losses', {})
    if len(losses) != 1:
        raise ValueError(
            f'{cfg.filename} has {len(losses)} distillation losses, '
            f'{list(losses)}; a search is of one')
    (name, loss), = losses.items()
    prefix = f'model.distiller.distill_losses.{name}'
    found = {
        key: [f'{prefix}.{key}']
        for key in ('tau', 'loss_weight') if key in loss
    }
    for i, hook in enumerate(cfg.get('custom_hooks', [])):
        for j, schedule in enumerate(hook.get('schedules', [])):
            key = f'custom_hooks.{i}.schedules.{j}'
            if schedule['attr'] == 'tau':
                found.setdefault('tau', []).append(f'{key}.start')
                found['tau_L'] = [f'{key}.end']
            elif schedule['attr'] == 'cor_weight':
                found['cor_weight'] = [f'{key}.end']
    return found


def value_at(cfg: Config, key: str) -> float:
    """What stands in a config at a key like ``a.0.b``."""
    value = cfg
    for part in key.split('.'):
        value = value[int(part) if part.isdigit() else part]
    return value


def settings(cfg: Config, method: str, number: int, seed: int = 0
             ) -> List[Trial]:
    """The settings to try: the config's own, then points spread evenly.

    The points are of a scrambled Halton sequence, even in the logarithms over
    :data:`RANGES`, and rounded to two digits.

    Args:
        cfg (Config): With the method put in.
        method (str): Its name.
        number (int): How many in all.
        seed (int): Of the sequence. Defaults to 0.
    """
    keys = parameters(cfg)
    own = {name: value_at(cfg, where[0]) for name, where in keys.items()}
    found = [Trial(method, 0, own, [])]
    points = qmc.Halton(len(keys), seed=seed).random(number - 1)
    for i, point in enumerate(points, 1):
        values = {}
        for name, share in zip(sorted(keys, key=list(RANGES).index), point):
            low, high, unit = RANGES[name]
            scale = dict(value=own[name], tau=values.get('tau')).get(unit, 1.)
            value = scale * low * (high / low)**share
            values[name] = float(f'{value:.2g}')
        options = [f'{key}={values[name]}' for name in keys
                   for key in keys[name]]
        found.append(Trial(method, i, values, options))
    return found


def _with_part(dataset: ConfigDict, part: str, every: int,
               pipeline: Optional[list] = None) -> dict:
    """A data set's config for one part of it, PackedImages or not."""
    split = dict(type='held_out_split', part=part, every=every)
    if dataset['type'].endswith('PackedImages'):
        outer = {k: v for k, v in dataset.items() if k != 'dataset'}
        inner = dict(split, dataset=dataset['dataset'])
        if pipeline:
            outer['pipeline'] = pipeline
        return dict(outer, dataset=inner)
    return dict(split, dataset=dataset, **(
        dict(pipeline=pipeline) if pipeline else {}))


def write_held_out(config: str, folder: Path, every: int = 5
                   ) -> Tuple[Path, Optional[Path]]:
    """Write configs that train on a part and validate on what is held out.

    The student's, and its teacher's if ``teacher_config`` says how to train
    that: it must not have seen the held-out images either.

    Args:
        config (str): Of a pair.
        folder (Path): Where to.
        every (int): Which images are held out: see
            :func:`~prkd_mm.datasets.held_out_split`. Defaults to 5.

    Returns:
        tuple: The paths of the two; the second None if there is no
        ``teacher_config``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = load_config(config).model
    path, teacher = _write_one(config, folder, every, {}), None
    if model.get('teacher_config'):
        teacher = _write_one(model.teacher_config, folder, every, {})
        path = _write_one(
            config, folder, every,
            dict(
                model=dict(
                    teacher_ckpt=f'work_dirs/{teacher.stem}',
                    teacher_config=str(teacher))))
    return path, teacher


def _write_one(config: str, folder: Path, every: int, more: dict) -> Path:
    cfg = load_config(config)
    pipeline = cfg.val_dataloader.dataset.get(
        'pipeline') or cfg.val_dataloader.dataset.dataset.pipeline
    held_out = dict(
        cfg.val_dataloader.to_dict(),
        _delete_=True,
        dataset=_with_part(cfg.train_dataloader.dataset.to_dict(), 'held_out',
                           every, pipeline))
    rest = _with_part(cfg.train_dataloader.dataset.to_dict(), 'rest', every)
    changes = Config(
        dict(
            train_dataloader=dict(dataset=dict(rest, _delete_=True)),
            val_dataloader=held_out,
            test_dataloader=held_out,
            **more))
    path = folder / f'{Path(config).stem}_held_out.py'
    base = os.path.relpath(config, folder)
    path.write_text(
        f'# Trains on a part of the training images of {config}, and\n'
        f'# validates on the rest, every {every}th.\n'
        f'_base_ = {base!r}\n{changes.pretty_text}')
    return path


def finalists(found: Sequence[Trial], number: int) -> List[Trial]:
    """The best so far, and the config as it stands."""
    best = sorted(found, key=lambda trial: -trial.score)[:number]
    return best + [trial for trial in found
                   if trial.number == 0 and trial not in best]


def winner(final: Sequence[Trial]) -> Trial:
    """Of the finalists the best, over all seeds."""
    return max(final, key=lambda trial: trial.score)


class Search:
    """Trials of several methods, each with the same budget.

    Args:
        config (str): Of a pair.
        methods (Sequence[str]): Of :data:`~prkd_mm.experiments.METHODS`.
        out (Path): Where the held-out configs and the report go.
        train_py (str): Path of ``tools/train.py``.
        console (Console): Where progress is shown.
        trials (int): Settings of each method. Defaults to 8.
        finalists (int): How many of them get all seeds, besides the config's
            own. Defaults to 2.
        seeds (int): Runs of a finalist. Defaults to 3.
        held_out (int): Every that many-th image is. Defaults to 5.
        tail (int): The most last epochs that are averaged. Defaults to 15.
        jobs (int): Runs side by side. Defaults to 1.
        views (int, optional): Store the teacher's logits of that many views
            and train from them. Defaults to None: the live teacher.
        cfg_options (Sequence[str]): For the students. Defaults to none.
        teacher_options (Sequence[str]): For the teacher. Defaults to none.
        amp (bool): Mixed precision. Defaults to False.

    Raises:
        ValueError: The config has no methods, or more epochs are to be
            averaged than it has.
    """

    def __init__(self,
                 config: str,
                 methods: Sequence[str],
                 out: Path,
                 train_py: str,
                 console: Console,
                 trials: int = 8,
                 finalists: int = 2,
                 seeds: int = 3,
                 held_out: int = 5,
                 tail: int = 15,
                 jobs: int = 1,
                 views: Optional[int] = None,
                 cfg_options: Sequence[str] = (),
                 teacher_options: Sequence[str] = (),
                 amp: bool = False) -> None:
        self.out, self.train_py, self.console = out, train_py, console
        self.finalists, self.seeds, self.jobs = finalists, seeds, jobs
        self.views, self.amp = views, amp
        self.every, self.tail = held_out, tail
        path, self.teacher = write_held_out(config, out, held_out)
        self.config = str(path)
        self.options = [
            f'default_hooks.checkpoint.max_keep_ckpts={tail}', *cfg_options
        ]
        self.teacher_options = teacher_options
        self.found = {}
        for method in methods:
            cfg = load_config(self.config, method)
            self.found[method] = settings(cfg, method, trials)

    def run(self) -> None:
        """Train what is missing: the teacher, the trials, the finalists."""
        if self.teacher:
            teacher = training('teacher', str(self.teacher), None,
                               self.teacher_options, 0, self.amp)
            run_all([teacher], self.train_py, self.console)
        if self.views:
            cfg = load_config(self.config, next(iter(self.found)))
            folder = default_folder(cfg, self.views)
            store_teacher(cfg, folder, self.views)
            self.options.append(f'model.teacher_logits={folder}')
        self._run(
            [trial for found in self.found.values() for trial in found], 1)
        self._run([
            trial for found in self.found.values()
            for trial in finalists(found, self.finalists)
        ], self.seeds)

    def jobs_of(self, trial: Trial, seeds: int) -> List[Job]:
        """The runs of a trial."""
        return [
            training(f'{METHODS[trial.method]}, trial {trial.number}',
                     self.config, trial.method,
                     [*self.options, *trial.options], seed, self.amp,
                     f'_trial{trial.number}') for seed in range(seeds)
        ]

    def _run(self, trials: Sequence[Trial], seeds: int) -> None:
        runs = [(trial, self.jobs_of(trial, seeds)) for trial in trials]
        # by seed, so that an early end leaves whole rounds
        jobs = [job for round_ in zip(*(jobs for _, jobs in runs))
                for job in round_]
        run_all(jobs, self.train_py, self.console, self.jobs)
        for trial, jobs in runs:
            for name, metric in (('last', TOP1), ('averaged', AVERAGED_TOP1)):
                curves = [job.curve(metric) for job in jobs]
                setattr(trial, name, [curve[max(curve)] for curve in curves])

    def write(self, command: str) -> None:
        pass
