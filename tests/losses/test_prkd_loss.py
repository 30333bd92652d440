import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmrazor.models.losses import DISTLoss, KLDivergence
from scipy.special import rel_entr, softmax
from scipy.stats import pearsonr
from torch.autograd import gradcheck

from prkd_mm.losses import PRKDLoss
from prkd_mm.strength import strength, terms_of


def logits(n=6, c=5, seed=0, dtype=torch.float64, size=3.0):
    rng = np.random.RandomState(seed)
    student = rng.randn(n, c)
    teacher = 0.5 * student + rng.randn(n, c)
    return (
        torch.tensor(size * student, dtype=dtype).requires_grad_(),
        torch.tensor(size * teacher, dtype=dtype),
    )


def closed_form(
    student,
    teacher,
    tau=4.0,
    tau_cor=None,
    kl_weight=1.0,
    cor_weight=0.0,
    inter_weight=1.0,
    intra_weight=0.0,
    loss_weight=1.0,
    scale_by_tau2=True,
    scale_cor_by_tau2=True,
):
    """The loss in numpy and scipy, written from the docstring."""
    tau_cor = tau if tau_cor is None else tau_cor
    student, teacher = (x.detach().numpy() for x in (student, teacher))
    p_S, p_T = softmax(student / tau, 1), softmax(teacher / tau, 1)
    kl = rel_entr(p_T, p_S).sum(1).mean()
    p_S, p_T = softmax(student / tau_cor, 1), softmax(teacher / tau_cor, 1)
    inter = np.mean([1 - pearsonr(s, t)[0] for s, t in zip(p_S, p_T)])
    intra = np.mean([1 - pearsonr(s, t)[0] for s, t in zip(p_S.T, p_T.T)])
    cor = inter_weight * inter + intra_weight * intra
    if scale_by_tau2:
        kl = tau**2 * kl
    if scale_cor_by_tau2:
        cor = tau_cor**2 * cor
    return loss_weight * (kl_weight * kl + cor_weight * cor), kl, cor


