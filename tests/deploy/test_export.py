import copy
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.apis import get_model
from PIL import Image
from project import ROOT, error_of, tool, type_command
from sklearn.datasets import load_digits

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config
from prkd_mm.deploy import export as module
from prkd_mm.deploy.checked_images import of_test_set, of_training_set
from prkd_mm.deploy.export import FORMATS, export, predictor
from prkd_mm.deploy.predict import Predictor, find_images
from prkd_mm.deploy.student import load_image, load_student
from prkd_mm.deploy.student_config import student_config


@pytest.fixture(scope='module')
def student(run):
    return load_student(run.work_dir)


@pytest.fixture(scope='module')
def checked(student):
    return of_test_set(student, 64)


@pytest.fixture(scope='module')
def exported(student, checked, tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    others = of_training_set(student, 64).images
    files = export(student, folder, checked.images, checked.labels, calibration=others)
    return {file.format: file for file in files}


@pytest.mark.parametrize('name', FORMATS)
def test_every_file_computes_what_the_net_does_for_any_batch(name, student, checked, exported):
    one = exported[name]
    predict = predictor(one.path, student)
    with torch.no_grad():
        expected = student.net(torch.from_numpy(checked.images)).numpy()
    for number in (1, 3, 64):
        found = predict(checked.images[:number])
        assert found.shape == (number, 10)
        if name != 'int8':
            np.testing.assert_allclose(found, expected[:number], atol=1e-4)
    assert one.same_class >= (0.8 if name == 'int8' else 1)
    accuracy = (predict(checked.images).argmax(1) == checked.labels).mean() * 100
    assert one.top1 == pytest.approx(accuracy)
    assert one.megabytes == one.path.stat().st_size / 1e6 and one.milliseconds > 0


def test_int8_stores_each_weight_in_one_byte(exported):
    onnx = pytest.importorskip('onnx')

    def weights(name, data_type):
        initializers = onnx.load(exported[name].path).graph.initializer
        return sum(
            math.prod(x.dims) for x in initializers if x.data_type == data_type and len(x.dims) > 1
        )

    total = weights('onnx', onnx.TensorProto.FLOAT)
    assert total > 2000
    assert weights('int8', onnx.TensorProto.INT8) > 0.99 * total
    assert weights('int8', onnx.TensorProto.FLOAT) < 0.01 * total


def test_int8_is_calibrated_on_training_images_without_augmentation(student, checked):
    others = of_training_set(student, 64)
    assert others.description == '64 training images of Digits'
    digits = load_digits()
    train = digits.images[:256] * 255 / 16
    found = others.images[:, 0]
    distances = np.abs(found[:, None] - train[None]).max(axis=(2, 3))
    assert (distances.min(1) <= 0.5).all() and len(set(distances.argmin(1))) == 64
    to_test = np.abs(found[:, None] - checked.images[None, :, 0]).max(axis=(2, 3))
    assert to_test.min() > 0.5


def test_the_range_of_the_calibration_images_is_that_of_the_int8_file(student, checked, tmp_path):
    """Calibrated on black images, the file cannot tell one digit from another."""
    pytest.importorskip('onnxruntime')
    black = np.zeros_like(checked.images)
    (file,) = export(student, tmp_path, checked.images, formats=['int8'], calibration=black)
    assert file.same_class < 0.5


def test_int8_needs_calibration_images(student, checked, tmp_path):
    with pytest.raises(ValueError, match='int8 needs calibration images'):
        export(student, tmp_path, checked.images, formats=['pth', 'int8'])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match='give other images with --calibration'):
        of_training_set(dataclasses.replace(student, train_dataset=None), 8)


def test_mmpretrain_loads_the_plain_checkpoint_with_the_plain_config(student, checked, exported):
    folder = exported['pth'].path.parent
    model = get_model(str(folder / 'student_config.py'), pretrained=str(exported['pth'].path))
    images = torch.from_numpy(checked.images)
    with torch.no_grad():
        logits = model(model.data_preprocessor(dict(inputs=images))['inputs'], mode='tensor')
        torch.testing.assert_close(logits, student.net(images))
    assert model._dataset_meta['classes'] == tuple('0123456789')


