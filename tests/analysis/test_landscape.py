import copy
import math
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import toy
from rich.console import Console
from scipy import stats
from torch import nn
from torch.func import functional_call, hessian

from prkd_mm.analysis import STUDIES
from prkd_mm.analysis.landscape import figure
from prkd_mm.analysis.landscape.measure import (
    SPLITS,
    Draw,
    over_trainings,
    plane,
    plane_surface,
    sharpness_differences,
    values_at,
)
from prkd_mm.analysis.landscape.objective import Objective, Value, num_filters, random_direction
from prkd_mm.analysis.landscape.sharpness import top_eigenvalue, trace, worst_loss
from prkd_mm.analysis.output import Report
from prkd_mm.analysis.runs import Run


def half_square(outputs, targets):
    return (outputs - targets).square().sum() / 2 / len(targets)


def quadratic(X, w=None):
    """``1/2N ‖X(w' − w)‖²`` of w', in two batches of different sizes."""
    net = nn.Linear(X.shape[1], 1, bias=False).to(X)
    w = torch.zeros(X.shape[1]).to(X) if w is None else w
    y = X @ w[:, None]
    net.weight.data.copy_(w[None])
    return Objective(net, [(X[:2], y[:2]), (X[2:], y[2:])], half_square)


@pytest.fixture
def X():
    torch.manual_seed(0)
    return torch.randn(7, 5, dtype=torch.double)


def test_derivatives_of_a_quadratic_loss_are_exact(X):
    objective, H = quadratic(X), X.T @ X / 7
    v = torch.arange(5.0).double()
    torch.testing.assert_close(objective.hessian_times(v), H @ v)
    objective.set_weights(v)
    assert objective.value().loss == pytest.approx((v @ H @ v / 2).item())
    torch.testing.assert_close(objective.gradient(), H @ v)


@pytest.mark.parametrize('scale', [torch.ones(5).double(), torch.arange(5.0).double()])
def test_top_eigenvalue_and_trace_are_those_of_a_quadratic_loss(X, scale):
    H = scale[:, None] * (X.T @ X / 7) * scale
    assert top_eigenvalue(quadratic(X), scale, tolerance=1e-6) == (
        pytest.approx(torch.linalg.eigvalsh(H)[-1].item())
    )
    found = trace(quadratic(X), scale, probes=300)
    assert abs(found.mean - H.trace().item()) < 4 * found.error
    assert found.error < 0.1 * found.mean


def test_trace_of_a_diagonal_hessian_is_exact():
    X = torch.diag(torch.arange(1.0, 6.0)).double()
    found = trace(quadratic(X), probes=2)
    assert found.mean == pytest.approx((1 + 4 + 9 + 16 + 25) / 5)
    assert found.error == pytest.approx(0, abs=1e-12)


def test_worst_loss_of_a_quadratic_is_along_the_top_eigenvector(X):
    top = torch.linalg.eigvalsh(X.T @ X / 7)[-1].item()
    objective = quadratic(X, torch.ones(5).double())
    found = worst_loss(objective, 0.3, torch.ones(5).double(), steps=100)
    assert found == pytest.approx(top * 0.3**2 / 2, rel=1e-6)
    assert objective.weights.tolist() == [1.0] * 5


def small_net():
    torch.manual_seed(0)
    net = toy.build(toy.classifier()).double()
    with torch.no_grad():
        for bn in (net.backbone.bn1, net.backbone.bn2):
            bn.weight.uniform_(0.5, 2)
            bn.running_var.uniform_(0.5, 2)
    batches = [(torch.randn(n, 3, 8, 8).double(), torch.randint(4, (n,))) for n in (5, 3)]
    return net.eval(), batches


def test_hessian_of_a_net_equals_autograds():
    net, batches = small_net()
    net.backbone.requires_grad_(False)  # only the classifier, small enough
    objective = Objective(net, batches)
    inputs, targets = (torch.cat(x) for x in zip(*batches))
    names, shapes = zip(*((n, p.shape) for n, p in net.named_parameters() if p.requires_grad))

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {n: x.view(s) for n, x, s in zip(names, parts, shapes)}
        return F.cross_entropy(functional_call(net, weights, inputs), targets)

    H = hessian(loss)(objective.weights)
    for v in torch.eye(len(H)).double()[::5]:
        torch.testing.assert_close(objective.hessian_times(v), H @ v)
    assert top_eigenvalue(objective, tolerance=1e-6) == pytest.approx(
        torch.linalg.eigvalsh(H)[-1].item()
    )


