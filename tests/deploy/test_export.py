import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.apis import get_model
from PIL import Image
from project import tool, type_command
from sklearn.datasets import load_digits

from prkd_mm.deploy import export as module
from prkd_mm.deploy.checked_images import of_test_set, of_training_set
from prkd_mm.deploy.export import FORMATS, export, predictor
from prkd_mm.deploy.student import load_image, load_student
from prkd_mm.deploy.student_config import shorter_edge


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


def test_an_export_at_another_size_is_checked_on_images_of_this_size(photos_run, tmp_path):
    other = load_student(str(photos_run), size=64)
    assert (other.size, shorter_edge(other.pipeline)) == (64, 72)
    for images in (of_test_set(other, 4), of_training_set(other, 4)):
        paths = sorted((tmp_path / 'photos').rglob('*.png'))[::3]
        expected = np.stack([load_image(path, 64, 3, other.pipeline) for path in paths])
        assert (images.images == expected).all()
    export(other, tmp_path / 'export', of_test_set(other, 4).images, formats=['pth'])
    again = load_student(str(tmp_path / 'export/student.pth'))
    assert (again.size, again.pipeline) == (64, other.pipeline)
    about = json.loads((tmp_path / 'export/student.json').read_text())
    assert (about['resize'], about['pipeline']) == (72, other.pipeline)


def test_one_folder_holds_one_student(run, student, checked, tmp_path):
    images = checked.images
    export(student, tmp_path, images, formats=['pth', 'safetensors'])
    export(student, tmp_path, images, formats=['pth'])  # the same student again
    moved = dataclasses.replace(student, source='moved/student_avg.pth')
    export(moved, tmp_path, images, formats=['pth'])
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    epoch = load_student(f'{run.work_dir}/epoch_1.pth')
    trained_again = dataclasses.replace(epoch, source='moved/student_avg.pth')
    for other in (epoch, trained_again, dataclasses.replace(moved, size=16)):
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
    about = {key: about[key] for key in set(about) - {'weights', 'pipeline'}}
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
