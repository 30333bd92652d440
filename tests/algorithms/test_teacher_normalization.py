import pytest
import torch
import toy
from frozen_teacher import OWN, STUDENT, batch, build
from mmrazor.registry import MODELS


class TestOwnNormalization:
    """The teacher receives what its own preprocessor produces from the raw images."""

    CLS, IMG = 'mmpretrain.ClsDataPreprocessor', 'mmengine.ImgDataPreprocessor'

    @pytest.mark.parametrize(
        'student, teacher',
        [
            (dict(STUDENT, type=CLS), dict(STUDENT, type=CLS)),
            (dict(STUDENT, type=CLS), dict(OWN, type=CLS)),
            (dict(STUDENT, type=CLS), dict(OWN, type=CLS, to_rgb=True)),
            (dict(OWN, type=CLS, to_rgb=True), dict(STUDENT, type=CLS)),
            (dict(OWN, type=CLS, to_rgb=True), dict(OWN, type=CLS, to_rgb=True)),
            (dict(OWN, type=CLS, to_rgb=True), dict(OWN, type=CLS)),
            (dict(type=CLS), dict(OWN, type=CLS, to_rgb=True)),
            (dict(type=CLS, to_rgb=True), dict(OWN, type=CLS)),
            (dict(OWN, type=IMG, bgr_to_rgb=True), dict(OWN, type=CLS)),
            (dict(OWN, type=CLS), dict(STUDENT, type=IMG, rgb_to_bgr=True)),
            (
                dict(mean=[0, 0, 0], std=[255, 255, 255], type=CLS),
                dict(mean=[1, 2, 3], std=[4, 5, 6], type=CLS, to_rgb=True),
            ),
        ],
    )
    def test_the_teacher_receives_the_images_of_its_own_preprocessor(self, ckpt, student, teacher):
        teacher_cfg = dict(toy.classifier(width=6), data_preprocessor=MODELS.build(teacher))
        cfg = dict(toy.distillation(ckpt, teacher=teacher_cfg), data_preprocessor=student)
        model = MODELS.build(cfg).eval()
        raw = list(batch()['inputs'].to(torch.uint8))  # one tensor per image
        own = MODELS.build(teacher)(dict(inputs=raw))['inputs']
        ours = model.data_preprocessor(dict(inputs=raw))['inputs']
        torch.testing.assert_close(model.teacher.inputs(ours), own, rtol=1e-5, atol=1e-5)

        seen = []
        model.teacher.net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        model(ours, batch()['data_samples'], mode='loss')
        torch.testing.assert_close(seen[0], own, rtol=1e-5, atol=1e-5)

    def test_gray_images_are_normalized_for_the_teacher(self, tmp_path):
        gray = toy.classifier(width=6, in_channels=1, preprocessor=dict(mean=[100.0], std=[50.0]))
        ckpt = toy.save_teacher(tmp_path / 't.pth', gray)
        cfg = toy.distillation(ckpt, teacher=gray, student=toy.classifier(in_channels=1))
        cfg['data_preprocessor'].update(mean=[127.5], std=[60.0])
        model = MODELS.build(cfg)
        raw = batch(channels=1)['inputs']
        ours = model.data_preprocessor(dict(inputs=raw))['inputs']
        torch.testing.assert_close(model.teacher.inputs(ours), (raw - 100.0) / 50.0)

    def test_a_teacher_without_a_preprocessor_receives_the_students_inputs(self, ckpt):
        x = torch.randn(2, 3, 8, 8)
        assert build(ckpt).teacher.inputs(x) is x
