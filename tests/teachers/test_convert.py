import argparse
import gzip
import hashlib
import json
import os
from pathlib import Path

import community
import pytest
import torch
from mmengine import Config
from mmpretrain.registry import MODELS
from project import DATA, ROOT, type_command
from torch import nn

from prkd_mm.teachers.convert import convert, net_of, read

CONFIGS = ROOT / 'configs/_base_/models/small_images'
KEYS = json.loads(gzip.decompress((DATA / 'community_teacher_keys.json.gz').read_bytes()))


def build(file, classes=100):
    cfg = Config.fromfile(CONFIGS / f'{file}.py')[file]
    cfg.head.num_classes = classes
    return MODELS.build(cfg).eval()


def weights(net='resnet8x4', **kwargs):
    function, arguments, _, _ = community.NETS[net]
    return community.make(function, **arguments, **kwargs)


@pytest.mark.parametrize('net', community.NETS)
class TestSameFunction:
    def test_keys_and_shapes_are_those_of_the_shared_files(self, net):
        assert KEYS[net] == {key: list(value.shape) for key, value in weights(net)[0].items()}

    @torch.no_grad()
    def test_logits_are_those_of_the_shared_net(self, net):
        state, images, logits = weights(net)
        model = build(community.NETS[net][3])
        assert convert(state, model, 'x') == f'{net}, 100 classes'
        assert len(state) == len(model.state_dict())
        # the logits are neither flat nor the same for both images
        assert logits.std() > 0.3 and 1 < logits.abs().max() < 100
        assert (logits[0] - logits[1]).abs().mean() > 0.05
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5)


class TestErrors:
    def error_of(self, state, file, classes=100):
        model = build(file, classes)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        with pytest.raises(ValueError) as error:
            convert(state, model, "The file 'x.pth'")
        assert all(map(torch.equal, before.values(), model.state_dict().values()))
        assert str(error.value).startswith("The file 'x.pth' does not fit")
        return str(error.value)

    @pytest.mark.parametrize('net', community.NETS)
    def test_another_architecture_is_refused(self, net):
        other = 'resnet20' if net != 'resnet20' else 'resnet110'
        message = self.error_of(weights(net)[0], other)
        assert (f'The file: {net}, 100 classes. The config: {other}, 100 classes.') in message

    @pytest.mark.parametrize('net', ['wrn_16_2', 'MobileNetV2'])
    def test_another_number_of_classes_is_refused(self, net):
        file = community.NETS[net][3]
        message = self.error_of(weights(net, classes=10)[0], file)
        assert 'head.fc.weight: (10, 1' in message
        assert (f'The file: {net}, 10 classes. The config: {net}, 100 classes.') in message
        assert '100 classes. The config: resnet8x4, 7 ' in self.error_of(
            weights()[0], 'resnet8x4', classes=7
        )

    def test_missing_and_extra_keys_are_named(self):
        state, _, _ = weights()
        del state['layer1.0.conv1.weight'], state['fc.bias']
        state['layer2.7.other'] = state['regress.0.weight'] = torch.zeros(1)
        message = self.error_of(state, 'resnet8x4')
        assert '2 missing: backbone.layer1.0.conv1.weight, head.fc.bias\n' in message
        assert (
            '2 unexpected: layer2.7.other of the file, regress.0.weight of the file\n'
        ) in message

    @pytest.mark.parametrize('twice', ['linear.bias', 'module.fc.bias', 'head.fc.bias'])
    @pytest.mark.parametrize('first', [False, True])
    def test_two_keys_with_the_same_new_name_are_refused(self, twice, first):
        state, _, _ = weights()
        extra = {twice: torch.zeros(100)}
        state = {**extra, **state} if first else {**state, **extra}
        assert '1 unexpected: ' in self.error_of(state, 'resnet8x4')

    def test_an_unknown_net_is_refused(self):
        state = {'block0.0.weight': torch.ones(3), 'classifier.weight': torch.ones(100, 3)}
        assert 'The file: unknown net' in self.error_of(state, 'resnet8x4')


def test_the_prefix_of_data_parallel_is_dropped():
    state = weights()[0]
    model = build('resnet8x4')
    convert({f'module.{key}': value for key, value in state.items()}, model, 'x')
    assert torch.equal(model.head.fc.weight, state['fc.weight'])


@pytest.mark.parametrize(
    'depth, base, name', [(18, 64, 'ResNet18'), (34, 32, 'ResNet34'), (101, 16, 'ResNet101')]
)
def test_a_net_with_four_stages_is_named(depth, base, name):
    cfg = dict(type='ResNet_CIFAR', depth=depth, base_channels=base)
    state = {f'backbone.{k}': v for k, v in MODELS.build(cfg).state_dict().items()}
    assert net_of(state).startswith(name)


