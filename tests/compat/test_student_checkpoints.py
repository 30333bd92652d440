import prkd_mm  # noqa: F401  isort: skip  # before mmpretrain, which it patches
import numpy as np
import pytest
import torch
import toy
from mmengine.runner import load_checkpoint
from mmpretrain import ImageClassificationInferencer, get_model
from PIL import Image

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
