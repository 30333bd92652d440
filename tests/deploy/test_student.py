import json
import re

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.apis import get_model
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from project import DIGITS, ROOT

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.deploy.checked_images import of_test_set
from prkd_mm.deploy.student import StudentNet, load_image, load_student
from prkd_mm.deploy.student_config import (
    describe,
    describe_config,
    pipeline_for_files,
    preparation,
    preparation_text,
    shorter_edge,
    student_config,
)


def average_of(run):
    """State dict of ``student_avg.pth``."""
    return torch.load(f'{run.work_dir}/student_avg.pth')['state_dict']


def test_the_averaged_student_contains_all_that_builds_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = load_student(f'{run.work_dir}/student_avg.pth')
    assert student.classes == list('0123456789')
    assert (student.size, student.channels) == (8, 1)
    average = average_of(run)
    assert all(torch.equal(value, average[name]) for name, value in student.state.items())
    checked = of_test_set(student, 510)
    with torch.no_grad():
        found = student.net(torch.from_numpy(checked.images)).argmax(1).numpy()
    assert (found == checked.labels).mean() * 100 == pytest.approx(
        student.meta['metrics']['accuracy/top1'], abs=1e-3
    )


def test_a_work_dir_means_its_averaged_student_and_a_training_file_its_own(run):
    assert load_student(run.work_dir).source.endswith('student_avg.pth')
    last = load_student(f'{run.work_dir}/epoch_2.pth')
    trained = run.model.architecture.state_dict()
    assert all(
        torch.equal(value, trained[name]) for name, value in last.net.net.state_dict().items()
    )
    assert (last.size, last.channels, len(last.classes)) == (8, 1, 10)


def test_mmpretrain_loads_the_averaged_student_into_the_config_of_the_run(run):
    """Under the names of MMPretrain's own checkpoints it would be ignored."""
    model = get_model(run.cfg.copy(), pretrained=f'{run.work_dir}/student_avg.pth')
    average = average_of(run)
    loaded = model.architecture.state_dict()
    assert all(torch.equal(value, average[name]) for name, value in loaded.items())


def test_a_checkpoint_without_config(run, tmp_path):
    path = tmp_path / 'weights.pth'
    write_atomically(dict(state_dict=average_of(run)), path)
    with pytest.raises(ValueError, match='does not contain its config.*--config'):
        load_student(str(path))
    assert load_student(str(path), str(ROOT / DIGITS)).size == 8


def test_the_config_of_another_net_is_refused(run):
    other = str(ROOT / 'configs/prkd/resnet56_resnet20_cifar100.py')
    with pytest.raises(ValueError, match='does not fit the model of the config'):
        load_student(f'{run.work_dir}/student_avg.pth', other)


def test_a_pipeline_that_normalizes_is_refused(run, tmp_path):
    """The net does it itself, so the images would be normalized twice."""
    cfg = run.cfg.copy()
    step = dict(type='mmcv.Normalize', mean=[8.0], std=[4.0], to_rgb=False)
    cfg.test_dataloader.dataset.pipeline.insert(0, step)
    cfg.dump(tmp_path / 'a.py')
    with pytest.raises(ValueError, match='move the mean and std of Normalize to the data_prep'):
        load_student(f'{run.work_dir}/student_avg.pth', str(tmp_path / 'a.py'))


@pytest.mark.parametrize(
    ('pair', 'size', 'needs_package'),
    [
        ('resnet34_resnet18_tinyimagenet', 64, False),  # only its test images do
        ('resnet56_resnet20_cifar100', 32, True),
        ('resnet34_resnet18_imagenet', 224, None),  # neither
    ],
)
def test_the_plain_config_of_a_pair(pair, size, needs_package):
    cfg = load_config(str(ROOT / f'configs/prkd/{pair}.py'))
    plain = student_config(cfg)
    assert plain.model.type == 'ImageClassifier' and 'teacher' not in plain.pretty_text
    imported = plain.get('custom_imports')
    assert (imported and not imported.allow_failed_imports) == needs_package
    described = describe(cfg)
    assert described['size'] == size
    assert described['teacher'] == cfg.model.teacher.to_dict()
    train, test = described['train_dataset'], plain.test_dataloader.dataset
    assert train['type'] == test.type and train['split'] == 'train'
    assert train['pipeline'] == test.pipeline
    model = get_model(Config(plain.to_dict()))
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        list((cfg.model.get('data_preprocessor') or cfg.data_preprocessor).mean)
    )


