"""Bad configs and overrides, and the error messages for them.

Each row has a pattern of the message. No test here may train.
"""

from pathlib import Path

import project
import pytest

from prkd_mm.config import load_config
from prkd_mm.start.launch import processes_of

ROOT = Path(project.ROOT)
DIGITS = str(ROOT / 'configs/quickstart/prkd_digits.py')
TEACHER = str(ROOT / 'configs/quickstart/teacher_digits.py')

TYPOS = [
    ('modle.teacher_ckpt', "has no 'modle'; did you mean 'model'?"),
    ('batchsize', "did you mean 'train_dataloader.batch_size'?"),
    ('batch_size', "did you mean 'train_dataloader.batch_size'?"),
    ('lr', "did you mean 'optim_wrapper.optimizer.lr'?"),
    ('max_epochs', "did you mean 'train_cfg.max_epochs'?"),
    ('trian_cfg.max_epochs', "did you mean 'train_cfg'?"),
    ('train_cfg.max_epoch', "train_cfg has no 'max_epoch'; did you mean 'max_epochs'?"),
    ('train_cfg.val_intervall', "did you mean 'val_interval'?"),
    ('model.teacher_cktp', "model has no 'teacher_cktp'; did you mean 'teacher_ckpt'?"),
    ('model.architectur.backbone.depth', "did you mean 'architecture'?"),
    ('model.architecture.backbone.dept', "did you mean 'depth'?"),
    ('model.distiller.distill_losses.los_prkd.tau', "did you mean 'loss_prkd'?"),
    ('model.distiller.distill_losses.loss_prkd.taus', "did you mean 'tau'?"),
    ('model.distiller.distill_losses.loss_prkd.cor_wieght', "did you mean 'cor_weight'?"),
    ('optim_wraper.optimizer.lr', "did you mean 'optim_wrapper'?"),
    ('optim_wrapper.optimzer.lr', "did you mean 'optimizer'?"),
    ('optim_wrapper.optimizer.momentun', "did you mean 'momentum'?"),
    ('optim_wrapper.optimizer.learning_rate', 'known names: .*lr'),
    ('default_hooks.tail_averag.num_epochs', "did you mean 'tail_average'?"),
    ('default_hooks.tail_average.num_epoch', "did you mean 'num_epochs'?"),
    ('default_hooks.loger.interval', "did you mean 'logger'?"),
    ('default_hooks.checkpoint.max_keep_ckpt', "did you mean 'max_keep_ckpts'?"),
    ('default_hooks.new_one.interval', "default_hooks has no 'new_one'"),
    ('train_dataloader.batchsize', "did you mean 'batch_size'?"),
    ('train_dataloader.num_worker', "did you mean 'num_workers'?"),
    ('val_dataloader.batch', "did you mean 'batch_size'?"),
    ('randomness.sed', "did you mean 'seed'?"),
    ('custom_hooks.7.min_top1', 'is a list of 2; give an index from 0 to 1'),
    ('custom_hooks.first.min_top1', "got 'first'"),
    ('custom_hooks.0.min_top', "did you mean 'min_top1'?"),
    ('custom_hooks.1.schedules.0.strat', "did you mean 'start'?"),
    ('log_level.x', "log_level is 'INFO', which has no 'x'"),
]


@pytest.mark.parametrize('key, words', TYPOS, ids=[key for key, _ in TYPOS])
def test_misspelled_setting(key, words):
    with pytest.raises(ValueError, match=f'--cfg-options {key}: .*{words}'):
        load_config(DIGITS, options={key: 1})


