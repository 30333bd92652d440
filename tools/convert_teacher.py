"""Convert a RepDistiller or mdistiller teacher to an MMPretrain checkpoint."""

import argparse
from pathlib import Path

from mmpretrain.registry import MODELS

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.teachers.convert import convert, read


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description='Convert a teacher that RepDistiller or mdistiller trained on CIFAR-100 to '
        'an MMPretrain checkpoint with the same output. Every weight must match, or nothing is '
        'written. No code in the file is executed.'
    )
    parser.add_argument(
        'config',
        help='the config that trains this teacher, or one that distills it; it defines the net '
        'and the number of classes',
    )
    parser.add_argument('source', help="the file to convert, {'model': state_dict}")
    parser.add_argument('out', type=Path, help='the checkpoint to write')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    if 'model' not in cfg:
        raise ValueError(f'the config {args.config!r} has no model')
    net = MODELS.build(cfg.model.get('teacher', cfg.model))
    source, meta = read(args.source)
    meta['net'] = convert(source, net, f'The file {args.source!r}')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(dict(meta=meta, state_dict=net.state_dict()), args.out)
    print(
        f'{args.out}: {meta["net"]}, {len(source)} tensors. To distill from it: '
        f'--cfg-options model.teacher_ckpt={args.out}'
    )


if __name__ == '__main__':
    cli.run(main)
