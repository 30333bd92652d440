from pathlib import Path

import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from project import ROOT

from prkd_mm.config import load_config
from prkd_mm.experiments.tune.held_out_config import write_held_out

DIGITS = str(ROOT / 'configs/quickstart/prkd_digits.py')


def test_the_output_folder_can_be_a_link(checkout):
    (checkout / 'deep/er/disk').mkdir(parents=True)
    Path('results').symlink_to('deep/er/disk')
    pair, _ = write_held_out(DIGITS, Path('results/tune'))
    assert load_config(str(pair)).train_dataloader.dataset.dataset.part == 'rest'


@pytest.mark.parametrize(
    'path', ['configs/quickstart/prkd_digits.py', 'configs/prkd/resnet34_resnet18_caltech256.py']
)
def test_the_written_configs_hold_out_images(checkout, path):
    pair, teacher = write_held_out(path, Path('out'), 4)
    assert load_config(str(pair), 'kd').method == 'kd'
    cfg, whole = load_config(str(pair)), load_config(path)
    assert cfg.model.teacher_config == str(teacher)
    assert cfg.model.teacher_ckpt == f'work_dirs/{teacher.stem}'
    teachers = load_config(str(teacher)), load_config(whole.model.teacher_config)
    for each, own in ((cfg, whole), teachers):
        sets = []
        for name in ('train', 'val', 'test'):
            loader = each[f'{name}_dataloader']
            ours = own[f'{"train" if name == "train" else "val"}_dataloader']
            assert loader.batch_size == ours.batch_size
            assert loader.sampler == ours.sampler
            split = loader.dataset
            if split.type in ('PackedImages', 'ImageViews'):
                split = split.dataset
            train = own.train_dataloader.dataset
            assert split.dataset == train.get('dataset', train)
            assert split.type == 'held_out_split' and split.every == 4
            sets.append((split.part, loader.dataset.get('pipeline')))
        validation = own.val_dataloader.dataset
        pipeline = validation.pipeline
        assert sets == [('rest', None), ('held_out', pipeline), ('held_out', pipeline)]


def test_held_out_images_are_collated_like_the_training_images(checkout):
    options = {'val_dataloader.collate_fn.type': 'default_collate'}
    pair, _ = write_held_out(
        'configs/prkd/resnet34_resnet18_caltech256.py', Path('out'), 4, options
    )
    assert load_config(str(pair)).val_dataloader.collate_fn.type == 'whole_batch'


def test_an_existing_teacher_is_used_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'pair.py').write_text(f'_base_ = {DIGITS!r}\nmodel = dict(teacher_config=None)\n')
    pair, teacher = write_held_out('pair.py', Path('out'))
    assert teacher is None
    assert load_config(str(pair)).model.teacher_ckpt == ('work_dirs/teacher_digits')


def test_a_held_out_image_is_never_trained_on(checkout):
    pair, teacher = write_held_out(DIGITS, Path('out'))
    init_default_scope('mmpretrain')

    def images(config: Path, name: str) -> set[bytes]:
        data = DATASETS.build(load_config(str(config))[f'{name}_dataloader'].dataset)
        return {image.tobytes() for image in data.images}

    val = images(pair, 'val')
    assert len(val) == 50 and not val & images(pair, 'train')
    # the teacher trains on more digits than the student
    assert len(images(teacher, 'train')) > 1000 and not val & images(teacher, 'train')