def test_a_file_that_computes_something_else_is_refused(student, checked, tmp_path, monkeypatch):
    def wrong(path, student):
        return lambda images: np.zeros((len(images), 10), np.float32)

    monkeypatch.setattr(module, 'predictor', wrong)
    with pytest.raises(ValueError, match='does not match the PyTorch net'):
        export(student, tmp_path, checked.images, formats=['pth'])


def test_after_a_failed_check_the_old_files_remain(student, checked, tmp_path, monkeypatch):
    export(student, tmp_path, checked.images, formats=['pth'])
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(old) == ['student.json', 'student.pth', 'student_config.py']
    other = copy.deepcopy(student)
    for value in other.state.values():
        value.zero_()
    with pytest.raises(ValueError, match='does not match the PyTorch net'):
        export(other, tmp_path, checked.images, formats=['pth'])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old


@pytest.fixture
def photos_run(tmp_path):
    """A student of image files of 32 pixels, of three classes."""
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
            dict(type='ResizeEdge', scale=36),
            dict(type='CenterCrop', crop_size=32),
            dict(type='PackInputs'),
        ],
    )
    path = tmp_path / 'run/student.pth'
    path.parent.mkdir()
    state = get_model(student_config(cfg)).state_dict()
    write_atomically(dict(meta=dict(cfg=cfg.pretty_text), state_dict=state), path)
    return path


def test_an_export_at_another_size_is_checked_on_images_of_this_size(photos_run, tmp_path):
    other = load_student(str(photos_run), size=64)
    assert (other.size, other.resize) == (64, 72)
    for images in (of_test_set(other, 4), of_training_set(other, 4)):
        paths = sorted((tmp_path / 'photos').rglob('*.png'))[::3]
        expected = np.stack([load_image(path, 64, 3, 72) for path in paths])
        assert images.images.shape == expected.shape
        assert np.abs(images.images - expected).mean() < 30  # OpenCV samples the noise otherwise
    export(other, tmp_path / 'export', of_test_set(other, 4).images, formats=['pth'])
    again = load_student(str(tmp_path / 'export/student.pth'))
    assert (again.size, again.resize) == (64, 72)
    assert json.loads((tmp_path / 'export/student.json').read_text())['resize'] == 72


def test_one_folder_holds_one_student(run, student, checked, tmp_path):
    images = checked.images
    export(student, tmp_path, images, formats=['pth', 'safetensors'])
    export(student, tmp_path, images, formats=['pth'])  # the same student again
    moved = dataclasses.replace(student, source='moved/student_avg.pth')
    export(moved, tmp_path, images, formats=['pth'])
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    epoch = load_student(f'{run.work_dir}/epoch_1.pth')
    trained_again = dataclasses.replace(epoch, source='moved/student_avg.pth')
    for other in (epoch, trained_again, dataclasses.replace(moved, size=16, resize=16)):
        with pytest.raises(
            ValueError,
            match=r"holds student.safetensors of 'moved/student_avg.pth' at size 8, with other "
            f'weights or images than {other.source!r} at size {other.size}: .* --out',
        ):
            export(other, tmp_path, images, formats=['pth'])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
    export(epoch, tmp_path, images, formats=['pth', 'safetensors'])
    assert json.loads((tmp_path / 'student.json').read_text())['source'] == epoch.source


def test_a_folder_of_an_older_version_holds_the_student_of_its_source(
    run, student, checked, tmp_path
):
    export(student, tmp_path, checked.images, formats=['pth', 'safetensors'])
    description = tmp_path / 'student.json'
    about = json.loads(description.read_text())
    about = {key: about[key] for key in set(about) - {'weights', 'resize'}}
    description.write_text(json.dumps(about))
    epoch = load_student(f'{run.work_dir}/epoch_1.pth')
    with pytest.raises(ValueError, match='other weights or images'):
        export(epoch, tmp_path, checked.images, formats=['pth'])
    export(student, tmp_path, checked.images, formats=['pth'])
    description.unlink()
    with pytest.raises(ValueError, match="student.safetensors of 'unknown origin'"):
        export(student, tmp_path, checked.images, formats=['pth'])


