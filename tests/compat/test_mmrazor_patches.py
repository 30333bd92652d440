import sys
import types

import pytest

from prkd_mm import compat
from prkd_mm.compat import mmrazor_patches

APPLIED = compat.apply()

QCONFIG = dict(
    w_observer=dict(type='MinMaxObserver'),
    a_observer=dict(type='MinMaxObserver'),
    w_fake_quant=dict(type='FakeQuantize'),
    a_fake_quant=dict(type='FakeQuantize'),
    w_qscheme=dict(qdtype='qint8', bit=8, is_symmetry=True),
    a_qscheme=dict(qdtype='quint8', bit=8, is_symmetry=True),
)


class TestQuantization:
    def test_distillation_is_registered(self):
        from mmrazor.registry import MODELS

        for name in (
            'SingleTeacherDistill',
            'ConfigurableDistiller',
            'KLDivergence',
            'DISTLoss',
            'MMArchitectureQuant',
        ):
            assert MODELS.get(name) is not None

    def test_version_lookup_is_restored(self):
        import mmrazor
        from mmengine.utils import digit_version

        assert mmrazor.digit_version is digit_version

    def test_working_quantization_is_left_alone(self, monkeypatch):
        import mmrazor

        name = 'mmrazor.structures.quantization'
        working = types.ModuleType(name)
        working.BackendConfigs = dict(native='a table')
        monkeypatch.setitem(sys.modules, name, working)
        monkeypatch.setattr(mmrazor, 'digit_version', None)  # is not called
        assert mmrazor_patches.quantization() is False
        assert working.BackendConfigs == dict(native='a table')

    @pytest.mark.skipif('quantization' not in APPLIED, reason='works here')
    @pytest.mark.parametrize(
        'quantizer',
        [
            dict(type='OpenVINOQuantizer', global_qconfig=QCONFIG),
            dict(type='TensorRTQuantizer', global_qconfig=QCONFIG),
            dict(type='AcademicQuantizer', qconfig_mapping=dict(_global_=QCONFIG)),
        ],
        ids=lambda cfg: cfg['type'],
    )
    def test_a_quantizer_raises_an_error(self, quantizer):
        from mmrazor.registry import MODELS

        with pytest.raises(RuntimeError, match='needs torch 1.13'):
            MODELS.build(dict(quantizer, _scope_='mmrazor'))


class TestImport:
    @pytest.mark.slow
    def test_import_takes_neither_scipy_nor_a_higher_recursion_limit(self, run_python):
        child = run_python("""
import sys
sys.setrecursionlimit(1234)
import prkd_mm, mmrazor.engine
print(sys.getrecursionlimit(), 'scipy.stats' in sys.modules, 'sklearn' in sys.modules)
from mmrazor.models.distillers import ofd_distiller
from mmrazor.models.task_modules.predictor import metric_predictor
from mmrazor.models.task_modules.predictor.handler.carts_handler import DecisionTreeRegressor
print(ofd_distiller.norm.cdf(0.0), metric_predictor.stats.kendalltau([1, 2, 3], [1, 2, 3])[0])
print(DecisionTreeRegressor().fit([[0.0], [1.0]], [0.0, 5.0]).predict([[1.0]]))
import scipy.stats
print(scipy.stats.norm.cdf(0.0))
""")
        assert child.stdout.splitlines() == ['1234 False False', '0.5 1.0', '[5.]', '0.5'], child


class TestRecursionLimit:
    def test_a_deep_net_is_traced_with_a_low_limit(self):
        import torch
        from mmrazor.models.task_modules.tracer import BackwardTracer

        def depth():
            frame, found = sys._getframe(), 0
            while frame:
                frame, found = frame.f_back, found + 1
            return found

        net = torch.nn.Sequential(*[torch.nn.Conv2d(1, 1, 1) for _ in range(300)])
        tracer = BackwardTracer(loss_calculator=lambda net: net(torch.ones(1, 1, 2, 2)).sum())
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(depth() + 150)
        try:
            paths = tracer.trace(net)
            assert sys.getrecursionlimit() == depth() + 150
        finally:
            sys.setrecursionlimit(before)
        assert len(paths[0]) == 300


class TestInPlaceActivations:
    @pytest.fixture
    def distiller(self):
        """A stock distillation of the outputs of a batch norm before an in-place ReLU."""
        from mmrazor.registry import MODELS

        net = dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
        )
        recorder = dict(type='mmrazor.ModuleOutputs', source='backbone.bn1')
        features = dict(
            s_feature=dict(from_student=True, recorder='bn'),
            t_feature=dict(from_student=False, recorder='bn'),
        )
        return MODELS.build(
            dict(
                _scope_='mmrazor',
                type='SingleTeacherDistill',
                architecture=net,
                teacher=net,
                distiller=dict(
                    type='ConfigurableDistiller',
                    student_recorders=dict(bn=recorder),
                    teacher_recorders=dict(bn=recorder),
                    distill_losses=dict(loss_at=dict(type='ATLoss', loss_weight=1.0)),
                    loss_forward_mappings=dict(loss_at=features),
                ),
            )
        )

    def test_attention_transfer_of_a_batch_norm_equals_the_formula(self, distiller):
        import torch
        from mmpretrain.structures import DataSample

        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        samples = [DataSample().set_gt_label(k) for k in (0, 1)]
        distiller.train()
        loss = distiller(images, samples, mode='loss')['distill.loss_at']

        def attention(net):
            net = net.backbone
            feature = torch.nn.functional.batch_norm(
                net.conv1(images),
                net.bn1.running_mean,
                net.bn1.running_var,
                net.bn1.weight,
                net.bn1.bias,
                net.bn1.training,
            )
            assert (feature < 0).any()
            return torch.nn.functional.normalize(feature.pow(2).mean(1).flatten(1))

        distance = attention(distiller.student) - attention(distiller.teacher)
        assert loss.item() > 0
        torch.testing.assert_close(loss, distance.pow(2).mean())


class TestRecordedOutputs:
    """`out += identity` in MMPretrain's residual blocks changes the output of bn2 in place."""

    @pytest.mark.parametrize('source', ['conv2', 'bn2'])
    def test_the_last_batch_norm_of_a_block_is_recorded_before_the_sum(self, source):
        import torch
        from mmpretrain.models.backbones.resnet import BasicBlock
        from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder

        torch.manual_seed(0)
        block = BasicBlock(4, 4)
        recorder = ModuleOutputsRecorder(source)
        recorder.initialize(block)
        images = torch.randn(2, 4, 5, 5, requires_grad=True)
        with recorder:
            output = block(images)
        found = recorder.get_record_data()

        convolved = block.conv2(torch.relu(block.bn1(block.conv1(images))))
        normalized = block.bn2(convolved)
        expected = convolved if source == 'conv2' else normalized
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(output, torch.relu(normalized + images))
        gradients = [torch.autograd.grad(x.square().sum(), images)[0] for x in (found, expected)]
        torch.testing.assert_close(*gradients)

    def test_nothing_is_copied_outside_a_recording(self):
        import torch
        from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder

        net, images = torch.nn.Sequential(torch.nn.Identity()), torch.ones(1)
        recorder = ModuleOutputsRecorder('0')
        recorder.initialize(net)
        assert net(images) is images
        with recorder:
            assert net(images) is not images
            assert recorder.get_record_data() is images
