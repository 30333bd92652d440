import copy
import os

import numpy as np
import pytest
import torch
import toy
from mmengine.hooks import Hook
from torch import nn

from prkd_mm.batch_norm import recalibrate_bn
from prkd_mm.hooks import TailAverageHook

STATISTICS = ('running_mean', 'running_var')


def tail(num_epochs=2, **kwargs):
    return dict(type='TailAverageHook', num_epochs=num_epochs, **kwargs)


def students(work_dir, names):
    """States of the students in checkpoints of a run, in float64."""
    return [
        {
            key[len('architecture.') :]: value.double()
            for key, value in load(work_dir, f'{name}.pth')['state_dict'].items()
            if key.startswith('architecture.')
        }
        for name in names
    ]


def mean(states):
    return {key: sum(state[key] for state in states) / len(states) for key in states[0]}


def assert_float32_of(actual, exact, what):
    """Check for equality with a float64 number, up to one rounding to float32."""
    torch.testing.assert_close(actual.double(), exact, rtol=2**-23, atol=0, msg=what)


def load(work_dir, name='student_avg.pth'):
    return torch.load(work_dir / name, weights_only=False)


def plain_batch(preprocessor, dataset):
    """All of a data set as one batch, normalized by hand."""
    x = np.stack([sample['img'] for sample in dataset.load_data_list()])
    x = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    return (x - preprocessor.mean) / preprocessor.std


class TestAverage:
    """The average of the files that a real run has saved."""

    @pytest.mark.parametrize('bn', ['recalibrate', 'average', 'latest'])
    def test_is_the_mean_of_the_students(self, ckpt, tmp_path, bn):
        toy.train(
            toy.config(
                toy.distillation(ckpt), tmp_path, toy.prkd_schedule(), tail(3, bn=bn), epochs=4
            )
        )
        saved = students(tmp_path, ['epoch_2', 'epoch_3', 'epoch_4'])
        expected, last = mean(saved), saved[-1]
        file = load(tmp_path)
        assert file['meta']['tail_average'] == [2, 3, 4]
        assert list(file['state_dict']) == list(expected)
        for name, value in file['state_dict'].items():
            if name.endswith('num_batches_tracked'):
                continue
            if not name.endswith(STATISTICS) or bn == 'average':
                assert_float32_of(value, expected[name], name)
                assert not torch.equal(value.double(), last[name]), name
            elif bn == 'latest':
                assert torch.equal(value.double(), last[name]), name
            else:
                for other in (expected[name], last[name]):
                    assert not torch.allclose(value.double(), other), name

    @pytest.mark.parametrize(
        'num_epochs, interval, epochs',
        [(4, 2, [2, 4]), (3, 2, [2, 4]), (4, 3, [1, 4]), (2, 5, [4]), (4, 1, [1, 2, 3, 4])],
    )
    def test_interval(self, ckpt, tmp_path, num_epochs, interval, epochs):
        toy.train(
            toy.config(
                toy.distillation(ckpt),
                tmp_path,
                toy.prkd_schedule(),
                tail(num_epochs, interval=interval, bn='average'),
                epochs=4,
            )
        )
        expected = mean(students(tmp_path, [f'epoch_{e}' for e in epochs]))
        file = load(tmp_path)
        assert file['meta']['tail_average'] == epochs
        for name, value in file['state_dict'].items():
            if value.is_floating_point():
                assert_float32_of(value, expected[name], name)

    @pytest.mark.parametrize('epochs, iterations', [(4, [12, 16]), (2.5, [8, 10])])
    def test_iteration_based_run(self, ckpt, tmp_path, epochs, iterations):
        toy.train(
            toy.config(
                toy.distillation(ckpt),
                tmp_path,
                toy.prkd_schedule(),
                tail(bn='average'),
                epochs=epochs,
                by_epoch=False,
            )
        )
        expected = mean(students(tmp_path, [f'iter_{i}' for i in iterations]))
        for name, value in load(tmp_path)['state_dict'].items():
            if value.is_floating_point():
                assert_float32_of(value, expected[name], name)

    def test_a_plain_classifier_is_averaged(self, tmp_path):
        preprocessor = dict(mean=[127.5] * 3, std=[60.0] * 3)
        toy.train(
            toy.config(toy.classifier(preprocessor=preprocessor), tmp_path, tail(bn='average'))
        )
        states = [load(tmp_path, f'epoch_{e}.pth')['state_dict'] for e in (1, 2)]
        for name, value in load(tmp_path)['state_dict'].items():
            if value.is_floating_point():
                assert_float32_of(value, (states[0][name].double() + states[1][name]) / 2, name)