@pytest.mark.parametrize('part', ['held_out', 'rest'])
def test_a_part_of_a_data_set_stays_a_part(part):
    """Otherwise a student would be checked on the images that it was trained on."""
    cfg = load_config(str(ROOT / DIGITS), 'ce')
    images = cfg.train_dataloader.dataset.dataset
    split = dict(type='held_out_split', dataset=images, part=part)
    cfg.test_dataloader.dataset.dataset = split
    init_default_scope('mmpretrain')
    number = len(DATASETS.build(split))
    assert 0 < number < 256
    dataset = DATASETS.build(describe(cfg)['config']['test_dataloader']['dataset'])
    assert len(dataset) == number and 'inputs' in dataset[0]


@pytest.mark.parametrize(
    ('loads_files', 'to_rgb', 'is_bgr'),
    [(True, True, False), (True, False, True), (False, False, False), (False, True, True)],
)
def test_the_color_order_follows_from_the_data_set_and_the_preprocessor(
    loads_files, to_rgb, is_bgr, tmp_path
):
    """MMCV reads files as BGR, and the arrays of CIFAR are RGB."""
    cfg = load_config(str(ROOT / 'configs/prkd/resnet56_resnet20_cifar100.py'), 'ce')
    if loads_files:
        dataset = cfg.test_dataloader.dataset
        dataset.pipeline = [dict(type='LoadImageFromFile'), *dataset.pipeline]
    cfg.data_preprocessor.to_rgb = to_rgb
    model = get_model(student_config(cfg))
    path = tmp_path / 'student.pth'
    write_atomically(
        dict(meta=dict(student_config=describe_config(cfg)), state_dict=model.state_dict()), path
    )
    assert load_student(str(path)).net.is_bgr == is_bgr


def test_normalization_and_color_order_are_inside_of_the_net():
    net = StudentNet(torch.nn.Identity(), [1.0, 2.0, 3.0], [2.0, 4.0, 8.0], is_bgr=True)
    rgb = torch.tensor([30.0, 20.0, 10.0]).view(1, 3, 1, 1)
    assert net(rgb).flatten().tolist() == [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 8]


def steps(edge, size, **how):
    """Steps that prepare an image of any size."""
    return [dict(type='ResizeEdge', scale=edge, **how), dict(type='CenterCrop', crop_size=size)]