class TestValue:
    @pytest.mark.parametrize(
        'args',
        [
            dict(),
            dict(tau=1.0),
            dict(tau=2.5, kl_weight=0.3, cor_weight=0.7),
            dict(kl_weight=0.0, cor_weight=1.0),
            dict(kl_weight=0.0, cor_weight=1.0, tau_cor=1.5),
            dict(cor_weight=2.0, inter_weight=0.5, intra_weight=3.0, tau=3),
            dict(cor_weight=1.0, scale_by_tau2=False, loss_weight=0.9),
            dict(cor_weight=1.0, scale_cor_by_tau2=False, tau=3.0, tau_cor=2.0),
            dict(cor_weight=1.0, scale_by_tau2=False, scale_cor_by_tau2=False),
            dict(loss_weight=0.0),
        ],
        ids=str,
    )
    def test_the_loss_equals_its_closed_form(self, args):
        loss = PRKDLoss(**args)
        pair = logits()
        total, kl, cor = closed_form(*pair, **args)
        assert loss(*pair).item() == pytest.approx(total, rel=1e-11)
        assert loss.terms['kl'].item() == pytest.approx(kl, rel=1e-11)
        assert loss.terms['cor'].item() == pytest.approx(cor, rel=1e-11)

    def test_changed_attributes_change_the_loss(self):
        loss, pair = PRKDLoss(tau=4.0, tau_cor=None), logits()
        loss.tau, loss.kl_weight, loss.cor_weight = 1.3, 0.25, 0.75
        assert (loss.tau, loss.kl_weight, loss.cor_weight) == (1.3, 0.25, 0.75)
        # the correlation stays at the initial temperature
        expected = closed_form(*pair, tau=1.3, tau_cor=4.0, kl_weight=0.25, cor_weight=0.75)[0]
        assert loss(*pair).item() == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
    @pytest.mark.parametrize('tau', [1.0, 4.0])
    def test_the_loss_equals_mmrazors_kl_divergence(self, dtype, tau):
        ours, theirs = logits(64, 10, dtype=dtype), logits(64, 10, dtype=dtype)
        a = PRKDLoss(tau=tau, loss_weight=0.9)(*ours)
        b = KLDivergence(tau=tau, loss_weight=0.9)(*theirs)
        a.backward()
        b.backward()
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(ours[0].grad, theirs[0].grad)

    @pytest.mark.parametrize('inter, intra', [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
    @pytest.mark.parametrize('tau', [1.0, 4.0])
    def test_the_loss_equals_mmrazors_dist_loss_for_ordinary_logits(self, inter, intra, tau):
        ours, theirs = logits(64, 10), logits(64, 10)
        a = PRKDLoss(
            tau=tau, kl_weight=0.0, cor_weight=1.0, inter_weight=inter, intra_weight=intra
        )(*ours)
        b = DISTLoss(inter, intra, tau)(*theirs)
        a.backward()
        b.backward()
        # its eps of 1e-8 is in the product of two norms
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(ours[0].grad, theirs[0].grad, rtol=1e-4, atol=1e-8)

    @pytest.mark.parametrize('detach', [True, False])
    def test_the_gradient_equals_finite_differences(self, detach):
        student, teacher = logits(size=1.0)
        teacher.requires_grad_()
        loss = PRKDLoss(
            tau=1.7, kl_weight=0.4, cor_weight=0.6, intra_weight=0.5, teacher_detach=detach
        )
        wrong = (student,) if detach else (student, teacher)
        assert gradcheck(lambda *pair: loss(*(pair + (teacher,))[:2]), wrong)
        loss(student, teacher).backward()
        assert (teacher.grad is None) == detach


class TestIdenticalLogits:
    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize('size', [0.0, 1e-3, 1.0, 15.0, 100.0, 1e4])
    @pytest.mark.parametrize('tau', [0.1, 1.0, 4.0])
    def test_identical_logits_give_exactly_0(self, dtype, size, tau):
        student = (size * torch.randn(32, 20)).to(dtype).requires_grad_()
        loss = PRKDLoss(tau=tau, cor_weight=1.0, intra_weight=1.0)
        value = loss(student, student.detach().clone())
        assert value.item() == 0
        assert loss.terms['kl'].item() == loss.terms['cor'].item() == 0
        value.backward()
        assert student.grad.abs().max() < 1e-5

    def test_mmrazors_dist_loss_does_not_give_0(self):
        """With 100 classes and a batch of 64, most classes have no sample in it."""
        rng = np.random.RandomState(0)
        student = torch.tensor(rng.randn(64, 100), dtype=torch.float32)
        student[range(64), rng.randint(100, size=64)] += 15
        theirs = DISTLoss(inter_loss_weight=0.0, intra_loss_weight=1.0)
        assert theirs(student, student) > 0.3
        loss = PRKDLoss(tau=1.0, cor_weight=1.0, intra_weight=1.0)
        assert loss(student, student.clone()).item() == 0


class TestExtremes:
    KINDS = ['uniform', 'usual', 'huge', 'one-hot']

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize('shape', [(1, 2), (1, 10), (64, 2), (8, 10)])
    @pytest.mark.parametrize('student', KINDS)
    @pytest.mark.parametrize('teacher', KINDS)
    def test_extreme_logits_give_finite_values_and_gradients(self, dtype, shape, student, teacher):

        def some(kind, seed):
            rng = np.random.RandomState(seed)
            return torch.tensor(
                {
                    'uniform': np.full(shape, 3.0),
                    'usual': rng.randn(*shape),
                    'huge': rng.choice([-1e4, 1e4], size=shape),
                    'one-hot': 1e4 * np.eye(shape[1])[rng.randint(shape[1], size=shape[0])],
                }[kind],
                dtype=dtype,
            )

        for tau in (1.0, 4.0):
            preds_S = some(student, 0).requires_grad_()
            value = PRKDLoss(tau=tau, cor_weight=1.0, intra_weight=1.0)(preds_S, some(teacher, 1))
            value.backward()
            assert value.isfinite() and value >= 0
            assert preds_S.grad.isfinite().all()

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
    def test_half_precision_logits_are_computed_in_float32(self, dtype):
        student, teacher = (x.detach().to(dtype) for x in logits(64, 100))
        loss = PRKDLoss(cor_weight=1.0, intra_weight=1.0)
        value = loss(student.requires_grad_(), teacher)
        assert value.dtype == torch.float32
        assert value == loss(student.float(), teacher.float())
        value.backward()
        assert student.grad.dtype == dtype

    def test_autocast_does_not_change_the_value(self):
        features, weight = torch.randn(64, 16), torch.randn(100, 16)
        teacher = torch.randn(64, 100)
        loss = PRKDLoss(cor_weight=1.0, intra_weight=1.0)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            student = features @ weight.T
            assert student.dtype == torch.bfloat16
            value = loss(student, teacher)
            in_fp32 = loss(features, features.flip(0))
        assert value.dtype == torch.float32
        assert value == loss(student.float(), teacher)
        assert in_fp32 == loss(features, features.flip(0))

    def test_logits_of_two_types_are_accepted(self):
        student, teacher = logits()
        loss = PRKDLoss(cor_weight=1.0)
        assert loss(student.half(), teacher.float()) == loss(
            student.half().float(), teacher.float()
        )


def test_compiled_loss_follows_the_schedule_with_few_recompiles():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    loss = PRKDLoss(intra_weight=0.5)
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    for epoch in range(12):
        loss.tau = 4 - 3 * epoch / 12
        loss.kl_weight, loss.cor_weight = 1 - epoch / 12, epoch / 12
        eager, traced = logits(dtype=torch.float32), logits(dtype=torch.float32)
        a, b = loss(*eager), compiled(*traced)
        a.backward()
        b.backward()
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(eager[0].grad, traced[0].grad)
    assert len(graphs) <= 3


GATHER = dict(tau=2.0, cor_weight=0.7, inter_weight=0.4, intra_weight=1.0)


def _on_each_rank(rank, port, path):
    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    part = slice(4 * rank, 4 * rank + 4)
    results = []
    for weights in (dict(), dict(kl_weight=0.0, inter_weight=0.0)):
        student, teacher = (x.detach()[part] for x in logits(8, 5))
        student.requires_grad_()
        loss = PRKDLoss(gather=True, **{**GATHER, **weights})
        value = loss(student, teacher)
        value.backward()
        results += [value.detach(), student.grad]
    results.append(strength(terms_of(loss), logits(8, 5)[1].double(), batch_size=4))
    torch.save(results, f'{path}/{rank}.pt')
    dist.destroy_process_group()


def test_the_gathered_loss_equals_that_of_the_whole_batch(tmp_path):
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = sock.getsockname()[1]
    mp.start_processes(_on_each_rank, (port, str(tmp_path)), nprocs=2, start_method='fork')
    one, two = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))

    # DDP takes the mean of the ranks' gradients
    student, teacher = logits(8, 5)
    value = PRKDLoss(**GATHER)(student, teacher)
    value.backward()
    torch.testing.assert_close((one[0] + two[0]) / 2, value.detach())
    torch.testing.assert_close(torch.cat([one[1], two[1]]) / 2, student.grad)
    # the term over the batch is the same number on each
    student, teacher = logits(8, 5)
    value = PRKDLoss(**{**GATHER, 'kl_weight': 0.0, 'inter_weight': 0.0})(student, teacher)
    value.backward()
    for result in (one, two):
        torch.testing.assert_close(result[2], value.detach())
    torch.testing.assert_close(torch.cat([one[3], two[3]]) / 2, student.grad)
    # and constrains the student as that of the whole batch
    terms = terms_of(PRKDLoss(**{**GATHER, 'kl_weight': 0.0, 'inter_weight': 0.0}))
    whole, parts = (strength(terms, teacher.double(), batch_size=n) for n in (8, 4))
    assert one[4] == two[4] == pytest.approx(whole) != pytest.approx(parts)