class TestRecalibration:
    @pytest.mark.parametrize('augments', [None, 'Mixup', 'CutMix'])
    def test_against_a_direct_computation(self, ckpt, tmp_path, augments):
        """One batch without augmentation: both BN in numpy, layer by layer.

        With batch augmentation configured too, since it must see none.
        """
        model = toy.distillation(ckpt)
        if augments:
            model['data_preprocessor']['batch_augments'] = dict(
                augments=[dict(type=augments, alpha=1.0)]
            )
        pipeline = 'train_dataloader.dataset.pipeline'
        runner = toy.train(
            toy.config(
                model,
                tmp_path,
                toy.prkd_schedule(),
                tail(bn='recalibrate'),
                **{
                    pipeline: [dict(type='PackInputs')],
                    'train_dataloader.batch_size': toy.TRAIN_SIZE,
                },
            )
        )
        x = plain_batch(runner.model.data_preprocessor, runner.train_dataloader.dataset)
        state = load(tmp_path)['state_dict']
        for i in (1, 2):
            w, b = (state[f'backbone.conv{i}.{n}'] for n in ('weight', 'bias'))
            x = nn.functional.conv2d(x.double(), w.double(), b.double(), padding=1).numpy()
            bn = {
                name: state[f'backbone.bn{i}.{name}'].double().numpy()
                for name in (*STATISTICS, 'weight', 'bias')
            }
            axes = (0, 2, 3)
            np.testing.assert_allclose(bn['running_mean'], x.mean(axes), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(bn['running_var'], x.var(axes, ddof=1), rtol=1e-4)
            normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
            x = torch.from_numpy(
                np.maximum(0, normal * bn['weight'][:, None, None] + bn['bias'][:, None, None])
            )

    def test_mean_over_batches(self):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        batches = [3 * torch.randn(n, 3, 8, 8) + n for n in (4, 8, 16)]
        recalibrate_bn(net, batches)
        inputs = [net[0](x).detach().double().numpy() for x in batches]
        axes = (0, 2, 3)
        np.testing.assert_allclose(
            net[1].running_mean, np.mean([x.mean(axes) for x in inputs], 0), rtol=1e-4
        )
        np.testing.assert_allclose(
            net[1].running_var, np.mean([x.var(axes, ddof=1) for x in inputs], 0), rtol=1e-4
        )

    def test_restores_modes_and_momenta_and_leaves_weights(self):
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3),
            nn.BatchNorm2d(5, momentum=0.3),
            nn.BatchNorm2d(5, momentum=None),
            nn.Dropout(0.5),
        )
        net[2].eval()
        modes = [module.training for module in net.modules()]
        weights = copy.deepcopy(list(net.parameters()))
        recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
        assert [module.training for module in net.modules()] == modes
        assert (net[1].momentum, net[2].momentum) == (0.3, None)
        toy.assert_same(list(net.parameters()), weights)
        assert all(p.grad is None for p in net.parameters())

    def test_frozen_bn_does_not_change(self):
        net = toy.build(toy.classifier(frozen_bn=True))
        for name in STATISTICS:
            getattr(net.backbone.bn1, name).uniform_(0.5, 1.5)
        before = copy.deepcopy(net.state_dict())
        recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
        after = net.state_dict()
        for name in STATISTICS:
            assert torch.equal(after[f'backbone.bn1.{name}'], before[f'backbone.bn1.{name}'])
            assert not torch.equal(after[f'backbone.bn2.{name}'], before[f'backbone.bn2.{name}'])

    def test_frozen_bn_does_not_change_in_a_run(self, ckpt, tmp_path):
        net = dict(
            toy.classifier(width=6, frozen_bn=True),
            init_cfg=dict(type='Pretrained', checkpoint=ckpt),
        )
        toy.train(
            toy.config(toy.distillation(ckpt, student=net), tmp_path, toy.prkd_schedule(), tail())
        )
        before, after = torch.load(ckpt)['state_dict'], load(tmp_path)['state_dict']
        for name in STATISTICS:
            assert torch.equal(after[f'backbone.bn1.{name}'], before[f'backbone.bn1.{name}'])
            assert not torch.equal(after[f'backbone.bn2.{name}'], before[f'backbone.bn2.{name}'])

    def test_net_without_bn(self):
        net = nn.Sequential(nn.Conv2d(3, 5, 3))
        before = copy.deepcopy(net.state_dict())
        recalibrate_bn(net, [torch.randn(4, 3, 8, 8)])
        toy.assert_same(net.state_dict(), before)

    def test_number_of_batches(self, ckpt, tmp_path):
        variances = []
        for bn_batches in (1, 4, 100):
            toy.train(
                toy.config(
                    toy.distillation(ckpt),
                    tmp_path / str(bn_batches),
                    toy.prkd_schedule(),
                    tail(bn_batches=bn_batches),
                )
            )
            variances.append(
                load(tmp_path / str(bn_batches))['state_dict']['backbone.bn1.running_var']
            )
        assert not torch.equal(variances[0], variances[1])
        assert torch.equal(variances[1], variances[2])  # one pass at most


