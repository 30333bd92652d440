"""ImageViews: the stock pipeline, as a function of (seed, view, index)."""

import copy
import random
import shutil
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
import toy
from mmcv.transforms import BaseTransform
from mmengine.dataset import RepeatDataset
from mmpretrain.registry import DATASETS, TRANSFORMS
from scipy.stats import ks_2samp
from torch.utils.data import DataLoader

from prkd_mm.datasets import BatchClsDataPreprocessor, ImageViews
from prkd_mm.datasets.packed.packed_images import whole_batch
from prkd_mm.evaluation import unwrap
from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.filling_teacher import prepare_store
from prkd_mm.teachers.logit_store import TeacherLogits

CROP = dict(type='RandomResizedCrop', scale=8)
FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')
AUGMENTED = [CROP, FLIP, dict(type='PackInputs')]


def photos(folder, pipeline=None) -> ImageViews:
    """JPEGs of different sizes, in two classes."""
    pixels = np.random.RandomState(0)
    for i in range(12):
        path = folder / 'photos' / f'{i % 2}' / f'{i}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = pixels.randint(0, 256, (4, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (40 + 3 * i, 60 - 2 * i)))
    return ImageViews(
        dict(
            type='CustomDataset',
            data_root=str(folder / 'photos'),
            pipeline=[dict(type='LoadImageFromFile'), *(pipeline or AUGMENTED)],
        )
    )


def toys(size=32, **kwargs) -> ImageViews:
    return ImageViews(dict(type='ToyImages', size=size, pipeline=AUGMENTED, **kwargs))


def inputs(views, indices, seed=0, view=0):
    views.choose(seed, view)
    return views.__getitems__(list(indices))['inputs']


@pytest.fixture
def boxes(monkeypatch):
    """The boxes (left, top, right, bottom) that RandomResizedCrop draws."""
    drawn, crop = [], mmcv.imcrop

    def record(image, bboxes):
        drawn.append(tuple(bboxes.tolist()))
        return crop(image, bboxes)

    monkeypatch.setattr(mmcv, 'imcrop', record)
    return drawn


def test_batch_equals_crop_resize_and_flip_with_the_same_boxes(tmp_path, boxes):
    views = photos(tmp_path)
    views.choose(5, 3)
    boxes.clear()  # those of the check that the pipeline repeats them
    batch = inputs(views, range(12), seed=5, view=3)
    assert batch.shape == (12, 3, 8, 8) and batch.dtype == torch.uint8
    flipped = 0
    for i, (left, top, right, bottom) in enumerate(boxes):
        image = cv2.imread(views.dataset.get_data_info(i)['img_path'])
        crop = image[top : bottom + 1, left : right + 1]
        expected = cv2.resize(crop, (8, 8), interpolation=cv2.INTER_LINEAR)
        mirrored = np.array_equal(batch[i].numpy(), expected[:, ::-1].transpose(2, 0, 1))
        assert mirrored or np.array_equal(batch[i].numpy(), expected.transpose(2, 0, 1))
        flipped += mirrored
    assert 0 < flipped < 12
    assert len(set(boxes)) == 12


def test_the_distribution_is_that_of_the_stock_pipeline(boxes):
    views = ImageViews(
        dict(type='ToyImages', size=1500, pipeline=[dict(CROP, scale=4), dict(type='PackInputs')])
    )
    inputs(views, range(1500))
    seeded = np.array(boxes)
    boxes.clear()
    np.random.seed(0)
    for i in range(1500):
        views.dataset[i]
    for ours, stock in zip(seeded.T, np.array(boxes).T):
        assert ks_2samp(ours, stock).pvalue > 1e-3
    # views of one image and images of one view are independent draws
    assert abs(np.corrcoef(seeded[:-1, 2], seeded[1:, 2])[0, 1]) < 0.1


def test_the_share_of_flips_is_the_probability():
    pipeline = [FLIP, dict(type='PackInputs')]
    views = ImageViews(dict(type='ToyImages', size=1000, pipeline=pipeline))
    images = toy.ToyImages(1000, pipeline=pipeline[1:])
    plain = torch.stack([image['inputs'] for image in images])
    share = (inputs(views, range(1000)) != plain).flatten(1).any(1).float().mean()
    assert 0.45 < share < 0.55


@pytest.mark.parametrize('persistent', [False, True])
def test_workers_draw_what_the_main_process_draws(tmp_path, persistent):
    views = photos(tmp_path)
    options = dict(collate_fn=whole_batch, batch_sampler=[[3, 0, 11], [7, 5]])
    loader = DataLoader(views, num_workers=2, persistent_workers=persistent, **options)
    for view in range(3):
        views.choose(1, view)
        for batch, indices in zip(loader, options['batch_sampler']):
            assert torch.equal(batch['inputs'], views.__getitems__(indices)['inputs'])
            assert batch['data_samples']['view'] == view
            assert batch['data_samples']['sample_idx'].tolist() == indices


