"""The command line measures all subjects and writes tables, numbers and bars."""

import json
import subprocess
import sys

import pytest
from matplotlib.image import imread
from project import ROOT

from benchmarks.nets import PAIRS
from benchmarks.timing import OURS, STOCK


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """All subjects, run from the command line at a tiny size."""
    out = tmp_path_factory.mktemp('out')
    done = subprocess.run(
        [
            *(sys.executable, 'tools/benchmark.py', 'all', '--quick', '--rounds', '2'),
            *('--seconds', '0', '--batch', '4', '--images', '64', '--size', '16'),
            *('--pair', PAIRS[2], '--shapes', '8x10', '--iterations', '200', '400', '--out', out),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_all_subjects_write_their_results(written):
    out, shown = written
    numbers = json.loads((out / 'benchmark.json').read_text())
    subjects = [each['subject'] for each in numbers['comparisons']]
    assert subjects == ['feed', 'feed', 'feed', 'step', 'loss', 'average', 'logging', 'logging']
    for each in numbers['comparisons']:
        assert each['title'] in shown and each['rounds'] == 2
        sides = [result['side'] for result in each['results']]
        assert STOCK in sides and OURS in sides
        for result in each['results']:
            assert result['time']['median'] > 0
    assert numbers['machine']['threads'] == 1
    pixels = imread(out / 'bars.png')[..., :3]
    assert (pixels < 0.9).any(-1).mean() > 0.01  # not a white page


def test_all_lines_of_a_markdown_table_have_the_same_number_of_cells(written):
    lines = (written[0] / 'tables.md').read_text().splitlines()
    assert lines[0].startswith('`python tools/benchmark.py all')
    assert '### Step of wrn_40_2_wrn_16_2_cifar100' in lines
    width = None
    for line in lines:
        cells = line.count('|')
        assert not cells or width in (None, cells), line
        width = cells or None


def test_an_error_is_one_line(tmp_path):
    command = ['-m', 'benchmarks', 'step', '--pair', 'nothing', '--quick', '--out', tmp_path]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith('error: there is no config')
    assert done.stderr.count('\n') == 1


def test_a_number_below_one_is_refused_before_anything_is_measured():
    command = [sys.executable, '-m', 'benchmarks', 'loss', '--rounds', '0']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--rounds: must be a whole number, at least 1; got '0'" in done.stderr
