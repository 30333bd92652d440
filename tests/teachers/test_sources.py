"""Teachers from other libraries and file formats compute the same logits as their source."""

import copy
import json
import logging
import shutil
import sys

import numpy as np
import pytest
import torch
import toy
from mmengine.config import Config
from mmpretrain import get_model
from torch import nn

from prkd_mm.teachers.fill_store import store_teacher
from prkd_mm.teachers.sources import load_source

STUDENT = dict(mean=[127.5] * 3, std=[60.0] * 3)  # the normalization in toy.distillation
PACK = [dict(type='PackInputs')]
MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


class SmallNet(nn.Module):
    """A classifier of RGB images without any OpenMMLab interface."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, toy.NUM_CLASSES)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    net = SmallNet()
    net(torch.randn(64, 3, 8, 8))  # running statistics that differ from those of a test batch
    return net.eval()


@pytest.fixture(scope='module')
def files(net, tmp_path_factory):
    """The same net in each file format, by suffix."""
    folder = tmp_path_factory.mktemp('files')
    example = torch.randn(2, 3, 8, 8)
    torch.jit.trace(net, example).save(str(folder / 'net.pt'))
    batch = torch.export.Dim('batch', min=1, max=512)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / 'net.pt2')
    return folder


@pytest.fixture(scope='module')
def onnx():
    pytest.importorskip('onnxruntime', reason='the teacher runs in ONNX Runtime')
    return pytest.importorskip('onnx', reason='the test writes an ONNX file')


@pytest.fixture(scope='module')
def onnx_file(onnx, net, tmp_path_factory):
    """The net as an ONNX file, written without an exporter."""
    path = tmp_path_factory.mktemp('onnx') / 'net.onnx'
    write_onnx(onnx, net, path)
    return path


def write_onnx(onnx, net, path, batch='N'):
    make = onnx.helper
    weights = {name: value.numpy() for name, value in net.state_dict().items() if value.ndim}
    nodes = [
        make.make_node('Conv', ['x', 'conv.weight', 'conv.bias'], ['c'], pads=[1, 1, 1, 1]),
        make.make_node(
            'BatchNormalization',
            ['c', *(f'norm.{n}' for n in ('weight', 'bias', 'running_mean', 'running_var'))],
            ['b'],
        ),
        make.make_node('Relu', ['b'], ['r']),
        make.make_node('GlobalAveragePool', ['r'], ['p']),
        make.make_node('Flatten', ['p'], ['f']),
        make.make_node('Gemm', ['f', 'fc.weight', 'fc.bias'], ['y'], transB=1),
    ]
    value = make.make_tensor_value_info
    graph = make.make_graph(
        nodes,
        'net',
        [value('x', onnx.TensorProto.FLOAT, [batch, 3, 8, 8])],
        [value('y', onnx.TensorProto.FLOAT, [batch, toy.NUM_CLASSES])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid('', 17)], ir_version=9)
    onnx.save(model, path)


def distillation(teacher, ckpt=None, to_rgb=True, student=None, **kwargs):
    cfg = toy.distillation(ckpt, teacher=teacher, student=student, **kwargs)
    cfg['data_preprocessor']['to_rgb'] = to_rgb
    return cfg


def raw_images(n=5, size=8):
    return torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(0))


def logits(model, images):
    with torch.no_grad():
        return model.teacher.logits(model.data_preprocessor(dict(inputs=images))['inputs'])


def expected(net, images, mean=MEAN, std=STD, size=None):
    """The expected logits: BGR to RGB, normalization, resizing, net."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    x = (images.flip(1).float() - mean) / std
    if size:
        x = nn.functional.interpolate(x, (size, size), mode='bilinear', antialias=True)
    with torch.no_grad():
        return net(x)


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


