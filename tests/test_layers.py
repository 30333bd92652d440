"""The layers of the project: no module imports a layer above its own."""

import ast
from collections import Counter
from importlib.util import resolve_name
from pathlib import Path

import pytest
from project import ROOT

ANALYSIS, EXPERIMENTS = 'prkd_mm.analysis', 'prkd_mm.experiments'


def imports(source: str, package: str) -> set[str]:
    """Absolute names that a module of a package imports, anywhere in its code."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name('.' * node.level + (node.module or ''), package)
            names |= {f'{module}.{alias.name}' for alias in node.names}
    return names


def files(folder: str) -> set[Path]:
    return {file for file in (ROOT / folder).rglob('*.py') if '.mim' not in file.parts}


LAYERS = {
    'benchmarks': (files('benchmarks'), ('tools',)),
    'experiments': (files('prkd_mm/experiments'), ('tools', 'benchmarks')),
    'analysis': (files('prkd_mm/analysis'), ('tools', 'benchmarks', EXPERIMENTS)),
    'plugin': (
        files('prkd_mm') - files('prkd_mm/experiments') - files('prkd_mm/analysis'),
        ('tools', 'benchmarks', 'examples', EXPERIMENTS, ANALYSIS),
    ),
}


@pytest.mark.parametrize('layer', LAYERS)
def test_a_layer_imports_nothing_above_it(layer):
    members, above = LAYERS[layer]
    upward = {
        f'{file.relative_to(ROOT)} imports {name}'
        for file in members
        for name in imports(file.read_text(), '.'.join(file.relative_to(ROOT).parent.parts))
        if any(f'{name}.'.startswith(f'{package}.') for package in above)
    }
    assert members
    assert not upward


def test_file_names_are_unique():
    """Except for the files that every study has."""
    names = Counter(file.name for file in files('prkd_mm'))
    repeated = {name for name, count in names.items() if count > 1}
    assert repeated == {'__init__.py', 'measure.py', 'figure.py', 'study.py'}


@pytest.mark.parametrize(
    'line',
    [
        'import prkd_mm.analysis.nets',
        'from prkd_mm.analysis.nets import load',
        'from prkd_mm import analysis',
        'from ..analysis import nets',
        'from .. import analysis',
        'def f():\n    from ..analysis import nets',
    ],
)
def test_every_form_of_an_import_is_read(line):
    (name,) = imports(line, 'prkd_mm.hooks')
    assert f'{name}.'.startswith('prkd_mm.analysis.')