def test_images_that_the_config_does_not_resize_are_not_of_another_size(run):
    student = load_student(run.work_dir, size=16)
    with pytest.raises(ValueError, match='test images of 8x8 pixels, not of 16x16.*--images'):
        of_test_set(student, 4)
    with pytest.raises(ValueError, match='training images of 8x8.*--calibration'):
        of_training_set(student, 4)


def test_a_missing_package_is_named(student, checked, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ImportError, match="pip install 'prkd-mm\\[export\\]'"):
        export(student, tmp_path, checked.images, formats=['onnx'])


@pytest.fixture(scope='module')
def folder(checked, tmp_path_factory):
    """Image files of the digits, a folder of them in a folder."""
    folder = tmp_path_factory.mktemp('images')
    (folder / 'more').mkdir()
    for index, image in enumerate(checked.images[:6]):
        name = f'more/{index}.png' if index > 3 else f'{index}.png'
        Image.fromarray(image[0].astype(np.uint8)).save(folder / name)
    (folder / 'notes.txt').touch()
    return folder


@pytest.mark.parametrize(
    'file', ['student.onnx', 'student.pt2', 'student.safetensors', 'student.pth']
)
def test_predictions_from_files_are_those_of_the_net(file, student, checked, exported, folder):
    path = exported['onnx'].path.with_name(file)
    predictions = Predictor(str(path)).predict(find_images([folder]), top=10, batch=4)
    assert [x.image.name for x in predictions] == [f'{index}.png' for index in range(6)]
    with torch.no_grad():
        logits = student.net(torch.from_numpy(checked.images[:6]).round())
    for prediction, expected in zip(predictions, logits.softmax(1)):
        found = dict(zip(prediction.classes, prediction.probabilities))
        np.testing.assert_allclose([found[str(k)] for k in range(10)], expected, atol=1e-4)
        assert prediction.probabilities == sorted(prediction.probabilities, reverse=True)


def test_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match='no images in'):
        find_images([tmp_path])
    with pytest.raises(FileNotFoundError, match='there is no image'):
        find_images([tmp_path / 'a.png'])


