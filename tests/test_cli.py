import argparse
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import ROOT, link_checkout

from prkd_mm import cli


def end_of(main, monkeypatch, capsys, *arguments):
    """Exit status or message, and standard error, of a tool."""
    monkeypatch.setattr(sys, 'argv', ['tool', *arguments])
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code, capsys.readouterr().err


class Unexplained(Exception):
    pass


class TestRun:
    @pytest.mark.parametrize(
        'error, text',
        [
            (ValueError('tau must be above 0'), 'tau must be above 0'),
            (FileNotFoundError(2, 'No such file or directory', 'a.pth'), 'No such file .*: .a.pth'),
            (
                OSError(28, 'No space left on device', 'a.log'),
                "the disk is full: cannot write 'a.log'; free some space",
            ),
            (KeyError('X is not in the registry'), 'KeyError: X is not in .* [(]--debug shows'),
            (
                ValueError(
                    'Caught ValueError in DataLoader worker process 1.\nOriginal Traceback (most '
                    "recent call last):\n  File 'a.py', line 1\ncv2.error: empty\n\nThe above ..."
                    "\n\nValueError: 'a.jpg' is not an image: repair it\n"
                ),
                r"'a\.jpg' is not an image: repair it$",
            ),
            (Unexplained('text'), 'Unexplained: text [(]--debug shows where[)]'),
            (AssertionError(), 'a setting fails the check `raise error` in test_cli.py [(]--debug'),
            (
                AttributeError("'ConfigDict' object has no attribute 'model'"),
                "the config has no 'model', which this command needs",
            ),
        ],
        ids=lambda x: type(x).__name__,
    )
    def test_an_error_is_one_sentence(self, monkeypatch, capsys, error, text):
        def main():
            raise error

        message, shown = end_of(main, monkeypatch, capsys)
        assert re.fullmatch(f'error: {text}.*', message)
        assert 'Traceback' not in shown

    @pytest.mark.parametrize('ranks, arguments', [('1', ['--debug']), ('2', [])])
    def test_the_traceback_is_shown_on_request_and_in_distributed_runs(
        self, monkeypatch, capsys, ranks, arguments
    ):
        def main():
            assert '--debug' not in sys.argv
            raise ValueError('bad')

        monkeypatch.setenv('WORLD_SIZE', ranks)
        message, shown = end_of(main, monkeypatch, capsys, *arguments)
        assert message == 'error: bad' and 'Traceback' in shown and 'in main' in shown

    def test_ctrl_c_ends_with_a_message(self, monkeypatch, capsys):
        def main():
            raise KeyboardInterrupt

        assert end_of(main, monkeypatch, capsys) == ('interrupted', '')

    def test_the_option_is_in_the_help(self, capsys):
        with pytest.raises(SystemExit):
            cli.ArgumentParser().parse_args(['--help'])
        assert '--debug' in capsys.readouterr().out


def options(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=cli.ConfigOptions)
    return parser.parse_args(['--cfg-options', *arguments]).cfg_options


class TestConfigOptions:
    @pytest.mark.parametrize(
        'text, value',
        [
            ('a=1', 1), ('a=1e-3', 1e-3), ('a=true', True), ('a=None', None), ('a=x', 'x'),
            ('a=[1, 2]', [1, 2]), ('a=(a, b)', ('a', 'b')), ('a=1,2', [1, 2]),
            ('a=my data/x y', 'my data/x y'), ('a=key=value', 'key=value'), ('a=', ''),
        ],
    )  # fmt: skip
    def test_values_are_parsed(self, text, value):
        assert options(text) == {'a': value}

    def test_several_options_are_parsed(self):
        assert options('a.b=1', 'c=x y', 'd=2') == {'a.b': 1, 'c': 'x y', 'd': 2}

    @pytest.mark.parametrize('text', ['a', '=1', 'a=[1,2', 'a=(1'])
    def test_bad_options_are_named(self, capsys, text):
        with pytest.raises(SystemExit):
            options(text)
        assert repr(text) in capsys.readouterr().err

    @pytest.mark.parametrize('text', ['a.b=dict(c=1,d=2)', "a.b={'c': 1}", 'a.b={}'])
    def test_the_items_of_a_dict_are_set_one_by_one(self, capsys, text):
        with pytest.raises(SystemExit):
            options(text)
        assert 'a.b.NAME=VALUE' in capsys.readouterr().err

    @given(st.text('abc /._-', min_size=1).filter(lambda text: text == text.strip()))
    def test_paths_are_kept(self, path):
        assert options(f'a={path}') == {'a': path}


class TestTypes:
    def test_whole_numbers_have_a_lower_bound(self):
        assert cli.whole_number(0)('0') == 0
        for text in ('-1', '1.5', 'x', ''):
            with pytest.raises(argparse.ArgumentTypeError, match=f'at least 0; got {text!r}'):
                cli.whole_number(0)(text)

    def test_positive_numbers_are_finite_and_above_0(self):
        assert cli.positive_numbers('8,0.5') == [8.0, 0.5]
        for text in ('0', '-1', 'nan', 'inf', 'x', '1,0'):
            with pytest.raises(argparse.ArgumentTypeError, match='above 0'):
                cli.positive_numbers(text)


class TestCommandOf:
    """The command in a message works in the folder where the message appears."""

    def test_in_a_checkout_it_is_the_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(link_checkout(tmp_path))
        assert cli.command_of('train.py') == 'python tools/train.py'

    def test_elsewhere_it_is_the_name_of_the_package(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert cli.command_of('train.py') == 'python -m prkd_mm prkd_mm::train.py'

    def test_the_file_of_another_project_is_not_used(self, tmp_path, monkeypatch):
        (tmp_path / 'tools').mkdir()
        (tmp_path / 'tools/train.py').touch()
        monkeypatch.chdir(tmp_path)
        assert cli.command_of('train.py') == 'python -m prkd_mm prkd_mm::train.py'

    def test_no_message_names_a_file_that_only_a_checkout_has(self):
        files = [*(ROOT / 'prkd_mm').rglob('*.py'), *(ROOT / 'tools').glob('*.py')]
        texts = {str(path): path.read_text().replace('``', '') for path in files}
        assert [path for path, text in texts.items() if 'python tools/' in text] == []


@pytest.mark.parametrize('columns, width', [(None, 120), ('80', 120), ('200', 200)])
def test_tables_in_a_log_file_are_not_cut_off(columns, width, monkeypatch):
    monkeypatch.delenv('COLUMNS', raising=False)
    if columns:
        monkeypatch.setenv('COLUMNS', columns)
    assert cli.wide_console().width == width