class TestTimm:
    @pytest.fixture(autouse=True)
    def timm(self):
        return pytest.importorskip('timm', reason='timm is not installed')

    @pytest.mark.parametrize('name, size', [('test_resnet', 160), ('test_vit', 160)])
    def test_logits_are_those_of_timm_on_its_own_inputs(self, timm, tmp_path, name, size):
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=toy.NUM_CLASSES).eval()
        torch.save(net.state_dict(), tmp_path / 'net.pth')
        model = toy.build(distillation(f'timm::{name}', tmp_path / 'net.pth')).train()
        images = raw_images(2, 32)
        data = timm.data.resolve_model_data_config(net)
        assert data['input_size'] == (3, size, size)
        mean, std = (np.float32(np.multiply(data[key], 255.0)).tolist() for key in ('mean', 'std'))
        torch.testing.assert_close(
            logits(model, images), expected(net, images, mean, std, size), rtol=1e-4, atol=1e-5
        )

    def test_timm_options_and_image_size_are_used(self, timm, tmp_path):
        teacher = dict(source='timm::test_resnet', image_size=32, drop_rate=0.5)
        net = timm.create_model('test_resnet', num_classes=toy.NUM_CLASSES)
        torch.save(net.state_dict(), tmp_path / 'net.pth')
        model = toy.build(distillation(teacher, tmp_path / 'net.pth')).train()
        assert model.teacher.image_size == (32, 32)
        assert model.teacher.net.backbone.drop_rate == 0.5
        images = raw_images()
        toy.assert_same(logits(model, images), logits(model, images))  # no dropout

    def test_weights_of_another_net_are_refused(self, timm, tmp_path):
        torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'net.pth')
        with pytest.raises(ValueError, match='does not fit the model'):
            toy.build(distillation('timm::test_resnet', tmp_path / 'net.pth'))


def test_torchvision_nets_can_be_teachers(tmp_path):
    import torchvision  # after prkd_mm, which makes it importable on every machine

    torch.manual_seed(0)
    net = torchvision.models.get_model('squeezenet1_1', num_classes=toy.NUM_CLASSES).eval()
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    model = toy.build(distillation('torchvision::squeezenet1_1', tmp_path / 'net.pth')).train()
    images = raw_images(2, 32)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    torch.testing.assert_close(
        logits(model, images), expected(net, images, mean, std, 224), rtol=1e-4, atol=1e-5
    )


def test_transformers_nets_can_be_teachers(tmp_path):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    torch.manual_seed(0)
    options = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=4, **options)
    net = transformers.ViTForImageClassification(config).eval()
    net.save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size=dict(height=16, width=16)).save_pretrained(tmp_path)
    model = toy.build(distillation(f'transformers::{tmp_path}')).train()
    images = raw_images(2)
    by_hand = expected(lambda x: net(x).logits, images, [127.5] * 3, [127.5] * 3, 16)
    torch.testing.assert_close(logits(model, images), by_hand, rtol=1e-4, atol=1e-5)


class TestZoo:
    def test_a_model_of_the_zoo_is_found_by_its_name(self, tmp_path):
        name = 'resnet18_8xb16_cifar10'
        torch.manual_seed(0)
        net = get_model(name, pretrained=False).eval()
        torch.save(dict(state_dict=net.state_dict()), tmp_path / 'net.pth')
        cfg = distillation(name, tmp_path / 'net.pth', student=toy.classifier(num_classes=10))
        model, images = toy.build(cfg), raw_images(2, 32)
        own = net(net.data_preprocessor(dict(inputs=images))['inputs']).detach()
        torch.testing.assert_close(logits(model, images), own, rtol=1e-4, atol=1e-4)

    def test_the_error_for_an_unknown_name_lists_similar_names(self):
        with pytest.raises(ValueError, match="no model 'resnet18_none'.*resnet18_8xb16_cifar10"):
            toy.build(distillation('resnet18_none'))

    def test_config_file_needs_a_checkpoint(self, tmp_path):
        Config(dict(model=toy.classifier())).dump(tmp_path / 'net.py')
        with pytest.raises(ValueError, match='teacher_ckpt is missing'):
            toy.build(distillation(str(tmp_path / 'net.py')))


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

    def test_unknown_library_is_refused(self):
        with pytest.raises(ValueError, match="unknown library 'keras'.*'timm'"):
            toy.build(distillation('keras::resnet'))

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

    def test_unknown_names_of_timm_are_named_with_similar_ones(self):
        pytest.importorskip('timm', reason='timm is not installed')
        with pytest.raises(ValueError, match="'timm::test_resnt'.*names: .*timm::test_resnet"):
            load_source('timm::test_resnt')
        with pytest.raises(ValueError, match=r"'timm::resnet50.x'.*similar.*timm::resnet50\.\w"):
            load_source('timm::resnet50.x')

    def test_unknown_names_of_torchvision_are_named_with_similar_ones(self):
        with pytest.raises(ValueError, match="'torchvision::resnet5'.*torchvision::resnet50"):
            load_source('torchvision::resnet5')

    def test_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'timm', None)
        with pytest.raises(ImportError, match='pip install timm'):
            toy.build(distillation('timm::resnet18'))
