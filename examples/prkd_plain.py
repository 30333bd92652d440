"""Progressively Relaxed Knowledge Distillation in plain PyTorch.

The whole method (Gu, Jin & Li, IJCNN 2024) without OpenMMLab: the loss, its
schedule and the average of the last students. `python prkd_plain.py` trains a
teacher and two students on scikit-learn's digits in half a minute.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F


def kl(student, teacher, tau):
    """KL(p_T || p_S) of logits (N, C) at temperature tau, times tau^2; the mean of the samples."""
    log_student = F.log_softmax(student / tau, dim=1)
    log_teacher = F.log_softmax(teacher / tau, dim=1)
    return tau**2 * F.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)


def cor(student, teacher, tau):
    """1 - Pearson correlation of the probabilities, times tau^2, averaged over the samples."""
    student, teacher = F.softmax(student / tau, dim=1), F.softmax(teacher / tau, dim=1)
    student = student - student.mean(dim=1, keepdim=True)
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    return tau**2 * (1 - F.cosine_similarity(student, teacher, dim=1, eps=0)).mean()


def prkd(student, teacher, progress, tau=4.0, tau_last=1.0):
    """The loss at `progress` = epoch / epochs: from KL at tau to correlation at tau."""
    tau_now = tau - (tau - tau_last) * progress
    return (1 - progress) * kl(student, teacher, tau_now) + progress * cor(student, teacher, tau)


def average(students):
    """The mean of the weights of several students; integers are those of the last one."""
    mean = copy.deepcopy(students[-1])
    states = [student.state_dict() for student in students]
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name].double() for state in states]).mean(0))
    return mean


@torch.no_grad()
def recalibrate(net, batches):
    """Batch-norm statistics of the averaged net: averaging weights makes the old ones wrong."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the cumulative mean
    net.train()
    for images in batches:
        net(images)
    return net.eval()


def train(net, images, labels, epochs, teacher=None, tail=5, lr=0.1, seed=0):
    """Train with cross-entropy, and PRKD if there is a teacher; return the averaged student."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    last = []
    for epoch in range(epochs):
        net.train()
        for batch in torch.randperm(len(images)).split(64)[:-1]:
            logits = net(images[batch])
            loss = F.cross_entropy(logits, labels[batch])
            if teacher is not None:
                with torch.no_grad():
                    target = teacher(images[batch])
                loss = loss + prkd(logits, target, progress=epoch / epochs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        last = [*last, copy.deepcopy(net)][-tail:]
    return recalibrate(average(last), images.split(64)[:-1])


def small_net(width):
    layers = [(1, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2)]
    blocks = [
        nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
        for i, o, s in layers
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def main():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    train_set, test_set = (images[:1287], labels[:1287]), (images[1287:], labels[1287:])
    torch.manual_seed(0)
    teacher = train(small_net(32), *train_set, epochs=20)
    start = small_net(4)
    nets = dict(teacher=teacher, alone=train(copy.deepcopy(start), *train_set, epochs=20))
    nets['PRKD'] = train(start, *train_set, epochs=20, teacher=teacher)
    for name, net in nets.items():
        accuracy = (net(test_set[0]).argmax(1) == test_set[1]).float().mean()
        print(f'{name}: {accuracy:.2%}')


if __name__ == '__main__':
    main()