class Counter(Hook):
    """Count the calls, and record the weights around every validation."""

    priority = 'LOWEST'

    def __init__(self):
        self.calls, self.pairs = [], []

    def before_val(self, runner):
        self._before = copy.deepcopy(runner.model.state_dict())

    def before_val_epoch(self, runner):
        self.calls.append('before')

    def after_val_iter(self, runner, batch_idx, data_batch, outputs):
        self.calls.append('iter')

    def after_val_epoch(self, runner, metrics=None):
        self.calls.append('after')

    def after_val(self, runner):
        self.pairs.append((self._before, copy.deepcopy(runner.model.state_dict())))


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The same run with a hook that validates, one that does not, and none.

    The only source of randomness is the one stream that starts with the run:
    there is no EpochSeedHook to hide what somebody draws from it.
    """
    path, results = tmp_path_factory.mktemp('runs'), []
    ckpt = toy.save_teacher(path / 'teacher.pth')
    for i, hooks in enumerate([[tail(3)], [tail(3, evaluate=False)], []]):
        counter = Counter()
        runner = toy.start(
            toy.config(
                toy.distillation(ckpt, student=toy.classifier(dropout=0.3)),
                path / str(i),
                toy.prkd_schedule(),
                *hooks,
                epochs=4,
                epoch_seed=False,
            )
        )
        runner.register_hook(counter)
        with toy.quickly():
            runner.train()
        results.append((path / str(i), counter))
    return results


class TestValidationChangesNothing:
    def test_weights_stay_bit_for_bit(self, runs):
        for _, counter in runs:
            assert len(counter.pairs) == 4
            for before, after in counter.pairs:
                toy.assert_same(before, after)

    def test_rest_of_the_run_stays_bit_for_bit(self, runs):
        for epoch in (1, 2, 3, 4):
            ours, silent, without = (load(path, f'epoch_{epoch}.pth') for path, _ in runs)
            for other in (silent, without):
                toy.assert_same(ours['state_dict'], other['state_dict'])
                toy.assert_same(ours['optimizer'], other['optimizer'])

    def test_weights_do_change(self, runs):
        one, two = students(runs[0][0], ['epoch_3', 'epoch_4'])
        assert not torch.equal(one['head.fc.weight'], two['head.fc.weight'])

    def test_hooks_fire_once_a_validation(self, runs):
        for _, counter in runs:
            assert counter.calls == 4 * (['before'] + 5 * ['iter'] + ['after'])

    def test_average_is_the_same_without_validation(self, runs):
        ours, silent = (load(path)['state_dict'] for path, _ in runs[:2])
        toy.assert_same(ours, silent)
        assert not (runs[2][0] / 'student_avg.pth').exists()

    def test_raw_and_averaged_accuracy_are_logged(self, runs):
        """Both are in the same row, from the tail on."""
        logs = [[line for line in toy.logged(path) if 'accuracy/top1' in line] for path, _ in runs]
        for lines in logs:
            assert [line['step'] for line in lines] == [1, 2, 3, 4]
        averaged = ['student_avg/accuracy/top1' in line for line in logs[0]]
        assert averaged == [False, True, True, True]
        for lines in logs[1:]:
            assert not any('student_avg' in key for x in lines for key in x)
        assert load(runs[1][0])['meta']['metrics'] == {}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run of four epochs, three of which are averaged."""
    path = tmp_path_factory.mktemp('finished')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    runner = toy.train(
        toy.config(toy.distillation(ckpt), path, toy.prkd_schedule(), tail(3), epochs=4)
    )
    return path, runner


