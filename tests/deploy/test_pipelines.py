import json

import pytest
import torch
import toy
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.config import Config
from mmpretrain.apis import get_model
from mmpretrain.datasets import CIFAR10, CustomDataset
from mmpretrain.registry import DATASETS, TRANSFORMS
from project import DIGITS, ROOT

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.datasets.pipelines import pipeline_of, reads_files, set_pipeline, unwrapped
from prkd_mm.deploy.average import average_checkpoints
from prkd_mm.deploy.checked_images import of_test_set, of_training_set
from prkd_mm.deploy.student import load_student
from prkd_mm.deploy.student_config import describe, student_config


@TRANSFORMS.register_module()
class LoadAsMine(LoadImageFromFile):
    """A loader of a user."""


@TRANSFORMS.register_module()
class OtherTransform(BaseTransform):
    """A transform of a user that may load images or not."""

    def transform(self, results):
        return results


@DATASETS.register_module()
class OwnPipeline(CustomDataset):
    """A data set of a user whose pipeline is not in the config."""

    def __init__(self, **kwargs):
        super().__init__(pipeline=[dict(type='LoadImageFromFile'), *PREPARED], **kwargs)


@DATASETS.register_module()
class OwnArrays(CIFAR10):
    """A data set of a user whose images are arrays."""


PREPARED = [dict(type='Resize', scale=8), dict(type='PackInputs')]
FILES = [dict(type='LoadImageFromFile'), *PREPARED]


def photos(pipeline=FILES, **settings):
    return dict(type='CustomDataset', data_prefix='photos', pipeline=pipeline, **settings)


WRAPPERS = {
    'ConcatDataset': lambda images: dict(type='ConcatDataset', datasets=[images, images]),
    'RepeatDataset': lambda images: dict(type='RepeatDataset', times=2, dataset=images),
    'KFoldDataset': lambda images: dict(
        type='KFoldDataset', num_splits=3, test_mode=True, dataset=images
    ),
    'ClassBalancedDataset': lambda images: dict(
        type='ClassBalancedDataset', oversample_thr=1e-3, dataset=images
    ),
    'held_out_split': lambda images: dict(
        type='held_out_split', part='held_out', every=2, dataset=images
    ),
}


@pytest.fixture
def wrapped_run(photos_run):
    """Let the checkpoint of a student of photos have wrapped test images and training images."""

    def wrap(name, **settings):
        checkpoint = torch.load(photos_run)
        cfg = Config.fromstring(checkpoint['meta']['cfg'], '.py')
        for loader in (cfg.test_dataloader, cfg.train_dataloader):
            loader.dataset = WRAPPERS[name](dict(loader.dataset, **settings))
        write_atomically(dict(checkpoint, meta=dict(cfg=cfg.pretty_text)), photos_run)
        return str(photos_run), cfg

    return wrap


@pytest.mark.parametrize('name', WRAPPERS)
def test_a_student_is_checked_on_the_images_and_colors_of_its_test_set(wrapped_run, name):
    path, cfg = wrapped_run(name)
    student = load_student(path)
    plain = load_student(path, size=64)  # whose pipeline is adapted
    assert not student.net.is_bgr and (student.size, plain.size) == (32, 64)
    tested = DATASETS.build(cfg.test_dataloader.dataset)
    tested.full_init()
    for checked in (of_test_set(student, 100), of_training_set(student, 100)):
        assert len(checked.images) == len(tested)
        for image, sample in zip(checked.images, tested):
            assert (image == sample['inputs'].numpy()[::-1]).all()  # OpenCV reads BGR
    assert of_test_set(plain, 1).images.shape[2:] == (64, 64)


def test_mmpretrain_prepares_files_by_the_pipeline_of_wrapped_images(wrapped_run):
    path, _ = wrapped_run('ConcatDataset')
    found = get_model(path)._config.test_dataloader.dataset.pipeline
    assert [step['type'] for step in found] == [
        *('LoadImageFromFile', 'ResizeEdge', 'CenterCrop', 'PackInputs')
    ]


@pytest.mark.parametrize('name', ['PackedImages', 'ImageViews'])
def test_a_wrapper_that_does_not_choose_images_is_dropped(name):
    kept = dict(type='KFoldDataset', dataset=photos())
    assert unwrapped(Config(dict(x=dict(type=name, dataset=photos()))).x) == photos()
    other = dict(type=name, dataset=photos([]), pipeline=FILES)
    concat = dict(type='ConcatDataset', datasets=[other, kept])
    assert unwrapped(Config(dict(x=concat)).x) == dict(concat, datasets=[photos(), kept])


