"""Turn a community's CIFAR-100 teacher into an MMPretrain checkpoint."""

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
        description='Turn a teacher that RepDistiller or mdistiller trained '
        'on CIFAR-100 into an MMPretrain checkpoint of the same function. '
        'Every weight finds its place or nothing is written, and nothing in '
        'the file is executed.'
    )
    parser.add_argument(
        'config',
        help='the config that trains this teacher, or one that distils it: '
        'it says which net, and how many classes, the file must have',
    )
    parser.add_argument('source', help="their file: {'model': state_dict}, *.pth")
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
        f'{args.out}: {meta["net"]}, {len(source)} tensors. To distil it: '
        f'--cfg-options model.teacher_ckpt={args.out}'
    )


if __name__ == '__main__':
    cli.run(main)
