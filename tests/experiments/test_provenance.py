"""Runs are not compared across other images or another teacher."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from PIL import Image
from project import DIGITS
from rich.console import Console

from prkd_mm.experiments import plan, rows_of, run_all
from prkd_mm.experiments.provenance import images_of, teacher_of
from prkd_mm.experiments.records import read_records


@pytest.fixture
def photos(folder, monkeypatch):
    """A comparison whose validation images are files."""
    forget(monkeypatch)
    for index in range(4):
        add_photo(folder / 'photos', index)
    (folder / 'pair.py').write_text(
        f"_base_ = '{DIGITS}'\n"
        "val_dataloader = dict(dataset=dict(_delete_=True, type='mmpretrain.CustomDataset',\n"
        "    data_root='photos', pipeline=[]))\n"
    )
    return folder


def forget(monkeypatch):
    """Forget all hashes, as a new process does."""
    monkeypatch.setattr('prkd_mm.experiments.provenance._known', {})


def add_photo(folder, index):
    path = folder / str(index % 2) / f'{index}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('L', (8, 8)).save(path)


def compare(folder, **options):
    """Train the missing runs, and return their work dirs."""
    (folder / 'trained.txt').write_text('')
    run_all(plan('pair.py', ['kd'], **options), 'train.py', Console(quiet=True))
    return (folder / 'trained.txt').read_text().split()


def test_the_hash_of_the_images_follows_the_files_but_not_their_folder(photos):
    cfg = plan('pair.py', ['kd'])[-1].cfg
    before = images_of(cfg)
    shutil.copytree('photos', 'copied')
    cfg.val_dataloader.dataset.data_root = 'copied'
    assert images_of(cfg) == before
    add_photo(photos / 'more', 0)
    add_photo(photos / 'more', 1)
    cfg.val_dataloader.dataset.data_root = 'more'
    assert images_of(cfg) not in (None, before)


def test_new_images_are_another_experiment(photos, monkeypatch):
    assert compare(photos) == ['teacher_digits', 'pair_kd']
    assert compare(photos) == []
    add_photo(photos / 'photos', 5)
    forget(monkeypatch)
    assert compare(photos, seeds=2) == ['pair_kd', 'pair_kd_seed1']  # the teacher has its own
    assert (photos / 'work_dirs/pair_kd.1/job.json').exists()


def test_records_of_other_images_are_refused_before_the_training(photos, monkeypatch):
    compare(photos, records=photos / 'records')
    add_photo(photos / 'photos', 5)
    forget(monkeypatch)
    with pytest.raises(ValueError, match="pair_kd-.*json' used other images.* --records"):
        compare(photos, records=photos / 'records', seeds=2)
    assert not (photos / 'trained.txt').read_text()


def test_records_of_another_teacher_are_refused(photos):
    torch.save(dict(state_dict=dict(a=torch.zeros(2))), 'teacher.pth')
    options = dict(options=['model.teacher_ckpt=teacher.pth'], records=photos / 'records')
    compare(photos, **options)
    torch.save(dict(state_dict=dict(a=torch.zeros(2)), meta=dict(time='later')), 'teacher.pth')
    assert compare(photos, **options) == []
    torch.save(dict(state_dict=dict(a=torch.ones(2))), 'teacher.pth')
    with pytest.raises(ValueError, match='used another teacher'):
        compare(photos, **options)


def test_one_row_is_not_made_of_other_images_or_teachers(photos):
    compare(photos, records=photos / 'records', seeds=2)
    records = [run for run in read_records(photos / 'records') if run.method]
    assert len(rows_of(records)) == 1
    for name in ('images', 'teacher'):
        other = dataclasses.replace(records[1], **{name: 'other'})
        same = dataclasses.replace(records[0], teacher='first')
        with pytest.raises(ValueError, match=f'the {name} of KD with seed 1 differs from that of'):
            rows_of([same, other])


def test_a_record_without_hashes_is_accepted(photos, monkeypatch):
    """As those of earlier versions."""
    compare(photos, records=photos / 'records')
    for path in Path('records').iterdir():
        record = json.loads(path.read_text())
        assert record.pop('images') and 'teacher' in record
        path.write_text(json.dumps(record))
    add_photo(photos / 'photos', 5)
    forget(monkeypatch)
    assert compare(photos, records=photos / 'records') == []


def test_a_teacher_that_is_not_finished_is_not_compared(photos):
    """Its weights are another teacher's only until it is trained to its end."""
    compare(photos, records=photos / 'records')
    shutil.rmtree('work_dirs')
    for path in Path('records').iterdir():
        record = json.loads(path.read_text())
        path.write_text(json.dumps(dict(record, teacher=record['method'] and 'earlier')))
    jobs = plan('pair.py', ['kd'], seeds=2, records=photos / 'records')
    jobs[0].note(seconds=1.0)  # as after an interruption
    unfinished = jobs[0].work_dir / 'epoch_1.pth'
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=dict(epoch=1)), unfinished)
    (jobs[0].work_dir / 'last_checkpoint').write_text(str(unfinished))
    (photos / 'trained.txt').write_text('')
    console = Console(record=True, width=200)
    with pytest.raises(ValueError, match='used another teacher'):
        run_all(jobs, 'train.py', console)
    assert 'The teacher of the recorded runs is not here' in console.export_text()
    assert (photos / 'trained.txt').read_text().split() == ['teacher_digits']


def test_a_finished_comparison_needs_no_images(photos, monkeypatch):
    compare(photos)
    shutil.rmtree('photos')
    forget(monkeypatch)
    assert compare(photos) == []


@DATASETS.register_module()
class Drawn(BaseDataset):
    """Images without a path, or a new subset in each process."""

    def load_data_list(self):
        if self.metainfo.get('keys'):
            return [dict(key='a', gt_label=0)]
        return [dict(img_path=f'{number}.png', gt_label=0) for number in np.random.rand(4)]


def test_images_that_are_drawn_or_have_no_path(photos, monkeypatch):
    cfg = plan('pair.py', ['kd'])[-1].cfg
    cfg.val_dataloader.dataset = dict(type='Drawn', pipeline=[])
    first = images_of(cfg)
    forget(monkeypatch)
    np.random.rand()
    assert images_of(cfg) == first is not None
    cfg.val_dataloader.dataset = dict(type='Drawn', pipeline=[], metainfo=dict(keys=True))
    assert images_of(cfg) is None


def test_other_kinds_of_teachers(tmp_path):
    def of(checkpoint, algorithm='FrozenTeacherDistill'):
        return teacher_of(Config(dict(model=dict(type=algorithm, teacher_ckpt=checkpoint))))

    (tmp_path / 'a.onnx').write_bytes(b'a')
    assert of(str(tmp_path / 'a.onnx'))
    assert of(str(tmp_path / 'a.onnx'), 'mmrazor.StudentAlone') is None
    assert of('https://a.b/c.pth') is of(str(tmp_path / 'missing')) is of(None) is None


def test_missing_images_are_reported_before_the_teacher_is_trained(photos):
    shutil.rmtree('photos')
    with pytest.raises(FileNotFoundError, match='photos'):
        compare(photos)
    assert not (photos / 'trained.txt').read_text()