class TestFile:
    def test_is_a_plain_classifier(self, finished):
        path, runner = finished
        net = toy.build(toy.classifier()).eval()
        net.load_state_dict(load(path)['state_dict'], strict=True)
        hook = [h for h in runner.hooks if isinstance(h, TailAverageHook)][0]
        x = torch.randn(5, 3, 8, 8)
        with torch.no_grad():
            assert torch.equal(net(x), hook.average(runner)[0](x))
            assert not torch.equal(net(x), toy.student(runner).eval()(x))

    def test_metrics_are_those_of_its_weights(self, finished):
        path, runner = finished
        dataset = runner.val_dataloader.dataset
        x = plain_batch(runner.model.data_preprocessor, dataset)
        labels = torch.tensor(dataset.get_gt_labels())

        def accuracy(state):
            net = toy.build(toy.classifier()).eval()
            net.load_state_dict(state)
            hits = net(x).argmax(1) == labels
            return {'accuracy/top1': pytest.approx(100 * hits.float().mean())}

        meta = load(path)['meta']
        raw = {k: v.float() for k, v in students(path, ['epoch_4'])[0].items()}
        assert meta['metrics'] == accuracy(load(path)['state_dict'])
        assert meta['raw_metrics'] == accuracy(raw)
        assert meta['metrics'] != meta['raw_metrics']
        last = [x for x in toy.logged(path) if 'accuracy/top1' in x][-1]
        assert meta['metrics']['accuracy/top1'] == last['student_avg/accuracy/top1']
        assert meta['raw_metrics']['accuracy/top1'] == last['accuracy/top1']

    def test_names_the_classes(self, finished):
        meta = load(finished[0])['meta']
        assert meta['dataset_meta']['classes'] == tuple('abcd')

    def test_loads_without_executing_pickled_code(self, finished):
        average = torch.load(finished[0] / 'student_avg.pth', weights_only=True)
        assert list(average['state_dict']) == list(toy.student(finished[1]).state_dict())

    def test_training_checkpoints_hold_raw_weights_and_the_sum(self, finished):
        path, _ = finished
        assert 'tail_average' not in load(path, 'epoch_1.pth')
        for epoch in (2, 3, 4):
            ours = load(path, f'epoch_{epoch}.pth')['tail_average']
            epochs = list(range(2, epoch + 1))
            assert ours['epochs'] == epochs
            states = students(path, [f'epoch_{e}' for e in epochs])
            for name, total in ours['sum'].items():
                assert total.dtype == torch.float64
                assert torch.equal(total, sum(s[name] for s in states)), name

    def test_the_old_file_is_kept_if_writing_fails(self, finished, tmp_path, monkeypatch):
        """A run ends with a full disk while it writes the average."""

        def fail(checkpoint, file):
            file.write(b'half of')
            raise OSError('disk full')

        path, _ = finished
        (tmp_path / 'student_avg.pth').write_bytes(b'old')
        monkeypatch.setattr(torch, 'save', fail)
        cfg = toy.config(
            toy.distillation(path / 'teacher.pth'), tmp_path, toy.prkd_schedule(), tail(3), epochs=4
        )
        with pytest.raises(OSError, match='disk full'):
            toy.resume(cfg, path / 'epoch_4.pth')
        assert (tmp_path / 'student_avg.pth').read_bytes() == b'old'
        assert not [x for x in os.listdir(tmp_path) if 'partial' in x]


