import copy
import re

import pytest
import torch
import toy
from frozen_teacher import build, pretrained


class TestLoading:
    def test_the_teacher_has_the_weights_of_the_file(self, ckpt):
        toy.assert_same(build(ckpt).teacher.net.state_dict(), torch.load(ckpt)['state_dict'])

    def test_init_weights_leaves_the_teacher_unchanged(self, ckpt, tmp_path):
        runner = toy.train(toy.config(toy.distillation(ckpt), tmp_path))
        toy.assert_same(runner.model.teacher.net.state_dict(), torch.load(ckpt)['state_dict'])

    def test_the_error_for_a_missing_file_gives_the_training_command(self):
        with pytest.raises(FileNotFoundError) as error:
            build('no/such.pth', teacher_config='configs/teachers/big.py')
        assert "'no/such.pth'" in str(error.value)
        assert '\n  python tools/train.py configs/teachers/big.py' in str(error.value)

    def test_the_error_for_a_missing_file_without_a_training_config_gives_no_command(self):
        with pytest.raises(FileNotFoundError, match='no/such.pth') as error:
            build('no/such.pth')
        assert 'tools/train.py' not in str(error.value)

    def test_missing_checkpoint_is_refused(self):
        with pytest.raises(
            ValueError, match='teacher_ckpt is missing.*random(.|\n)*train.py configs/x.py'
        ):
            build(None, teacher_config='configs/x.py')

    def test_ready_built_teacher_needs_no_file(self, ckpt):
        net = pretrained(ckpt)
        state = copy.deepcopy(net.state_dict())
        toy.assert_same(build(None, teacher=net).teacher.net.state_dict(), state)

    def test_another_architecture_is_refused(self, ckpt):
        with pytest.raises(ValueError) as error:
            build(ckpt, teacher=toy.classifier(width=5))
        for words in (
            repr(ckpt),
            'with a different shape',
            'backbone.conv1.weight: (6, 3, 3, 3) in the file, (5, 3, 3, 3) in the model',
        ):
            assert words in str(error.value)

    def test_another_class_count_is_refused(self, ckpt):
        with pytest.raises(
            ValueError, match=re.escape('head.fc.weight: (4, 6) in the file, (7, 6) in the model')
        ):
            build(ckpt, teacher=toy.classifier(width=6, num_classes=7))

    @pytest.mark.parametrize('change', ['missing', 'unexpected'])
    def test_missing_and_unexpected_names_are_refused(self, ckpt, tmp_path, change):
        checkpoint = torch.load(ckpt)
        state = dict(checkpoint['state_dict'])
        if change == 'missing':
            del state['head.fc.bias']
        else:
            state['foo.bar'] = torch.ones(1)
        torch.save(dict(state_dict=state), tmp_path / 'c.pth')
        with pytest.raises(ValueError, match=f'1 {change}: '):
            build(tmp_path / 'c.pth')

    def test_student_with_another_class_count_is_refused(self, ckpt):
        with pytest.raises(ValueError, match='student has 5 classes and the teacher 4'):
            build(ckpt, student=toy.classifier(num_classes=5))

    @pytest.mark.parametrize(
        'option', [dict(teacher_trainable=True), dict(student_trainable=False)], ids=str
    )
    def test_trainable_teachers_are_refused(self, ckpt, option):
        with pytest.raises(ValueError, match="type='SingleTeacherDistill'"):
            build(ckpt, **option)

    @pytest.mark.parametrize('algorithm', ['FrozenTeacherDistill', 'SingleTeacherDistill'])
    def test_a_distilled_student_can_be_the_teacher(self, ckpt, tmp_path, algorithm):
        runner = toy.train(
            toy.config(
                toy.distillation(ckpt, algorithm=algorithm),
                tmp_path,
                toy.prkd_schedule(),
                dict(type='TailAverageHook', num_epochs=1),
            )
        )
        net = toy.classifier()  # the teacher's config is now the student's
        for file in (tmp_path, tmp_path / 'epoch_2.pth'):
            toy.assert_same(
                build(file, teacher=net).teacher.net.state_dict(), toy.student(runner).state_dict()
            )
        average = build(tmp_path / 'student_avg.pth', teacher=net)
        toy.assert_same(
            average.teacher.net.state_dict(), torch.load(tmp_path / 'student_avg.pth')['state_dict']
        )
