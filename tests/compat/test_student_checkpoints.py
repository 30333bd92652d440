import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import numpy as np
import pytest
import torch
import toy
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from mmpretrain import ImageClassificationInferencer, get_model
from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier
from PIL import Image

from prkd_mm.deploy.student import load_student
from prkd_mm.deploy.student_config import student_config

FILES = 'student_avg.pth', 'epoch_2.pth'


@pytest.fixture(scope='module', params=['FrozenTeacherDistill', 'SingleTeacherDistill'])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    teacher = toy.save_teacher(folder / 'teacher.pth')
    model = toy.distillation(teacher, algorithm=request.param)
    tail = dict(type='TailAverageHook', num_epochs=2)
    cfg = toy.config(model, folder / 'run', tail)
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'test_{part}'] = cfg[f'val_{part}']
    return toy.train(cfg)


@pytest.fixture(params=FILES)
def file(run, request):
    return f'{run.work_dir}/{request.param}'


def images():
    return torch.from_numpy(np.random.RandomState(0).randint(256, size=(3, 3, 8, 8), dtype='uint8'))


def logits(model):
    with torch.no_grad():
        return model(**model.data_preprocessor(dict(inputs=images())), mode='tensor')


def trained_logits(file, inputs=None):
    """The logits of a plain net into which the student's weights were loaded strictly."""
    state = torch.load(file, weights_only=False)['state_dict']
    prefix = 'architecture.' if file.endswith('epoch_2.pth') else ''
    net = toy.build(toy.classifier()).eval()
    net.load_state_dict({name: state[prefix + name] for name in net.state_dict()})
    with torch.no_grad():
        return net(((images() if inputs is None else inputs) - 127.5) / 60)


def test_get_model_loads_the_student_with_the_config_of_the_run(run, file):
    torch.testing.assert_close(
        logits(get_model(run.cfg.copy(), pretrained=file)), trained_logits(file)
    )


def test_get_model_loads_the_student_with_its_plain_config(run, file):
    model = get_model(student_config(run.cfg), pretrained=file)
    torch.testing.assert_close(logits(model), trained_logits(file))


@pytest.mark.parametrize('pretrained', [False, True])
def test_get_model_loads_the_student_without_a_config(file, pretrained):
    torch.testing.assert_close(logits(get_model(file, pretrained)), trained_logits(file))


def test_the_inferencer_takes_a_work_dir_and_names_the_class(run, tmp_path):
    """The file is larger than the images of the run, which are RGB arrays."""
    rgb = images()[0].permute(1, 2, 0).numpy()
    larger = np.kron(rgb, np.ones((2, 2, 1), np.uint8))
    Image.fromarray(larger).save(tmp_path / 'image.png')
    (found,) = ImageClassificationInferencer(run.work_dir)(str(tmp_path / 'image.png'))
    small = np.array(Image.fromarray(larger).resize((8, 8), Image.Resampling.BILINEAR))
    inputs = torch.from_numpy(small).permute(2, 0, 1)[None]
    expected = trained_logits(f'{run.work_dir}/student_avg.pth', inputs)[0].softmax(0)
    np.testing.assert_allclose(found['pred_scores'], expected, atol=1e-6)
    assert found['pred_class'] == 'abcd'[expected.argmax()]


def test_the_inferencer_refuses_a_config_whose_images_are_wrapped(run):
    cfg = run.cfg.copy()
    images = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='PackedImages', dataset=images)
    with pytest.raises(ValueError, match='pass the checkpoint or the work dir of the run'):
        ImageClassificationInferencer(cfg, f'{run.work_dir}/student_avg.pth')


def test_a_name_that_is_no_file_is_looked_up_in_the_model_zoo():
    with pytest.raises(ValueError, match='Failed to find model "resnet_of_nobody"'):
        get_model('resnet_of_nobody')
    with pytest.raises(FileNotFoundError, match="no checkpoint 'no.pth'"):
        get_model('no.pth')


