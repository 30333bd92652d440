"""The command lines of the tools, on real images."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from project import link_checkout, type_command

from prkd_mm.checkpoints import plain_state_dict

TEACHER = 'configs/teachers/resnet34_tinyimagenet.py'
STUDENT = 'configs/prkd/resnet34_resnet18_tinyimagenet.py'
# 2 images per class and half the resolution: an epoch takes seconds, not 6 hours
SMALL = [
    'train_dataloader.batch_size=5',
    'train_dataloader.num_workers=0',
    'train_dataloader.dataset.dataset.samples_per_class=2',
    'train_dataloader.dataset.dataset.pipeline.1.crop_size=32',
    'val_dataloader.num_workers=0',
    'val_dataloader.dataset.dataset.samples_per_class=1',
    'test_dataloader.num_workers=0',
    'test_dataloader.dataset.dataset.samples_per_class=1',
    'optim_wrapper.optimizer.lr=0.02',
    'default_hooks.logger.interval=1',
]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Workplace:
    """A folder with the configs and tools, in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = link_checkout(folder)

    def python(self, *command: str, fails: bool = False) -> str:
        return type_command(*command, cwd=self.folder, fails=fails)

    def scalars(self, run: str) -> list:
        files = sorted((self.folder / 'work_dirs' / run).glob('*/vis_data/scalars.json'))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope='module')
def workplace(mini_zip, tmp_path_factory) -> Workplace:
    """A folder with prepared data, a trained teacher, and a PRKD run resumed after epoch 2."""
    place = Workplace(tmp_path_factory.mktemp('e2e'))
    place.python('tools/prepare_data.py', 'tinyimagenet', '--source', str(mini_zip), '--partial')
    place.missing_teacher = place.python(
        'tools/train.py', STUDENT, '--cfg-options', *SMALL, fails=True
    )
    place.python('tools/train.py', TEACHER, '--cfg-options', *SMALL, 'train_cfg.max_epochs=2')
    prkd = [
        'tools/train.py',
        STUDENT,
        '--cfg-options',
        *SMALL,
        'default_hooks.tail_average.num_epochs=2',
    ]
    # a run of 4 epochs that ends after 2, as if it were interrupted
    place.python(
        *prkd,
        'train_cfg.max_epochs=4',
        'default_hooks.stop.type=EarlyStoppingHook',
        'default_hooks.stop.monitor=accuracy/top1',
        'default_hooks.stop.patience=1',
        'default_hooks.stop.min_delta=1000',
    )
    place.resumed = place.python(*prkd, 'train_cfg.max_epochs=4', '--resume')
    return place


def test_missing_teacher_names_the_file_and_the_command(workplace):
    assert "no checkpoint 'work_dirs/resnet34_tinyimagenet'" in (workplace.missing_teacher)
    assert f'python tools/train.py {TEACHER}' in workplace.missing_teacher


def test_an_interrupted_run_resumes_after_its_last_epoch(workplace):
    assert 'resumed epoch: 2' in workplace.resumed
    logged = workplace.scalars('resnet34_resnet18_tinyimagenet')
    epochs = [row['epoch'] for row in logged if 'epoch' in row]
    assert epochs == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_the_schedule_and_the_terms_are_logged(workplace):
    logged = workplace.scalars('resnet34_resnet18_tinyimagenet')
    for row in (row for row in logged if 'epoch' in row):
        r = (row['epoch'] - 1) / 4
        assert row['loss_prkd.tau'] == pytest.approx(4 - 3 * r, abs=1e-12)
        assert row['loss_prkd.kl_weight'] == pytest.approx(1 - r, abs=1e-12)
        assert row['loss_prkd.cor_weight'] == pytest.approx(r, abs=1e-12)
        assert row['loss_prkd.kl'] > 0 and row['loss_prkd.cor'] > 0


@pytest.mark.parametrize(
    'run, loss',
    [
        ('resnet34_tinyimagenet', 'loss'),
        # the student's own loss, since the distillation loss changes as it relaxes
        ('resnet34_resnet18_tinyimagenet', 'student.loss'),
    ],
)
def test_the_loss_decreases(workplace, run, loss):
    # logged values are means over 10 steps
    values = [row[loss] for row in workplace.scalars(run) if loss in row]
    assert values[-1] < values[0]


def test_a_finished_run_has_all_its_files(workplace):
    run = workplace.folder / 'work_dirs' / 'resnet34_resnet18_tinyimagenet'
    for name in (
        'epoch_4.pth',
        'student_avg.pth',
        'schedule.png',
        'resnet34_resnet18_tinyimagenet.py',
    ):
        assert (run / name).stat().st_size > 0
    assert list(run.glob('*/*.log'))
    checkpoint = torch.load(run / 'epoch_4.pth', weights_only=False)
    assert {key.split('.')[0] for key in checkpoint['state_dict']} == {'architecture'}


def test_the_average_is_a_plain_mmpretrain_checkpoint(workplace):
    run = workplace.folder / 'work_dirs' / 'resnet34_resnet18_tinyimagenet'
    cfg = Config.fromfile(run / 'resnet34_resnet18_tinyimagenet.py')
    average = torch.load(run / 'student_avg.pth', weights_only=True)
    net = MODELS.build(cfg.model.architecture)
    assert type(net).__name__ == 'ImageClassifier'
    net.load_state_dict(average['state_dict'], strict=True)
    last = torch.load(run / 'epoch_4.pth', weights_only=False)
    weight = plain_state_dict(last)[0]['head.fc.weight'].double()
    total = last['tail_average']['sum']['head.fc.weight']
    torch.testing.assert_close(average['state_dict']['head.fc.weight'], (total / 2).float())
    assert not torch.equal(total / 2, weight)


@pytest.mark.parametrize(
    'name, weights',
    [
        ('student_avg.pth', 'mean of the students of epochs 3 to 4'),
        ('epoch_4.pth', 'weights of the student after epoch 4'),
    ],
)
def test_the_test_tool_accepts_both_kinds_of_checkpoint(workplace, name, weights):
    run = 'work_dirs/resnet34_resnet18_tinyimagenet'
    said = workplace.python('tools/test.py', STUDENT, f'{run}/{name}', '--cfg-options', *SMALL)
    assert weights in said
    trained = Config.fromfile(workplace.folder / run / Path(STUDENT).name)
    assert trained.model.type == 'FrozenTeacherDistill'  # still the run's
    tested = float(re.findall(r'accuracy/top1: ([\d.]+)', said)[-1])
    key = 'student_avg/accuracy/top1' if 'avg' in name else 'accuracy/top1'
    logged = [row[key] for row in workplace.scalars(Path(run).name) if key in row]
    assert tested == pytest.approx(logged[-1], abs=1e-3)