def test_error_counts_wrong_predictions():
    net, batches = small_net()
    wrong = sum((net(x).argmax(1) != y).sum().item() for x, y in batches)
    assert Objective(net, batches).value().error == pytest.approx(100 * wrong / 8)


def test_a_direction_has_the_filters_norms_and_excludes_bn_and_biases():
    net, batches = small_net()
    objective = Objective(net, batches)
    direction = random_direction(objective, seed=1)
    sizes = [p.numel() for p in net.parameters()]
    for (name, p), part in zip(net.named_parameters(), direction.split(sizes)):
        part = part.view_as(p)
        if 'bn' in name or name.endswith('bias'):
            assert not part.any(), name
        else:
            torch.testing.assert_close(
                part.flatten(1).norm(dim=1), p.detach().flatten(1).norm(dim=1)
            )
    assert torch.equal(direction, random_direction(objective, seed=1))
    assert not torch.equal(direction, random_direction(objective, seed=2))
    # each filter is a scaled unit vector, so the direction ends on the ball of radius 1
    norms = objective.filter_norms()
    u = direction[norms > 0] / norms[norms > 0]
    assert u.norm().item() == pytest.approx(num_filters(objective) ** 0.5)


def test_normalized_sharpness_is_independent_of_the_scale_before_a_batch_norm():
    net, batches = small_net()
    same = copy.deepcopy(net)
    with torch.no_grad():
        for bn in (net.backbone.bn1, same.backbone.bn1):
            bn.eps = 0.0
        same.backbone.conv1.weight *= 3
        same.backbone.conv1.bias *= 3
        same.backbone.bn1.running_mean *= 3
        same.backbone.bn1.running_var *= 9
    one, other = Objective(net, batches), Objective(same, batches)
    assert other.value() == pytest.approx(one.value())
    for measure in (top_eigenvalue, trace):
        numbers = [measure(x, x.filter_norms()) for x in (one, other)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)
    assert worst_loss(one, 0.1, one.filter_norms()) == pytest.approx(
        worst_loss(other, 0.1, other.filter_norms())
    )
    for x in (net, same):
        x.requires_grad_(False).backbone.conv1.requires_grad_(True)
    raw = [top_eigenvalue(Objective(x, batches), tolerance=1e-6) for x in (net, same)]
    assert raw[0] == pytest.approx(9 * raw[1])


def test_worst_loss_exceeds_that_of_a_random_direction():
    net, batches = small_net()
    objective = Objective(net, batches)
    (value,) = values_at(
        dict(train=objective), objective.weights, [random_direction(objective, 1)], [(0.1,)]
    )
    assert worst_loss(objective, 0.1, objective.filter_norms()) > value['train'].loss


def test_points_of_a_surface_have_the_values_of_a_quadratic_loss(X):
    objective, H = quadratic(X), X.T @ X / 7
    one, other = torch.eye(5).double()[:2]
    origin, seen = torch.ones(5).double(), []
    values = values_at(
        dict(a=objective, b=objective),
        origin,
        [one, other],
        [(0.0, 0.0), (2.0, -1.0)],
        lambda net: seen.append(net.weight[0].tolist()),
    )
    at = origin + 2 * one - other
    assert values[1]['a'].loss == pytest.approx((at @ H @ at / 2).item())
    assert values[1]['b'].loss == values[1]['a'].loss
    assert seen == [[1.0] * 5, at.tolist()]
    assert objective.weights.tolist() == [0.0] * 5


def test_a_plane_contains_its_three_points():
    torch.manual_seed(0)
    vectors = list(torch.randn(3, 9))
    directions, coordinates = plane(vectors)
    basis = torch.stack(directions)
    torch.testing.assert_close(basis @ basis.T, torch.eye(2))
    for vector, at in zip(vectors, coordinates):
        torch.testing.assert_close(vectors[0] + torch.tensor(at, dtype=torch.float) @ basis, vector)
    assert coordinates[1][0] > 0 and coordinates[2][1] > 0
    with pytest.raises(ValueError, match='line'):
        plane([vectors[0], 2 * vectors[0], 3 * vectors[0]])


