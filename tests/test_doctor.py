import importlib
import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from project import ROOT

from prkd_mm import doctor
from prkd_mm.__main__ import main


def problems(section):
    return [finding for finding in section() if finding.remedy]


def test_the_tested_versions_are_those_of_the_requirements():
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    pins = {pin.name: str(pin.specifier).lstrip('=') for pin in pins}
    assert {name: pins[name] for name in doctor.TESTED} == doctor.TESTED


def test_a_missing_package_is_a_problem_with_its_command(monkeypatch):
    names = {'mmpretrain': None}
    monkeypatch.setattr(
        doctor, 'version_of', lambda name: names.get(name, doctor.TESTED.get(name, '1'))
    )
    (problem,) = problems(doctor.versions)
    assert problem.text == 'mmpretrain is missing'
    assert problem.remedy == 'pip install mmpretrain==1.2.0'


def test_another_version_is_listed_but_is_not_a_problem(monkeypatch):
    monkeypatch.setattr(
        doctor, 'version_of', lambda name: '2.15.0+cu132' if name == 'torch' else '1'
    )
    assert 'torch 2.15.0+cu132 (tested: 2.13.0)' in [x.text for x in doctor.versions()]
    assert problems(doctor.versions) == []


def test_both_builds_of_mmcv_are_a_conflict(monkeypatch):
    monkeypatch.setattr(doctor, 'version_of', lambda name: '1.26.4')
    (problem,) = problems(doctor.conflicts)
    assert 'mmcv and mmcv-lite' in problem.text


def test_opencv_without_libgl_is_a_conflict(monkeypatch):
    def fail(name):
        raise ImportError('libGL.so.1: cannot open shared object file')

    monkeypatch.setattr(doctor, 'version_of', lambda name: None)
    monkeypatch.setattr(importlib, 'import_module', fail)
    (problem,) = problems(doctor.conflicts)
    assert 'libGL.so.1' in problem.text and 'opencv-python-headless' in problem.remedy


@pytest.mark.parametrize('has_mim', [False, True])
@pytest.mark.parametrize('names', ['prkd_mm', str(ROOT / 'prkd_mm'), None])
def test_an_editable_install_needs_the_path_of_the_package_for_mim(
    monkeypatch, tmp_path, names, has_mim
):
    class Installed:
        def locate_file(self, name):
            return tmp_path / name

        def read_text(self, name):
            assert name == 'top_level.txt'
            return names and f'{names}\n'

    monkeypatch.setattr(importlib.metadata, 'distribution', lambda name: Installed())
    monkeypatch.setattr(doctor, 'version_of', lambda name: '0.3.9' if has_mim else None)
    (finding,) = doctor.mim()
    is_found = names == str(ROOT / 'prkd_mm')
    assert (finding.text == 'mim finds prkd_mm') == is_found
    assert (finding.remedy is not None) == (has_mim and not is_found)


def test_data_and_teachers_are_found_in_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/tiny-imagenet-200').mkdir(parents=True)
    texts = [finding.text for finding in doctor.data_sets()]
    assert 'Tiny ImageNet in data/tiny-imagenet-200' in texts
    (before,) = doctor.teachers()
    assert re.match(r'\d+ not trained yet; for example: python .* configs/', before.text)
    work_dir = tmp_path / 'work_dirs/teacher_digits'
    work_dir.mkdir(parents=True)
    (work_dir / 'epoch_3.pth').touch()
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_3.pth'))
    found, _ = doctor.teachers()
    assert re.fullmatch(r'teacher_digits: .*epoch_3\.pth', found.text)


@pytest.mark.slow
@pytest.mark.parametrize('folder', ['a checkout', 'an empty folder'])
def test_the_commands_work_in_a_checkout_and_with_a_wheel(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if folder == 'a checkout':
        (tmp_path / 'tools').symlink_to(ROOT / 'tools')
    texts = [finding.text for finding in doctor.data_sets()]
    (text,) = (text for text in texts if text.startswith('CIFAR-100'))
    command = text.removeprefix('CIFAR-100 is missing: ').replace('python', sys.executable, 1)
    child = subprocess.run([*command.split(), '--help'], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert 'cifar100' in child.stdout


def test_the_report_counts_the_problems(monkeypatch, capsys):
    sections = dict(
        One=lambda: [doctor.Finding('good'), doctor.Finding('bad', 'do this')], Two=list
    )
    monkeypatch.setattr(doctor, 'SECTIONS', sections)
    assert doctor.main() == 1
    shown = capsys.readouterr().out
    assert '  x bad\n      fix: do this\n' in shown
    assert '\nTwo\n  - none\n' in shown and shown.endswith('\n1 problem\n')


class TestLauncher:
    def run(self, *arguments, cwd):
        return subprocess.run(
            [sys.executable, '-m', 'prkd_mm', *arguments], cwd=cwd, capture_output=True, text=True
        )

    @pytest.mark.slow
    def test_a_script_gets_its_arguments_and_the_patches(self, tmp_path):
        (tmp_path / 'neighbor.py').write_text('WORD = "found"\n')
        (tmp_path / 'script.py').write_text(
            'import sys, neighbor, mmrazor.models\n'
            'print(__name__, sys.argv[1:], neighbor.WORD, __file__ == sys.argv[0])\n'
        )
        done = self.run('script.py', '--option', '1', cwd=tmp_path)
        assert done.stdout == "__main__ ['--option', '1'] found True\n", done.stderr

    @pytest.mark.slow
    def test_scripts_of_packages_and_names_of_configs(self, tmp_path):
        """MMRazor's own train.py trains from a config of this package, in an empty folder."""
        (tmp_path / 'run.py').write_text(
            "_base_ = 'prkd_mm::quickstart/teacher_digits.py'\n"
            'train_cfg = dict(max_epochs=1)\n'
            'train_dataloader = dict(dataset=dict(dataset=dict(indices=64)))\n'
        )
        done = self.run('mmrazor::train.py', 'run.py', cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / 'work_dirs/run/epoch_1.pth').is_file()

    def test_a_script_that_does_not_exist_is_an_error(self, monkeypatch):
        monkeypatch.setattr(sys, 'argv', ['prkd_mm', 'nothing.py'])
        with pytest.raises(SystemExit, match="^error: there is no script 'nothing.py'$"):
            main()
