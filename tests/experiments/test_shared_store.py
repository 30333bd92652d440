"""Runs of a comparison that share one logit store."""

import argparse
import os
import shutil
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
from prkd_mm.experiments.run_options import ComparisonOptions, TuningOptions
from prkd_mm.experiments.shared_store import begin_shared_store, default_views
from prkd_mm.options import add_options, options_from
from prkd_mm.teachers.fill_store import default_folder
from prkd_mm.teachers.logit_store import TeacherLogits


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


def test_the_files_of_several_teachers_identify_a_run(pair):
    teachers = (
        "teacher=['a.pt', 'b.pt'], teacher_ckpt=['t.pth', 'u.pth'], teacher_config=['a', 'b']"
    )
    Path('several.py').write_text(f"_base_ = 'pair.py'\nmodel = dict({teachers})\n")
    (job,) = plan('several.py', ['kd'])
    before = job.fingerprint
    assert before == job.fingerprint
    os.utime('t.pth', (1, 1))
    assert before != job.fingerprint


def folder_of_store():
    return default_folder(load_config('pair.py', 'kd').model, 2)


def lines(job, words):
    return [line for line in toy.log_text(job.work_dir).splitlines() if words in line]


@pytest.mark.slow
def test_two_methods_fill_one_store_and_ask_the_teacher_once(pair):
    options = ['custom_hooks=[]']  # no check of the teacher, whose weights are random
    jobs = plan(pair, ['kd', 'dist'], options, store_views=2)
    run_all(jobs, str(ROOT / 'tools/train.py'), Console(quiet=True))
    folder = folder_of_store()
    store = TeacherLogits(folder)  # complete, with the right checksums
    assert store.views == 2 and store.header['images'] == 128
    first, second = jobs
    assert len(lines(first, 'computed for 128 images and stored')) == 2
    assert len(lines(second, f'Using stored teacher logits from {folder} (2 views')) == 1
    assert not lines(second, 'computed for')
    assert protocol(jobs)['teacher_logits'] == 'stored logits, 2 views'


def test_stored_views_are_another_setting_unless_the_student_is_alone(pair):
    live, stored, four = (plan(pair, ['ce', 'kd'], store_views=k) for k in (0, 2, 4))
    assert len({jobs[1].fingerprint for jobs in (live, stored, four)}) == 3
    assert len({jobs[1].settings for jobs in (live, stored, four)}) == 3
    assert live[0].arguments == stored[0].arguments
    assert live[0].fingerprint == stored[0].fingerprint
    assert live[0].settings == stored[0].settings


def test_a_store_of_another_teacher_is_renamed(pair):
    (job,) = plan(pair, ['kd'], store_views=2)
    folder = folder_of_store()
    begin_shared_store([job], Console(quiet=True))
    first = TeacherLogits(folder, complete=False).header['teacher']
    begin_shared_store([job], Console(quiet=True))  # the same store
    assert not Path(f'{folder}.1').exists()
    save_teacher(seed=1)
    console = Console(record=True, width=300)
    begin_shared_store([job], console)
    assert f'These logits are kept as {folder}.1' in console.export_text()
    assert TeacherLogits(f'{folder}.1', complete=False).header['teacher'] == first
    assert TeacherLogits(folder, complete=False).header['teacher'] != first


def test_runs_that_need_no_store_create_none(pair):
    Path('t.pth').unlink()
    finished, alone, live = training('', pair, 'kd', store_views=2), *plan(pair, ['ce', 'kd'])
    finished.note(finished=True)
    begin_shared_store([finished, alone, live], Console(quiet=True))
    assert not folder_of_store().exists()


def test_a_config_without_a_frozen_teacher_is_refused_before_any_run(checkout):
    teacher = 'configs/quickstart/teacher_digits.py'
    with pytest.raises(ValueError, match='must be a FrozenTeacherDistill'):
        plan(teacher, store_views=2)
    with pytest.raises(ValueError, match='must be a FrozenTeacherDistill'):
        Job('x', [teacher, '--store-views', '2'])


def test_stored_logits_and_the_option_exclude_each_other(pair):
    with pytest.raises(ValueError, match="model.teacher_logits='folder'"):
        plan(pair, ['kd'], ['model.teacher_logits=folder'], store_views=2)


def stock_images(pair):
    own = load_config(pair).train_dataloader.dataset.dataset.to_dict()
    return f'train_dataloader = dict(dataset=dict(_delete_=True, **{own!r}))'


MIXUP = "data_preprocessor = dict(batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))"
STOCK_MIXUP = (
    "model = dict(architecture=dict(train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)])))"
)
FEATURES = "model = dict(distiller=dict(teacher_recorders=dict(f=dict(source='backbone'))))"


@pytest.mark.parametrize(
    'change, views',
    [
        ('', 2),
        ('train_cfg = dict(max_epochs=40)', 8),
        (stock_images, 0),
        (MIXUP, 0),
        (STOCK_MIXUP, 0),
        (FEATURES, 0),
        ("model = dict(teacher_logits='folder')", 0),
    ],
    ids=['2 epochs', '40 epochs', 'stock images', 'mixup', 'stock mixup', 'features', 'a store'],
)
def test_views_are_stored_by_default_where_the_data_allows_it(pair, change, views):
    change = change(pair) if callable(change) else change
    Path('changed.py').write_text(f'_base_ = {pair!r}\n{change}\n')
    assert default_views(load_config('changed.py', 'kd')) == views
    alone, student = plan('changed.py', ['ce', 'kd'], store_views=None)
    assert student.args.store_views == (views or None)
    assert alone.args.store_views is None


def test_a_config_that_only_trains_a_net_stores_nothing_by_default(checkout):
    (job,) = plan('configs/quickstart/teacher_digits.py', [], store_views=None)
    assert job.args.store_views is None


@pytest.mark.parametrize('tool', ['reproduce', 'tune'])
@pytest.mark.parametrize('flag', ['--views', '--store-views'])
def test_both_tools_have_both_names_of_the_option(tool, flag):
    options = dict(reproduce=ComparisonOptions, tune=TuningOptions)[tool]
    parser = argparse.ArgumentParser()
    parser.set_defaults(config=None)
    add_options(parser, options)
    assert options_from(options, parser.parse_args([])).store_views is None
    assert options_from(options, parser.parse_args([flag, '0'])).store_views == 0


def test_a_full_disk_suggests_the_live_teacher(pair, monkeypatch):
    (job,) = plan(pair, ['kd'], store_views=2)
    usage = shutil.disk_usage('.')._replace(free=100)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(OSError, match='not enough space .* with --store-views 0'):
        begin_shared_store([job], Console(quiet=True))
