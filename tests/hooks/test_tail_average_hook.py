import os

import averaged
import pytest
import torch
import toy
from averaged import load
from mmengine.hooks import Hook

from prkd_mm.hooks import TailAverageHook


class TestAverage:
    """The average of the students that a real run has saved."""

    @pytest.mark.parametrize('bn', ['recalibrate', 'average', 'latest'])
    def test_the_average_is_the_mean_of_the_students(self, ckpt, tmp_path, bn):
        toy.train(averaged.config(ckpt, tmp_path, 3, tail=dict(bn=bn), epochs=4))
        saved = averaged.students(tmp_path, ['epoch_2', 'epoch_3', 'epoch_4'])
        expected, last = averaged.mean(saved), saved[-1]
        file = load(tmp_path)
        assert file['meta']['tail_average'] == [2, 3, 4]
        assert list(file['state_dict']) == list(expected)
        for name, value in file['state_dict'].items():
            if name.endswith('num_batches_tracked'):
                continue
            if 'running_' not in name or bn == 'average':
                averaged.assert_rounded(value, expected[name], name)
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
    def test_the_interval_selects_the_epochs(self, ckpt, tmp_path, num_epochs, interval, epochs):
        tail = dict(interval=interval, bn='average')
        toy.train(averaged.config(ckpt, tmp_path, num_epochs, tail=tail, epochs=4))
        assert load(tmp_path)['meta']['tail_average'] == epochs
        averaged.assert_average_of(tmp_path, [f'epoch_{e}' for e in epochs])

    @pytest.mark.parametrize('epochs, iterations', [(4, [12, 16]), (2.5, [8, 10])])
    def test_an_iteration_based_run_averages_epochs(self, ckpt, tmp_path, epochs, iterations):
        tail = dict(bn='average')
        toy.train(averaged.config(ckpt, tmp_path, tail=tail, epochs=epochs, by_epoch=False))
        averaged.assert_average_of(tmp_path, [f'iter_{i}' for i in iterations])

    def test_a_plain_classifier_is_averaged(self, tmp_path):
        model = toy.classifier(preprocessor=dict(mean=[127.5] * 3, std=[60.0] * 3))
        hook = dict(type='TailAverageHook', num_epochs=2, bn='average')
        toy.train(toy.config(model, tmp_path, hook))
        states = [load(tmp_path, f'epoch_{e}.pth')['state_dict'] for e in (1, 2)]
        expected = averaged.mean([{k: v.double() for k, v in s.items()} for s in states])
        for name, value in load(tmp_path)['state_dict'].items():
            if value.is_floating_point():
                averaged.assert_rounded(value, expected[name], name)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run of four epochs, three of which are averaged."""
    path = tmp_path_factory.mktemp('finished')
    ckpt = toy.save_teacher(path / 'teacher.pth')
    return path, toy.train(averaged.config(ckpt, path, 3, epochs=4))


class TestFile:
    def test_the_file_is_a_plain_classifier(self, finished):
        path, runner = finished
        net = toy.build(toy.classifier()).eval()
        net.load_state_dict(load(path)['state_dict'], strict=True)
        hook = [h for h in runner.hooks if isinstance(h, TailAverageHook)][0]
        x = torch.randn(5, 3, 8, 8)
        with torch.no_grad():
            assert torch.equal(net(x), hook.average(runner)[0](x))
            assert not torch.equal(net(x), toy.student(runner).eval()(x))

    def test_the_metrics_are_those_of_its_weights(self, finished):
        path, runner = finished
        dataset = runner.val_dataloader.dataset
        x = averaged.plain_batch(runner.model.data_preprocessor, dataset)
        labels = torch.tensor(dataset.get_gt_labels())

        def accuracy(state):
            net = toy.build(toy.classifier()).eval()
            net.load_state_dict(state)
            hits = net(x).argmax(1) == labels
            return {'accuracy/top1': pytest.approx(100 * hits.float().mean())}

        meta = load(path)['meta']
        raw = {k: v.float() for k, v in averaged.students(path, ['epoch_4'])[0].items()}
        assert meta['metrics'] == accuracy(load(path)['state_dict'])
        assert meta['raw_metrics'] == accuracy(raw)
        assert meta['metrics'] != meta['raw_metrics']
        last = [x for x in toy.logged(path) if 'accuracy/top1' in x][-1]
        assert meta['metrics']['accuracy/top1'] == last['student_avg/accuracy/top1']
        assert meta['raw_metrics']['accuracy/top1'] == last['accuracy/top1']

    def test_the_file_names_the_classes(self, finished):
        meta = load(finished[0])['meta']
        assert meta['dataset_meta']['classes'] == tuple('abcd')

    def test_the_file_loads_without_executing_pickled_code(self, finished):
        average = torch.load(finished[0] / 'student_avg.pth', weights_only=True)
        assert list(average['state_dict']) == list(toy.student(finished[1]).state_dict())

    def test_training_checkpoints_contain_raw_weights_and_the_sum(self, finished):
        path, _ = finished
        assert 'tail_average' not in load(path, 'epoch_1.pth')
        for epoch in (2, 3, 4):
            ours = load(path, f'epoch_{epoch}.pth')['tail_average']
            epochs = list(range(2, epoch + 1))
            assert ours['epochs'] == epochs
            states = averaged.students(path, [f'epoch_{e}' for e in epochs])
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
        cfg = averaged.config(path / 'teacher.pth', tmp_path, 3, epochs=4)
        with pytest.raises(OSError, match='disk full'):
            toy.resume(cfg, path / 'epoch_4.pth')
        assert (tmp_path / 'student_avg.pth').read_bytes() == b'old'
        assert not [x for x in os.listdir(tmp_path) if 'partial' in x]


class TestResume:
    """Resumed runs, some of which are errors; see also tests/test_exact_resume.py."""

    @pytest.fixture
    def config(self, finished, tmp_path):
        def config(num_epochs=3, **tail):
            return averaged.config(
                finished[0] / 'teacher.pth', tmp_path, num_epochs, tail=tail, epochs=4
            )

        return config

    @pytest.mark.parametrize('epoch', [1, 3], ids=['before the tail', 'within the tail'])
    def test_a_resumed_run_writes_the_same_average(self, finished, tmp_path, config, epoch):
        toy.resume(config(), finished[0] / f'epoch_{epoch}.pth')
        one, two = load(finished[0]), load(tmp_path)
        toy.assert_same(one['state_dict'], two['state_dict'])
        assert one['meta']['metrics'] == two['meta']['metrics']

    def test_a_finished_run_writes_the_same_file_again(self, finished, tmp_path, config):
        runner = toy.resume(config(), finished[0] / 'epoch_4.pth')
        assert runner.iter == 16
        one, two = load(finished[0]), load(tmp_path)
        toy.assert_same(one['state_dict'], two['state_dict'])
        for meta in (one['meta'], two['meta']):
            meta.pop('experiment_name')
        assert one['meta'] == two['meta']

    def test_a_checkpoint_without_the_sum_is_an_error(self, finished, tmp_path, config):
        checkpoint = load(finished[0], 'epoch_3.pth')
        del checkpoint['tail_average']
        torch.save(checkpoint, tmp_path / 'c.pth')
        with pytest.raises(RuntimeError) as error:
            toy.resume(config(), tmp_path / 'c.pth')
        for words in (
            'after epoch 3',
            'epochs [2, 3]',
            'contains no such sum',
            'before the end of epoch 2',
        ):
            assert words in str(error.value)

    @pytest.mark.parametrize(
        'tail', [dict(num_epochs=4), dict(num_epochs=2), dict(interval=2)], ids=str
    )
    def test_the_sum_of_another_tail_is_an_error(self, finished, config, tail):
        with pytest.raises(RuntimeError, match=r'contains that of \[2, 3\]'):
            toy.resume(config(**tail), finished[0] / 'epoch_3.pth')

    def test_weights_alone_begin_a_new_run(self, finished, tmp_path, config):
        cfg = config()
        cfg.load_from = str(finished[0] / 'epoch_3.pth')
        toy.train(cfg)
        assert load(tmp_path)['meta']['tail_average'] == [2, 3, 4]
        one, two = (load(x)['state_dict'] for x in (finished[0], tmp_path))
        assert not torch.equal(one['head.fc.weight'], two['head.fc.weight'])


class TestErrors:
    @pytest.mark.parametrize('name', ['num_epochs', 'interval', 'bn_batches'])
    @pytest.mark.parametrize('value', [0, -1, 1.5, '2'])
    def test_numbers_must_be_positive_integers(self, name, value):
        with pytest.raises(
            ValueError, match=f'{name} must be a whole number, at least 1; got {value!r}'
        ):
            TailAverageHook(**{name: value})

    def test_an_unknown_bn_mode_is_an_error(self):
        with pytest.raises(ValueError, match="recalibrate.*got 'precise'"):
            TailAverageHook(bn='precise')

    @pytest.mark.parametrize('epochs, by_epoch', [(3, True), (2.5, False)])
    def test_more_epochs_than_the_run_has_are_an_error(self, ckpt, tmp_path, epochs, by_epoch):
        runner = toy.start(averaged.config(ckpt, tmp_path, 4, epochs=epochs, by_epoch=by_epoch))
        with toy.quickly(), pytest.raises(ValueError, match='num_epochs=4 .* only 3; lower'):
            runner.train()
        assert runner.iter == 0 and not list(tmp_path.glob('*_*.pth'))

    def test_a_run_that_stops_before_the_tail_warns(self, ckpt, tmp_path):
        class Stop(Hook):
            def after_train_epoch(self, runner):
                runner.train_loop.stop_training = True

        runner = toy.start(averaged.config(ckpt, tmp_path, epochs=4))
        runner.register_hook(Stop())
        with toy.quickly():
            runner.train()
        assert 'stopped before its last 2 epochs' in toy.log_text(tmp_path)
        assert not (tmp_path / 'student_avg.pth').exists()

    def test_a_run_that_stops_in_the_tail_warns(self, ckpt, tmp_path):
        class Stop(Hook):
            def after_train_epoch(self, runner):
                runner.train_loop.stop_training = runner.epoch == 2

        tail = dict(bn='average')
        runner = toy.start(averaged.config(ckpt, tmp_path, 3, tail=tail, epochs=4))
        runner.register_hook(Stop())
        with toy.quickly():
            runner.train()
        text = 'after epoch 3, so the average is of the epochs [2, 3] instead of [2, 3, 4]'
        assert text in toy.log_text(tmp_path)
        averaged.assert_average_of(tmp_path, ['epoch_2', 'epoch_3'])
