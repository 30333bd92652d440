"""Train a teacher and its student with several methods, and compare them.

Finished runs are not trained again, and interrupted runs are resumed.
Writes results.json, results.md, figures and report.html.
"""

import argparse
import shlex
import sys
from pathlib import Path

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm import cli
from prkd_mm.experiments.run_comparison import report_records, run_comparison
from prkd_mm.experiments.run_options import ComparisonOptions
from prkd_mm.experiments.run_server import start_server
from prkd_mm.options import add_options, options_from
from prkd_mm.start.launch import check_amp


def parse_args() -> ComparisonOptions:
    parser = cli.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config',
        nargs='?',
        default='',
        help='a config, such as one in configs/prkd; optional with --records',
    )
    add_options(parser, ComparisonOptions)
    options = options_from(ComparisonOptions, parser.parse_args())
    if not (options.config or options.records):
        parser.error('a config is required, or --records to report finished runs')
    if options.config and len(options.records) > 1:
        parser.error('--records can be repeated only without a config')
    check_amp(options.amp)
    if options.methods is not None and not options.methods:
        parser.error('--methods names no method')
    return options


def main() -> None:
    options, console = parse_args(), cli.wide_console()
    command = f'{cli.command_of("reproduce.py")} {shlex.join(sys.argv[1:])}'
    if options.config:
        run_comparison(options, str(Path(__file__).with_name('train.py')), command, console)
    else:
        report_records(
            options.records, options.out, command, console, options.methods, options.seeds
        )


if __name__ == '__main__':
    start_server()
    cli.run(main, 'interrupted; the same command resumes')
