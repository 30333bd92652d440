"""Both terms at once against float64 autograd of the plain functions."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.profiler import profile

from prkd_mm.losses import PRKDLoss, correlation_distance, fused, kl_and_correlation, kl_divergence

# the last two are of several blocks
SHAPES = [(1, 2), (3, 2), (1, 7), (64, 10), (300, 500), (12, 21841)]
WEIGHTS = [(1.0, 0.0), (0.0, 1.0), (0.3, 0.7)]
TAUS = [(4.0, 4.0), (1.0, 4.0), (0.5, 2.0)]


def logits(n, c, size=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n + c)
    student, noise = size * torch.randn(2, n, c, generator=generator, dtype=torch.float64)
    return student.to(dtype), (0.5 * student + noise).to(dtype)


@pytest.fixture(autouse=True)
def all_logits_count_as_large(monkeypatch):
    monkeypatch.setattr(fused, '_LARGE', 0)


def plain(student, teacher, tau, tau_cor):
    return (kl_divergence(student, teacher, tau), correlation_distance(student, teacher, tau_cor))


def terms_and_gradient(function, student, teacher, taus, weights=(1.0, 1.0)):
    student = student.detach().requires_grad_()
    terms = function(student, teacher, *taus)
    sum(w * term for w, term in zip(weights, terms)).backward()
    return [term.item() for term in terms], student.grad


def exactly(student, teacher, *args):
    return terms_and_gradient(plain, student.double(), teacher.double(), *args)


@pytest.mark.parametrize('weights', WEIGHTS)
@pytest.mark.parametrize('taus', TAUS)
@pytest.mark.parametrize('shape', SHAPES)
class TestEqualsThePlainFunctions:
    def test_values_and_gradients_are_equal_in_float64(self, shape, taus, weights):
        pair = logits(*shape)
        terms, grad = terms_and_gradient(kl_and_correlation, *pair, taus, weights)
        expected, exact = exactly(*pair, taus, weights)
        assert terms == pytest.approx(expected, rel=1e-10, abs=1e-14)
        # of two classes the correlation is ±1, its gradient rounding noise
        assert (grad - exact).norm() <= 1e-10 * exact.norm() + 1e-14

    def test_values_and_gradients_are_equal_in_float32(self, shape, taus, weights):
        pair = logits(*shape, dtype=torch.float32)
        terms, grad = terms_and_gradient(kl_and_correlation, *pair, taus, weights)
        expected, exact = exactly(*pair, taus, weights)
        assert terms == pytest.approx(expected, rel=5e-6, abs=1e-6)
        assert (grad - exact).norm() <= 1e-6 * exact.norm() + 1e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('taus', TAUS)
class TestExtremes:
    def test_saturated_logits_give_accurate_gradients(self, dtype, taus):
        student, teacher = (x.sign() * 50 for x in logits(40, 12, dtype=dtype))
        terms, grad = terms_and_gradient(kl_and_correlation, student, teacher, taus)
        expected, exact = exactly(student, teacher, taus)
        far = 1e-10 if dtype == torch.float64 else 5e-6
        assert terms == pytest.approx(expected, rel=far)
        assert (grad - exact).norm() <= far * exact.norm()

    def test_constant_rows_get_no_gradient(self, dtype, taus):
        """Constant rows: of the student, of the teacher, of both; the last row varies."""
        student, teacher = logits(4, 9, dtype=dtype)
        student[[0, 2]], teacher[[1, 2]] = 7.0, -3.0
        terms, grad = terms_and_gradient(kl_and_correlation, student, teacher, taus, (0.0, 1.0))
        expected, exact = exactly(student, teacher, taus, (0.0, 1.0))
        assert terms == pytest.approx(expected, rel=1e-5)
        assert grad[[0, 2]].eq(0).all() and exact[[0, 2]].eq(0).all()
        torch.testing.assert_close(grad, exact.to(dtype), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize('size', [0.0, 1e-3, 3.0, 50.0])
    def test_identical_logits_give_exactly_0(self, dtype, taus, size):
        same = logits(40, 12, size, dtype)[0]
        terms, grad = terms_and_gradient(kl_and_correlation, same, same.clone(), taus)
        assert terms == [0.0, 0.0] and grad.eq(0).all()


def test_values_and_gradients_are_accurate_near_a_match():
    student, teacher = logits(40, 12, dtype=torch.float32)
    teacher = student + 1e-3 * teacher
    terms, grad = terms_and_gradient(kl_and_correlation, student, teacher, (1.0, 1.0))
    expected, exact = exactly(student, teacher, (1.0, 1.0))
    assert 0 < expected[1] < 1e-5
    assert terms[1] == pytest.approx(expected[1], rel=1e-3)
    assert (grad - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.parametrize('block', [1, 5, 13, 10**6])
def test_the_size_of_the_blocks_does_not_matter(monkeypatch, block):
    pair = logits(7, 5)
    expected, exact = exactly(*pair, (2.0, 4.0))
    monkeypatch.setattr(fused, '_CPU_BLOCK', block)
    terms, grad = terms_and_gradient(kl_and_correlation, *pair, (2.0, 4.0))
    assert terms == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(grad, exact, rtol=1e-10, atol=1e-14)


def test_strided_logits_are_accepted():
    pair = [x.t()[::2] for x in logits(5, 12)]
    assert not pair[0].is_contiguous()
    terms, grad = terms_and_gradient(kl_and_correlation, *pair, (2.0, 4.0))
    expected, exact = exactly(*pair, (2.0, 4.0))
    assert terms == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(grad, exact, rtol=1e-10, atol=1e-14)


def calls(monkeypatch) -> list:
    """Grows with each block that is computed without autograd from now on."""
    made, kl = [], fused._kl

    def counted(*args):
        made.append(1)
        return kl(*args)

    monkeypatch.setattr(fused, '_kl', counted)
    return made


class TestDerivatives:
    """Derivatives other than one gradient in the student."""

    def test_the_gradient_equals_finite_differences(self):
        student, teacher = logits(4, 5, size=1.0)
        student.requires_grad_()
        assert gradcheck(lambda x: kl_and_correlation(x, teacher, 1.5, 2.0), student)

    def test_the_second_derivative_equals_finite_differences(self, monkeypatch):
        student, teacher = logits(3, 4, size=1.0)
        made = calls(monkeypatch)
        assert gradgradcheck(
            lambda x: kl_and_correlation(x * 2, teacher, 1.5, 2.0), student.requires_grad_()
        )
        assert made

    def test_second_derivatives_pass_through_other_layers(self):
        """A Hessian-vector product, as for a loss landscape."""
        student, teacher = logits(6, 5, size=1.0)
        weight = torch.eye(5, dtype=torch.float64).requires_grad_()
        products = []
        for function in (kl_and_correlation, plain):
            kl, cor = function(student @ weight, teacher, 1.5, 2.0)
            (grad,) = torch.autograd.grad(kl + 2 * cor, weight, create_graph=True)
            products += torch.autograd.grad((grad * student[:5]).sum(), weight)
        torch.testing.assert_close(*products)

    def test_torch_func_can_differentiate_the_loss(self, monkeypatch):
        student, teacher = logits(3, 4, size=1.0)
        made = calls(monkeypatch)
        loss = PRKDLoss(tau=1.5, kl_weight=0.3, cor_weight=0.7)

        def value(x):
            return loss(x, teacher)

        product = torch.func.jvp(torch.func.grad(value), (student,), (teacher,))[1]
        hessian = torch.autograd.functional.hessian(value, student)
        torch.testing.assert_close(product, torch.einsum('ijkl,kl->ij', hessian, teacher))
        assert torch.func.vmap(value)(student.expand(2, 3, 4)).shape == (2,)
        assert made  # by the Hessian

    def test_the_teacher_can_get_a_gradient(self, monkeypatch):
        made = calls(monkeypatch)
        pair = [x.requires_grad_() for x in logits(3, 4, size=1.0)]
        assert gradcheck(lambda *pair: kl_and_correlation(*pair, 1.5, 2.0), pair)
        assert not made

    def test_one_graph_can_be_used_for_two_backward_passes(self):
        student, teacher = logits(6, 5)
        student.requires_grad_()
        value = sum(kl_and_correlation(student, teacher, 1.5, 2.0))
        (one,) = torch.autograd.grad(value, student, retain_graph=True)
        (two,) = torch.autograd.grad(3 * value, student)
        torch.testing.assert_close(3 * one, two)


@pytest.mark.parametrize(
    'options, is_fused',
    [(dict(), True), (dict(intra_weight=1.0), True), (dict(teacher_detach=False), False)],
    ids=str,
)
def test_the_loss_is_fused_without_a_teacher_gradient(monkeypatch, options, is_fused):
    made = calls(monkeypatch)
    student, teacher = (x.requires_grad_() for x in logits(6, 5))
    loss = PRKDLoss(kl_weight=0.3, cor_weight=0.7, **options)
    loss(student, teacher).backward()
    assert bool(made) == is_fused


@pytest.mark.parametrize('n, is_fused', [(63, False), (64, True)])
def test_small_logits_take_the_plain_functions(monkeypatch, n, is_fused):
    monkeypatch.setattr(fused, '_LARGE', 64 * 100)
    made = calls(monkeypatch)
    pair = logits(n, 100)
    terms, grad = terms_and_gradient(kl_and_correlation, *pair, (2.0, 4.0))
    expected, exact = exactly(*pair, (2.0, 4.0))
    assert bool(made) == is_fused
    assert terms == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(grad, exact, rtol=1e-10, atol=1e-14)


def test_logits_of_two_types_are_accepted():
    student, teacher = logits(6, 5)
    one = kl_and_correlation(student, teacher.float(), 1.5, 2.0)
    two = kl_and_correlation(student, teacher.float().double(), 1.5, 2.0)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize('block, most', [(fused._CPU_BLOCK, 4), (10**9, 7)])
def test_peak_memory_is_a_few_matrices(monkeypatch, block, most):
    """Peak memory in matrices of the logits' size; plain autograd needs ten."""
    monkeypatch.setattr(fused, '_CPU_BLOCK', block)
    student, teacher = logits(512, 1000, dtype=torch.float32)
    student.requires_grad_()
    loss = PRKDLoss(tau=2.0, tau_cor=4.0, kl_weight=0.3, cor_weight=0.7)
    with profile(profile_memory=True) as profiler:
        loss(student, teacher).backward()
    held = peak = 0
    for event in sorted(
        profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()
    ):
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    size = student.numel() * student.element_size()
    assert size < peak <= most * size
