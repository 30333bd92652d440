"""The README and the docs, checked against the code."""

import ast
import importlib.util
import re
import shlex
import statistics
import subprocess
import sys
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from project import ROOT, type_command

from prkd_mm.config import load_config
from prkd_mm.deploy.student import load_image, load_student
from prkd_mm.experiments.records import read_records
from prkd_mm.experiments.results import compare, rows_of

README = (ROOT / 'README.md').read_text()
PAGES = ['README.md', 'README_zh-CN.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'tests/data/README.md']
PAGES += [str(x.relative_to(ROOT)) for x in sorted((ROOT / 'docs').rglob('*.md'))]
PAGES = [page for page in PAGES if '_build' not in page]
TRANSLATED = {'README.md': 'README_zh-CN.md'}
TRANSLATED |= {f'docs/{x}.md': f'docs/zh-CN/{x}.md' for x in ('tutorial', 'method', 'faq')}
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
# with so few images, TeacherCheckHook accepts the untrained teacher
val_dataloader = test_dataloader = dict(dataset=dict(dataset=dict(indices=90)))
"""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding='utf-8')


ARGUMENTS = read('docs/arguments.md')


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf'^```{language}\n(.*?)^```', read(page), re.S | re.M)


@pytest.mark.slow
def test_the_lines_of_the_diff_make_a_stock_config_a_distillation(tmp_path):
    """Pasted as shown, they turn a plain MMRazor config into a PRKD run."""
    (diff,) = blocks('README.md', 'diff')
    lines = [line[1:] for line in diff.splitlines()]
    assert sum(line.startswith('+') for line in diff.splitlines()) == 10
    ast.parse('\n'.join(lines))
    (tmp_path / 'my_kd.py').write_text(MY_KD.replace('{base}', str(ROOT / 'configs/_base_')))
    (tmp_path / 'my_prkd.py').write_text('\n'.join(lines))
    said = type_command(ROOT / 'tools/train.py', 'my_prkd.py', cwd=tmp_path)
    assert re.search(r'loss_kl.tau: 1\.27', said)  # 4 − 3·10/11
    assert 'loss_kl: supervision ' in said and 'loss_kl.strength: ' in said
    average = 'work_dirs/my_prkd/student_avg.pth'
    tested = type_command(ROOT / 'tools/test.py', 'my_prkd.py', average, cwd=tmp_path)
    top1 = r'accuracy/top1: ([\d.]+)'
    assert re.findall(f'student_avg/{top1}', said)[-1] == re.findall(top1, tested)[-1]


def photos(folder: Path) -> None:
    """Images of three classes: dark, gray and bright."""
    for name, brightness in (('cat', 60), ('dog', 190), ('owl', 125)):
        (folder / 'photos' / name).mkdir(parents=True)
        for index in range(85):
            noise = np.random.RandomState(index).randint(-50, 50, (72, 80, 3))
            image = (brightness + noise).astype(np.uint8)
            cv2.imwrite(str(folder / f'photos/{name}/{index}.jpg'), image)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_leads_from_own_images_to_a_prediction(tmp_path):
    """Its files and commands in order, with smaller images and fewer epochs."""
    photos(tmp_path)
    *configs, program = blocks('docs/tutorial.md', 'python')
    for name, config in zip(('images', 'teacher', 'student'), configs):
        (tmp_path / f'{name}.py').write_text(config.replace('size = 64', 'size = 32'))
    quick = ['--cfg-options', 'train_cfg.max_epochs=2', 'train_dataloader.num_workers=0',
             'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
             'val_dataloader.persistent_workers=False', 'randomness.seed=1']  # fmt: skip
    for command in blocks('docs/tutorial.md', 'bash'):
        (words,) = [shlex.split(line) for line in command.replace('\\\n', '').splitlines()]
        assert words.pop(0) == 'python'
        if 'prkd_mm::train.py' in words:
            words += quick
            if 'student.py' in words:
                words.append('default_hooks.tail_average.num_epochs=2')
        type_command(*words, cwd=tmp_path)
    program += "np.save('prepared.npy', images)\n"
    assert type_command('-c', program, cwd=tmp_path).split()[-1] in ('cat', 'dog', 'owl')
    student = load_student(str(tmp_path / 'work_dirs/student'))
    how = student.size, student.channels, student.pipeline
    as_in_validation = load_image(tmp_path / 'photos/cat/1.jpg', *how)
    assert (np.load(tmp_path / 'prepared.npy')[0] == as_in_validation).all()
    files = 'images.png', 'classes.json', 'classes.png', 'work_dirs/teacher/averaged.pth'
    assert [name for name in files if not (tmp_path / name).is_file()] == []


@pytest.mark.parametrize(
    'pair',
    [
        'prkd/resnet56_resnet20_cifar100',
        'quickstart/prkd_digits',
        'prkd/resnet34_resnet18_tinyimagenet',
    ],
)
def test_the_line_for_the_stock_data_path_works(pair, tmp_path):
    page = read('docs/training.md')
    (line,) = re.findall(r'^train_dataloader = dict\(num_workers.*$', page, re.M)
    own = load_config(str(ROOT / f'configs/{pair}.py')).train_dataloader
    (tmp_path / 'stock.py').write_text(f"_base_ = '{ROOT}/configs/{pair}.py'\n{line}\n")
    stock = load_config(str(tmp_path / 'stock.py')).train_dataloader
    assert stock.dataset == own.dataset.dataset
    # workers are seeded by epoch; otherwise each epoch would repeat the first one
    assert stock.num_workers == 4 and not stock.persistent_workers
    assert stock.worker_init_fn.type == 'seed_worker_by_epoch'


@pytest.fixture(scope='module')
def quickstart():
    """The rows of the results of `make train` in this repository, by method."""
    return {row.method: row for row in rows_of(read_records(ROOT / 'docs/results/quickstart'))}


@pytest.mark.parametrize('page', ['README.md', 'README_zh-CN.md'])
def test_the_table_of_the_quickstart_is_that_of_its_records(quickstart, page):
    found = re.findall(r'^\| .* \|$', read(page), re.M)
    for row in quickstart.values():
        _, last, averaged, _, best, parameters, _ = row.cells()
        assert any(
            line.endswith(f'| {last} | {averaged} | {best} | {parameters} |') for line in found
        )


@pytest.mark.parametrize('method', ['kd', 'prkd'])
def test_distillation_pays_in_the_quickstart(quickstart, method):
    gain = compare(quickstart[method], quickstart['ce'], 'averaged')
    assert len(gain.values) == 3
    error = statistics.stdev(gain.values) / len(gain.values) ** 0.5
    assert gain.mean - 2 * error > 4


def test_the_first_config_from_a_stock_one_is_the_example():
    assert blocks('docs/own_config.md', 'python') == [read('examples/cifar10_from_mmpretrain.py')]


@pytest.mark.parametrize('page', PAGES)
def test_links_and_names_of_a_page(page):
    text = read(page)
    folder = (ROOT / page).parent
    links = re.findall(r'\]\((?!https?:|#)([^)#]+)', text)
    assert [x for x in links if not (folder / x).exists()] == []
    names = re.findall(r'\b(?:configs|tools|tests|examples)/[\w/.]+\.(?:py|sh|yml)\b', text)
    assert [name for name in names if not (ROOT / name).exists()] == []
    long = [x for x in text.splitlines() if columns(x) > 79]
    assert not page.startswith('README') or not long


def columns(line: str) -> int:
    """Width of a line on a screen, where a Chinese character takes two columns."""
    return sum(1 + (unicodedata.east_asian_width(x) in 'WF') for x in line)


@pytest.mark.parametrize('page', [page for page in PAGES if page != 'docs/arguments.md'])
def test_the_commands_have_the_options_of_the_tools(page):
    helps = dict(re.findall(r'### tools/(\w+)\.py\n\n```text\n(.*?)```', ARGUMENTS, re.S))
    for block in blocks(page, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            tool = re.search(r'(?:tools/|prkd_mm::)(\w+)\.py', line)
            if tool and not line.startswith('make'):
                options = set(re.findall(r' (--[\w-]+)', line))
                missing = {x for x in options if x not in helps[tool[1]]}
                # the options of its subcommands are not in the tool's own help
                assert tool[1] in ('analyze', 'benchmark') or not missing, line


def test_the_page_of_arguments_is_current():
    spec = importlib.util.spec_from_file_location('arguments', ROOT / 'docs/make_arguments.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == ARGUMENTS, 'run: python docs/make_arguments.py'


def test_every_package_is_on_the_map():
    for package in (ROOT / 'prkd_mm').glob('*/__init__.py'):
        assert f'prkd_mm/{package.parent.name} ' in read('docs/layout.md')
    names = re.findall(r'^((?:prkd_mm|configs|tests)[\w/.]*) ', read('docs/layout.md'), re.M)
    assert [name for name in names if not (ROOT / name).exists()] == []


@pytest.mark.parametrize('folder', ['docs', 'docs/zh-CN'])
def test_every_page_is_in_the_table_of_contents(folder):
    contents = re.findall(r'```\{toctree\}\n.*?\n\n(.*?)```', read(f'{folder}/index.md'), re.S)
    pages = {path.stem for path in (ROOT / folder).glob('*.md')} - {'index'}
    assert {x for x in ' '.join(contents).split() if '/' not in x} == pages


@pytest.mark.parametrize('page', TRANSLATED)
def test_a_page_in_chinese_has_the_same_code_sections_and_links(page):
    translated = TRANSLATED[page]
    fenced = r'^```(?:bash|diff|bibtex|python|text)\n.*?^```'
    assert re.findall(fenced, read(translated), re.S | re.M) == re.findall(
        fenced, read(page), re.S | re.M
    )
    # levels of headings, without comments in blocks of code
    levels = [
        re.findall('^#+(?= )', re.sub(r'^```.*?^```', '', read(x), flags=re.S | re.M), re.M)
        for x in (page, translated)
    ]
    assert levels[0] == levels[1]
    links = targets(page)
    expected = {ROOT / TRANSLATED.get(str(x.relative_to(ROOT)), x) for x in links}
    assert targets(translated) == expected


def targets(page: str) -> set[Path]:
    """The files that a page links to or shows, without the README in both languages."""
    found = re.findall(r'\]\((?!https?:|#)([^)#]+)', read(page))
    paths = {((ROOT / page).parent / x).resolve() for x in found}
    return paths - {ROOT / 'README.md', ROOT / 'README_zh-CN.md'}


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip('furo')
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-q', '-W', '-b', 'html', ROOT / 'docs', tmp_path],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert (tmp_path / 'zh-CN/tutorial.html').is_file()
