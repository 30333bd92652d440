import pytest
import toy

from prkd_mm.checks.metric_checks import check_images, check_metrics
from prkd_mm.deploy.student import load_student


def timm_config(work_dir):
    """Config of a net of timm, trained alone by MMPretrain."""
    pytest.importorskip('timm')
    model = dict(type='TimmClassifier', model_name='test_resnet', num_classes=toy.NUM_CLASSES)
    cfg = toy.config(model, work_dir, dict(type='TailAverageHook', num_epochs=1), epochs=1)
    cfg.data_preprocessor = dict(mean=[127.5] * 3, std=[60.0] * 3)
    for part in ('dataloader', 'evaluator', 'cfg'):
        cfg[f'test_{part}'] = cfg[f'val_{part}']
    return cfg


def test_a_net_of_timm_has_its_own_loss_and_needs_no_head(tmp_path):
    check_images(toy.start(timm_config(tmp_path)))


def test_a_net_of_timm_declares_its_classes(tmp_path):
    cfg = timm_config(tmp_path)
    cfg.val_evaluator.topk = (1, 5)
    with pytest.raises(ValueError, match='at most the number of classes, 4; got 5'):
        check_metrics(cfg)


def test_the_average_of_a_net_of_timm_contains_its_config(tmp_path):
    toy.train(timm_config(tmp_path))
    loaded = load_student(str(tmp_path / 'student_avg.pth'), size=8)
    assert loaded.config.model.type == 'TimmClassifier'
    assert loaded.config.data_preprocessor.num_classes == toy.NUM_CLASSES