def test_an_image_is_resized_and_cropped_to_the_size(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = (200, 100, 50)  # the center square
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    image = load_image(tmp_path / 'a.png', 8, 3, steps(8, 8))
    assert image.shape == (3, 8, 8) and image.dtype == np.float32
    assert image[:, 4, 4].tolist() == [200, 100, 50]
    assert load_image(tmp_path / 'a.png', 8, 1, steps(8, 8)).shape == (1, 8, 8)
    (tmp_path / 'b.png').write_text('no image')
    with pytest.raises(ValueError, match="b.png' is not an image"):
        load_image(tmp_path / 'b.png', 8, 3, steps(8, 8))


def photo(height=90, width=120):
    """A color image with a gradient, so that a turn changes it, and noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.RandomState(0).randint(0, 60, (height, width))
    rgb = np.stack([2 * x + noise, 2 * y + noise, 255 - x - y], 2)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def turned(image):
    """EXIF data of a phone that was held upright."""
    exif = Image.Exif()
    exif[0x112] = 6
    return dict(exif=exif)


def sixteen_bits(image):
    return Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)


def with_holes(image):
    alpha = Image.new('L', image.size, 255)
    alpha.paste(40, (0, 0, 60, 60))
    image.putalpha(alpha)
    return image


def seen_by_validation(path, steps, flag='color'):
    """Pixels after the pipeline with which MMPretrain validates a student, as RGB or gray."""
    init_default_scope('mmpretrain')
    load = dict(type='LoadImageFromFile', color_type=flag)
    pipeline = [load, *steps, dict(type='PackInputs')]
    pipeline = Compose([TRANSFORMS.build(step) for step in pipeline])
    return pipeline(dict(img_path=str(path)))['inputs'].numpy()[::-1].astype(np.float32)


@pytest.mark.parametrize(
    ('name', 'make', 'options'),
    [
        ('a.png', lambda image: image, None),
        ('turned.jpg', lambda image: image, turned),
        ('16_bits.png', sixteen_bits, None),
        ('16_bits.tiff', sixteen_bits, None),
        ('alpha.png', with_holes, None),
        ('palette.png', lambda image: image.quantize(200), lambda _: dict(transparency=3)),
        ('gray_alpha.png', lambda image: with_holes(image.convert('L')), None),
        ('cmyk.jpg', lambda image: image.convert('CMYK'), None),
        ('gray.jpg', lambda image: image.convert('L'), None),
    ],
)
@pytest.mark.parametrize(
    'prepared',
    [
        steps(32, 32),
        steps(40, 32),
        steps(40, 32, backend='pillow'),
        [dict(type='Resize', scale=(32, 32))],  # changes the aspect ratio
        [dict(type='Resize', scale=(32, 32), keep_ratio=True), dict(type='Pad', size=(32, 32))],
    ],
)
def test_an_image_is_loaded_as_in_validation(name, make, options, prepared, tmp_path):
    """MMPretrain decodes with OpenCV, which differs from Pillow by little."""
    path = tmp_path / name
    image = make(photo())
    image.save(path, **(options(image) if options else {}))
    as_exported = json.loads(json.dumps(prepared))
    found = load_image(path, 32, 3, as_exported)
    expected = seen_by_validation(path, prepared)
    assert expected.std() > 15  # a shift or a turn changes much
    assert np.abs(found - expected).mean() < 2
    gray = load_image(path, 32, 1, as_exported)
    expected = seen_by_validation(path, prepared, 'grayscale')
    assert np.abs(gray - expected).mean() < 2


def test_a_pipeline_that_results_in_another_size_is_refused(tmp_path):
    photo().save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r"a.png'.* \(32, 42, 3\), but the net expects 32x32"):
        load_image(tmp_path / 'a.png', 32, 3, [dict(type='ResizeEdge', scale=32)])


def test_an_image_with_32_bits_is_refused(tmp_path):
    """OpenCV cannot read it either, and no one knows its range."""
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / 'a.tiff')
    with pytest.raises(ValueError, match="a.tiff'.*32 bits per channel; convert it to 8 bits"):
        load_image(tmp_path / 'a.tiff', 8, 3, steps(8, 8))


@pytest.mark.parametrize(
    ('pipeline', 'expected', 'text'),
    [
        (steps(36, 32), 36, r'`resize` \(bilinear, OpenCV, not antialiased\)'),
        (
            steps(36, 32, backend='pillow', interpolation='bicubic'),
            36,
            r'`resize` \(bicubic, Pillow, antialiased\)',
        ),
        ([dict(type='Resize', scale=(32, 32))], None, 'then the steps in `pipeline`'),
        (
            [dict(type='ResizeEdge', scale=36, edge='long'), dict(type='CenterCrop')],
            None,
            'then the steps in `pipeline`',
        ),
        ([*steps(36, 32), dict(type='Resize')], None, 'then the steps in `pipeline`'),
    ],
)
def test_the_preparation_is_described(pipeline, expected, text):
    assert shorter_edge(pipeline) == expected
    assert re.search(text, preparation_text(pipeline))


def test_the_shorter_edge_is_that_of_the_test_images_of_the_config(tmp_path):
    cfg = load_config(str(ROOT / 'configs/prkd/resnet34_resnet18_imagenet.py'))
    path = tmp_path / 'student.pth'
    write_atomically(
        dict(
            meta=dict(student_config=describe_config(cfg)),
            state_dict=get_model(student_config(cfg)).state_dict(),
        ),
        path,
    )
    student = load_student(str(path))
    assert (student.size, shorter_edge(student.pipeline)) == (224, 256)


def test_images_of_which_the_config_only_resizes_one_edge_are_cropped():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=8)]
    plain = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    assert preparation(plain, 8) == [pipeline[1], dict(type='CenterCrop', crop_size=8)]


def test_files_that_the_config_does_not_resize_are_resized_after_loading(tmp_path):
    Image.new('RGB', (30, 20), (10, 20, 30)).save(tmp_path / 'a.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    plain = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    init_default_scope('mmpretrain')
    steps = Compose([TRANSFORMS.build(step) for step in pipeline_for_files(plain, 8)])
    inputs = steps(dict(img_path=str(tmp_path / 'a.png')))['inputs']
    assert inputs.shape == (3, 8, 8) and inputs[:, 0, 0].tolist() == [30, 20, 10]