@pytest.mark.parametrize(
    ('dataset', 'files'),
    [
        (photos(), True),
        (photos([dict(type='LoadAsMine'), *PREPARED]), True),
        (photos([dict(type='mmpretrain.LoadAsMine'), *PREPARED]), True),
        (photos([dict(type=LoadAsMine), *PREPARED]), True),
        (photos([dict(type='OtherTransform'), *FILES]), True),
        (dict(type='ToyImages', pipeline=PREPARED), False),
        (dict(type='ToyImages', pipeline=[]), False),
        (dict(type='ToyImages', pipeline=[PREPARED[0], dict(type='OtherTransform')]), False),
        (dict(type='CIFAR10', pipeline=[dict(type='OtherTransform'), *PREPARED]), False),
        (dict(type='OwnArrays', pipeline=[dict(type='OtherTransform'), *PREPARED]), False),
        (photos([dict(type='RandomChoice', transforms=[FILES[:1]]), *PREPARED]), True),
        (dict(type='CIFAR100'), False),
        (dict(type='OwnArrays'), False),
        (dict(type='Digits'), False),
    ],
)
def test_files_and_arrays_are_told_apart(dataset, files):
    for wrapper in (lambda images: images, *WRAPPERS.values()):
        assert reads_files(wrapper(dataset)) == files


@pytest.mark.parametrize(
    ('dataset', 'words'),
    [
        (dict(type='OwnPipeline'), "'OwnPipeline' has no `pipeline` in the config.*pipeline="),
        (
            photos([dict(type='OtherTransform'), *PREPARED]),
            "begins with 'OtherTransform', which is no subclass.*inherit from LoadImageFromFile",
        ),
        (photos([dict(type='Gone'), *PREPARED]), "'Gone', which is not registered.*--config"),
        (photos([dict(type='no_module.Gone'), *PREPARED]), "'Gone', which is not registered"),
    ],
)
def test_images_that_may_be_files_or_arrays_are_refused(dataset, words):
    for wrapper in (lambda images: images, *WRAPPERS.values()):
        with pytest.raises(ValueError, match=words):
            reads_files(wrapper(dataset))


def test_the_wrapped_data_sets_need_one_pipeline():
    concat = dict(type='ConcatDataset', datasets=[photos(), photos(PREPARED)])
    with pytest.raises(ValueError, match="inside of 'ConcatDataset' have different pipelines"):
        pipeline_of(concat)
    with pytest.raises(ValueError, match="inside of 'ConcatDataset' read files, .*RGB arrays"):
        reads_files(concat)
    concat['datasets'][1] = photos([FILES[0], *PREPARED[1:]])
    with pytest.raises(ValueError, match="inside of 'ConcatDataset' have different pipelines"):
        pipeline_of(concat)
    assert reads_files(concat)
    set_pipeline(concat, FILES)
    assert pipeline_of(concat) == FILES
    assert concat == dict(type='ConcatDataset', datasets=[photos(), photos()])


def test_a_config_that_does_not_tell_the_order_of_colors_is_refused(photos_run):
    cfg = Config.fromstring(torch.load(photos_run)['meta']['cfg'], '.py')
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='OtherTransform')
    with pytest.raises(ValueError, match='BGR.*or RGB'):
        student_config(cfg)


def test_gray_images_have_no_order_of_colors():
    cfg = load_config(str(ROOT / DIGITS), 'ce')
    cfg.test_dataloader.dataset.dataset = dict(
        type='ToyImages', pipeline=[dict(type='OtherTransform'), *PREPARED]
    )
    cfg.test_dataloader.dataset.pop('pipeline')
    assert describe(cfg)['config']['test_dataloader']['dataset']['type'] == 'ToyImages'


def test_a_run_whose_images_are_unknown_trains_and_warns(ckpt, tmp_path):
    tail = dict(type='TailAverageHook', num_epochs=1)
    cfg = toy.config(toy.distillation(ckpt), tmp_path, tail, epochs=1)
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'test_{part}'] = cfg[f'val_{part}']
    cfg.test_dataloader.dataset = dict(type='OwnPipeline', data_prefix='photos')
    toy.train(cfg)
    assert "does not contain its config: the data set 'OwnPipeline'" in toy.log_text(tmp_path)
    with pytest.raises(ValueError, match='does not contain its config'):
        load_student(str(tmp_path))
    averaged = average_checkpoints(cfg, [tmp_path / 'epoch_1.pth'], 'latest')
    assert averaged['state_dict'] and 'student_config' not in averaged['meta']


def test_a_description_of_an_earlier_version_without_a_pipeline_is_refused(photos_run, tmp_path):
    checkpoint = torch.load(photos_run)
    described = describe(Config.fromstring(checkpoint['meta']['cfg'], '.py'))
    described['config']['test_dataloader']['dataset'] = dict(type='OwnPipeline')
    checkpoint['meta']['student_config'] = json.dumps(described)
    torch.save(checkpoint, tmp_path / 'old.pth')
    with pytest.raises(ValueError, match="'OwnPipeline' has no `pipeline`.*set it with --config"):
        load_student(str(tmp_path / 'old.pth'))
