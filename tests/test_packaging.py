import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from mmengine import Config
from packaging.requirements import Requirement
from project import ROOT

import prkd_mm

PARTS = (
    'LICENSE',
    'MANIFEST.in',
    'README.md',
    'configs',
    'model-index.yml',
    'prkd_mm',
    'pyproject.toml',
    'setup.py',
    'tools',
)
INHERITS = "_base_ = 'prkd_mm::quickstart/prkd_digits.py'\nadded = 1\n"


def shipped(folder):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*')
        if path.suffix in ('.py', '.sh', '.yml', '.j2')
    }


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of what the wheel is built from, since a build leaves files in the folder."""
    source = tmp_path_factory.mktemp('source')
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, symlinks=True)
        else:
            shutil.copy(ROOT / part, source / part)
    cache = source / 'configs/quickstart/__pycache__'
    cache.mkdir(exist_ok=True)
    (cache / 'a.cpython-311.pyc').touch()
    return source


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('wheel')
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'wheel',
            '--no-deps',
            '--no-build-isolation',
            '--no-index',
            '-w',
            folder,
            source,
        ],
        check=True,
        capture_output=True,
    )
    return next(folder.glob('prkd_mm-*.whl'))


@pytest.mark.slow
def test_the_wheel_contains_configs_and_tools(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        config = file.read('prkd_mm/.mim/configs/quickstart/prkd_digits.py').decode()
    assert config == (ROOT / 'configs/quickstart/prkd_digits.py').read_text()
    mim = {name[len('prkd_mm/.mim/') :] for name in names if '.mim/' in name}
    assert mim == shipped('configs') | shipped('tools') | {'model-index.yml'}
    assert not [name for name in names if 'pycache' in name]
    assert not [name for name in names if name.startswith('tests')]


def test_mim_finds_each_config_once():
    """mim looks for the file name in all folders of the package, and rejects a second one."""
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(ROOT / 'prkd_mm', followlinks=True)
        for name in names
        if name.endswith('.py')
    ]
    for config in [
        *(ROOT / 'configs/prkd').glob('*.py'),
        ROOT / 'configs/quickstart/prkd_digits.py',
    ]:
        assert [path.resolve() for path in found if path.name == config.name] == [config]


@pytest.mark.slow
def test_wheel_has_every_module(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if name.startswith('prkd_mm/')}
    modules = {name for name in names if '/.mim/' not in name}
    assert modules == {name for name in shipped('prkd_mm') if '/.mim/' not in name}


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """Run a module of an environment that has the wheel, and borrows all it depends on."""
    folder = tmp_path_factory.mktemp('installed')
    python = folder / 'env/bin/python'
    venv.create(folder / 'env')
    pip = [sys.executable, '-m', 'pip', '--python', python]
    options = ['--no-deps', '--no-index', '--no-compile', '-q']
    subprocess.run([*pip, 'install', *options, wheel], check=True)
    (site,) = (folder / 'env').glob('lib/python*/site-packages')
    # a path in a .pth file is searched last; editable installs in it are not followed
    (site / 'borrowed.pth').write_text(sysconfig.get_path('purelib'))
    (folder / 'empty').mkdir()

    def run(*arguments):
        child = subprocess.run(
            [python, *arguments],
            cwd=folder / 'empty',
            env={key: value for key, value in os.environ.items() if key != 'PYTHONPATH'},
            capture_output=True,
            text=True,
        )
        assert child.returncode == 0, child.stdout + child.stderr
        return child.stdout

    run.site, run.folder = site, folder / 'empty'
    return run


@pytest.mark.slow
def test_a_config_by_name_is_that_of_the_installed_wheel(installed):
    (installed.folder / 'child.py').write_text(INHERITS)
    code = (
        'import prkd_mm; from mmengine import Config; '
        "print(prkd_mm.__file__, Config.fromfile('child.py').default_scope)"
    )
    assert installed('-c', code).split() == [
        str(installed.site / 'prkd_mm/__init__.py'),
        'mmpretrain',
    ]


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel_in_an_empty_folder(installed):
    tool = ['-m', 'prkd_mm', 'prkd_mm::train.py']
    short = ['--cfg-options', 'train_cfg.max_epochs=1']
    installed(*tool, 'prkd_mm::quickstart/teacher_digits.py', *short)
    tail = 'default_hooks.tail_average.num_epochs=1'
    log = installed(*tool, 'prkd_mm::quickstart/prkd_digits.py', *short, tail)
    assert 'Loaded teacher from work_dirs/teacher_digits/epoch_1.pth' in log
    assert (installed.folder / 'work_dirs/prkd_digits/student_avg.pth').is_file()


@pytest.mark.slow
def test_an_editable_install_names_the_folder_where_mim_looks(source, tmp_path):
    """As mim does: the folder of the metadata, joined with the first name in top_level.txt."""
    pip = [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index']
    options = ['--no-build-isolation', '--target', tmp_path / 'site', '-e', source]
    subprocess.run([*pip, *options], check=True, capture_output=True)
    (names,) = (tmp_path / 'site').glob('prkd_mm-*.dist-info/top_level.txt')
    found = tmp_path / 'site' / names.read_text().split('\n')[0]
    assert (found / '.mim/model-index.yml').is_file()


@pytest.mark.slow
def test_mim_finds_and_runs_the_installed_wheel(installed):
    pytest.importorskip('mim')
    found = installed('-m', 'mim', 'search', 'prkd_mm', '--model', 'prkd')
    assert 'deit_small_resnet18_imagenet' in found
    options = ['--gpus', '0', '--work-dir', 'by_mim', '--cfg-options', 'train_cfg.max_epochs=1']
    log = installed('-m', 'mim', 'train', 'prkd_mm', 'teacher_digits.py', *options)
    tested = ['--checkpoint', 'by_mim/epoch_1.pth', '--gpus', '0']
    again = installed('-m', 'mim', 'test', 'prkd_mm', 'teacher_digits.py', *tested)
    top1 = r'accuracy/top1: ([\d.]+)'
    assert re.findall(top1, log)[-1] == re.findall(top1, again)[-1]


@pytest.mark.parametrize('config', sorted(shipped('configs')))
def test_config_by_name_means_the_same_as_the_file(tmp_path, config):
    """This also holds for base configs without a ``_scope_``."""
    child = tmp_path / 'child.py'
    name = config[len('configs/') :]
    child.write_text(f"_base_ = 'prkd_mm::{name}'\nadded = 1\n")
    inherited = Config.fromfile(child).to_dict()
    assert inherited.pop('added') == 1
    assert inherited == Config.fromfile(ROOT / config).to_dict()


@pytest.mark.slow
def test_pins_are_in_the_ranges_of_setup(wheel):
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    pins = [Requirement(x) for x in lines if x and not x.startswith('#')]
    assert all(re.fullmatch(r'==[\w.]+', str(pin.specifier)) for pin in pins)
    versions = {pin.name: str(pin.specifier)[2:] for pin in pins}

    with zipfile.ZipFile(wheel) as file:
        name = next(n for n in file.namelist() if n.endswith('/METADATA'))
        metadata = file.read(name).decode()
    assert f'\nVersion: {prkd_mm.__version__}\n' in metadata
    assert '![' not in metadata
    for line in re.findall(r'^Requires-Dist: (.+)$', metadata, re.M):
        requirement = Requirement(line)
        if requirement.name == 'transformers':  # not part of the environment of `make`
            assert {each.operator for each in requirement.specifier} == {'>=', '<'}
        else:
            assert requirement.specifier.contains(versions[requirement.name])


def test_the_dockerfile_copies_existing_files():
    """The image is not built here, but its changes to the pinned versions must match."""
    lines = (ROOT / 'requirements.txt').read_text().splitlines()
    assert sum(bool(re.match(r'opencv-python==', line)) for line in lines) == 1
    assert sum(bool(re.match(r'(torch|torchvision)==[0-9.]+$', line)) for line in lines) == 2
    dockerfile = (ROOT / 'Dockerfile').read_text()
    for source in re.findall(r'^COPY (\S+) ', dockerfile, re.M):
        assert (ROOT / source).exists()
    ignored = (ROOT / '.dockerignore').read_text().split()
    assert not {'configs', 'tools', 'prkd_mm', 'setup.py'} & set(ignored)
