"""A store that is filled during a run equals one that was filled beforehand."""

import itertools
import multiprocessing
import os
import re
import shutil
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import toy
from filling import FOUR_CHUNKS, VIEWS, config, filling
from mmengine.config import Config
from torch import distributed as dist

from prkd_mm.datasets import BatchClsDataPreprocessor
from prkd_mm.evaluation import unwrap
from prkd_mm.losses import PRKDLoss
from prkd_mm.strength import strength, terms_of
from prkd_mm.teachers import (
    FillingTeacher,
    FrozenTeacher,
    StoredTeacher,
    fill_store,
    filling_teacher,
)
from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.filling_teacher import prepare_store, stored_views, use_views_of_run
from prkd_mm.teachers.logit_store import TeacherLogits
from prkd_mm.teachers.stored_teacher import on_all_ranks

pytestmark = pytest.mark.usefixtures('four_chunks')


def test_weights_are_those_of_a_store_filled_beforehand(ckpt, reference, tmp_path):
    folder, expected = reference
    runner = toy.train(config(ckpt, tmp_path / 'run', filling(tmp_path / 'logits')))
    toy.assert_same(toy.student(runner).state_dict(), expected)
    one, other = (TeacherLogits(path / 'logits') for path in (folder, tmp_path))
    assert one.header['crc32'] == other.header['crc32']
    assert other.header['metrics']['accuracy/top1'] == one.header['metrics']['accuracy/top1']
    teacher = unwrap(runner.model).teacher
    assert teacher.live is None and not list(teacher.parameters())  # released
    runs = [
        [row for row in toy.logged(path / 'run') if 'loss' in row] for path in (folder, tmp_path)
    ]
    strengths = [[row['loss_prkd.strength'] for row in rows] for rows in runs]
    assert strengths[0] == strengths[1] != []
    lines = [line for line in toy.log_text(tmp_path / 'run').splitlines() if 'of view' in line]
    assert ['computed' in line for line in lines] == [True, True, False, False]
    assert 'teacher is released' in lines[1]
    assert not list((tmp_path / 'logits').glob('.*-*.lock'))


def test_a_single_view_is_stored_and_the_teacher_validated_before_its_release(ckpt, tmp_path):
    logits = dict(filling(tmp_path / 'logits'), views=1)
    runner = toy.train(config(ckpt, tmp_path / 'run', logits, epochs=2))
    assert unwrap(runner.model).teacher.live is None
    rows = [row for row in toy.logged(tmp_path / 'run') if 'teacher/accuracy/top1' in row]
    top1 = TeacherLogits(tmp_path / 'logits').header['metrics']['accuracy/top1']
    assert [row['teacher/accuracy/top1'] for row in rows] == [top1]


def test_a_bad_teacher_is_rejected_before_its_logits_are_stored(ckpt, tmp_path):
    cfg = config(ckpt, tmp_path / 'run', filling(tmp_path / 'logits'))
    cfg.custom_hooks[1].min_top1 = 100
    with pytest.raises(ValueError, match='below min_top1=100'):
        toy.train(cfg)
    assert not TeacherLogits(tmp_path / 'logits', complete=False).header['crc32']


def test_strength_comes_from_the_first_stored_view(ckpt, reference, tmp_path):
    folder, _ = reference
    toy.train(config(ckpt, tmp_path / 'run', filling(tmp_path / 'logits'), epochs=2))
    logits = TeacherLogits(folder / 'logits').get(0, np.arange(toy.TRAIN_SIZE)).double()
    expected = strength(terms_of(PRKDLoss()), logits)
    for run in (folder / 'run', tmp_path / 'run'):
        found = [line['loss_prkd.strength'] for line in toy.logged(run) if 'iter' in line]
        assert found[0] == pytest.approx(expected, rel=1e-9)


