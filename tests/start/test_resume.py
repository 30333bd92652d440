import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import toy
from mmpretrain.registry import DATASETS

from prkd_mm.start.recorded_config import changes, parse
from prkd_mm.start.resume import (
    check_same_images,
    check_same_teacher,
    find_resume_point,
    set_resume,
)


def config(work_dir, ckpt, **options):
    return toy.config(
        toy.distillation(ckpt),
        work_dir,
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=2),
        epochs=3,
        **{'default_hooks.checkpoint.type': 'SafeCheckpointHook'},
        **options,
    )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The work dir of a run of three epochs, and its teacher."""
    path = tmp_path_factory.mktemp('finished')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    toy.train(config(path / 'run', ckpt))
    return path / 'run', ckpt


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run, which a test may damage."""
    return shutil.copytree(finished[0], tmp_path / 'copy')


def damage(path, how):
    content = path.read_bytes()
    if how == 'missing':
        path.unlink()
    else:
        path.write_bytes(dict(half=content[: len(content) // 2], empty=b'', text=b'no' * 99)[how])


class TestWhichCheckpoint:
    def test_the_latest_checkpoint_of_this_folder_is_used(self, run):
        """`last_checkpoint` names the file of the original folder."""
        assert str(run) not in (run / 'last_checkpoint').read_text()
        point = find_resume_point(run)
        assert point.path == str(run / 'epoch_3.pth') and not point.notes
        assert point.checkpoint['meta']['epoch'] == 3

    @pytest.mark.parametrize('how', ['half', 'empty', 'text'])
    def test_the_checkpoint_before_a_damaged_one_is_used(self, run, how):
        damage(run / 'epoch_3.pth', how)
        point = find_resume_point(run)
        assert point.path == str(run / 'epoch_2.pth')
        (note,) = point.notes
        assert 'skipped' in note and "epoch_3.pth'" in note and 'damaged' in note

    def test_two_damaged_checkpoints_are_skipped(self, run):
        for epoch in (2, 3):
            damage(run / f'epoch_{epoch}.pth', 'half')
        point = find_resume_point(run)
        assert point.path == str(run / 'epoch_1.pth') and len(point.notes) == 2

    def test_a_folder_with_only_damaged_checkpoints_is_an_error(self, run):
        for epoch in (1, 2, 3):
            damage(run / f'epoch_{epoch}.pth', 'half')
        with pytest.raises(ValueError, match='no checkpoint .* can be read.*without --resume'):
            find_resume_point(run)

    @pytest.mark.parametrize('how', ['missing', 'empty', 'text'])
    def test_a_bad_last_checkpoint_file_is_ignored(self, run, how):
        damage(run / 'last_checkpoint', how)
        point = find_resume_point(run)
        assert point.path == str(run / 'epoch_3.pth')
        assert 'names no checkpoint' in point.notes[0]

    def test_a_latest_checkpoint_that_is_missing_is_ignored(self, run):
        damage(run / 'epoch_3.pth', 'missing')
        assert find_resume_point(run).path == str(run / 'epoch_2.pth')

    def test_files_of_an_earlier_longer_run_are_not_used(self, run):
        (run / 'last_checkpoint').write_text(str(run / 'epoch_2.pth'))
        assert find_resume_point(run).path == str(run / 'epoch_2.pth')

    def test_checkpoints_are_sorted_by_number(self, run):
        for epoch in (9, 10):
            shutil.copy(run / 'epoch_3.pth', run / f'epoch_{epoch}.pth')
        (run / 'last_checkpoint').unlink()
        assert find_resume_point(run).path == str(run / 'epoch_10.pth')

    def test_checkpoints_with_the_names_of_the_config_are_found(self, run):
        for epoch in (2, 3):
            (run / f'epoch_{epoch}.pth').rename(run / f'net.{epoch}.pt')
        (run / 'last_checkpoint').write_text('net.3.pt')
        point = find_resume_point(run, 'net.{}.pt')
        assert point.path == str(run / 'net.3.pt') and not point.notes
        assert find_resume_point(run).path == str(run / 'epoch_1.pth')

    def test_an_empty_folder_starts_from_the_beginning_with_a_note(self, tmp_path):
        point = find_resume_point(tmp_path)
        assert point.path is None and 'from the beginning' in point.notes[0]

    @pytest.mark.parametrize('moved', [False, True])
    def test_checkpoints_in_another_folder_are_not_overwritten(self, run, finished, moved):
        """`last_checkpoint` of the copy names a file of the original."""
        recorded = finished[0] / 'epoch_3.pth'
        for path in run.glob('epoch_*.pth'):
            path.unlink()
        if moved:  # the file that is named does not exist either
            (run / 'last_checkpoint').write_text('/gone/epoch_3.pth')
            assert find_resume_point(run).path is None
            return
        with pytest.raises(ValueError, match=f'are elsewhere; .* use --resume {recorded};'):
            find_resume_point(run)


class TestSetResume:
    def test_the_same_run_resumes_without_notes(self, finished):
        cfg = config(*finished)
        assert set_resume(cfg).notes == []
        assert cfg.resume and cfg.load_from == str(finished[0] / 'epoch_3.pth')

    def test_a_folder_without_checkpoints_starts_from_the_beginning(self, tmp_path):
        cfg = config(tmp_path, None)
        (note,) = set_resume(cfg).notes
        assert 'from the beginning' in note and not cfg.resume and cfg.load_from is None

    @pytest.mark.parametrize(
        'options, words',
        [
            ({'train_cfg.max_epochs': 4}, 'train_cfg.max_epochs was 3 and is now 4'),
            ({'train_dataloader.batch_size': 4}, 'images per step .* was 8 and is now 4'),
            ({'optim_wrapper.optimizer.lr': 0.2}, r'lr was 0\.1 and is now 0\.2'),
            ({'model.teacher_ckpt': 'other.pth'}, 'teacher_ckpt was .* and is now .other.pth'),
            ({'model.architecture.backbone.width': 8}, 'width was 4 and is now 8'),
            ({'randomness.seed': 4}, 'seed was 3 and is now 4'),
            ({'train_dataloader.dataset.size': 16}, 'size was None and is now 16'),
            ({'custom_hooks.0.schedules.0.end': 2.0}, r'end was 1\.0 and is now 2\.0'),
            ({'custom_hooks.1.num_epochs': 1}, 'num_epochs was 2 and is now 1'),
        ],
        ids=lambda x: next(iter(x)) if isinstance(x, dict) else '',
    )
    def test_another_run_is_refused_with_the_difference(self, finished, options, words):
        cfg = config(*finished)
        cfg.merge_from_dict(options)
        with pytest.raises(ValueError, match=f'(?s)different settings.*{words}.*--allow-changes'):
            set_resume(cfg)
        notes = set_resume(cfg, allow_changes=True).notes
        assert len(notes) == 1 and 'changed setting' in notes[0]

    def test_names_of_checkpoints_are_read_from_the_config(self, run, finished):
        (run / 'epoch_3.pth').rename(run / 'net_3.pt')
        cfg = config(run, finished[1])
        cfg.merge_from_dict({'default_hooks.checkpoint.filename_tmpl': 'net_{}.pt'})
        set_resume(cfg)
        assert cfg.load_from == str(run / 'net_3.pt')

    @pytest.mark.parametrize('allow_changes', [False, True])
    def test_a_run_shorter_than_its_checkpoint_is_refused(self, finished, allow_changes):
        cfg = config(*finished)
        cfg.merge_from_dict({'train_cfg.max_epochs': 2})
        with pytest.raises(ValueError, match='is from epoch 3, but train_cfg.max_epochs is 2'):
            set_resume(cfg, allow_changes=allow_changes)

    @pytest.mark.parametrize(
        'options',
        [
            {'train_dataloader.num_workers': 2},
            {'default_hooks.logger.interval': 5},
            {'train_cfg.val_interval': 2},
            {'log_level': 'INFO'},
            {'val_dataloader.batch_size': 3},
        ],
        ids=lambda x: next(iter(x)),
    )
    def test_settings_without_effect_may_change(self, finished, options):
        cfg = config(*finished)
        cfg.merge_from_dict(options)
        assert set_resume(cfg).notes == []

    def test_moved_data_is_noted(self, finished):
        cfg = config(*finished)
        cfg.merge_from_dict({'train_dataloader.dataset.data_root': 'elsewhere'})
        (note,) = set_resume(cfg).notes
        assert "data_root was None and is now 'elsewhere'" in note

    def test_a_longer_run_of_a_net_alone_is_noted(self, tmp_path):
        cfg = toy.config(toy.classifier(), tmp_path)
        toy.train(cfg)
        cfg.merge_from_dict({'train_cfg.max_epochs': 4})
        (note,) = set_resume(cfg).notes
        assert 'max_epochs was 2 and is now 4' in note

    def test_the_total_batch_size_is_compared(self, finished):
        cfg = config(*finished)
        with pytest.raises(ValueError, match='was 8 and is now 16'):
            set_resume(cfg, processes=2)
        checkpoint = torch.load(finished[0] / 'epoch_3.pth', weights_only=False)
        recorded = parse(checkpoint['meta']['cfg'])
        cfg.merge_from_dict({'train_dataloader.batch_size': 4})
        assert changes(recorded, cfg.to_dict(), 1, 2) == ([], [])

    def test_weights_alone_cannot_be_resumed(self, finished):
        path = str(finished[0] / 'student_avg.pth')
        with pytest.raises(ValueError, match=f"'{path}' cannot be resumed: .*load_from={path}"):
            set_resume(config(*finished), path)

    def test_another_work_dir_can_be_named(self, finished, tmp_path):
        cfg = config(tmp_path, finished[1])
        set_resume(cfg, str(finished[0]))
        assert cfg.load_from == str(finished[0] / 'epoch_3.pth')
        with pytest.raises(FileNotFoundError, match='no checkpoint in the work dir'):
            set_resume(cfg, str(tmp_path))


class TestReplacedTeacher:
    @pytest.fixture
    def cfg(self, run, tmp_path):
        """The config of the finished run, with a copy of its teacher."""
        checkpoint = torch.load(run / 'epoch_3.pth', weights_only=True)
        cfg = config(run, toy.save_teacher(tmp_path / 'teacher.pth'))
        return cfg, checkpoint['meta']

    def test_the_same_teacher_is_accepted(self, cfg):
        cfg, meta = cfg
        assert check_same_teacher(toy.start(cfg).model, meta, 'epoch_3.pth') == []

    def test_another_teacher_under_the_same_path_is_refused(self, cfg):
        cfg, meta = cfg
        state = torch.load(cfg.model.teacher_ckpt, weights_only=True)
        state['state_dict']['head.fc.bias'] += 1
        torch.save(state, cfg.model.teacher_ckpt)
        model = toy.start(cfg).model
        with pytest.raises(ValueError, match='different settings.*the teacher .*--allow'):
            check_same_teacher(model, meta, 'epoch_3.pth')
        (note,) = check_same_teacher(model, meta, 'epoch_3.pth', allow_changes=True)
        assert 'the teacher (its weights' in note

    def test_a_checkpoint_without_the_hash_is_accepted(self, cfg):
        cfg, meta = cfg
        del meta['teacher']
        assert check_same_teacher(toy.start(cfg).model, meta, 'epoch_3.pth') == []


class TestReplacedImages:
    @pytest.mark.parametrize('change', ['added', 'renamed class', 'moved', 'none'])
    def test_changed_files_of_a_folder_are_found(self, tmp_path, change):
        for name in ('cat', 'dog', 'owl'):
            for i in range(4):
                path = tmp_path / f'photos/{name}/{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((4, 4, 3), i, np.uint8))
        photos = dict(type='CustomDataset', data_root=str(tmp_path / 'photos'), pipeline=[])
        views = dict(type='ImageViews', dataset=photos)
        meta = dict(images=DATASETS.build(views).source)
        if change == 'added':
            shutil.copy(path, path.with_name('new.png'))
        elif change == 'renamed class':
            (tmp_path / 'photos/cat').rename(tmp_path / 'photos/tom')
        elif change == 'moved':
            (tmp_path / 'photos').rename(tmp_path / 'elsewhere')
            views['dataset'] = dict(photos, data_root='', data_prefix=f'{tmp_path}/elsewhere/')
        now = DATASETS.build(views)
        if change in ('none', 'moved'):
            assert check_same_images(now, meta, 'epoch_1.pth') == []
            return
        with pytest.raises(ValueError, match="'epoch_1.pth' .* training images .* have changed"):
            check_same_images(now, meta, 'epoch_1.pth')
        (note,) = check_same_images(now, meta, 'epoch_1.pth', allow_changes=True)
        assert 'training images' in note

    def test_the_hash_is_in_the_checkpoints(self, finished, tmp_path):
        cfg = config(tmp_path, finished[1])
        toy.pack(cfg)
        dataset = toy.train(cfg).train_dataloader.dataset
        meta = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['meta']
        assert meta['images'] == dataset.source

    def test_without_a_hash_they_are_accepted(self):
        other = SimpleNamespace(source='anything of a data set of the user')
        assert check_same_images(other, dict(images='a'), 'epoch_1.pth') == []
        views = DATASETS.build(dict(type='ImageViews', dataset=dict(type='ToyImages', pipeline=[])))
        assert check_same_images(views, {}, 'epoch_1.pth') == []