def test_a_net_with_other_names_takes_nothing_from_the_checkpoint(run):
    """MMEngine warns, as it does without the patch, and returns the whole checkpoint."""
    other = torch.nn.Linear(2, 2)
    before = other.weight.clone()
    checkpoint = load_checkpoint(other, f'{run.work_dir}/epoch_2.pth')
    assert torch.equal(other.weight, before)
    assert any(name.startswith('architecture.') for name in checkpoint['state_dict'])


@pytest.mark.parametrize('kind', [TimmClassifier, HuggingFaceClassifier])
def test_a_net_of_another_library_has_the_same_names_inside_of_another_module(kind):
    def net():
        wrapped = torch.nn.Module()
        wrapped.model = torch.nn.BatchNorm2d(3)
        wrapped._register_state_dict_hook(kind._remove_state_dict_prefix)
        wrapped._register_load_state_dict_pre_hook(kind._add_state_dict_prefix)
        return wrapped

    one, other = (torch.nn.ModuleDict(dict(first=torch.nn.Linear(2, 2), net=net())) for _ in 'ab')
    one['net'].model.running_mean += 1
    alone = one['net'].state_dict()
    assert list(alone) == list(one['net'].model.state_dict())
    for state in (one.state_dict(), get_state_dict(one)):
        assert list(state) == [*('first.weight', 'first.bias'), *(f'net.{name}' for name in alone)]
        other.load_state_dict(state)
        toy.assert_same(other['net'].model.state_dict(), one['net'].model.state_dict())


@pytest.fixture(scope='module')
def timm_run(tmp_path_factory):
    pytest.importorskip('timm')
    folder = tmp_path_factory.mktemp('timm')
    net = dict(
        type='mmpretrain.TimmClassifier', model_name='test_resnet', num_classes=toy.NUM_CLASSES
    )
    distiller = toy.logits_distiller(loss_prkd=dict(type='mmrazor.PRKDLoss'))
    distiller['student_recorders'] = dict(logits=dict(type='mmrazor.ModuleOutputs', source='model'))
    teacher = toy.save_teacher(folder / 'teacher.pth')
    model = toy.distillation(teacher, net, distiller=distiller)
    tail = dict(type='TailAverageHook', num_epochs=2, bn='latest')
    cfg = toy.config(model, folder / 'run', tail)
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'test_{part}'] = cfg[f'val_{part}']
    return toy.train(cfg)


def test_a_run_with_a_student_of_timm_resumes(timm_run, tmp_path):
    cfg = timm_run.cfg.copy()
    cfg.work_dir, cfg.experiment_name = str(tmp_path), 'resumed'
    resumed = toy.resume(cfg, f'{timm_run.work_dir}/epoch_1.pth')
    toy.assert_same(resumed.model.state_dict(), timm_run.model.state_dict())


def test_a_student_of_timm_is_tested_and_averaged(timm_run):
    states = [
        torch.load(f'{timm_run.work_dir}/{name}.pth', weights_only=False)['state_dict']
        for name in ('epoch_1', 'epoch_2', 'student_avg')
    ]
    average = states.pop()
    statistics = [name for name in average if 'running' in name]
    assert statistics and set(average) == set(toy.student(timm_run).model.state_dict())
    for name, value in average.items():
        earlier, latest = (state[f'architecture.{name}'] for state in states)
        kept = name in statistics or not value.is_floating_point()
        torch.testing.assert_close(value, latest if kept else (earlier + latest) / 2)
    for name in FILES:
        path = f'{timm_run.work_dir}/{name}'
        plain = get_model(student_config(timm_run.cfg), pretrained=path)
        whole = get_model(timm_run.cfg.copy(), pretrained=path).architecture
        toy.assert_same(plain.state_dict(), whole.state_dict())
        state = average if name == FILES[0] else toy.student(timm_run).state_dict()
        toy.assert_same(dict(plain.state_dict()), dict(state))
    loaded = load_student(timm_run.work_dir)
    toy.assert_same(dict(loaded.net.net.state_dict()), dict(average))
    assert loaded.config.data_preprocessor.num_classes == toy.NUM_CLASSES