def test_the_size_is_logged_before_any_logits_are_computed(ckpt, tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr(fill_store, 'print_log', lambda text, **_: messages.append(text))
    monkeypatch.setattr(FrozenTeacher, 'logits', None)
    with pytest.raises(TypeError, match='not callable'):
        store_teacher(config(ckpt, tmp_path, None), tmp_path / 'logits', 1000)
    assert '1000 views of 32 images, all 4 classes: 0.256 MB in' in messages[0]


@pytest.mark.parametrize('stored', [5, 8])
def test_a_killed_run_resumes_filling(ckpt, reference, tmp_path, stored):
    """Each view has four chunks, so the kill comes in the middle of view 2, or after it."""
    _, expected = reference
    logits = filling(tmp_path / 'logits')
    put_in_store = TeacherLogits.put

    def put(store, chunk, logits):
        if len(store.header['crc32']) == stored:
            raise toy.Killed
        put_in_store(store, chunk, logits)

    with pytest.raises(toy.Killed), mock.patch.object(TeacherLogits, 'put', put):
        toy.train(config(ckpt, tmp_path / 'run', logits, dict(type='KillHook', iteration=6)))
    assert len(TeacherLogits(logits['folder'], complete=False).missing()) == 8 - stored
    runner = toy.resume(config(ckpt, tmp_path / 'resumed', logits), tmp_path / 'run/epoch_1.pth')
    toy.assert_same(toy.student(runner).state_dict(), expected)


def test_a_second_run_computes_only_some_logits_to_compare(ckpt, reference, tmp_path, monkeypatch):
    folder, expected = reference
    compute, computed = FrozenTeacher.logits, []

    def watched(self, inputs, *args):
        computed.append(len(inputs))
        return compute(self, inputs, *args)

    monkeypatch.setattr(FrozenTeacher, 'logits', watched)
    runner = toy.train(config(ckpt, tmp_path, filling(folder / 'logits')))
    assert computed == [8]
    assert isinstance(unwrap(runner.model).teacher, StoredTeacher)
    assert unwrap(runner.model).teacher.live is None
    toy.assert_same(toy.student(runner).state_dict(), expected)


def test_strength_is_known_after_a_resume_without_the_first_view(ckpt, tmp_path):
    logits = dict(filling(tmp_path / 'logits'), views=4)
    toy.train(config(ckpt, tmp_path / 'run', logits))
    shutil.rmtree(tmp_path / 'logits')
    toy.resume(config(ckpt, tmp_path / 'resumed', logits), tmp_path / 'run/epoch_2.pth')
    rows = [row for row in toy.logged(tmp_path / 'resumed') if 'iter' in row]
    assert rows and all('loss_prkd.strength' in row for row in rows)


def test_several_views_in_a_run_of_one_epoch_are_an_error(ckpt, tmp_path):
    with pytest.raises(ValueError, match='one epoch, .* but 2 views are to be stored; use one'):
        config(ckpt, tmp_path, filling('logits'), epochs=1)
    config(ckpt, tmp_path, dict(filling('logits'), views=1), epochs=1)


def test_a_complete_store_can_be_used_in_one_epoch(ckpt, reference, tmp_path):
    toy.train(config(ckpt, tmp_path, filling(reference[0] / 'logits'), epochs=2))
    assert config(ckpt, tmp_path, filling(reference[0] / 'logits'), epochs=1)


def test_the_views_of_a_list_are_those_of_its_stores(reference):
    folder = str(reference[0] / 'logits')
    for logits in (folder, dict(folder=folder), [None, folder], dict(views=VIEWS)):
        assert stored_views(logits) == (VIEWS, 0)
    cfg, preprocess = Config(dict(model=dict(teacher_logits=[None]))), BatchClsDataPreprocessor()
    use_views_of_run(cfg, preprocess, 3, 5)  # all teachers are live
    assert (preprocess.views, preprocess.seed) == (None, 5)


def test_progress_and_the_remaining_time_are_logged_every_30_seconds(ckpt, tmp_path, monkeypatch):
    clock = itertools.count(step=10)  # ten seconds for each quarter of the images
    monkeypatch.setattr(filling_teacher, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    toy.train(config(ckpt, tmp_path / 'run', filling(tmp_path / 'logits'), epochs=2))
    found = re.findall(r'(view . of 2: .* images, eta: .*)', toy.log_text(tmp_path / 'run'))
    assert found == [f'view {i} of 2: 24 of 32 images, eta: 0:00:10' for i in (1, 2)]


def train_alongside(ckpt, folder, logits, barrier):
    toy.torch.set_num_threads(1)
    barrier.wait()
    toy.train(config(ckpt, folder, logits))


def test_runs_side_by_side_compute_each_view_once(ckpt, reference, tmp_path):
    _, expected = reference
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(2)
    jobs = [
        context.Process(
            target=train_alongside,
            args=(ckpt, tmp_path / str(i), filling(tmp_path / 'logits'), barrier),
        )
        for i in range(2)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0, 0]
    for i in range(2):
        state = torch.load(tmp_path / f'{i}/epoch_4.pth', weights_only=False)['state_dict']
        toy.assert_same({k.partition('.')[2]: v for k, v in state.items()}, dict(expected))
    log = toy.log_text(tmp_path / '0') + toy.log_text(tmp_path / '1')
    computed = re.findall(r'computed for (\d+) images and stored', log)
    assert sum(map(int, computed)) == VIEWS * toy.TRAIN_SIZE


RANKS = 2


def train_on_ranks(rank, folder, ckpt):
    """Fill a store, and train on one that is complete, in one of two processes."""
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=RANKS
    )
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    computed, put_in_store, states = [], TeacherLogits.put, {}

    def put(store, chunk, logits):
        if not computed:
            dist.barrier()  # each rank holds a chunk before any chunk is stored
        computed.append(chunk.name)
        put_in_store(store, chunk, logits)

    assert on_all_ranks(True) and not on_all_ranks(rank == 1)
    for name in ('filling', 'filled'):
        logits = filling(f'{folder}/logits')
        if name == 'filled':
            logits = logits['folder']
        cfg = config(ckpt, f'{folder}/{name}', logits, dict(type='SyncBuffersHook'))
        cfg.merge_from_dict(dict(launcher='pytorch', model_wrapper_cfg=wrapper))
        with FOUR_CHUNKS, mock.patch.object(TeacherLogits, 'put', put):
            states[name] = toy.student(toy.train(cfg)).state_dict()
    torch.save(dict(states=states, computed=computed), f'{folder}/rank_{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_share_the_work_and_train_as_on_a_store_that_one_process_filled(ckpt, tmp_path):
    torch.multiprocessing.spawn(train_on_ranks, (str(tmp_path), ckpt), nprocs=RANKS)
    one = store_teacher(config(ckpt, tmp_path / 'run', None), tmp_path / 'one', VIEWS)
    store = TeacherLogits(tmp_path / 'logits')
    assert store.header['crc32'] == one.header['crc32']
    assert store.header['metrics'] == one.header['metrics']
    names = sorted(chunk.name for chunk in store.chunks())
    ranks = [torch.load(tmp_path / f'rank_{rank}.pth') for rank in range(RANKS)]
    computed = [rank['computed'] for rank in ranks]
    assert all(computed)
    assert sorted(computed[0] + computed[1]) == names and len(names) == 4 * VIEWS
    expected = ranks[0]['states']['filled']
    for rank in ranks:
        for state in rank['states'].values():
            toy.assert_same(state, expected)


def test_the_missing_hook_is_named(ckpt, tmp_path):
    cfg = config(ckpt, tmp_path, filling(tmp_path / 'logits'))
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if 'FillStoreHook' not in hook.type]
    with pytest.raises(RuntimeError, match="dict.type='FillStoreHook'."):
        toy.train(cfg)


def test_images_whose_views_cannot_be_reproduced_are_refused(ckpt, tmp_path):
    cfg = config(ckpt, tmp_path, filling(tmp_path / 'logits'))
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    with pytest.raises(ValueError, match='PackedImages or ImageViews.*got ToyImages'):
        toy.train(cfg)


@pytest.mark.parametrize('views', [0, 1.5, '2'])
def test_a_bad_number_of_views_is_an_error(views):
    with pytest.raises(ValueError, match='whole number, at least 1'):
        FillingTeacher(FrozenTeacher(toy.build(toy.classifier())), 'x', views)


class TestPrepareStore:
    def config(self, ckpt, folder, logits=None):
        cfg = config(ckpt, folder, logits)
        cfg.model.teacher_config = 'configs/teachers/big.py'
        return cfg

    def test_the_option_sets_the_folder_and_adds_the_hook(self, ckpt, tmp_path):
        cfg = self.config(ckpt, tmp_path)
        prepare_store(cfg, 8)
        assert cfg.model.teacher_logits == dict(views=8, folder='work_dirs/big_8_views')
        assert [hook.type for hook in cfg.custom_hooks].count('mmengine.FillStoreHook') == 1
        prepare_store(cfg)
        assert [hook.type for hook in cfg.custom_hooks].count('mmengine.FillStoreHook') == 1

    def test_a_student_alone_cannot_store_views(self, ckpt, tmp_path):
        cfg = self.config(ckpt, tmp_path)
        cfg.model.type = 'StudentAlone'
        with pytest.raises(ValueError, match='--store-views needs a teacher'):
            prepare_store(cfg, 2)

    def test_live_teacher_and_student_alone_are_not_changed(self, ckpt, tmp_path):
        cfg = self.config(ckpt, tmp_path)
        before = cfg.to_dict()
        prepare_store(cfg)
        assert cfg.to_dict() == before
        cfg.model.type = 'mmrazor.StudentAlone'
        before = cfg.to_dict()
        prepare_store(cfg)
        assert cfg.to_dict() == before

    def test_stored_logits_and_the_option_exclude_each_other(self, ckpt, tmp_path):
        with pytest.raises(ValueError, match="already has model.teacher_logits='some/folder'"):
            prepare_store(self.config(ckpt, tmp_path, 'some/folder'), 8)

    def test_stock_images_are_refused_before_the_run(self, ckpt, tmp_path):
        cfg = self.config(ckpt, tmp_path)
        cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
        with pytest.raises(ValueError, match='must be PackedImages or ImageViews'):
            prepare_store(cfg, 8)
