"""A toy distillation with a frozen teacher, and its images."""

import torch
import toy
from mmpretrain.structures import DataSample

STUDENT = dict(mean=[127.5] * 3, std=[60.0] * 3)  # the student in toy.distillation
OWN = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])


def batch(n=6, channels=3):
    """Raw images and their labels, as a data loader returns them."""
    torch.manual_seed(0)
    samples = [DataSample().set_gt_label(i % 4) for i in range(n)]
    return dict(inputs=torch.randint(256, (n, channels, 8, 8)), data_samples=samples)


def build(ckpt, **kwargs):
    """The algorithm, initialized with a fixed seed."""
    torch.manual_seed(2)
    return toy.build(toy.distillation(ckpt, **kwargs))


def pretrained(ckpt, width=6):
    """The teacher alone."""
    net = toy.build(toy.classifier(width=width))
    net.load_state_dict(torch.load(ckpt)['state_dict'])
    return net.eval()
