"Every term against an independent oracle, at random shapes and at the awkward ones."

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from diec.losses import (
    adaptive_graph,
    adaptive_weights,
    diffuse,
    entropy_loss,
    graph_loss,
    kl_loss,
    neighbor_loss,
    soft_assignment,
    target_distribution,
)
from diec.model import ResidualHead

SHAPES = [(1, 2, 1), (2, 2, 3), (7, 3, 2), (40, 10, 5), (150, 4, 64)]  # N, K, d


def points(n, k, d, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=dtype), torch.randn(k, d, generator=g, dtype=dtype)


# --- soft assignment


@pytest.mark.parametrize("n, k, d", SHAPES)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 7.0])
def test_soft_assignment_is_student_t(n, k, d, alpha):
    z, mu = points(n, k, d)
    density = stats.t.pdf(cdist(z, mu), alpha)
    assert np.allclose(soft_assignment(z, mu, alpha), density / density.sum(1, keepdims=True), rtol=1e-6)
    assert soft_assignment(z.float(), mu.float(), alpha).dtype == torch.float32


def test_soft_assignment_at_the_extremes():
    z = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1e18, 0.0], [-1e-30, 0.0]], requires_grad=True)
    mu = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]], requires_grad=True)
    q = soft_assignment(z, mu)  # on a center, on two at once, very far away
    assert torch.isfinite(q).all() and torch.allclose(q.sum(1), torch.ones(4)) and torch.allclose(q[:, 0], q[:, 1])
    assert torch.allclose(q[2], torch.full((3,), 1 / 3))
    kl_loss(target_distribution(q), q).backward()
    assert torch.isfinite(z.grad).all() and torch.isfinite(mu.grad).all()


def test_far_from_the_origin_no_digits_are_lost():
    z, mu = points(30, 4, 8, dtype=torch.float32)
    assert torch.allclose(soft_assignment(z + 1000, mu + 1000), soft_assignment(z, mu), atol=1e-3)


# --- target and divergence


@pytest.mark.parametrize("n, k, d", SHAPES)
def test_target_by_brute_force(n, k, d):
    q = soft_assignment(*points(n, k, d)).requires_grad_()
    p = target_distribution(q)
    w = [[q[i, j].item() ** 2 / sum(q[h, j].item() for h in range(n)) for j in range(k)] for i in range(n)]
    assert np.allclose(p, [[v / sum(row) for v in row] for row in w]) and not p.requires_grad
    assert torch.equal(target_distribution(q.flip(0)), p.flip(0)) or torch.allclose(
        target_distribution(q.flip(0)), p.flip(0)
    )