SETTINGS = [
    ('model.distiller.distill_losses.loss_prkd.tau', 0, 'tau must be .*got 0'),
    ('model.distiller.distill_losses.loss_prkd.loss_weight', float('nan'), 'loss_weight.*nan'),
    ('default_hooks.tail_average.bn', 'foo', "TailAverageHook: bn must be one of .* got 'foo'"),
    ('train_cfg.max_epochs', 1, r'average the last num_epochs=\d+ epochs of a run .* only 1;'),
    ('custom_hooks.1.schedules.0.attr', 'tua', "has no numeric attribute 'tua'; it has .*'tau'"),
    ('custom_hooks.1.schedules.0.loss', 'prkd', "has no loss 'prkd'; it has .*'loss_prkd'"),
    ('custom_hooks.1.schedules.0.start', -1, r'reaches -1\b.*: tau must be'),
    ('custom_hooks.1.end', 500, 'end=500 must satisfy .* end <= length of the run, which is '),
    ('custom_hooks.1.end', 'x', r"LossScheduleHook: end must be a number, got 'x'"),
    ('custom_hooks.1.begin', None, 'LossScheduleHook: begin must be a number, got None'),
    ('default_hooks.checkpoint.save_best', 'student_avg/accuracy/top1', "Use 'accuracy/top1'"),
    ('train_cfg.max_epochs', 0, 'whole number, at least 1; got 0'),
    ('train_cfg.max_epochs', 2.5, 'whole number, at least 1; got 2.5'),
    ('train_cfg.max_epochs', 'many', "got 'many'"),
    ('train_cfg.val_interval', 0, 'val_interval must be .* at least 1; got 0'),
    ('train_dataloader.batch_size', 0, 'batch_size must be .* at least 1; got 0'),
    ('train_dataloader.batch_size', True, 'got True'),
    ('val_dataloader.batch_size', -4, 'val_dataloader.batch_size .* got -4'),
    ('train_dataloader.num_workers', -1, 'at least 0; got -1'),
    ('optim_wrapper.optimizer.lr', -0.1, 'finite number, above 0; got -0.1'),
    ('optim_wrapper.optimizer.lr', 0, 'above 0; got 0'),
    ('optim_wrapper.optimizer.lr', 'fast', "got 'fast'"),
    ('optim_wrapper.optimizer.lr', float('nan'), 'got nan'),
    ('optim_wrapper.optimizer.weight_decay', -1, 'at least 0; got -1'),
    ('optim_wrapper.optimizer.momentum', -1, 'momentum must be .* at least 0; got -1'),
    ('optim_wrapper.optimizer.momentum', 'x', "got 'x'"),
    ('optim_wrapper.accumulative_counts', 0, 'at least 1; got 0'),
    ('auto_scale_lr.base_batch_size', 0, 'at least 1; got 0'),
    ('default_hooks.logger.interval', 0, 'default_hooks.logger.interval .* got 0'),
    ('default_hooks.checkpoint.interval', 'x', "got 'x'"),
    ('param_scheduler.gamma', 'x', "param_scheduler.gamma must be .* got 'x'"),
    ('param_scheduler.milestones', 5, 'must be a list of whole numbers, got 5'),
    ('param_scheduler.milestones', ['a'], "milestones must be a whole number.* got 'a'"),
    ('param_scheduler.begin', -1, 'at least 0; got -1'),
    ('param_scheduler', dict(type='LinearLR', begin=5, end=5), 'end must be above .*begin, got 5'),
    ('param_scheduler', [dict(type='StepLR', step_size=0)], 'param_scheduler.0.step_size'),
    ('optim_wrapper.optimizer.type', 'SGDD', "no optimizer 'SGDD'; did you mean 'SGD'?"),
    ('optim_wrapper.clip_grad', 5, 'clip_grad must be a dict.* got 5'),
    ('optim_wrapper.clip_grad', dict(max_norm=0), 'max_norm must be .* above 0; got 0'),
    ('default_hooks.checkpoint.max_keep_ckpts', 'x', "got 'x'"),
    ('default_hooks.checkpoint.save_best', 'accurcy', "accuracy/top1. or auto, got 'accurcy'"),
    ('default_hooks.checkpoint.save_best', ['accuracy/top5'], "got 'accuracy/top5'"),
    ('val_cfg', dict(type='SingleTeacherDistillValLoop'), "val_cfg=dict.*type='ValLoop'"),
    ('val_evaluator.topk', [1, 50], 'at most the number of classes, 10; got 50'),
    ('test_evaluator.topk', 0, 'topk of test_evaluator must be a whole number, at least 1; got 0'),
    ('val_evaluator', [dict(type='Accuracy', topk=11)], 'number of classes, 10; got 11'),
    ('model.architecture.head.num_classes', 'x', "num_classes of the head .* got 'x'"),
    ('randomness', 3, 'randomness must be a dict of settings, got 3'),
    ('optim_wrapper.optimizer', 3, 'optim_wrapper.optimizer must be a dict of settings, got 3'),
    ('default_hooks.logger', 'x', "default_hooks.logger must be a dict of settings, got 'x'"),
    ('default_hooks.checkpoint.filename_tmpl', 'a.pth', "must contain '{}', .* got 'a.pth'"),
    ('default_hooks.checkpoint.out_dir', 5, 'must be the name of a folder, got 5'),
    ('default_hooks.checkpoint.out_dir', str(ROOT / 'README.md'), 'is a file, not a folder'),
    ('optim_wrapper.clip_grad', dict(max_nrom=1), "no 'max_nrom'; did you mean 'max_norm'?"),
    ('train_dataloader.dataset', None, 'train_dataloader has no dataset'),
    ('train_cfg', dict(by_epoch=False), 'train_cfg has no max_iters'),
    ('model.distiller', None, 'model has no distiller'),
    ('model.distiller.distill_losses', 3, 'distill_losses must be a dict of settings, got 3'),
    ('model.teacher', 3, 'model.teacher must be a dict of settings, or a name, got 3'),
    ('model.teacher_logits', dict(views=2, topk='x'), "topk must be a whole number, .* got 'x'"),
    ('randomness.deterministic', 'maybe', "deterministic must be True or False, got 'maybe'"),
    ('visualizer', 3, 'visualizer must be a dict of settings, got 3'),
    ('val_evaluator', 3, 'val_evaluator must be a dict of settings, or a list of them, got 3'),
    ('param_scheduler', 'x', 'param_scheduler must be a dict of settings, or a list of them'),
    ('load_from', 3, 'load_from must be the name of a file, got 3'),
    ('model.architecture.backbone', 3, 'backbone must be a dict of settings, got 3'),
    ('model.architecture.backbone.depth', 'x', "depth must be a number, such as 18; got 'x'"),
    ('train_dataloader.drop_last', 'maybe', "drop_last must be True or False, got 'maybe'"),
    ('param_scheduler.by_epoch', 1, 'param_scheduler.by_epoch must be True or False, got 1'),
    ('custom_hooks.1.schedules.0.start', 'hot', "schedules.0.start must be a number, .*'hot'"),
    ('val_dataloader', 'x', "val_dataloader must be a dict of settings, got 'x'"),
    ('log_level', 'LOUD', "one of DEBUG, .* got 'LOUD'"),
    ('resume', 'maybe', "resume must be True or False, got 'maybe'"),
    ('train_cfg.by_epoch', 'maybe', "got 'maybe'"),
    ('train_cfg.val_begin', 'x', "got 'x'"),
    ('model.teacher_ckpt', 3, 'teacher_ckpt must be the name of a file, .* got 3'),
    ('model.teacher_logits', 3, 'teacher_logits must be the name of a folder, .* got 3'),
    ('model.data_preprocessor.std', [0, 1, 1], 'std must be a finite number, above 0; got 0'),
    ('train_cfg', 3, 'train_cfg must be a dict of settings, got 3'),
    ('custom_hooks', [3], r'custom_hooks must be a list, .* got \[3\]'),
    ('custom_hooks', dict(a=1), '--cfg-options custom_hooks: a value does not fit'),
    ('model', 'resnet', "model must be a dict of settings, got 'resnet'"),
    ('randomness.seed', 'x', "whole number, at least 0; got 'x'"),
    ('work_dir', 3, 'name of a folder, got 3'),
    ('model.fold_teacher_bn', 'maybe', "fold_teacher_bn must be True or False, got 'maybe'"),
    ('model.calculate_student_loss', 'maybe', "student_loss must be True or False, got 'maybe'"),
    ('model.teacher', None, 'model has no teacher; set model.teacher'),
    ('sync_bn', 'x', "sync_bn must be one of .*'torch', 'mmcv'.*, got 'x'"),
    ('launcher', 'x', "launcher must be one of .*'slurm', 'mpi'.*, got 'x'"),
    ('train_cfg.dynamic_intervals', 3, 'a list of pairs .first epoch, interval., got 3'),
    ('train_dataloader.worker_init_fn', dict(type='nothing'), "there is no function 'nothing'"),
    ('train_dataloader.collate_fn.type', 'whole_bach', "did you mean 'whole_batch'?"),
    ('model.teacher_logits', dict(view=2), "has no 'view'; did you mean 'views'?"),
    ('custom_imports', 3, 'custom_imports must be a dict of settings, got 3'),
    ('experiment_name', 3, 'experiment_name must be a text, got 3'),
    ('optim_wrapper.paramwise_cfg', 3, 'paramwise_cfg must be a dict of settings, got 3'),
    ('param_scheduler.type', 'OneCycleLR', "milestones: OneCycleLR has no argument 'milestones'"),
    ('param_scheduler', [dict(type='StepLR', step_sise=1)], "did you mean 'step_size'?"),
    ('test_cfg', dict(type='NoLoop'), "test_cfg.type: there is no loop 'NoLoop'; omit it"),
    ('train_cfg', dict(type='EpochTrainLoop'), "did you mean 'EpochBasedTrainLoop'?"),
    ('data_preprocessor.std', [1, 2, 3], 'one number per channel, got 1 and 3 numbers'),
    ('model.data_preprocessor.std', [1, 1], 'both mean and std, or neither of them'),
    ('data_preprocessor', dict(mean=[1, 2, 3], std=[1, 1, 1]), 'in_channels of the backbone is 1'),
    ('data_preprocessor.mean', 'x', "mean must be a list of numbers, .* got 'x'"),
    ('data_preprocessor.num_classes', 'x', "num_classes must be .* got 'x'"),
    ('model.architecture.backbone.in_channels', 0, 'in_channels .* at least 1; got 0'),
    ('custom_hooks.1.schedules.0', 3, '--cfg-options .*schedules.0: a value does not fit'),
    ('work_dir', str(ROOT / 'README.md'), 'is a file, not a folder'),
]


