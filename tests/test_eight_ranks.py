"""Eight processes on one CPU train as one process does with the whole batch."""

import os
from pathlib import Path

import pytest
import torch
import toy
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmpretrain.registry import MODELS
from torch import distributed as dist
from torch import multiprocessing as mp

from prkd_mm.evaluation import unwrap
from prkd_mm.hooks import TailAverageHook

RANKS = 8


@MODELS.register_module()
class FrozenNormBackbone(toy.ToyBackbone):
    """Its batch norms use fixed statistics: those of a batch depend on the number of ranks."""

    def train(self, mode: bool = True) -> 'FrozenNormBackbone':
        super().train(mode)
        self.bn1.eval()
        self.bn2.eval()
        return self


class FirstStep(Hook):
    """Keep the loss and the gradients of the first step."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 0:
            self.loss = outputs['loss'].detach().clone()
            all_reduce(self.loss, 'mean')
            parameters = unwrap(runner.model).named_parameters()
            state = runner.optim_wrapper.optimizer.state
            # after one step of SGD, the momentum is the gradient
            self.gradients = {name: state[p]['momentum_buffer'].clone() for name, p in parameters}


def train(folder: Path, ckpt: str, ranks: int = 1) -> dict:
    """Train, and return the final student and average, and the metrics."""
    student = toy.classifier()
    student['backbone']['type'] = 'mmpretrain.FrozenNormBackbone'
    cfg = toy.config(
        toy.distillation(ckpt, student),
        folder / f'{ranks}_ranks',
        toy.prkd_schedule(),
        dict(type='TailAverageHook', num_epochs=2, bn='average'),
        dict(type='FillStoreHook'),
        dict(type='ChannelsLastHook'),
        epochs=3,
    )
    cfg.model.data_preprocessor.type = 'mmpretrain.BatchClsDataPreprocessor'
    cfg.model.teacher_logits = dict(views=2, folder=str(folder / f'store_of_{ranks}'))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset = dict(type='PackedImages', dataset=loader.dataset)
        loader.collate_fn = dict(type='whole_batch')
    cfg.train_dataloader.batch_size = toy.BATCH_SIZE // ranks
    if ranks > 1:
        cfg.launcher = 'pytorch'
        cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None)
    runner, first = toy.start(cfg), FirstStep()
    runner.register_hook(first)
    with toy.quickly():
        runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, TailAverageHook))
    average, metrics = hook.average(runner)
    return dict(
        vars(first),
        student=unwrap(runner.model).state_dict(),
        average=average.state_dict(),
        metrics=metrics,
    )


def work(rank: int, folder: Path, ckpt: str) -> None:
    """Train in one of the processes."""
    os.environ['LOCAL_RANK'] = str(rank)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=RANKS
    )
    torch.save(train(folder, ckpt, RANKS), folder / f'rank_{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.slow
def test_eight_ranks_equal_one_process(tmp_path, ckpt):
    # forked processes do not import PyTorch again
    mp.start_processes(work, (tmp_path, ckpt), nprocs=RANKS, start_method='fork')
    found = [torch.load(tmp_path / f'rank_{rank}.pth', weights_only=False) for rank in range(RANKS)]
    for other in found[1:]:
        toy.assert_same(found[0]['student'], other['student'])
        toy.assert_same(found[0]['average'], other['average'])
        assert found[0]['metrics'] == other['metrics']
    alone = train(tmp_path, ckpt)
    for what in ('loss', 'gradients'):
        torch.testing.assert_close(found[0][what], alone[what], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0]['student'], alone['student'], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[0]['average'], alone['average'], rtol=1e-4, atol=1e-4)
    assert found[0]['metrics'] == alone['metrics']
