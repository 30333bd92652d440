"""CIFAR in the layout of its official files, filled with real images.

The official archives are not at hand: the pickles here have their names and
keys, and hold Tiny ImageNet's images at 32x32. Where the MD5s matter, those of
the made files stand in for the official ones.
"""

import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest
from mmpretrain.datasets import CIFAR10, CIFAR100
from PIL import Image
from test_dataset_configs import batch, build

CASES = [('cifar10', CIFAR10), ('cifar100', CIFAR100)]


@pytest.fixture(scope='session')
def images(mini):
    """Five images of each of ten classes and their mirror images: (100, 3072), red first."""
    rows = []
    for folder in sorted((mini / 'train').iterdir()):
        for path in sorted(folder.rglob('*.JPEG')):
            image = np.asarray(Image.open(path).convert('RGB').resize((32, 32))).transpose(2, 0, 1)
            rows += [image.ravel(), image[:, :, ::-1].ravel()]
    return np.stack(rows)


@pytest.fixture
def archive(images, tmp_path, cifar):
    """The archive of the class that the test is parametrized with."""
    key, step = ('labels', 1) if cifar is CIFAR10 else ('fine_labels', 11)
    parts = np.split(np.arange(100), 10)[: len(cifar.train_list) + 1]
    folder = tmp_path / 'made' / cifar.base_folder
    folder.mkdir(parents=True)
    for (name, _), rows in zip(cifar.train_list + cifar.test_list, parts):
        order = rows[0] // 10 + np.arange(10) * 10  # one image of each class
        labels = [int(i) // 10 * step for i in order]
        (folder / name).write_bytes(pickle.dumps({'data': images[order], key: labels}, protocol=2))
    names = {cifar.meta['key']: [*cifar.METAINFO['classes']]}
    (folder / cifar.meta['filename']).write_bytes(pickle.dumps(names))
    path = tmp_path / cifar.filename
    with tarfile.open(path, 'w:gz') as f:
        f.add(folder, cifar.base_folder)
    return path


@pytest.fixture
def official(archive, cifar, tmp_path, monkeypatch):
    """The archive, whose files count as the official ones."""
    folder = tmp_path / 'made' / cifar.base_folder

    def md5(name):
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for files in 'train_list', 'test_list':
        monkeypatch.setattr(cifar, files, [[name, md5(name)] for name, _ in getattr(cifar, files)])
    monkeypatch.setitem(cifar.meta, 'md5', md5(cifar.meta['filename']))
    return archive


def nothing_left(tmp_path):
    return not (tmp_path / 'data').exists() or not os.listdir(tmp_path / 'data')


@pytest.mark.parametrize('name, cifar', CASES)
def test_the_data_is_prepared_in_the_folder_of_the_config(
    official, name, cifar, tool, images, tmp_path
):
    code, out, error = tool('--source', official, dataset=name)
    assert (code, error) == (0, '') and 'is complete' in out
    assert os.listdir(tmp_path / 'data') == [cifar.base_folder]
    assert tool(dataset=name)[0] == 0  # not changed

    cfg, sets, preprocessor = build(name, data_root=str(tmp_path / 'data'))
    train = 50 if cifar is CIFAR10 else 10
    assert cfg.train_dataloader.dataset.dataset.type == cifar.__name__
    assert [len(d) for d in sets] == [train, 10, 10]
    classes = sets[0].metainfo['classes']
    assert len(classes) == cfg.data_preprocessor.num_classes
    for data in sets:
        inputs = batch(data, preprocessor)
        assert inputs.shape[1:] == (3, 32, 32)
        assert inputs.mean().abs() < 0.5 and 0.7 < inputs.std() < 1.4
    # the channel order is red, green, blue, as in MMPretrain
    row = train // 10  # the first row of the test file
    mean, std = (np.array(cfg.data_preprocessor[k]).reshape(3, 1, 1) for k in ('mean', 'std'))
    want = (images[row].reshape(3, 32, 32) - mean) / std
    first = batch(sets[1], preprocessor)[0].numpy()
    np.testing.assert_allclose(first, want, atol=1e-5)


@pytest.mark.parametrize('name, cifar', CASES)
def test_training_batches_follow_the_recipe(name, cifar, official, tool, tmp_path):
    tool('--source', official, dataset=name)
    cfg, (train, test, _), preprocessor = build(name, data_root=str(tmp_path / 'data'))
    assert cfg.train_dataloader.batch_size == 64
    image = np.pad(train.images[3], ((0, 0), (4, 4), (4, 4)))
    crops = {
        image[:, y : y + 32, x : x + 32][..., ::flip].tobytes(): (y, x, flip)
        for y in range(9)
        for x in range(9)
        for flip in (1, -1)
    }
    seen = set()
    mean, std = preprocessor.mean, preprocessor.std
    for preprocessor.epoch in range(900):
        inputs = preprocessor(train.__getitems__([3]), True)['inputs']
        crop = (inputs[0] * std + mean).round().byte().numpy()
        seen.add(crops[crop.tobytes()])
    assert len(seen) > 150  # of 162: each shift and side
    inputs = preprocessor(test.__getitems__([3]))['inputs'][0]
    inputs = (inputs * std + mean).round().byte().numpy()
    assert (inputs == test.images[3]).all()


@pytest.mark.parametrize('name, cifar', CASES)
def test_files_that_are_not_official_are_named(archive, name, cifar, tool, tmp_path):
    for args in [], ['--partial']:
        code, _, error = tool('--source', archive, *args, dataset=name)
        assert code == 1 and '--partial' not in error
        for file, md5 in cifar.train_list + cifar.test_list:
            assert f'{file} has MD5' in error and md5 in error
        assert nothing_left(tmp_path)


@pytest.mark.parametrize('name, cifar', CASES)
def test_missing_and_truncated_files_are_named(official, name, cifar, tool, tmp_path):
    cut = tmp_path / 'cut.tar.gz'
    whole = official.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    code, _, error = tool('--source', cut, dataset=name)
    assert code == 1 and f"'{cut}' is damaged, cut short" in error
    assert nothing_left(tmp_path)

    folder = tmp_path / 'made' / cifar.base_folder
    test = folder / cifar.test_list[0][0]
    test.unlink()
    code, _, error = tool('--source', folder, dataset=name)
    assert code == 1 and f'{test.name} is missing' in error
    assert 'has MD5' not in error
    assert nothing_left(tmp_path)


@pytest.mark.parametrize('name, cifar', CASES)
def test_without_data_the_config_names_the_command(name, cifar, tmp_path):
    with pytest.raises(FileNotFoundError) as e:
        build(name, data_root=str(tmp_path))
    message = str(e.value)
    assert f"in '{tmp_path}' (folder '{cifar.base_folder}')" in message
    assert f'`python tools/prepare_data.py {name}`' in message
    assert 'download=True' not in message
    assert not os.listdir(tmp_path)  # nothing is downloaded unless requested


def test_the_archives_are_the_official_ones():
    from prkd_mm.datasets.prepare.prepare import SOURCES

    ten, hundred = SOURCES['cifar10'], SOURCES['cifar100']
    host = 'https://www.cs.toronto.edu/~kriz/'
    assert (ten.url, ten.md5, ten.folder) == (
        f'{host}cifar-10-python.tar.gz',
        'c58f30108f718f92721af3b95e74349a',
        'cifar-10-batches-py',
    )
    assert (hundred.url, hundred.md5, hundred.folder) == (
        f'{host}cifar-100-python.tar.gz',
        'eb9058c3a382ffc7106e4002c42a8d85',
        'cifar-100-python',
    )