def test_the_plane_of_an_elongated_tail_is_no_narrow_strip(X):
    objective = quadratic(X)
    one, other = torch.eye(5).double()[:2]
    vectors = dict(a=0 * one, b=2 * one + 0.1 * other, c=4 * one)
    found = plane_surface(dict(train=objective), vectors, 3, lambda net: None)
    width, height = (axis[-1] - axis[0] for axis in (found.a, found.b))
    assert width / 2 < height <= width
    for axis, at in zip((found.a, found.b), zip(*found.marks.values())):
        assert axis[0] < min(at) < max(at) < axis[-1]
    assert found.losses('train').shape == (3, 3)


@pytest.mark.parametrize('losses, cut', [((1.0, 1.2, 0.8), False), ((0.1, 0.1, 9.0), True)])
def test_a_band_whose_lower_edge_is_cut_is_noted(losses, cut):
    draws = [
        Draw(seed, '', 0, {a: dict.fromkeys(SPLITS, Value(x, 0.0)) for a in (0.0, 1.0)}, None)
        for seed, x in enumerate(losses)
    ]
    title = figure.curves({'KD': draws}, 'band: ± standard deviation').get_suptitle()
    assert title.startswith('band: ± standard deviation')
    assert ('below a tenth of the mean' in title) == cut
    alone = figure.curves({'KD': draws[:1]}, 'one draw has no band').get_suptitle()
    assert alone == 'one draw has no band'


def test_error_bars_are_over_trainings_if_there_are_several():
    def over(values):
        return over_trainings(
            [Draw(seed, '', 0, {}, None) for seed, _ in values], [x for _, x in values]
        )

    assert over([(0, 1.0), (0, 3.0)]) == (2, 2**0.5)
    assert over([(0, 1.0), (0, 3.0), (2, 3.0), (2, 5.0)]) == (3, 2**0.5)
    assert math.isnan(over([(0, 1.0)]).error)


def test_differences_of_sharpness_are_paired_by_training():
    def draws(*values):
        return [Draw(seed, '', 0, {}, SimpleNamespace(trace=x)) for seed, x in values]

    kd = draws((0, 1.0), (0, 3.0), (1, 5.0), (2, 4.0), (3, 99.0))  # seed 3 has no partner
    prkd = draws((2, 7.0), (0, 4.0), (0, 4.0), (1, 6.0))
    (found,) = sharpness_differences({'KD': kd, 'PRKD': prkd}, 'trace')
    expected = stats.ttest_rel([4, 6, 7], [2, 5, 4]).confidence_interval(0.95)
    assert (found.better, found.worse) == ('PRKD', 'KD')
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(2)


def test_a_run_may_lack_seeds_that_another_one_has(tmp_path):
    teacher = toy.save_teacher(tmp_path / 'teacher.pth')
    cfgs = [
        toy.config(
            toy.distillation(teacher), tmp_path / str(seed), epochs=1, **{'randomness.seed': seed}
        )
        for seed in range(2)
    ]
    for cfg in cfgs:
        toy.train(cfg)
    one, other = (cfg.work_dir for cfg in cfgs)
    # each seed is the same net in both runs, so that no sharpness differs
    runs = [Run('KD', cfgs[0], repeats={1: other, 2: one}), Run('PRKD', cfgs[0], repeats={2: one})]
    console = Console(record=True, width=200)
    options = STUDIES['landscape'].options(
        samples=8, seeds=1, grid=2, probes=1, bn_batches=1, device='cpu'
    )
    STUDIES['landscape'].run(runs, Report(tmp_path, 'landscape', console), options)
    printed = ' '.join(console.export_text().split())
    assert 'over 2 to 3 trainings, with 1 draw each' in printed
    assert re.search('PRKD − KD: normalized trace *│ *0 ± 0 *│ *- *│ *2 *│ *cannot tell', printed)
