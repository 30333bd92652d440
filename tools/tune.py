"""Choose the temperatures and weights of methods on held-out training images.

Every method gets the same number of trials and seeds. The test images are not
used.
"""

import argparse
import shlex
import sys
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.experiments.run_options import TuningOptions
from prkd_mm.experiments.run_server import start_server
from prkd_mm.experiments.tune.tuning import search
from prkd_mm.options import add_options, options_from
from prkd_mm.start.launch import check_amp


def parse_args() -> TuningOptions:
    parser = cli.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config that supports --methods, as in configs/prkd')
    add_options(parser, TuningOptions)
    options = options_from(TuningOptions, parser.parse_args())
    check_amp(options.amp)
    if not options.methods:
        parser.error('--methods names no method')
    return options


def main() -> None:
    options = parse_args()
    command = f'{cli.command_of("tune.py")} {shlex.join(sys.argv[1:])}'
    train_py = str(Path(__file__).with_name('train.py'))
    print(f'Report: {search(options, train_py, cli.wide_console(), command)}')


if __name__ == '__main__':
    start_server()
    cli.run(main, 'interrupted; the same command resumes')