class Malicious:
    """An object whose unpickling creates the file ``ran``."""

    def __reduce__(self):
        return os.system, ('touch ran',)


class TestRead:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize('new', [False, True], ids=['legacy', 'zip'])
    def test_files_in_repdistillers_format_are_read(self, new):
        state, _, _ = weights()
        checkpoint = dict(
            opt=argparse.Namespace(lr=0.05, lr_decay_epochs=[150, 180]),
            epoch=240,
            model=state,
            best_acc=torch.tensor(72.3),
            optimizer=torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1).state_dict(),
        )
        torch.save(checkpoint, 'a.pth', _use_new_zipfile_serialization=new)
        found, meta = read('a.pth')
        assert list(found) == list(state)
        assert all(map(torch.equal, found.values(), state.values()))
        assert meta['source'] == 'a.pth'
        assert meta['source_sha256'] == hashlib.sha256(Path('a.pth').read_bytes()).hexdigest()
        assert meta['input_normalization']['mean'] == [129.304, 124.070, 112.434]
        assert meta['input_normalization']['std'] == [68.170, 65.392, 70.418]

    @pytest.mark.parametrize('new', [False, True], ids=['legacy', 'zip'])
    @pytest.mark.parametrize('where', ['next to the weights', 'among the weights', 'in Namespace'])
    def test_no_code_is_executed(self, new, where):
        checkpoint = {
            'next to the weights': dict(model={}, epoch=Malicious()),
            'among the weights': dict(model={'fc.weight': Malicious()}),
            'in Namespace': dict(model={}, opt=argparse.Namespace(a=Malicious())),
        }[where]
        torch.save(checkpoint, 'a.pth', _use_new_zipfile_serialization=new)
        with pytest.raises(ValueError, match=f"'a.pth' was refused.*needs {os.name}.system"):
            read('a.pth')
        assert os.listdir() == ['a.pth']
        torch.load('a.pth', weights_only=False)  # executes the code
        assert os.path.exists('ran')

    @pytest.mark.parametrize('content', [b'', b'<html>404', b'cut'])
    def test_damaged_files_are_refused(self, content):
        torch.save(dict(model=weights()[0]), 'a.pth')
        whole = Path('a.pth').read_bytes()
        Path('a.pth').write_bytes(whole[: len(whole) // 2] if content == b'cut' else content)
        with pytest.raises(ValueError, match="'a.pth' .* is damaged, cut short"):
            read('a.pth')

    @pytest.mark.parametrize(
        'content, found',
        [
            (dict(state_dict={}, meta={}), r"\['state_dict', 'meta'\]"),
            (dict(model={'a': 1}), r"\['model'\]"),
            ([1], 'list'),
        ],
    )
    def test_files_with_other_content_are_refused(self, content, found):
        torch.save(content, 'a.pth')
        with pytest.raises(
            ValueError,
            match=r"\{'model': state_dict\}, but "
            f'contains {found}',
        ):
            read('a.pth')

    def test_a_missing_file_is_named(self):
        with pytest.raises(FileNotFoundError, match="no checkpoint 'a.pth'"):
            read('a.pth')


@pytest.mark.slow
class TestCommandLine:
    def run(self, folder, config, classes=100, fails=False):
        state, _, logits = weights('MobileNetV2', classes=classes)
        torch.save(dict(model=state), folder / 'theirs.pth')
        (folder / 'config.py').write_text(f"_base_ = ['{CONFIGS}/mobilenetv2.py']\n{config}\n")
        files = 'config.py', 'theirs.pth', 'new/ours.pth'
        tool = ROOT / 'tools/convert_teacher.py'
        return type_command(tool, *files, cwd=folder, fails=fails), logits

    @torch.no_grad()
    def test_config_of_a_pair_is_accepted(self, tmp_path):
        printed, logits = self.run(tmp_path, 'model = dict(teacher=_base_.mobilenetv2)')
        assert 'MobileNetV2, 100 classes, 320 tensors' in printed
        assert os.listdir(tmp_path / 'new') == ['ours.pth']
        checkpoint = torch.load(tmp_path / 'new/ours.pth', weights_only=True)
        assert checkpoint['meta']['net'] == 'MobileNetV2, 100 classes'
        assert checkpoint['meta']['source'] == 'theirs.pth'
        model = build('mobilenetv2')
        model.load_state_dict(checkpoint['state_dict'])
        images = weights('MobileNetV2')[1]
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5)

    def test_an_error_is_printed_without_a_traceback(self, tmp_path):
        printed, _ = self.run(tmp_path, 'model = _base_.mobilenetv2', classes=10, fails=True)
        assert printed.startswith("error: The file 'theirs.pth' does not")
        assert 'Traceback' not in printed
        assert not (tmp_path / 'new').exists()
