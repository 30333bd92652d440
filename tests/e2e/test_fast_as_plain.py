"""All components that speed up a step, together, compared with the stock modules."""

import copy

import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from project import DIGITS, ROOT

from prkd_mm.checkpoints import write_atomically
from prkd_mm.config import load_config


def train(cfg, start, batches, memory_format):
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.architecture.load_state_dict(start)
    model.to(memory_format=memory_format).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for batch in batches:
        logged = model(**model.data_preprocessor(batch, True), mode='loss')
        loss = sum(logged.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.architecture.state_dict()


def test_losses_and_weights_of_five_steps_are_equal(tmp_path):
    """One side uses whole batches, channels last, the fused loss and a frozen teacher.

    The other uses MMRazor's algorithm and loss, a list of images, and one sample per image.
    """
    init_default_scope('mmpretrain')
    ours = load_config(str(ROOT / DIGITS), 'prkd_a')
    ours.model.distiller.distill_losses.loss_prkd.tau = 2.0
    torch.manual_seed(1)
    teacher = MODELS.build(ours.model.teacher.to_dict())
    write_atomically(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    ours.model.teacher_ckpt = str(tmp_path / 'teacher.pth')
    data = DATASETS.build(ours.train_dataloader.dataset)
    data._augment = {}  # the images as they are
    index = torch.randperm(len(data))[: 5 * 32].view(5, 32).tolist()

    stock = copy.deepcopy(ours)
    stock.model.type = 'SingleTeacherDistill'
    stock.model.pop('teacher_config')
    stock.model.distiller.distill_losses.loss_prkd = dict(
        type='KLDivergence', tau=2.0, loss_weight=0.9
    )
    stock.data_preprocessor.type = 'mmpretrain.ClsDataPreprocessor'
    lists = [
        dict(
            inputs=[torch.from_numpy(data.images[i]) for i in batch],
            data_samples=[DataSample().set_gt_label(data.labels[i]) for i in batch],
        )
        for batch in index
    ]
    start = MODELS.build(ours.model.architecture.to_dict()).state_dict()
    one = train(stock, start, lists, torch.contiguous_format)
    other = train(ours, start, map(data.__getitems__, index), torch.channels_last)
    torch.testing.assert_close(other[0], one[0], rtol=1e-4, atol=1e-5)
    for name, weight in one[1].items():
        torch.testing.assert_close(other[1][name].contiguous(), weight, rtol=1e-3, atol=1e-4)
    assert one[0][-1] < one[0][0]