def test_an_image_depends_only_on_seed_view_and_index(tmp_path):
    views = photos(tmp_path)
    batch = inputs(views, [4, 9])
    np.random.rand(7)
    assert torch.equal(inputs(views, [9, 2, 4])[[2, 0]], batch)
    assert torch.equal(views[9]['inputs'], batch[1])
    assert views[9]['data_samples'].gt_label == views[-3]['data_samples'].gt_label
    for seed, view in ((0, 1), (1, 0)):
        assert not torch.equal(inputs(views, [4, 9], seed, view), batch)
    with pytest.raises(IndexError):
        views[12]


def test_random_numbers_of_the_process_are_not_changed():
    views = toys()
    expected = []
    for draw in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if draw:
            inputs(views, range(4))
            views[0]
        expected.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert expected[0] == expected[1]


def test_source_identifies_images_labels_and_pipeline(tmp_path):
    one = photos(tmp_path / 'one').source
    shutil.copytree(tmp_path / 'one', tmp_path / 'two')
    assert photos(tmp_path / 'two').source == one
    assert photos(tmp_path / 'one', AUGMENTED[:1] + AUGMENTED[2:]).source != one
    (tmp_path / 'two/photos/1/1.jpg').rename(tmp_path / 'two/photos/0/1.jpg')
    dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'two/photos'))
    pipeline = [dict(type='LoadImageFromFile'), *AUGMENTED]
    assert ImageViews(dict(dataset, pipeline=pipeline)).source != one
    assert toys().source == toys().source != toys(seed=1).source


def test_source_depends_on_all_settings_of_the_pipeline_and_not_on_its_use(tmp_path):
    auto = [dict(type='AutoAugment', policies=[[dict(type='Invert', prob=p)]]) for p in (0.1, 0.9)]
    options = dict(type='RandAugment', policies='timm_increasing', num_policies=2)
    rand = [dict(options, magnitude_level=9, magnitude_std=std) for std in (0, 0.5)]
    views = [photos(tmp_path, [policy, *AUGMENTED]) for policy in auto + rand]
    assert len({each.source for each in views}) == 4
    for used, policy in zip(views, auto + rand):
        inputs(used, range(3))
        new = photos(tmp_path, [policy, *AUGMENTED])
        assert used.source == ImageViews(copy.deepcopy(used.dataset)).source == new.source


def test_images_of_different_sizes_are_an_error(tmp_path):
    views = photos(tmp_path, [dict(type='PackInputs')])
    with pytest.raises(ValueError, match=r'images of one size.*0/0.jpg.*0/10.jpg'):
        inputs(views, [0, 1])


@TRANSFORMS.register_module()
class OwnGenerator(BaseTransform):
    """Flips half of the images, by a generator of its own, as Albumentations 2 does."""

    def __init__(self):
        self.draw = random.Random(0)

    def transform(self, results):
        if self.draw.random() < 0.5:
            results['img'] = results['img'][:, ::-1]
        return results


def test_a_pipeline_with_a_generator_of_its_own_is_an_error(tmp_path):
    views = photos(tmp_path, [CROP, dict(type='OwnGenerator'), dict(type='PackInputs')])
    with pytest.raises(ValueError, match='does not repeat its augmentation.*Albumentations 2'):
        views.choose(0, 0)


def test_a_wrapper_of_data_sets_is_an_error():
    whole = RepeatDataset(toy.ToyImages(pipeline=AUGMENTED), times=2)
    with pytest.raises(TypeError, match='RepeatDataset wraps other data sets'):
        ImageViews(whole)


def test_the_preprocessor_normalizes_and_returns_the_view():
    views = toys()
    stats = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0])
    preprocess = BatchClsDataPreprocessor(seed=7, views=2, **stats)
    preprocess.epoch = 5
    preprocess.choose_view(views)
    data = preprocess(views.__getitems__([2, 3]), True)
    (sample,) = data['data_samples']
    assert sample.view == 1 and sample.sample_idx.tolist() == [2, 3]
    assert sample.source == views.source and sample.gt_label.tolist() == [2, 3]
    mean, std = (torch.tensor(stats[name]).view(3, 1, 1) for name in ('mean', 'std'))
    assert torch.equal(data['inputs'], (inputs(views, [2, 3], 7, 1) - mean) / std)


