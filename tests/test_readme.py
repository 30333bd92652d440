"""The README and the other pages agree with the code."""

import ast
import inspect
import re

import pytest
from project import ROOT, type_command

from prkd_mm import algorithms, datasets, hooks, losses
from prkd_mm.config import load_config

README = (ROOT / 'README.md').read_text()
MY_KD = """
_base_ = [
    '{base}/datasets/digits.py', '{base}/models/digits.py',
    '{base}/schedules/sgd_40e_bs64.py', '{base}/default_runtime.py'
]
recorder = dict(type='ModuleOutputs', source='head.fc')
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    data_preprocessor=_base_.data_preprocessor,
    architecture=_base_.student,
    teacher=_base_.teacher,
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(logits=recorder),
        teacher_recorders=dict(logits=recorder),
        distill_losses=dict(loss_kl=dict(type='KLDivergence', tau=4.0)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits')))))
data_preprocessor = None  # MMRazor's configs have it in the model
train_cfg = dict(max_epochs=11)
train_dataloader = dict(dataset=dict(dataset=dict(indices=64)))
"""


def tables() -> dict:
    """The README's tables of arguments: {class: {argument: default}}."""
    section = README.split('## Arguments')[1].split('\n## ')[0]
    found = re.findall(r'^`(\w+)[^\n]*(?:\n[^\n|]+)*\n\n((?:\|.*\n)+)', section, re.M)
    return {
        name: dict(re.findall(r'^\| `(\w+)` \| (\S.*?) \|', rows, re.M)) for name, rows in found
    }


@pytest.mark.parametrize(
    'name',
    [
        'PRKDLoss',
        'LossScheduleHook',
        'TailAverageHook',
        'TeacherCheckHook',
        'FrozenTeacherDistill',
        'TinyImageNet',
        'PackedImages',
    ],
)
def test_tables_of_arguments(name):
    (cls,) = (
        getattr(module, name)
        for module in (losses, hooks, algorithms, datasets)
        if hasattr(module, name)
    )
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    assert tables()[name] == {
        p.name: 'required' if p.default is p.empty else f'`{p.default!r}`'
        for p in parameters
        if p.kind is not p.VAR_KEYWORD
    }


def test_the_lines_to_paste(tmp_path):
    """They turn a plain MMRazor config into a run of PRKD, as pasted."""
    lines = re.search(r"```python\n(_base_ = 'my_kd.py'\n.*?)```", README, re.S)[1]
    assert len(lines.splitlines()) == 5
    ast.parse(lines)
    (tmp_path / 'my_kd.py').write_text(MY_KD.replace('{base}', str(ROOT / 'configs/_base_')))
    (tmp_path / 'my_prkd.py').write_text(lines)
    said = type_command(ROOT / 'tools/train.py', 'my_prkd.py', cwd=tmp_path)
    assert re.search(r'loss_kl.tau: 1\.27', said)  # 4 − 3·10/11
    average = 'work_dirs/my_prkd/student_avg.pth'
    tested = type_command(ROOT / 'tools/test.py', 'my_prkd.py', average, cwd=tmp_path)
    top1 = r'accuracy/top1: ([\d.]+)'
    assert re.findall(f'student_avg/{top1}', said)[-1] == re.findall(top1, tested)[-1]


@pytest.mark.parametrize(
    'pair',
    [
        'prkd/resnet56_resnet20_cifar100',
        'quickstart/prkd_digits',
        'prkd/resnet34_resnet18_tinyimagenet',
    ],
)
def test_the_line_of_the_stock_data_path(pair, tmp_path):
    (line,) = re.findall(r'^train_dataloader = dict\(num_workers.*$', README, re.M)
    own = load_config(str(ROOT / f'configs/{pair}.py')).train_dataloader
    (tmp_path / 'stock.py').write_text(f"_base_ = '{ROOT}/configs/{pair}.py'\n{line}\n")
    stock = load_config(str(tmp_path / 'stock.py')).train_dataloader
    assert stock.dataset == own.dataset.dataset
    # workers that see the epoch: else each would repeat the first
    assert stock.num_workers == 4 and not stock.persistent_workers
    assert stock.worker_init_fn.type == 'seed_worker_by_epoch'


def test_what_it_names_is_there():
    # configs and tools of the commands, pictures, folders of the map
    names = set(re.findall(r'\b(?:configs|tools|docs)/[\w/.]+\.\w+', README))
    names |= set(re.findall(r'^((?:prkd_mm|configs|tests)[\w/.]*) ', README, re.M))
    assert len(names) > 10
    assert [name for name in names if not (ROOT / name).exists()] == []


PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'tests/data/README.md']
PAGES += [f'docs/{page.name}' for page in sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES)
def test_links_and_names_of_a_page(page):
    text = (ROOT / page).read_text()
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    assert [x for x in links if not (ROOT / page).parent.joinpath(x).exists()] == []
    names = re.findall(r'\b(?:configs|tools|tests|examples)/[\w/.]+\.(?:py|sh|yml)\b', text)
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_every_package_is_on_the_map():
    packages = (ROOT / 'prkd_mm').glob('*/__init__.py')
    for package in packages:
        assert f'prkd_mm/{package.parent.name} ' in README
