"""Test a trained student (or teacher) from any checkpoint of its run."""

import argparse
import os

from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.algorithms.student_alone import student_alone
from prkd_mm.checkpoints import describe, load_strictly, plain_state_dict, read, recorded_classes
from prkd_mm.checks.class_checks import classes_of, compare_classes
from prkd_mm.checks.metric_checks import metrics_of
from prkd_mm.config import add_common_arguments, load_config
from prkd_mm.evaluation import unwrap
from prkd_mm.start.launch import processes_of, use_gloo_without_gpu


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config file of the run')
    parser.add_argument(
        'checkpoint', help='student_avg.pth, epoch_N.pth, or a work dir, for its latest checkpoint'
    )
    add_common_arguments(parser, './work_dirs/<name of the config>/test')
    return parser.parse_args()


def load(model: nn.Module, checkpoint: dict, path: str) -> None:
    student = getattr(model, 'architecture', model)
    load_strictly(student, plain_state_dict(checkpoint)[0], f'The checkpoint {path!r}')


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    checkpoint = read(args.checkpoint)
    cfg = load_config(args.config, args.method, args.cfg_options, args.work_dir)
    cfg.launcher = args.launcher
    for name in ('test_dataloader', 'test_evaluator', 'model'):
        if not cfg.get(name):
            raise ValueError(f'the config {args.config!r} cannot be tested: it has no {name}')
    if args.work_dir is None:  # do not overwrite the config and logs of the run
        cfg.work_dir += '/test'
    cfg.load_from, cfg.resume = None, False
    cfg.model = student_alone(cfg)  # the teacher is not needed
    processes_of(args.launcher)  # an error if the launcher did not start this process
    use_gloo_without_gpu(cfg)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    # these fail before the runner makes a folder for its log
    load(MODELS.build(cfg.model), checkpoint, args.checkpoint)
    tested = classes_of(Runner.build_dataloader(cfg.test_dataloader).dataset)
    recorded = recorded_classes(checkpoint)
    notes = compare_classes('the training set', recorded, 'the test set', tested)
    Evaluator(metrics_of(cfg.test_evaluator))
    runner = Runner.from_cfg(cfg)
    for note in notes:
        runner.logger.warning(note)
    load(unwrap(runner.model), checkpoint, args.checkpoint)
    weights = describe(checkpoint)
    runner.logger.info(f'Testing {args.checkpoint}: {weights}')
    metrics = runner.test()
    shown = ', '.join(f'{name}: {value:.4f}' for name, value in metrics.items())
    runner.logger.info(f'{shown} ({weights})')


if __name__ == '__main__':
    cli.run(main)
