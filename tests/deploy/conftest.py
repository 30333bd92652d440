import numpy as np
import pytest
from mmengine.runner import Runner
from mmpretrain.apis import get_model
from PIL import Image
from project import DIGITS, ROOT

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.deploy.checked_images import of_test_set, of_training_set
from prkd_mm.deploy.export import export
from prkd_mm.deploy.student import load_student
from prkd_mm.deploy.student_config import student_config


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    """Work dir of a student of the digits, trained for two epochs."""
    options = {
        'train_cfg.max_epochs': 2,
        'default_hooks.tail_average.num_epochs': 2,
        'train_dataloader.dataset.dataset.indices': 256,
    }
    cfg = load_config(
        str(ROOT / DIGITS), 'ce', options, str(tmp_path_factory.mktemp('deploy') / 'run')
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='session')
def student(run):
    return load_student(run.work_dir)


@pytest.fixture(scope='session')
def checked(student):
    return of_test_set(student, 64)


@pytest.fixture(scope='session')
def exported(student, checked, tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    others = of_training_set(student, 64).images
    files = export(student, folder, checked.images, checked.labels, calibration=others)
    return {file.format: file for file in files}


@pytest.fixture(scope='session')
def folder(checked, tmp_path_factory):
    """Image files of the digits, a folder of them in a folder."""
    folder = tmp_path_factory.mktemp('images')
    (folder / 'more').mkdir()
    for index, image in enumerate(checked.images[:6]):
        name = f'more/{index}.png' if index > 3 else f'{index}.png'
        Image.fromarray(image[0].astype(np.uint8)).save(folder / name)
    (folder / 'notes.txt').touch()
    return folder


@pytest.fixture
def photos_run(request, tmp_path):
    """A student of image files of 32 pixels, of three classes; the parameter prepares them."""
    default = [dict(type='ResizeEdge', scale=36), dict(type='CenterCrop', crop_size=32)]
    for index in range(12):
        folder = tmp_path / f'photos/{index % 3}'
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.RandomState(index).randint(0, 255, (90, 120, 3), np.uint8)
        Image.fromarray(noise).save(folder / f'{index}.png')
    cfg = load_config(str(ROOT / 'configs/prkd/resnet34_resnet18_imagenet.py'), 'ce')
    cfg.model.architecture.head.num_classes = 3
    cfg.test_dataloader.dataset = cfg.train_dataloader.dataset = dict(
        type='CustomDataset',
        data_prefix=str(tmp_path / 'photos'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            *getattr(request, 'param', default),
            dict(type='PackInputs'),
        ],
    )
    path = tmp_path / 'run/student.pth'
    path.parent.mkdir()
    state = get_model(student_config(cfg)).state_dict()
    write_atomically(dict(meta=dict(cfg=cfg.pretty_text), state_dict=state), path)
    return path