def test_an_empty_cluster_has_an_empty_target():
    p = target_distribution(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert torch.isfinite(p).all() and torch.allclose(p.sum(1), torch.ones(2)) and not p[:, 2].any()


@pytest.mark.parametrize("n, k, d", SHAPES)
def test_divergence_is_scipys(n, k, d):
    z, mu = points(n, k, d)
    q, p = soft_assignment(z, mu), soft_assignment(z + 0.3, mu)
    assert kl_loss(p, q).item() == pytest.approx(rel_entr(p.numpy(), q.numpy()).sum(1).mean(), abs=1e-12)
    assert kl_loss(q, q).item() == pytest.approx(0, abs=1e-12) and kl_loss(p, q) >= 0


@pytest.mark.parametrize(
    "p, q",
    [
        ([[1.0, 0.0]], [[0.5, 0.5]]),
        ([[1.0, 0.0]], [[1.0, 0.0]]),
        ([[0.5, 0.5]], [[1.0, 0.0]]),
        ([[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]),
    ],
)
def test_divergence_with_zeros_is_scipys(p, q):
    assert kl_loss(torch.tensor(p), torch.tensor(q)).item() == pytest.approx(rel_entr(p, q).sum(1).mean())


# --- graph


def project_onto_simplex(v):
    u = np.sort(v)[::-1]
    rho = np.nonzero(u * np.arange(1, len(v) + 1) > u.cumsum() - 1)[0][-1]
    return np.maximum(v + (1 - u.cumsum()[rho]) / (rho + 1), 0)


@pytest.mark.parametrize("n, k, d", [(5, 1, 2), (5, 3, 2), (30, 1, 3), (30, 7, 4), (60, 58, 5)])
def test_weights_solve_their_problem(n, k, d):
    "min_s sum_j s_j d_j + gamma |s|^2 over the simplex, with the gamma that leaves k neighbors (Nie et al., eq. 30)"
    z = np.random.default_rng(n).normal(size=(n, d)).astype(np.float32)
    graph = adaptive_graph(z, k)
    full = cdist(z.astype(float), z.astype(float), "sqeuclidean")
    for i in range(n):
        others = np.delete(np.arange(n), i)
        near = others[np.argsort(full[i, others])]
        distances = full[i, near]
        gamma = k / 2 * distances[k] - distances[:k].sum() / 2
        s = project_onto_simplex(-distances / (2 * gamma))
        assert set(graph.neighbors[i].tolist()) == set(near[:k].tolist())
        mine = np.zeros(n)
        mine[graph.neighbors[i]] = graph.weights[i]
        assert np.allclose(mine[near], s, atol=1e-4)


def test_weights_beat_a_general_solver():
    d2 = np.sort(np.random.default_rng(0).uniform(0, 4, 8))
    k = 4
    gamma = k / 2 * d2[k] - d2[:k].sum() / 2
    cost = lambda s: s @ d2 + gamma * s @ s
    mine = np.r_[adaptive_weights(d2[None, : k + 1])[0], np.zeros(len(d2) - k)]
    found = minimize(
        cost,
        np.full(len(d2), 1 / len(d2)),
        bounds=[(0, 1)] * len(d2),
        constraints={"type": "eq", "fun": lambda s: s.sum() - 1},
        tol=1e-12,
    )
    assert cost(mine) <= found.fun + 1e-9 and np.allclose(mine, found.x, atol=1e-4)


@pytest.mark.parametrize(
    "z",
    [
        np.zeros((8, 3)),
        np.repeat(np.eye(3), 5, 0),
        np.eye(6),
        np.r_[np.zeros((7, 2)), [[1, 0]]],
        np.linspace(0, 1, 9)[:, None],
    ],
    ids=["all the same", "duplicates", "equidistant", "one apart", "on a line"],
)
@pytest.mark.parametrize("k", [1, 3])
def test_ties_and_duplicates(z, k):
    graph = adaptive_graph(z, k)
    assert graph.neighbors.shape == graph.weights.shape == (len(z), k)
    assert (
        torch.isfinite(graph.weights).all()
        and (graph.weights >= 0).all()
        and torch.allclose(graph.weights.sum(1), torch.ones(len(z)))
    )
    assert (graph.neighbors != torch.arange(len(z))[:, None]).all()  # no point is its own neighbor, duplicates or not
    full = cdist(z, z, "sqeuclidean")
    for i, row in enumerate(graph.neighbors.tolist()):
        assert len(set(row)) == k and np.allclose(np.sort(full[i, row]), np.sort(np.delete(full[i], i))[:k])


@pytest.mark.parametrize("k", [0, -1, 9, 10, 2.5, "3", None])
def test_a_bad_k_is_named(k):
    with pytest.raises((ValueError, TypeError)) as e:
        adaptive_graph(np.random.rand(10, 2), k)
    assert "k must be" in str(e.value) and "1..8" in str(e.value) and repr(k) in str(e.value)


def test_the_graph_takes_what_training_gives():
    z = torch.rand(10, 2, requires_grad=True)
    assert torch.equal(adaptive_graph(z, 3).neighbors, adaptive_graph(z.detach().numpy(), 3).neighbors)


def test_graph_loss_by_brute_force():
    z = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 3)))
    graph = adaptive_graph(z.numpy(), 4)
    by_hand = np.mean(
        [
            sum(w * ((z[i] - z[j]) ** 2).sum().item() for j, w in zip(js.tolist(), ws.tolist()))
            for i, (js, ws) in enumerate(zip(*graph))
        ]
    )
    assert graph_loss(z, z[graph.neighbors], graph.weights).item() == pytest.approx(by_hand, rel=1e-6)


# --- neighbors