@pytest.mark.parametrize('key, value, words', SETTINGS)
def test_impossible_setting(key, value, words):
    with pytest.raises(ValueError, match=words):
        load_config(DIGITS, options={key: value})


@pytest.mark.parametrize(
    'key, value',
    [
        ('train_dataloader.drop_last', False),
        ('train_dataloader.prefetch_factor', 2),
        ('optim_wrapper.accumulative_counts', 2),
        ('optim_wrapper.clip_grad.max_norm', 5),
        ('optim_wrapper.optimizer.nesterov', True),
        ('model.distiller.distill_losses.loss_prkd.inter_weight', 2.0),
        ('model.architecture.backbone.with_cp', True),
        ('default_hooks.checkpoint.save_best', 'auto'),
        ('default_hooks.tail_average', None),
        ('randomness.deterministic', True),
        ('log_processor.window_size', 5),
        ('env_cfg.dist_cfg.backend', 'gloo'),
        ('load_from', 'a.pth'),
    ],
)
def test_new_settings_that_a_class_accepts(key, value):
    assert load_config(DIGITS, options={key: value})


@pytest.mark.parametrize(
    'loop, accepted, rejected',
    [
        ('ValLoop', 'accuracy/top1', 'student.accuracy/top1'),
        ('mmrazor.SelfDistillValLoop', 'student.accuracy/top1', 'accuracy/top1'),
        ('mmrazor.SingleTeacherDistillValLoop', 'teacher.accuracy/top1', 'student.accuracy/top1'),
    ],
)
def test_loops_of_mmrazor_have_other_names_of_metrics(loop, accepted, rejected):
    options = {'val_cfg': dict(type=loop), 'model.type': 'SingleTeacherDistill'}
    key = 'default_hooks.checkpoint.save_best'
    assert load_config(DIGITS, options={**options, key: accepted})
    with pytest.raises(ValueError, match=f'{accepted}.* or auto, got {rejected!r}'):
        load_config(DIGITS, options={**options, key: rejected})