def config(folder, ckpt, *hooks, **kwargs):
    cfg = toy.config(
        toy.distillation(ckpt), folder, dict(type='TailAverageHook', num_epochs=2), *hooks, **kwargs
    )
    cfg.model.data_preprocessor.type = 'mmpretrain.BatchClsDataPreprocessor'
    for part in ('train', 'val'):
        cfg[f'{part}_dataloader'].collate_fn = dict(type='whole_batch')
    inner = dict(cfg.train_dataloader.dataset, pipeline=AUGMENTED)
    cfg.train_dataloader.dataset = dict(type='ImageViews', dataset=inner)
    return cfg


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    return toy.save_teacher(tmp_path_factory.mktemp('ckpt') / 'teacher.pth')


def test_resumed_run_equals_an_uninterrupted_one(tmp_path, teacher):
    toy.train(config(tmp_path / 'a', teacher, epochs=3, num_workers=2))
    with pytest.raises(toy.Killed):
        toy.train(config(tmp_path / 'b', teacher, dict(type='KillHook', epoch=2), epochs=3))
    toy.resume(config(tmp_path / 'c', teacher, epochs=3), tmp_path / 'b/epoch_2.pth')
    for name, keys in (
        ('epoch_3.pth', ['state_dict', 'optimizer']),
        ('student_avg.pth', ['state_dict']),
    ):
        one, two = (torch.load(tmp_path / run / name, weights_only=False) for run in 'ac')
        for key in keys:
            toy.assert_same(one[key], two[key])


def test_a_finished_run_that_is_resumed_recalibrates_on_the_same_view(tmp_path, teacher):
    toy.train(config(tmp_path / 'a', teacher, epochs=3))
    toy.resume(config(tmp_path / 'b', teacher, epochs=3), tmp_path / 'a/epoch_3.pth')
    one, two = (torch.load(tmp_path / run / 'student_avg.pth') for run in 'ab')
    toy.assert_same(one['state_dict'], two['state_dict'])


def test_stored_logits_are_those_of_the_teacher_on_the_same_views(tmp_path, teacher):
    cfg = config(tmp_path / 'store', teacher, num_workers=2)
    store_teacher(cfg, tmp_path / 'logits', views=2, batch_size=7)
    cfg = config(tmp_path / 'run', teacher, epochs=3)
    live = unwrap(toy.start(cfg).model)
    cfg = config(tmp_path / 'stored', teacher, epochs=3)
    cfg.model.teacher_logits = str(tmp_path / 'logits')
    seen = []

    def compare(module, args, data):
        if args[1]:
            (sample,) = data['data_samples']
            with torch.no_grad():
                expected = live.teacher.logits(data['inputs'])
            store = TeacherLogits(tmp_path / 'logits')
            torch.testing.assert_close(
                store.get(sample.view, sample.sample_idx.numpy()), expected, rtol=1e-3, atol=1e-3
            )
            seen.append(sample.view)

    runner = toy.start(cfg)
    unwrap(runner.model).data_preprocessor.register_forward_hook(compare)
    with toy.quickly():
        runner.train()
    assert seen == [0] * 4 + [1] * 4 + [0] * 4


def test_photos_of_any_size_are_stored_during_the_run_as_beforehand(tmp_path, teacher):
    photos(tmp_path)
    loading = [dict(type='LoadImageFromFile'), *AUGMENTED]
    folder = dict(type='CustomDataset', data_root=str(tmp_path / 'photos'), pipeline=loading)
    states, stores = [], []
    for workers, filled in ((0, True), (2, False)):
        cfg = config(tmp_path / f'{workers}', teacher, epochs=3, num_workers=workers)
        cfg.train_dataloader.dataset.dataset = folder
        logits = str(tmp_path / f'logits_{workers}')
        if filled:
            store_teacher(cfg, Path(logits), views=2)
        cfg.model.teacher_logits = logits if filled else dict(views=2, folder=logits)
        prepare_store(cfg)
        states.append(toy.student(toy.train(cfg)).state_dict())
        stores.append(TeacherLogits(logits).header)
    toy.assert_same(*states)
    assert stores[0]['crc32'] == stores[1]['crc32']


def test_a_run_without_the_hook_is_an_error(tmp_path, teacher):
    cfg = config(tmp_path, teacher, epoch_seed=False)
    with pytest.raises(RuntimeError, match='EpochSeedHook'):
        toy.train(cfg)


def test_an_iteration_based_run_is_an_error(tmp_path, teacher):
    cfg = config(tmp_path, teacher, by_epoch=False)
    cfg.default_hooks.epoch_seed = dict(type='EpochSeedHook')
    with pytest.raises(ValueError, match='epoch-based loop'):
        toy.train(cfg)


def test_it_is_built_by_name():
    dataset = dict(type='ToyImages', pipeline=[])
    views = DATASETS.build(dict(type='ImageViews', dataset=dataset, pipeline=AUGMENTED))
    assert isinstance(views, ImageViews) and len(views) == 32
    assert inputs(views, [0]).shape == (1, 3, 8, 8)