def test_files_of_macos_and_folders_are_no_images(tmp_path):
    for name in ('a.jpg', '._a.jpg', 'b.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'folder.jpg/c.PNG').touch()
    names = [path.name for path in find_images([tmp_path])]
    assert sorted(names) == ['a.jpg', 'c.PNG']


def test_a_bad_image_does_not_cost_the_other_predictions(
    exported, folder, tmp_path, capsys, monkeypatch
):
    """Nor do names that mean something to rich or to matplotlib."""
    shutil.copytree(folder, tmp_path / 'q')
    (tmp_path / 'q/x[').mkdir()
    good = [tmp_path / 'q/x[/y].png', tmp_path / 'q/[red] :cat: $.png']
    for path in good:
        shutil.copy(folder / '0.png', path)
    (tmp_path / 'q/2.jpg').touch()
    (tmp_path / 'q/3.png').write_bytes((folder / '3.png').read_bytes()[:60])
    student = shutil.copytree(exported['onnx'].path.parent, tmp_path / 'export') / 'student.onnx'
    about = json.loads((student.parent / 'student.json').read_text())
    about['classes'] = [f'[dog] $\\x{digit}$' for digit in about['classes']]
    (student.parent / 'student.json').write_text(json.dumps(about))
    monkeypatch.setenv('COLUMNS', '400')
    monkeypatch.chdir(tmp_path)
    error = error_of(
        'predict', 'q', '--student', str(student), '--json', 'a.json', '--sheet', 'a.png'
    )
    first, *others = error.splitlines()
    assert first == 'error: 2 of 9 files have no prediction:'
    assert others[0].startswith("'q/2.jpg' is not an image that can be read: ")
    assert others[1].startswith("'q/3.png' is not an image that can be read: ")
    found = json.loads((tmp_path / 'a.json').read_text())
    assert len(found) == 7 and found[0]['classes'][0].startswith('[dog] $')
    shown = capsys.readouterr().out
    for each in found:
        assert each['image'] in shown and each['classes'][0] in shown
    assert {str(path.relative_to(tmp_path)) for path in good} < {each['image'] for each in found}
    assert Image.open(tmp_path / 'a.png').size[0] == 1200


def test_bad_images_alone(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('a.png').touch()
    arguments = ['a.png', '--student', str(exported['onnx'].path)]
    error = error_of('predict', *arguments, '--json', 'a.json', '--sheet', 'sheet.png')
    assert error.startswith('error: 1 of 1 files have no prediction')
    assert json.loads(Path('a.json').read_text()) == [] and not Path('sheet.png').exists()


def test_the_table_of_the_export_shows_names_as_they_are(
    student, checked, exported, capsys, monkeypatch
):
    monkeypatch.setenv('COLUMNS', '400')
    named = dataclasses.replace(student, source='runs/[red]x[/y].pth', teacher=None)
    images = checked._replace(description='8 images of [blue]')
    file = exported['onnx']._replace(path=Path('[bold]/student.onnx'))
    tool('export_student').show(named, images, [file])
    shown = capsys.readouterr().out
    for text in (named.source, images.description, str(file.path)):
        assert text in shown


@pytest.mark.parametrize('options', [dict(size=8), dict(config='a.py')])
@pytest.mark.parametrize('file', ['student.onnx', 'student.pt2'])
def test_options_of_the_config_do_not_apply_to_an_exported_file(file, options, exported):
    path = exported['onnx'].path.with_name(file)
    with pytest.raises(ValueError, match=f'--config and --size are fixed in .*{file}'):
        Predictor(str(path), **options)


@pytest.mark.parametrize('file', ['student.onnx', 'student.pt2', 'student.safetensors'])
def test_a_damaged_or_missing_export_is_named(file, exported, tmp_path):
    shutil.copytree(exported['onnx'].path.parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / file
    for length in (0, 300, path.stat().st_size // 2):
        path.write_bytes(exported['onnx'].path.with_name(file).read_bytes()[:length])
        with pytest.raises(ValueError, match=f'{file}.* damaged') as raised:
            Predictor(str(path))
        assert '\n' not in str(raised.value)
        assert 'export the student again' in str(raised.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'no exported file .*{file}'):
        Predictor(str(path))


def test_the_weights_of_another_net_are_refused(exported, tmp_path):
    from safetensors.torch import save_file

    shutil.copy(exported['pth'].path, tmp_path)
    save_file({'a': torch.zeros(1)}, tmp_path / 'student.safetensors')
    with pytest.raises(ValueError, match="safetensors' does not fit the model of the config"):
        Predictor(str(tmp_path / 'student.safetensors'))


@pytest.mark.slow
def test_the_tools(run, folder, tmp_path):
    shown = type_command(
        'tools/export_student.py',
        run.work_dir,
        '--out',
        tmp_path,
        '--formats',
        'pth,onnx',
        '--number',
        '32',
    )
    shown = ' '.join(shown.split())  # long paths break the lines
    assert '2,626 parameters' in shown and '32 test images of Digits' in shown
    assert 'Teacher, in PyTorch on this computer: 701,178 parameters, 2.81 MB' in shown
    shown = type_command(
        'tools/predict.py',
        folder,
        '--student',
        tmp_path / 'student.onnx',
        '--top',
        '2',
        '--json',
        tmp_path / 'found.json',
        '--sheet',
        tmp_path / 'sheet.png',
    )
    found = json.loads((tmp_path / 'found.json').read_text())
    assert len(found) == 6 and len(found[0]['classes']) == 2
    assert f'{found[0]["classes"][0]} {found[0]["probabilities"][0]:.1%}' in shown
    assert Image.open(tmp_path / 'sheet.png').size[0] == 1200
    error = type_command('tools/predict.py', tmp_path / 'x', '--student', tmp_path, fails=True)
    assert error.startswith('error: there is no image')


def test_images_whose_classes_have_another_order_are_refused(student):
    classes = student.meta['dataset_meta']['classes']
    assert list(map(str, classes)) == student.classes
    other = dataclasses.replace(student, meta=dict(dataset_meta=dict(classes=classes[::-1])))
    for images, name in ((of_test_set, 'test'), (of_training_set, 'training')):
        with pytest.raises(ValueError, match=f'of the {name} set, but class 9 of the student'):
            images(other, 4)
