"""Teachers from files compute the same logits as the net in the file."""

import copy
import json
import logging
import shutil

import numpy as np
import pytest
import torch
import toy
from foreign import (
    MEAN,
    PACK,
    STD,
    STUDENT,
    SmallNet,
    distillation,
    expected,
    logits,
    raw_images,
    write_onnx,
)

from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.sources import load_source


@pytest.mark.parametrize('suffix', ['pt', 'pt2', 'onnx'])
class TestFiles:
    def path(self, suffix, request):
        if suffix == 'onnx':
            return str(request.getfixturevalue('onnx_file'))
        return str(request.getfixturevalue('files') / f'net.{suffix}')

    def test_logits_are_those_of_the_net(self, suffix, net, request):
        teacher = dict(source=self.path(suffix, request), mean=MEAN, std=STD)
        model = toy.build(distillation(teacher)).train()
        images = raw_images()
        torch.testing.assert_close(logits(model, images), expected(net, images))

    def test_without_normalization_it_uses_the_students(self, suffix, net, request):
        model = toy.build(distillation(self.path(suffix, request)))
        images = raw_images()
        torch.testing.assert_close(
            logits(model, images), expected(net, images, STUDENT['mean'], STUDENT['std'])
        )

    def test_one_line_in_the_config_trains_a_student(self, suffix, request, tmp_path):
        cfg = toy.config(
            distillation(self.path(suffix, request)),
            tmp_path,
            toy.prkd_schedule(),
            dict(type='TeacherCheckHook'),
            dict(type='TailAverageHook', num_epochs=1),
        )
        runner = toy.train(cfg)
        rows = toy.logged(tmp_path)
        assert any('teacher/accuracy/top1' in row for row in rows)
        assert any(row.get('distill.loss_prkd', 0) > 0 for row in rows)
        assert all(name.startswith('architecture.') for name in runner.model.state_dict())

    def test_its_logits_can_be_stored(self, suffix, net, request, tmp_path):
        cfg = toy.config(distillation(self.path(suffix, request)), tmp_path)
        cfg.train_dataloader.dataset.pipeline = PACK
        toy.pack(cfg)
        store = store_teacher(cfg, tmp_path / 'logits', views=1)
        images = torch.stack([image['inputs'] for image in toy.ToyImages(pipeline=PACK)])
        by_hand = expected(net, images, STUDENT['mean'], STUDENT['std'])
        stored = store.get(0, np.arange(toy.TRAIN_SIZE))
        torch.testing.assert_close(stored, by_hand, rtol=2**-10, atol=1e-4)

    def test_a_teacher_from_a_file_can_be_copied_and_identified(self, suffix, request):
        model = toy.build(distillation(self.path(suffix, request)))
        other, inputs = copy.deepcopy(model.teacher), raw_images().float()
        with torch.no_grad():
            toy.assert_same(model.teacher.logits(inputs), other.logits(inputs))
        assert model.teacher.fingerprint() == other.fingerprint()
        resized = toy.build(distillation(dict(source=self.path(suffix, request), image_size=16)))
        assert resized.teacher.fingerprint() != model.teacher.fingerprint()


@pytest.mark.parametrize('suffix', ['pt2', 'onnx'])
class TestExportedStudents:
    """They normalize their images themselves, as ``student.json`` next to them says."""

    @pytest.fixture
    def file(self, suffix, request, tmp_path):
        about = dict(classes=['a', 'b', 'c', 'd'], size=8, channels=3)
        (tmp_path / 'student.json').write_text(json.dumps(about))
        path = TestFiles().path(suffix, request)
        return shutil.copy(path, tmp_path / f'student.{suffix}')

    def test_they_get_images_that_are_not_normalized(self, file, net, warnings):
        model, images = toy.build(distillation(str(file))), raw_images(size=12)
        by_hand = expected(net, images, [0.0] * 3, [1.0] * 3, size=8)
        torch.testing.assert_close(logits(model, images), by_hand, rtol=1e-4, atol=1e-3)
        assert warnings == []

    def test_the_number_of_classes_is_known_before_training(self, file):
        with pytest.raises(ValueError, match='student has 5 classes and the teacher 4'):
            toy.build(distillation(str(file), student=toy.classifier(num_classes=5)))

    def test_a_normalization_in_the_config_has_precedence(self, file, net):
        teacher = dict(source=str(file), mean=MEAN, std=STD)
        model, images = toy.build(distillation(teacher)), raw_images()
        torch.testing.assert_close(logits(model, images), expected(net, images))

    @pytest.mark.parametrize('problem', ['name', 'missing', 'other'])
    def test_other_files_get_the_images_of_the_student(self, file, net, warnings, problem):
        description = file.with_name('student.json')
        if problem == 'name':
            file = file.rename(file.with_name(f'net{file.suffix}'))
        elif problem == 'missing':
            description.unlink()
        else:
            description.write_text('{"about": "something else"}')
        model, images = toy.build(distillation(str(file))), raw_images()
        by_hand = expected(net, images, STUDENT['mean'], STUDENT['std'])
        torch.testing.assert_close(logits(model, images), by_hand)
        (warning,) = warnings
        assert f'teacher=dict(source={str(file)!r}, mean=' in warning


