"""Runs of a comparison that share one logit store."""

from pathlib import Path

import pytest
import torch
import toy
from mmengine.registry import MODELS, init_default_scope
from project import DIGITS, ROOT
from rich.console import Console

from prkd_mm.config import load_config
from prkd_mm.experiments import Job, plan, run_all
from prkd_mm.experiments.comparison_report import protocol
from prkd_mm.experiments.plan import training
from prkd_mm.experiments.shared_store import begin_shared_store
from prkd_mm.teachers.logit_store import TeacherLogits

STORE = Path('work_dirs/teacher_2_views')


@pytest.fixture
def pair(checkout):
    """The quickstart with few images, two epochs and a teacher that is not trained by a job."""
    Path('pair.py').write_text(
        f'_base_ = {str(ROOT / DIGITS)!r}\n'
        "model = dict(teacher_ckpt='t.pth', teacher_config=None)\n"
        'train_dataloader = dict(dataset=dict(dataset=dict(indices=128)))\n'
        'train_cfg = dict(max_epochs=2)\n'
        'default_hooks = dict(tail_average=dict(num_epochs=2))\n'
    )
    save_teacher(seed=0)
    return 'pair.py'


def save_teacher(seed):
    init_default_scope('mmpretrain')
    torch.manual_seed(seed)
    net = MODELS.build(load_config(DIGITS).model.teacher)
    torch.save(dict(state_dict=net.state_dict()), 't.pth')


def lines(job, words):
    return [line for line in toy.log_text(job.work_dir).splitlines() if words in line]


@pytest.mark.slow
def test_two_methods_fill_one_store_and_ask_the_teacher_once(pair):
    options = ['custom_hooks=[]']  # no check of the teacher, whose weights are random
    jobs = plan(pair, ['kd', 'dist'], options, store_views=2)
    run_all(jobs, str(ROOT / 'tools/train.py'), Console(quiet=True))
    store = TeacherLogits(STORE)  # complete, with the right checksums
    assert store.views == 2 and store.header['images'] == 128
    first, second = jobs
    assert len(lines(first, 'computed for 128 images and stored')) == 2
    assert len(lines(second, f'Using stored teacher logits from {STORE} (2 views')) == 1
    assert not lines(second, 'computed for')
    assert protocol(second.cfg)['teacher_logits'] == 'stored for 2 views of each image'


def test_stored_views_are_another_setting_unless_the_student_is_alone(pair):
    live, stored, four = (plan(pair, ['ce', 'kd'], store_views=k) for k in (None, 2, 4))
    assert len({jobs[1].fingerprint for jobs in (live, stored, four)}) == 3
    assert len({jobs[1].settings for jobs in (live, stored, four)}) == 3
    assert live[0].arguments == stored[0].arguments
    assert live[0].fingerprint == stored[0].fingerprint
    assert live[0].settings == stored[0].settings


def test_a_store_of_another_teacher_is_renamed(pair):
    (job,) = plan(pair, ['kd'], store_views=2)
    begin_shared_store([job], Console(quiet=True))
    first = TeacherLogits(STORE, complete=False).header['teacher']
    begin_shared_store([job], Console(quiet=True))  # the same store
    assert not Path(f'{STORE}.1').exists()
    save_teacher(seed=1)
    console = Console(record=True, width=300)
    begin_shared_store([job], console)
    assert f'These logits are kept as {STORE}.1' in console.export_text()
    assert TeacherLogits(f'{STORE}.1', complete=False).header['teacher'] == first
    assert TeacherLogits(STORE, complete=False).header['teacher'] != first


def test_runs_that_need_no_store_begin_none(pair):
    Path('t.pth').unlink()
    finished, alone, live = training('', pair, 'kd', store_views=2), *plan(pair, ['ce', 'kd'])
    finished.note(finished=True)
    begin_shared_store([finished, alone, live], Console(quiet=True))
    assert not STORE.exists()


def test_a_config_without_a_frozen_teacher_is_refused_before_any_run(checkout):
    teacher = 'configs/quickstart/teacher_digits.py'
    with pytest.raises(ValueError, match='must be a FrozenTeacherDistill'):
        plan(teacher, ['kd'], store_views=2)
    with pytest.raises(ValueError, match='must be a FrozenTeacherDistill'):
        Job('x', [teacher, '--store-views', '2'])


def test_stored_logits_and_the_option_exclude_each_other(pair):
    with pytest.raises(ValueError, match="model.teacher_logits='folder'"):
        plan(pair, ['kd'], ['model.teacher_logits=folder'], store_views=2)