@pytest.mark.parametrize("attraction", [1.0, 2.0])
def test_neighbor_loss_by_brute_force(attraction):
    z, near = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 7, 3)))

    def similarity(a, b):
        return 1 / (1 + ((a - b) ** 2).sum().item())

    by_hand = []
    for i in range(7):
        own, others = similarity(z[i], near[i]), [similarity(z[i], z[b]) for b in range(7) if b != i]
        by_hand.append(-attraction * np.log(own) + np.log(own + sum(others)))
    assert neighbor_loss(z, near, attraction).item() == pytest.approx(np.mean(by_hand), rel=1e-9)


def test_neighbors_attract_and_others_repel():
    z = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.double, requires_grad=True)
    near = torch.tensor([[0.0, 1.0], [3.0, 1.0]], dtype=torch.double)
    (g,) = torch.autograd.grad(neighbor_loss(z, near), z)
    assert (g[:, 1] < 0).all() and g[0, 0] > 0 > g[1, 0]  # a step against it: up to the neighbor, and apart
    alone = neighbor_loss(z[:1], near[:1], 1.0)
    assert alone.item() == pytest.approx(0)  # a batch of one repels nothing


# --- entropy


@pytest.mark.parametrize("n, k, d", SHAPES)
@pytest.mark.parametrize("eta", [0.0, 0.1, 3.0])
def test_entropy_is_scipys(n, k, d, eta):
    q = soft_assignment(*points(n, k, d))
    expected = np.log(k) - stats.entropy(q.mean(0)) + eta * np.mean(stats.entropy(q, axis=1))
    assert entropy_loss(q, eta).item() == pytest.approx(expected, abs=1e-9)


def test_entropy_wants_balance_and_decision():
    sure, collapsed, unsure = torch.eye(4), torch.eye(4)[[0, 0, 0, 0]], torch.full((4, 4), 0.25)
    assert entropy_loss(sure).item() == pytest.approx(0, abs=1e-6)
    assert entropy_loss(sure) < entropy_loss(unsure) < entropy_loss(collapsed)


# --- gradients


def test_gradients_are_right():
    z, mu = (v.requires_grad_() for v in points(6, 3, 2))
    p = target_distribution(soft_assignment(z.detach(), mu.detach() * 1.5))
    graph = adaptive_graph(z.detach().numpy(), 2)
    assert torch.autograd.gradcheck(soft_assignment, (z, mu))
    assert torch.autograd.gradcheck(lambda z, mu: kl_loss(p, soft_assignment(z, mu)), (z, mu))
    assert torch.autograd.gradcheck(lambda z, mu: entropy_loss(soft_assignment(z, mu), 0.3), (z, mu))
    assert torch.autograd.gradcheck(lambda z: graph_loss(z, z[graph.neighbors], graph.weights.double()), (z,))
    assert torch.autograd.gradcheck(lambda z: neighbor_loss(z, z[graph.neighbors[:, 0]]), (z,))


def test_gradient_of_the_divergence_is_that_of_the_paper():
    "DEC, eq. 4 and 5 (alpha = 1): dL/dz_i = 2 sum_j (p_ij - q_ij) (z_i - mu_j) / (1 + |z_i - mu_j|^2)"
    z, mu = (v.requires_grad_() for v in points(9, 4, 3))
    q = soft_assignment(z, mu)
    p = target_distribution(q)
    kl_loss(p, q).backward()
    with torch.no_grad():
        difference = z[:, None] - mu
        force = (2 * (p - q) / (1 + difference.square().sum(-1)))[..., None] * difference
        assert torch.allclose(z.grad, force.sum(1) / 9) and torch.allclose(mu.grad, -force.sum(0) / 9)


# --- the head


@pytest.mark.parametrize("d, width, depth", [(1, 1, 1), (5, 8, 1), (64, 256, 2), (3, 4, 4)])
def test_the_head_starts_as_the_identity_and_learns(d, width, depth):
    head, e = ResidualHead(d, width, depth), torch.randn(7, d)
    assert torch.equal(head(e), e) and head(e[None]).shape == (1, 7, d)
    optimizer = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (head(e) - e * 2 - 1).square().sum().backward()
        optimizer.step()
    assert not torch.equal(head(e), e) and all(p.grad.abs().sum() > 0 for p in head.parameters())
    plain = ResidualHead(d, width, depth, residual=False)
    assert torch.allclose(plain(e), plain.g(e)) and plain(e).abs().sum() > 0
    state = torch.get_rng_state()
    ResidualHead(d)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["n_features", "width", "depth"])
