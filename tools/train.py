"""Train a student (or a teacher) from a config."""

import argparse
import contextlib
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.checkpoints import checkpoint_name, filename_template, read
from prkd_mm.checks.class_checks import check_classes
from prkd_mm.checks.metric_checks import check_images
from prkd_mm.config import add_train_arguments, load_config
from prkd_mm.datasets.wrapped import unused_images
from prkd_mm.start.failed_start import (
    has_earlier_run,
    has_trained,
    is_of_earlier_run,
    restored_after_failed_start,
)
from prkd_mm.start.folder_lock import lock_folder
from prkd_mm.start.launch import (
    check_amp,
    end_together,
    learning_rate_note,
    processes_of,
    seed_workers_by_epoch,
    use_gloo_without_gpu,
)
from prkd_mm.start.resume import (
    check_initial_weights,
    check_same_images,
    check_same_start,
    check_same_teacher,
    set_resume,
)
from prkd_mm.teachers.filling_teacher import prepare_store


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    add_train_arguments(parser)
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> Config:
    """The config of the run, with the options of the command line.

    ``resume=True`` in the config sets ``args.resume``.
    """
    cfg = load_config(args.config, args.method, args.cfg_options, args.work_dir)
    cfg.launcher = args.launcher
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'model'):
        if not cfg.get(name):
            raise ValueError(f'the config {args.config!r} cannot be trained: it has no {name}')
    if cfg.get('resume') and not args.resume:  # with the same checks; as MMEngine understands it
        args.resume = cfg.get('load_from') or 'auto'
    if not args.resume:
        if has_earlier_run(cfg.work_dir):
            reject_weights_in(cfg)
        reject_checkpoints_elsewhere(cfg)
    prepare_store(cfg, args.store_views)
    seed_workers_by_epoch(cfg)
    check_amp(args.amp)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise ValueError(
                f'{args.config} has no '
                'auto_scale_lr=dict(base_batch_size=...), which '
                '--auto-scale-lr requires'
            )
        cfg.auto_scale_lr.enable = True
    return cfg


def reject_weights_in(cfg: Config) -> None:
    """Raise a ValueError for weights of the earlier run in the work dir, which is moved."""
    given = dict(load_from=cfg.get('load_from'), teacher_ckpt=cfg.model.get('teacher_ckpt'))
    for name, paths in given.items():
        for path in [paths] if isinstance(paths, str) else paths or []:
            if is_of_earlier_run(path, cfg.work_dir, filename_template(cfg)):
                raise ValueError(
                    f'{name}={path!r} belongs to the earlier run in the work dir of the new one, '
                    'which would move it: set another --work-dir'
                )


def reject_checkpoints_elsewhere(cfg: Config) -> None:
    """Raise a ValueError for checkpoints of an earlier run where ``out_dir`` puts the new ones."""
    out_dir = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir')
    work_dir = os.path.abspath(cfg.work_dir)
    if out_dir in (None, work_dir):
        return
    # as MMEngine does (mmengine/hooks/checkpoint_hook.py)
    folder = Path(out_dir, os.path.basename(work_dir))
    if folder.resolve() == Path(work_dir).resolve():
        return  # the earlier run there is moved
    name = checkpoint_name(filename_template(cfg))
    if any(name.fullmatch(path.name) for path in folder.glob('*')):
        raise ValueError(
            f"'{folder}' has the checkpoints of an earlier run, which the new one would replace: "
            'set another default_hooks.checkpoint.out_dir or --work-dir, or resume that run with '
            '--resume CHECKPOINT'
        )


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = prepare(args)
    processes = processes_of(args.launcher)
    runner, first = None, 0
    notes, meta = [], {}
    with contextlib.ExitStack() as stack:
        if processes.rank == 0:
            stack.enter_context(lock_folder(cfg.work_dir))
            set_earlier_run_aside = stack.enter_context(
                restored_after_failed_start(
                    cfg.work_dir, lambda: has_trained(runner, first), filename_template(cfg)
                )
            )
        if args.resume:
            notes, meta = set_resume(cfg, args.resume, args.allow_changes, processes.number)
            first = meta.get('iter', 0)
        elif cfg.get('load_from'):
            read(cfg.load_from)  # reject a bad file before anything is built
        if note := learning_rate_note(cfg, processes):
            notes.append(note)
        use_gloo_without_gpu(cfg)
        runner = RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)
        before = meta, cfg.get('load_from'), args.allow_changes
        images = runner.train_dataloader.dataset
        check_same_start(runner.model, images, meta, cfg.get('load_from'))
        notes += check_same_teacher(runner.model, *before)
        notes += check_same_images(images, *before)
        if cfg.get('load_from') and not cfg.get('resume'):
            check_initial_weights(runner.model, cfg.load_from)
        notes += check_classes(runner) + unused_images(images)
        check_images(runner)
        # now that no process reads the folder any more
        if processes.rank == 0 and not args.resume and has_earlier_run(cfg.work_dir):
            notes.append(f'the earlier run in {cfg.work_dir!r} is now in {set_earlier_run_aside()}')
        for note in notes:
            runner.logger.warning(note)
        runner.train()
        end_together()


if __name__ == '__main__':
    cli.run(main, 'interrupted; the same command with --resume continues from here')
