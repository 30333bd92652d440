import argparse
import json
from dataclasses import fields

import pytest
from rich.console import Console

from prkd_mm.analysis import STUDIES
from prkd_mm.analysis.output import Report
from prkd_mm.options import add_options
from prkd_mm.stats.estimates import Estimate


@pytest.mark.parametrize('name', STUDIES)
def test_an_empty_command_line_gives_a_studys_defaults(name):
    study = STUDIES[name]
    parser = argparse.ArgumentParser()
    add_options(parser, study.options)
    assert study.options(**vars(parser.parse_args([]))) == study.options()
    assert {'samples', 'batch_size', 'seed', 'device'} < {x.name for x in fields(study.options)}
    assert study.run.__doc__.partition('\n')[0].endswith('.')
    assert 'samples: ' in study.options.__doc__


@pytest.mark.parametrize(
    'name, option',
    [
        (name, f'--{entry.name.replace("_", "-")}')
        for name, study in STUDIES.items()
        for entry in fields(study.options)
        if not isinstance(entry.metadata['type'], type)
    ],
)
def test_invalid_numbers_are_refused(name, option, capsys):
    parser = argparse.ArgumentParser()
    add_options(parser, STUDIES[name].options)
    with pytest.raises(SystemExit):
        parser.parse_args([option, '-1'])
    assert f'argument {option}: must be a' in capsys.readouterr().err


def test_every_number_but_the_tail_is_checked():
    for study in STUDIES.values():
        unchecked = {x.name for x in fields(study.options) if x.metadata['type'] in (int, float)}
        assert unchecked <= {'tail'}


def test_json_has_named_tuples_as_objects_and_infinity_as_null(tmp_path):
    report = Report(tmp_path, 'x', Console(record=True, width=100))
    report.table('t', [dict(a=Estimate(1.25, 0.5), b=None)], dict(a='A', b='B'))
    report.save(dict(a=[Estimate(1.0, float('nan'))], by={3: 4}), {}, {})
    assert '1.25 ± 0.5' in report.console.export_text()
    assert json.loads((tmp_path / 'x.json').read_text()) == {
        'a': [{'mean': 1.0, 'error': None}],
        'by': {'3': 4},
    }
