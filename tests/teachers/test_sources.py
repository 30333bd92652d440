"""Teachers from other libraries compute the same logits as their source."""

import sys

import numpy as np
import pytest
import torch
import toy
from foreign import distillation, expected, logits, raw_images
from mmengine.config import Config
from mmpretrain import get_model

from prkd_mm.teachers.sources import load_source


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

    def test_its_normalization_and_channel_order_can_be_set(self, tmp_path):
        name, size = 'resnet18_8xb16_cifar10', 32
        net = get_model(name, pretrained=False).eval()
        torch.save(dict(state_dict=net.state_dict()), tmp_path / 'net.pth')
        teacher = dict(source=name, mean=[1.0, 2.0, 3.0], std=[50.0, 60.0, 70.0], to_rgb=True)
        cfg = distillation(teacher, tmp_path / 'net.pth', student=toy.classifier(num_classes=10))
        images = raw_images(2, size)
        by_hand = expected(lambda x: net(x), images, [1.0, 2.0, 3.0], [50.0, 60.0, 70.0], size)
        torch.testing.assert_close(logits(toy.build(cfg), images), by_hand, rtol=1e-3, atol=1e-4)

    def test_the_error_for_an_unknown_name_lists_similar_names(self):
        with pytest.raises(ValueError, match="no model 'resnet18_none'.*resnet18_8xb16_cifar10"):
            toy.build(distillation('resnet18_none'))

    def test_config_file_needs_a_checkpoint(self, tmp_path):
        Config(dict(model=toy.classifier())).dump(tmp_path / 'net.py')
        with pytest.raises(ValueError, match='teacher_ckpt is missing'):
            toy.build(distillation(str(tmp_path / 'net.py')))


class TestErrors:
    @pytest.mark.parametrize(
        'options, words',
        [
            (dict(mean=[1.0] * 3), 'set both or neither, got .1.0, 1.0, 1.0. and None'),
            (dict(mean=[1.0] * 3, std=[1.0] * 2), 'one number per channel each'),
            (dict(mean=[1.0], std=[0.0]), 'std must be above 0'),
            (dict(mean=5, std=5), 'mean of the teacher .* must be a list of numbers.* got 5'),
            (dict(mean=['x'], std=[1.0]), 'mean of the teacher .* must be a list of numbers'),
            (dict(image_size=0), 'image_size of the teacher .* at least 1; got 0'),
            (dict(image_size='32'), "image_size of the teacher .* got '32'"),
            (dict(image_size=[32, -1]), 'image_size of the teacher .* got -1'),
        ],
        ids=str,
    )
    @pytest.mark.parametrize('source', ['net.pt', 'resnet18_8xb16_cifar10'])
    def test_impossible_images_are_refused(self, source, options, words, tmp_path):
        ckpt = 'x.pth'
        if source == 'net.pt':
            source, ckpt = str(tmp_path / source), None
            torch.jit.script(torch.nn.Flatten()).save(source)
        with pytest.raises(ValueError, match=words):
            toy.build(distillation(dict(source=source, **options), ckpt))

    def test_unknown_library_is_refused(self):
        with pytest.raises(ValueError, match="unknown library 'keras'.*'timm'"):
            toy.build(distillation('keras::resnet'))

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