def test_a_loop_that_does_not_fit_the_average_of_the_training():
    options = {
        'val_cfg': dict(type='mmrazor.SingleTeacherDistillValLoop'),
        'model.type': 'SingleTeacherDistill',
        'custom_hooks': [dict(type='EMAHook')],
    }
    with pytest.raises(ValueError, match="EMAHook trains on .* type='ValLoop'"):
        load_config(DIGITS, options=options)


def test_a_new_hook_with_its_type_is_accepted():
    options = {'default_hooks.ema.type': 'EMAHook', 'default_hooks.ema.momentum': 0.1}
    assert load_config(DIGITS, options=options).default_hooks.ema.momentum == 0.1


CONFIGS = [
    (lambda folder: load_config('no.py'), FileNotFoundError, "no config 'no.py'"),
    (lambda folder: load_config(str(folder)), FileNotFoundError, 'no config'),
    (
        lambda folder: load_config(DIGITS, 'prdk'),
        FileNotFoundError,
        "no method 'prdk'.*did you mean 'prkd'",
    ),
    (lambda folder: load_config(TEACHER, 'kd'), ValueError, 'cannot be changed: the config has no'),
    (
        lambda folder: processes_of('pytorch'),
        ValueError,
        'needs the environment variable .*dist_train.sh',
    ),
    (
        lambda folder: processes_of('slurm'),
        ValueError,
        'needs the environment variable SLURM_PROCID',
    ),
]


