import pytest
import torch
import toy
from mmengine.config import Config

from prkd_mm.analysis.batches import Batches, collect_logits, load_batches, training_batches
from prkd_mm.analysis.nets import build_nets, build_pair, load_weights
from prkd_mm.analysis.runs import Run, tail_checkpoints


@pytest.fixture
def cfg(tmp_path):
    teacher = toy.save_teacher(tmp_path / 'teacher.pth')
    return toy.config(toy.distillation(teacher), tmp_path / 'run')


def test_a_pair_computes_the_logits_of_both_nets(cfg, tmp_path):
    nets = build_pair(cfg)
    load_weights(nets.student, toy.save_teacher(tmp_path / 'student.pth', toy.classifier()))
    teacher = toy.build(toy.classifier(width=6)).eval()
    load_weights(teacher, tmp_path / 'teacher.pth')
    assert not nets.student.training
    x = torch.randn(2, 3, 8, 8)
    batches = [(x, torch.tensor([1, 2]))] * 2
    logits, labels = collect_logits(dict(teacher=nets.teacher, student=nets.student), batches)
    with torch.no_grad():
        assert torch.equal(logits['teacher'], teacher(x).repeat(2, 1))
        assert torch.equal(logits['student'], nets.student(x).repeat(2, 1))
    assert labels.tolist() == [1, 2, 1, 2]


def test_only_a_distillation_has_a_teacher(tmp_path):
    cfg = toy.config(toy.classifier(), tmp_path)
    assert build_nets(cfg).student is not None
    with pytest.raises(ValueError, match='needs a teacher'):
        build_pair(cfg)


@pytest.mark.parametrize('reproducible', [False, True])
def test_images_are_not_augmented(cfg, reproducible):
    if reproducible:  # with a collate function that the validation images do not need
        train = cfg.train_dataloader
        train.dataset = dict(type='ImageViews', dataset=train.dataset)
        train.collate_fn = dict(type='whole_batch')
        cfg.val_dataloader.pop('collate_fn')
        cfg.model.data_preprocessor.type = 'mmpretrain.BatchClsDataPreprocessor'
    preprocess = build_nets(cfg).preprocess
    batches = load_batches(cfg, 'train', preprocess, batch_size=10)
    inputs, labels = (torch.cat(x) for x in zip(*batches))
    images = toy.ToyImages(pipeline=[])
    assert labels.tolist() == images.get_gt_labels().tolist()
    x = torch.stack([torch.tensor(sample['img']).permute(2, 0, 1) for sample in images])
    torch.testing.assert_close(inputs, (x - 127.5) / 60)
    assert len(next(iter(load_batches(cfg, 'val', preprocess)))[1]) == 8


def test_a_seed_draws_the_samples(cfg):
    preprocess = build_nets(cfg).preprocess

    def draw(seed):
        return torch.cat([x for x, _ in load_batches(cfg, 'val', preprocess, samples=9, seed=seed)])

    assert len(draw(0)) == 9 and torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


def test_passes_are_the_same_in_memory_or_not(cfg):
    batches = training_batches(cfg, build_nets(cfg).preprocess, limit=3)
    loads = []

    def preprocess(*args):
        loads.append(1)
        return batches.preprocess(*args)

    for memory in (2**30, 10):
        fresh = Batches(batches.loader, preprocess, 3, memory=memory)
        before = torch.get_rng_state()
        passes = [list(fresh), list(fresh)]
        assert torch.equal(before, torch.get_rng_state())
        assert len(passes[0]) == len(fresh) == 3
        toy.assert_same(*passes)  # with the same augmentation
    assert len(loads) == 3 + 6


def test_a_config_without_validation_is_an_error(cfg):
    cfg.val_dataloader = None
    with pytest.raises(ValueError, match='the config has no val_dataloader'):
        load_batches(cfg, 'val', None)


def test_a_tail_with_a_gap_is_refused(tmp_path):
    for epoch in (1, 2, 3, 5):
        (tmp_path / f'epoch_{epoch}.pth').touch()
    run = Run('a run', Config(dict(work_dir=str(tmp_path))))
    with pytest.raises(FileNotFoundError, match='2, 3, 5, which .* with --checkpoints'):
        run.tail(2, 4)
    files = [str(tmp_path / f'epoch_{epoch}.pth') for epoch in (3, 5)]
    assert list(run._replace(checkpoints=files).tail(2, 4)) == ['epoch_3', 'epoch_5']


def test_the_tail_has_the_checkpoints_of_the_last_epochs(tmp_path):
    for name in ('epoch_9.pth', 'epoch_10.pth', 'epoch_x.pth', 'iter_3.pth'):
        (tmp_path / name).touch()
    assert list(tail_checkpoints(tmp_path)) == [9, 10]
    (tmp_path / 'epoch_1.pth').touch()
    assert list(tail_checkpoints(tmp_path)) == [1, 9, 10]
    assert list(tail_checkpoints(tmp_path, last=9)) == [9, 10]
    with pytest.raises(FileNotFoundError, match='has 1 .*of its last 1 epoch'):
        tail_checkpoints(tmp_path, last=1)
    (tmp_path / 'epoch_1.pth').unlink()
    with pytest.raises(FileNotFoundError, match='max_keep_ckpts=10'):
        tail_checkpoints(tmp_path, at_least=3)
