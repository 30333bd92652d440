import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from project import error_of

from prkd_mm.deploy.checked_images import of_test_set
from prkd_mm.deploy.export import export
from prkd_mm.deploy.predict import Predictor, find_images
from prkd_mm.deploy.student import load_student


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


@pytest.mark.parametrize(
    'photos_run',
    [
        [dict(type='ResizeEdge', scale=40), dict(type='CenterCrop', crop_size=32)],
        [dict(type='Resize', scale=(32, 32))],
    ],
    indirect=True,
)
def test_files_are_prepared_as_in_the_validation(photos_run, tmp_path):
    """Also where the validation changes the aspect ratio; on noise, any other way differs."""
    student = load_student(str(photos_run))
    images = of_test_set(student, 12).images
    export(student, tmp_path / 'export', images, formats=['onnx'])
    with torch.no_grad():
        expected = student.net(torch.from_numpy(images)).softmax(1)
    for file in (tmp_path / 'export/student.onnx', photos_run):
        predictions = Predictor(str(file)).predict(find_images([tmp_path / 'photos']), top=3)
        found = [dict(zip(each.classes, each.probabilities)) for each in predictions]
        found = [[each[name] for name in student.classes] for each in found]
        np.testing.assert_allclose(found, expected, atol=1e-4)