BAD_CONFIGS = [
    ('model = dict(', 'SyntaxError'),
    ('raise RuntimeError("boom")', 'RuntimeError: boom'),
    ('a = 1 / 0', 'ZeroDivisionError'),
    ('_base_ = 3', "'int'"),
    (
        'custom_imports = dict(imports="no_such_package", allow_failed_imports=False)',
        'no_such_pack',
    ),
    (f'_base_ = [{DIGITS!r}, {TEACHER!r}]', 'Duplicate key'),
    ('a = "\udcff"', 'UnicodeDecodeError'),
]


@pytest.mark.parametrize('text, words', BAD_CONFIGS, ids=[words for _, words in BAD_CONFIGS])
def test_a_config_that_cannot_be_read(tmp_path, text, words):
    path = tmp_path / 'mine.py'
    path.write_bytes(text.encode(errors='surrogateescape'))
    with pytest.raises(ValueError, match=f"the config '{path}' cannot be read .*{words}"):
        load_config(str(path))


def test_a_config_with_a_base_that_does_not_exist(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = './nowhere.py'")
    with pytest.raises(FileNotFoundError, match='mine.py.* needs .*nowhere.py.*correct its _base_'):
        load_config(str(path))


UNKNOWN_TYPES = [
    ('model.backbone.type', 'model'),
    ('train_dataloader.dataset.type', 'dataset'),
    ('train_dataloader.sampler.type', 'data sampler'),
    ('val_evaluator.type', 'metric'),
    ('param_scheduler.type', 'parameter scheduler'),
    ('default_hooks.logger.type', 'hook'),
]


@pytest.mark.parametrize('key, kind', UNKNOWN_TYPES)
def test_a_type_that_does_not_exist(checkout, key, kind):
    text = project.error_of('train', TEACHER, '--cfg-options', f'{key}=NoSuchThing')
    assert f"there is no {kind} with the name 'NoSuchThing'; correct the `type`" in text


def test_a_net_with_fewer_classes_than_the_data(checkout):
    text = project.error_of('train', TEACHER, '--cfg-options', 'model.head.num_classes=3')
    assert 'the training set has 10 classes, but num_classes of the head is 3' in text


def test_images_with_other_channels_than_the_net(checkout):
    text = project.error_of('train', TEACHER, '--cfg-options', 'model.backbone.in_channels=3')
    assert 'the training images have 1 channels, but in_channels of the backbone is 3' in text


def test_a_net_without_a_head(checkout):
    Path('headless.py').write_text(f'_base_ = {TEACHER!r}\nmodel = dict(head=None)')
    assert 'the net has no head, so it has no loss' in project.error_of('train', 'headless.py')


@pytest.mark.parametrize('tool', ['train', 'reproduce', 'tune'])
def test_mixed_precision_without_a_gpu(checkout, monkeypatch, tool):
    monkeypatch.setattr('prkd_mm.start.launch.get_device', lambda: 'cpu')
    before = set(Path().rglob('*'))
    assert '--amp needs a GPU' in project.error_of(tool, DIGITS, '--amp')
    assert set(Path().rglob('*')) == before


@pytest.mark.parametrize('call, error, words', CONFIGS)
def test_bad_config_method_or_launcher(tmp_path, monkeypatch, call, error, words):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=words):
        call(tmp_path)