@pytest.fixture
def warnings(monkeypatch):
    """The warnings of teachers from other sources."""
    texts = []

    def keep(text, logger, level):
        assert level == logging.WARNING
        texts.append(text)

    monkeypatch.setattr('prkd_mm.teachers.source_teacher.print_log', keep)
    return texts


def test_onnx_file_with_a_fixed_batch_size_takes_any_batch(onnx, net, tmp_path):
    write_onnx(onnx, net, tmp_path / 'net.onnx', batch=4)
    source = load_source(str(tmp_path / 'net.onnx'))
    assert source.num_classes == toy.NUM_CLASSES and source.image_size == (8, 8)
    x = torch.randn(11, 3, 8, 8)
    torch.testing.assert_close(source.module(x), net(x).detach())


def test_onnx_file_of_another_class_count_is_refused(onnx_file):
    with pytest.raises(ValueError, match='student has 5 classes and the teacher 4'):
        toy.build(distillation(str(onnx_file), student=toy.classifier(num_classes=5)))


def test_images_are_resized_to_the_teachers_size(files, net):
    teacher = dict(source=str(files / 'net.pt'), mean=MEAN, std=STD, image_size=8)
    model = toy.build(distillation(teacher))
    images = raw_images(size=12)
    torch.testing.assert_close(logits(model, images), expected(net, images, size=8))


@pytest.mark.parametrize('to_rgb, swap', [(True, True), (False, False)])
def test_channel_order_must_be_specified_if_it_is_unknown(files, net, to_rgb, swap):
    """The student's preprocessor keeps the order, so it depends on the data set."""
    teacher = dict(source=str(files / 'net.pt'), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match='if the data set loads RGB images'):
        toy.build(distillation(teacher, to_rgb=False))
    model = toy.build(distillation(dict(teacher, to_rgb=to_rgb), to_rgb=False))
    other = toy.build(distillation(dict(teacher, to_rgb=not to_rgb), to_rgb=False))
    assert model.teacher.fingerprint() != other.teacher.fingerprint()
    images = raw_images()
    shown = images if swap else images.flip(1)
    torch.testing.assert_close(logits(model, images), expected(net, shown))


class TestErrors:
    def test_missing_file_is_named(self):
        with pytest.raises(FileNotFoundError, match="no teacher file 'none.onnx'"):
            toy.build(distillation('none.onnx'))

    def test_weights_instead_of_torchscript_are_refused(self, tmp_path):
        torch.save(SmallNet().state_dict(), tmp_path / 'net.pt')
        with pytest.raises(ValueError, match='is not a TorchScript file; if it is a checkpoint'):
            toy.build(distillation(str(tmp_path / 'net.pt')))

    def test_file_with_a_checkpoint_is_refused(self, files, tmp_path):
        with pytest.raises(ValueError, match='already contains its weights; remove teacher_ckpt'):
            toy.build(distillation(str(files / 'net.pt'), 'some.pth'))

    @pytest.mark.parametrize(
        'kind, shape, found',
        [
            ('FLOAT', ['N', 32, 32, 3], r'tensor\(float\) of shape .*32, 32, 3'),
            ('FLOAT', ['N', 'H', 'W', 3], "'H', 'W', 3"),
            ('FLOAT', [1, 3072], '1, 3072'),
            ('UINT8', ['N', 3, 32, 32], r'tensor\(uint8\)'),
        ],
    )
    def test_onnx_file_of_other_inputs_is_refused(self, onnx, tmp_path, kind, shape, found):
        self.write_input(onnx, tmp_path / 'net.onnx', kind, shape)
        with pytest.raises(
            ValueError, match=f'net.onnx.*{found}.*expected float images .N, channels, H'
        ):
            load_source(str(tmp_path / 'net.onnx'))

    @pytest.mark.parametrize(
        'kind, shape',
        [('FLOAT', [None] * 4), ('FLOAT16', [1, 1, 28, 28]), ('FLOAT', ['N', 'C', 'H', 'W'])],
    )
    def test_onnx_file_of_any_images_is_accepted(self, onnx, tmp_path, kind, shape):
        self.write_input(onnx, tmp_path / 'net.onnx', kind, shape)
        load_source(str(tmp_path / 'net.onnx'))

    def write_input(self, onnx, path, kind, shape):
        make, kinds = onnx.helper, onnx.TensorProto
        nodes = [
            make.make_node('Cast', ['x'], ['c'], to=kinds.FLOAT),
            make.make_node('Flatten', ['c'], ['y']),
        ]
        x = make.make_tensor_value_info('x', getattr(kinds, kind), shape)
        y = make.make_tensor_value_info('y', kinds.FLOAT, None)
        graph = make.make_graph(nodes, 'net', [x], [y])
        opset = [make.make_opsetid('', 17)]
        onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), path)