@pytest.mark.parametrize("value", [0, -1, "two", 1.5])
def test_bad_sizes_of_the_head_are_named(name, value):
    with pytest.raises((ValueError, TypeError)) as e:
        ResidualHead(**{"n_features": 4, name: value})
    assert name in str(e.value) and repr(value) in str(e.value) and "1 or more" in str(e.value)


# --- diffusion, and the head after training


def test_diffusion_goes_along_the_graph_in_both_directions():
    "By loops: a point is drawn by its neighbors and by those whose neighbor it is"
    z, n, k = points(30, 4, 2)[0].numpy(), 30, 3
    graph = adaptive_graph(z, k)
    S = np.zeros((n, n))
    for i in range(n):
        for j, s in zip(graph.neighbors[i].tolist(), graph.weights[i].tolist()):
            S[i, j] += s
            S[j, i] += s
    assert (S > 0).sum() > n * k  # some are neighbors in one direction only
    for steps in (0, 1, 5):
        wanted = z.astype(float)
        for _ in range(steps):
            wanted = np.stack(
                [(wanted[i] + sum(S[i, j] * wanted[j] for j in range(n)) / S[i].sum()) / 2 for i in range(n)]
            )
        assert np.allclose(diffuse(z, graph, steps), wanted, atol=1e-5)
    assert np.array_equal(diffuse(z, graph), diffuse(z, graph, 20))


def test_a_trained_head_adds_what_it_learned():
    head, e = ResidualHead(5, random_state=3), torch.randn(7, 5)
    with torch.no_grad():
        head.g[-1].bias.fill_(0.5)
    assert torch.allclose(head(e), e + 0.5) and torch.allclose(head(e) - e, head.g(e))


def test_the_default_head():
    "Two hidden layers of 256; the seed is 0 unless another is given, and decides the weights"
    sizes = [tuple(p.shape) for p in ResidualHead(5).g.parameters()]
    assert sizes == [(256, 5), (256,), (256, 256), (256,), (5, 256), (5,)]
    one, zero, other = (
        ResidualHead(5, **kwargs).g[0].weight for kwargs in ({}, {"random_state": 0}, {"random_state": 1})
    )
    assert torch.equal(one, zero) and not torch.equal(one, other)


@pytest.mark.parametrize("n", range(3, 12))
def test_a_graph_has_at_most_two_neighbors_fewer_than_points(n):
    z = points(n, 2, 3)[0]
    assert adaptive_graph(z, n - 2).neighbors.shape == (n, n - 2)
    for k in (n - 1, n, 0, -1):
        with pytest.raises(ValueError, match=f"k must be .*1..{n - 2}, got {k}"):
            adaptive_graph(z, k)


def test_defaults_of_the_losses():
    z, mu = points(40, 3, 4)
    assert adaptive_graph(z).neighbors.shape == (40, 10)
    assert torch.equal(soft_assignment(z, mu), soft_assignment(z, mu, 1.0)) and not torch.allclose(
        soft_assignment(z, mu), soft_assignment(z, mu, 2.0)
    )
    q = soft_assignment(z, mu)
    assert entropy_loss(q) == entropy_loss(q, 0.1) != entropy_loss(q, 0.2)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
def test_weights_do_not_depend_on_the_unit(scale):
    d2 = np.sort(np.random.default_rng(0).uniform(1, 2, (9, 5)))
    assert np.allclose(adaptive_weights(d2 * scale), adaptive_weights(d2)) and adaptive_weights(d2).std() > 0.01


def test_wide_graphs_and_single_steps():
    "Rows of a graph of any width start where the one before ends"
    z = points(11, 2, 3)[0].numpy()
    for k in (1, 6, 9):
        graph, S = adaptive_graph(z, k), np.zeros((11, 11))
        for i in range(11):
            S[i, graph.neighbors[i]] = graph.weights[i]
        S += S.T
        assert np.allclose(diffuse(z, graph, 1), (z + S @ z / S.sum(1, keepdims=True)) / 2, atol=1e-5)
