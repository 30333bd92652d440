"""Store a teacher's logits for K augmented views of each training image."""

import argparse

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.config import load_config
from prkd_mm.teachers.fill_store import BATCH_SIZE, default_folder, store_teacher


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe the store."""
    parser.add_argument(
        '--views',
        type=cli.whole_number(1),
        required=True,
        metavar='K',
        help='number of augmented views per image',
    )
    parser.add_argument(
        '--topk',
        type=cli.whole_number(0),
        metavar='k',
        help='keep only the k largest logits per image and the total probability '
        'of the others; 0 keeps all; default: 32 for 1,000 classes or more, else all',
    )
    parser.add_argument(
        '--out',
        type=cli.output_folder,
        metavar='FOLDER',
        help='output folder; default: work_dirs/<teacher>_<K>_views',
    )
    parser.add_argument(
        '--batch-size',
        type=cli.whole_number(1),
        default=BATCH_SIZE,
        help='images per batch; default: 256 on a GPU, 64 on a CPU',
    )
    parser.add_argument(
        '--seed',
        type=cli.whole_number(0),
        default=0,
        help='seed of the views; default: %(default)s',
    )


def parse_args() -> argparse.Namespace:
    parser = cli.ArgumentParser(
        description="Store a teacher's logits for K augmented views of each "
        'training image, so that students train without it: '
        '--cfg-options model.teacher_logits=FOLDER. Epoch e uses view e mod '
        'K. To resume an interrupted command, repeat it.'
    )
    parser.add_argument('config', help='a config in configs/prkd')
    add_store_arguments(parser)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=cli.ConfigOptions,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, options=args.cfg_options)
    folder = args.out or default_folder(cfg.model, args.views)
    store_teacher(cfg, folder, args.views, args.topk, args.batch_size, args.seed)
    print(
        f'{folder}: done. To train with it:\n  {cli.command_of("train.py")} '
        f'{args.config} --cfg-options model.teacher_logits={folder}'
    )


if __name__ == '__main__':
    cli.run(main, 'interrupted; repeat the command to resume')
