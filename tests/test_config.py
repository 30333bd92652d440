import os
import runpy
import sys

import pytest
from project import ROOT

from prkd_mm.config import METHOD_VARIABLE, environment, load_config
from prkd_mm.methods import METHODS as TITLES

QUICKSTART = str(ROOT / 'configs/quickstart/prkd_digits.py')
TEACHER = str(ROOT / 'configs/quickstart/teacher_digits.py')
METHODS = sorted(
    file.stem
    for file in (ROOT / 'configs/_base_/methods').glob('*.py')
    if not file.stem.startswith('_')
)


@pytest.mark.parametrize('method', METHODS)
def test_each_method_has_its_own_losses_and_work_dir(method):
    cfg = load_config(QUICKSTART, method)
    assert cfg.method == method
    losses = cfg.model.get('distiller', {}).get('distill_losses', {})
    assert len(losses) == (method != 'ce')
    suffix = '' if method == 'prkd' else f'_{method}'
    assert cfg.work_dir == f'./work_dirs/prkd_digits{suffix}'


def test_the_variable_chooses_the_method_without_an_option(monkeypatch):
    monkeypatch.setenv(METHOD_VARIABLE, 'kd')
    assert load_config(QUICKSTART).work_dir == './work_dirs/prkd_digits_kd'
    assert load_config(QUICKSTART, 'dist').method == 'dist'
    assert load_config(TEACHER).work_dir == './work_dirs/teacher_digits'


def test_options_and_work_dir_override_the_config():
    cfg = load_config(QUICKSTART, options={'train_cfg.max_epochs': 12}, work_dir='here')
    assert cfg.train_cfg.max_epochs == 12 and cfg.work_dir == 'here'


@pytest.mark.parametrize(
    'path, method, error, words',
    [
        ('no.py', None, FileNotFoundError, "no config 'no.py'"),
        (QUICKSTART, 'kb', FileNotFoundError, "no method 'kb'"),
        (TEACHER, 'kd', ValueError, 'cannot be changed: the config has no'),
    ],
)
def test_an_unknown_config_or_method_is_an_error(path, method, error, words):
    with pytest.raises(error, match=words):
        load_config(path, method)


@pytest.mark.parametrize('tool', ['train', 'test', 'reproduce'])
def test_the_help_lists_the_common_options(tool, monkeypatch, capsys):
    path = str(ROOT / f'tools/{tool}.py')
    monkeypatch.setattr(sys, 'argv', [path, '--help'])
    with pytest.raises(SystemExit, match='0'):
        runpy.run_path(path, run_name='__main__')
    said = capsys.readouterr().out
    assert said.startswith('usage') and 'config' in said
    if tool != 'reproduce':
        for option in ('--work-dir', '--cfg-options', '--launcher', '--method'):
            assert option in said


def test_a_comparison_offers_every_method():
    assert sorted(TITLES) == METHODS


class TestEnvironment:
    def test_variables_are_set_and_unset_within_the_block(self, monkeypatch):
        monkeypatch.setenv('PRKD_A', 'before')
        monkeypatch.setenv('PRKD_B', 'before')
        monkeypatch.delenv('PRKD_C', raising=False)
        with environment(PRKD_A='inside', PRKD_B=None, PRKD_C='inside'):
            assert os.environ['PRKD_A'] == os.environ['PRKD_C'] == 'inside'
            assert 'PRKD_B' not in os.environ
        assert os.environ['PRKD_A'] == os.environ['PRKD_B'] == 'before'
        assert 'PRKD_C' not in os.environ

    def test_variables_are_restored_after_an_error(self, monkeypatch):
        monkeypatch.setenv('PRKD_A', 'before')
        with pytest.raises(KeyError), environment(PRKD_A='inside'):
            raise KeyError
        assert os.environ['PRKD_A'] == 'before'


def test_configs_of_the_package_are_found_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('configs/quickstart/prkd_digits.py', 'prkd_mm::quickstart/prkd_digits.py'):
        cfg = load_config(name)
        assert cfg.work_dir == './work_dirs/prkd_digits'
        assert load_config(cfg.model.teacher_config).work_dir == './work_dirs/teacher_digits'
    with pytest.raises(FileNotFoundError, match='no config .*the package has its configs in'):
        load_config('configs/quickstart/nothing.py')
