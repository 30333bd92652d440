import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import pytest

from prkd_mm.cli import whole_number
from prkd_mm.options import Extend, add_options, option, options_from


@dataclass
class Example:
    name: str = 'positional'
    num_images: int = option(8, 'images', type=whole_number(2), metavar='N')
    rate: float = option(0.5, 'rate')
    out: Optional[Path] = option(None, 'a folder', 'none', type=Path)
    fast: bool = option(False, 'be fast')
    words: Sequence[str] = option(('a', 'b'), 'words', 'a,b', nargs='+', type=str)
    more: Sequence[str] = option((), 'more', 'none', nargs='+', type=str, action=Extend)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('name')
    add_options(parser, Example)
    return parser


def test_options_have_the_defaults_of_the_fields(parser):
    assert options_from(Example, parser.parse_args(['x'])) == Example('x')


def test_options_have_the_types_of_the_fields(parser):
    line = 'x --num-images 3 --rate 2 --out a/b --fast --words c d'
    assert options_from(Example, parser.parse_args(line.split())) == Example(
        'x', 3, 2.0, Path('a/b'), True, ['c', 'd']
    )


def test_a_repeated_option_adds_to_the_first_one(parser):
    for _ in range(2):  # the default stays empty
        args = parser.parse_args(['x', '--more', 'c', 'd', '--more', 'e'])
        assert options_from(Example, args).more == ['c', 'd', 'e']


def test_help_states_the_defaults(parser):
    text = parser.format_help()
    for line in ('images; default: 8', 'rate; default: 0.5', 'words; default: a,b'):
        assert line in text
    assert 'a folder; default: none' in text and 'be fast;' not in text


def test_a_number_below_the_bound_is_refused(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(['x', '--num-images', '1'])
    assert "--num-images: must be a whole number, at least 2; got '1'" in capsys.readouterr().err