class TestResume:
    """Cases that are errors; tests/test_exact_resume.py tests the others."""

    def config(self, tmp_path, finished, **hook):
        return toy.config(
            toy.distillation(finished[0] / 'teacher.pth'),
            tmp_path,
            toy.prkd_schedule(),
            tail(**dict(dict(num_epochs=3), **hook)),
            epochs=4,
        )

    def test_within_the_tail(self, finished, tmp_path):
        toy.resume(self.config(tmp_path, finished), finished[0] / 'epoch_3.pth')
        one, two = load(finished[0]), load(tmp_path)
        toy.assert_same(one['state_dict'], two['state_dict'])
        assert one['meta']['metrics'] == two['meta']['metrics']

    def test_finished_run_writes_the_same_file_again(self, finished, tmp_path):
        runner = toy.resume(self.config(tmp_path, finished), finished[0] / 'epoch_4.pth')
        assert runner.iter == 16
        one, two = load(finished[0]), load(tmp_path)
        toy.assert_same(one['state_dict'], two['state_dict'])
        for meta in (one['meta'], two['meta']):
            meta.pop('experiment_name')
        assert one['meta'] == two['meta']

    def test_without_the_sum(self, finished, tmp_path):
        checkpoint = load(finished[0], 'epoch_3.pth')
        del checkpoint['tail_average']
        torch.save(checkpoint, tmp_path / 'c.pth')
        with pytest.raises(RuntimeError) as error:
            toy.resume(self.config(tmp_path, finished), tmp_path / 'c.pth')
        for words in (
            'after epoch 3',
            'epochs [2, 3]',
            'contains that of none',
            'before the end of epoch 2',
        ):
            assert words in str(error.value)

    @pytest.mark.parametrize(
        'hook', [dict(num_epochs=4), dict(num_epochs=2), dict(interval=2)], ids=str
    )
    def test_with_another_tail(self, finished, tmp_path, hook):
        with pytest.raises(RuntimeError, match=r'contains that of \[2, 3\]'):
            toy.resume(self.config(tmp_path, finished, **hook), finished[0] / 'epoch_3.pth')

    def test_before_the_tail(self, finished, tmp_path):
        toy.resume(self.config(tmp_path, finished), finished[0] / 'epoch_1.pth')
        toy.assert_same(load(finished[0])['state_dict'], load(tmp_path)['state_dict'])

    def test_weights_alone_begin_a_new_run(self, finished, tmp_path):
        cfg = self.config(tmp_path, finished)
        cfg.load_from = str(finished[0] / 'epoch_3.pth')
        toy.train(cfg)
        assert load(tmp_path)['meta']['tail_average'] == [2, 3, 4]
        one, two = (load(x)['state_dict'] for x in (finished[0], tmp_path))
        assert not torch.equal(one['head.fc.weight'], two['head.fc.weight'])


class TestErrors:
    @pytest.mark.parametrize('name', ['num_epochs', 'interval', 'bn_batches'])
    @pytest.mark.parametrize('value', [0, -1, 1.5, '2'])
    def test_numbers(self, name, value):
        with pytest.raises(
            ValueError, match=f'{name} must be a whole number, at least 1; got {value!r}'
        ):
            TailAverageHook(**{name: value})

    def test_bn(self):
        with pytest.raises(ValueError, match="recalibrate.*got 'precise'"):
            TailAverageHook(bn='precise')

    @pytest.mark.parametrize('epochs, by_epoch', [(3, True), (2.5, False)])
    def test_more_epochs_than_the_run_has(self, ckpt, tmp_path, epochs, by_epoch):
        runner = toy.start(
            toy.config(
                toy.distillation(ckpt),
                tmp_path,
                toy.prkd_schedule(),
                tail(4),
                epochs=epochs,
                by_epoch=by_epoch,
            )
        )
        with toy.quickly(), pytest.raises(ValueError, match='num_epochs=4 .* only 3; lower'):
            runner.train()
        assert runner.iter == 0 and not list(tmp_path.glob('*_*.pth'))

    def test_stopped_before_the_tail(self, ckpt, tmp_path):

        class Stop(Hook):
            def after_train_epoch(self, runner):
                runner.train_loop.stop_training = True

        runner = toy.start(
            toy.config(toy.distillation(ckpt), tmp_path, toy.prkd_schedule(), tail(2), epochs=4)
        )
        runner.register_hook(Stop())
        with toy.quickly():
            runner.train()
        assert 'stopped before its last 2 epochs' in toy.log_text(tmp_path)
        assert not (tmp_path / 'student_avg.pth').exists()


def test_run_without_validation(ckpt, tmp_path):
    runner = toy.train(
        toy.config(
            toy.distillation(ckpt),
            tmp_path,
            toy.prkd_schedule(),
            tail(),
            val_dataloader=None,
            val_cfg=None,
            val_evaluator=None,
        )
    )
    assert runner.val_loop is None
    assert load(tmp_path)['meta']['metrics'] == {}


def test_validation_within_an_epoch(ckpt, tmp_path):
    """In an iteration-based run, only whole epochs are averaged."""
    toy.train(
        toy.config(
            toy.distillation(ckpt),
            tmp_path,
            toy.prkd_schedule(),
            tail(bn='average'),
            by_epoch=False,
            **{'train_cfg.val_interval': 3},
        )
    )
    lines = [x for x in toy.logged(tmp_path) if 'accuracy/top1' in x]
    averaged = ['student_avg/accuracy/top1' in line for line in lines]
    assert averaged == [False, True, True]  # after iterations 3, 6 and 8
    expected = mean(students(tmp_path, ['iter_4', 'iter_8']))
    for name, value in load(tmp_path)['state_dict'].items():
        if value.is_floating_point():
            assert_float32_of(value, expected[name], name)
