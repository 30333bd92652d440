"""A checkpoint with a pickle payload, given to every tool and function that opens checkpoints.

The payload makes a folder. It must never run, and one sentence must name the file.
"""

import io
import os
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import project
import pytest
import torch
import toy
from mmengine.runner import load_checkpoint

from prkd_mm.checkpoints import load_exported, read
from prkd_mm.teachers.logit_store import TeacherLogits
from prkd_mm.teachers.sources import load_source

DIGITS = project.DIGITS
TEACHER_DIGITS = project.TEACHER_DIGITS


class Payload:
    """Make a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('payload_ran',)


def evil(**content) -> dict:
    return dict(dict(meta={}, state_dict={}, optimizer={}, message_hub=Payload()), **content)


@pytest.fixture
def folder(checkout):
    """The current folder, with the same payload in the files of a run and under other names."""
    run = checkout / 'run'
    run.mkdir()
    torch.save(evil(model=Payload()), run / 'epoch_1.pth')
    (run / 'last_checkpoint').write_text(str(run / 'epoch_1.pth'))
    for name in ('run/epoch_2.pth', 'run/student_avg.pth', 'evil.pt', 'evil.torchscript'):
        shutil.copy(run / 'epoch_1.pth', checkout / name)
    shutil.copy(next(project.MINI.rglob('*.JPEG')), checkout / 'photo.jpeg')
    yield checkout
    assert not (checkout / 'payload_ran').exists()


def assert_refused(text: str, file: str) -> None:
    assert file in text and 'was refused' in text, text
    assert 'weights_only' not in text and '\n' not in text.strip(), text


FILE = 'run/epoch_1.pth'
COMMANDS = dict(
    teacher=['train', DIGITS, '--cfg-options', f'model.teacher_ckpt={FILE}'],
    teacher_of_a_run=['train', DIGITS, '--cfg-options', 'model.teacher_ckpt=run'],
    several_teachers=['train', DIGITS, '--cfg-options', f'model.teacher_ckpt=[{FILE},{FILE}]'],
    teacher_to_store=[
        'train', DIGITS, '--store-views', '2', '--cfg-options', 'model.teacher_ckpt=run',
    ],
    timm=[
        'train', DIGITS, '--cfg-options', 'model.teacher=timm::test_resnet',
        f'model.teacher_ckpt={FILE}',
    ],
    torchvision=[
        'train', DIGITS, '--cfg-options', 'model.teacher=torchvision::resnet18',
        f'model.teacher_ckpt={FILE}',
    ],
    zoo=[
        'train', DIGITS, '--cfg-options', 'model.teacher=resnet18_8xb16_cifar10',
        f'model.teacher_ckpt={FILE}',
    ],
    load_from=['train', DIGITS, '--cfg-options', f'load_from={FILE}'],
    pretrained=[
        'train', TEACHER_DIGITS, '--cfg-options', 'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={FILE}',
    ],
    resume=['train', DIGITS, '--resume', FILE],
    resume_a_folder=['train', DIGITS, '--resume', 'run'],
    resume_the_run=['train', DIGITS, '--resume', '--work-dir', 'run'],
    test=['test', DIGITS, FILE],
    test_a_run=['test', DIGITS, 'run'],
    convert=['convert_teacher', TEACHER_DIGITS, FILE, 'out.pth'],
    cache=['cache_teacher', DIGITS, '--views', '2', '--cfg-options', f'model.teacher_ckpt={FILE}'],
    strength=[
        'analyze', 'strength', DIGITS, '--work-dirs', 'run', '--cfg-options',
        f'model.teacher_ckpt={FILE}',
    ],
    landscape=['analyze', 'landscape', DIGITS, '--checkpoints', FILE],
    agreement=[
        'analyze', 'compare', DIGITS, '--checkpoints', FILE, '--cfg-options',
        f'model.teacher_ckpt={FILE}',
    ],
    spread=['analyze', 'spread', DIGITS, '--checkpoints', FILE, 'run/epoch_2.pth'],
    average=['average_checkpoints', DIGITS, FILE, 'run/epoch_2.pth'],
    average_of_a_run=['average_checkpoints', DIGITS, 'run', '--last', '2'],
    export=['export_student', 'run'],
    export_a_file=['export_student', FILE, '--config', DIGITS],
    predict=['predict', 'photo.jpeg', '--student', 'run'],
    predict_with_a_config=['predict', 'photo.jpeg', '--student', FILE, '--config', DIGITS],
)  # fmt: skip


@pytest.mark.parametrize('command', COMMANDS.values(), ids=COMMANDS)
def test_a_command_refuses_a_payload(folder, command):
    assert_refused(project.error_of(*command), '.pth')


@pytest.mark.parametrize('name', ['evil.pt', 'evil.torchscript', 'damaged.onnx'])
def test_a_teacher_file_of_another_format_refuses_a_payload(folder, name):
    shutil.copy(FILE, name)
    with pytest.raises(ValueError, match=f"'{name}'"):
        load_source(name)


@pytest.mark.parametrize('load', [read, partial(load_checkpoint, toy.build(toy.classifier()))])
def test_a_url_refuses_a_payload(folder, monkeypatch, load):
    monkeypatch.setenv('TORCH_HOME', str(folder / 'cache'))
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(QuietHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ValueError) as error:
            load(f'http://127.0.0.1:{server.server_port}/{FILE}')
    finally:
        server.shutdown()
        server.server_close()
    assert_refused(str(error.value), 'epoch_1.pth')


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


def test_a_url_that_does_not_exist(folder, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(folder / 'cache'))
    with pytest.raises(OSError, match="cannot download the checkpoint 'http://127.0.0.1:1/a.pth'"):
        read('http://127.0.0.1:1/a.pth')


class TestExportedFile:
    @pytest.fixture
    def files(self, folder) -> dict[str, bytes]:
        """The members of an exported net."""
        net = torch.export.export(torch.nn.Linear(2, 3), (torch.ones(1, 2),))
        torch.export.save(net, 'good.pt2')
        with zipfile.ZipFile('good.pt2') as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def test_is_loaded(self, files):
        assert load_exported('good.pt2')(torch.ones(1, 2)).shape == (1, 3)

    def test_refuses_a_payload_in_each_pickled_part(self, files):
        payload = io.BytesIO()
        torch.save(Payload(), payload)
        pickled = [name for name in files if name.endswith('.pt')]
        assert pickled
        for part in pickled:
            with zipfile.ZipFile('evil.pt2', 'w') as archive:
                for name, content in files.items():
                    archive.writestr(name, payload.getvalue() if name == part else content)
            with pytest.raises(ValueError) as error:
                load_exported('evil.pt2')
            assert_refused(str(error.value), 'evil.pt2')
            assert torch.load.__module__ == 'torch.serialization'


@pytest.mark.parametrize('damage', ['payload', 'empty', 'half'])
def test_a_logit_store_names_its_damaged_file(folder, damage):
    store = TeacherLogits.create(folder / 'store', views=1, images=5, classes=3)
    store.put((0, 0, 5), torch.ones(5, 3))
    file = folder / 'store/logits.npy'
    content = file.read_bytes()
    if damage == 'payload':
        np.save(file, np.array([Payload()]), allow_pickle=True)
    else:
        file.write_bytes(content[: len(content) // 2] if damage == 'half' else b'')
    with pytest.raises(ValueError, match='store/logits.npy is damaged .*create the store again'):
        TeacherLogits(folder / 'store')


def test_the_users_own_file_is_opened_by_the_variable_that_says_so(folder, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save(evil(model=None), FILE)
    read(FILE)
    (folder / 'payload_ran').rmdir()
