"""What goes wrong in a run is skipped, warned of by name, or ends it with the key to turn."""

from __future__ import annotations

import pickle
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from mgot.clustering import Clustering, cluster
from mgot.engine.epoch import EpochState, label_epoch, match_epoch
from mgot.engine.watch.guards import EpochGuardHook, StepGuard, epoch_warnings, feature_spread
from mgot.errors import UserError
from mgot.losses import Objective
from mgot.matching import OTPA, RPNR, Prototypes, Unbalanced, believe, cross_labels, cross_prototypes
from mgot.memory import PrototypeMemory, cluster_means
from mgot.modeling.heads import MGOTHead, StepFeatures
from mgot.transport import exact_transport, settled_transport, uniform_transport

NAN = float("nan")


def test_a_step_without_a_finite_loss_leaves_no_trace() -> None:
    network = nn.BatchNorm1d(2)
    guard = StepGuard(network, limit=1)
    guard.remember()
    network(torch.tensor([[1.0, 2.0], [3.0, NAN]]))
    assert not guard.admits(7, {"loss_vcl": torch.tensor(NAN), "loss_icl": torch.tensor(1.0)})
    assert network.running_mean is not None and network.num_batches_tracked is not None
    assert network.running_mean.tolist() == [0.0, 0.0] and int(network.num_batches_tracked) == 0
    guard.remember()
    network(torch.ones(2, 2))
    assert guard.admits(8, {"loss_vcl": torch.tensor(2.0)})
    assert int(network.num_batches_tracked) == 1
    with pytest.raises(UserError, match=r"iteration 9: loss_mcl is infinite or NaN.*MGOT\.GUARD\.MAX_SKIPPED_STEPS"):
        guard.admits(9, {"loss_mcl": torch.tensor(float("inf")), "loss_icl": torch.tensor(1.0)})
    assert guard.new_epoch() == 2 and guard.skipped == 0


def test_a_head_forgets_the_features_of_a_step_without_a_finite_loss() -> None:
    head = MGOTHead(
        feat_dim=2, pool_type="GlobalAvgPool", norm_type="BN", with_bnneck=True, objective=Objective([], 0.05)
    )
    guard, features = StepGuard(nn.Sequential(head), limit=1), StepFeatures(*(torch.zeros(1) for _ in range(4)))
    head.step = features
    guard.remember()
    assert guard.admits(0, {"loss_vcl": torch.tensor(1.0)}) and head.step is features
    assert not guard.admits(1, {"loss_vcl": torch.tensor(NAN)}) and head.step is None


def test_spread_is_the_total_variance() -> None:
    f = F.normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert feature_spread(f) == pytest.approx(float(f.double().var(dim=0, unbiased=False).sum()))
    assert feature_spread(f[:1].expand(9, 8)) == pytest.approx(0, abs=1e-6)
    assert feature_spread(f[:0]) == 0


def test_warnings_name_what_is_wrong() -> None:
    fine = {"visible": 0.5, "infrared": 0.5}
    assert epoch_warnings(fine, 10, 50, 0.01, 5.0) == []
    (line,) = epoch_warnings({"visible": 0.5, "infrared": 1e-5}, 10, 10, 0.01, 5.0)
    assert line.startswith("the infrared features collapse") and "MGOT.GUARD.MIN_SPREAD" in line
    (line,) = epoch_warnings(fine, 51, 10, 0.01, 5.0)
    assert line.startswith("51 visible clusters against 10")
    one, many = epoch_warnings(fine, 1, 9, 0.01, 5.0)
    assert one.startswith("all visible images are in one cluster") and many.startswith("9 infrared clusters against 1")


def test_the_hook_logs_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    logged: dict[str, float] = {}
    state = SimpleNamespace(epoch=3, f_v=torch.eye(4), f_r=torch.ones(4, 4) / 2, phi_v=torch.eye(4), phi_r=torch.eye(4))
    storage = SimpleNamespace(put_scalars=lambda smoothing_hint, **scalars: logged.update(scalars))
    hook = EpochGuardHook(min_spread=0.01, max_ratio=5.0)
    hook.trainer = SimpleNamespace(state=SimpleNamespace(epoch=state), storage=storage)
    hook.before_epoch()
    assert logged["visible/spread"] == pytest.approx(0.75) and logged["infrared/spread"] == pytest.approx(0)
    assert "epoch 3: the infrared features collapse" in caplog.text


def labelled(epoch: int, labels_v: list[int], previous: EpochState | None) -> EpochState:
    """An epoch whose visible images got these labels, whose infrared ones are always in two clusters."""
    f = F.normalize(torch.arange(1.0, 17.0).reshape(4, 4).cos(), dim=1)
    found = iter([np.array(labels_v), np.array([0, 0, 1, 1])])

    def clusterer(features: object) -> Clustering:
        y = next(found)
        return Clustering(y, int(y.max()) + 1, {})

    ids = np.arange(4)
    return label_epoch(epoch, f, f, ids, ids, previous, cast(Any, clusterer))


def test_other_processes_are_not_sent_the_features() -> None:
    state = labelled(0, [0, 0, 1, 1], None)
    rows = torch.randn(5000, 64)
    state.f_v, state.f_r = rows[:3000], rows[3000:]
    sent = pickle.loads(pickle.dumps(state.without_features()))
    assert len(pickle.dumps(state.without_features())) < 20_000
    assert sent.f_v.shape == sent.f_r.shape == (0, 64) and sent.labels.visible.tolist() == [0, 0, 1, 1]


def test_labels_without_use_give_way_to_the_last_usable_ones(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"epoch 0: the visible images form no cluster .*MGOT\.CLUSTER\.EPS"):
        labelled(0, [-1] * 4, None)
    one = labelled(0, [0, 0, 0, -1], None)
    assert len(one.phi_v) == 1
    two = labelled(1, [0, 0, 1, 1], one)
    for useless, told in (([0] * 4, "one cluster only"), ([-1] * 4, "no cluster")):
        caplog.clear()
        kept = labelled(2, useless, two)
        assert kept.labels.visible.tolist() == [0, 0, 1, 1] and kept.kept == ("visible",)
        assert f"the visible images form {told}; the labels of the epoch before are kept" in caplog.text
    assert labelled(2, [0, 0, 0, -1], one).labels.visible.tolist() == [0, 0, 0, -1]


def test_rows_without_members_are_refused() -> None:
    with pytest.raises(UserError, match=r"clusters \[1\] have no member"):
        cluster_means(torch.eye(3), torch.tensor([0, 2, 2]), 3)


@pytest.mark.parametrize("sharpness", [25.0, 1000.0])
def test_a_transport_that_does_not_converge_is_settled(sharpness: float) -> None:
    s = np.random.default_rng(0).uniform(-1, 1, (30, 20))
    assert not uniform_transport(s, sharpness, max_iterations=1).converged
    plan = settled_transport(s, sharpness, max_iterations=1)
    assert plan.converged and plan.failures[0].startswith("log-domain solver: marginal error")
    if plan.solver == "exact solver":
        assert len(plan.failures) == 2
        np.testing.assert_array_equal(plan.plan, exact_transport(s).plan)
    settled = settled_transport(s, 5.0)
    assert settled.failures == () and settled.solver == "log-domain solver"


def test_the_stabilised_solver_comes_before_the_exact_one() -> None:
    s = np.random.default_rng(3).uniform(-1, 1, (12, 9))
    solvers = {settled_transport(s, 200.0, max_iterations=n).solver for n in (5, 50, 100, 200, 300)}
    assert "stabilised solver" in solvers


def test_the_log_says_which_solver_helped(caplog: pytest.LogCaptureFixture) -> None:
    state = labelled(0, [0, 0, 1, 1], None)
    generator = torch.Generator().manual_seed(0)
    state.phi_v, state.phi_r = (F.normalize(torch.randn(k, 4, generator=generator), dim=1) for k in (30, 20))
    match_epoch(state, OTPA(sharpness=5000.0, max_iterations=1), partial(believe, "full"))
    assert "epoch 0: the transport did not converge (log-domain solver: marginal error" in caplog.text
    assert "MGOT.MATCHER.MAX_ITERATIONS" in caplog.text


UNSETTLED = {
    "unbalanced solver": Unbalanced(relaxation=500.0, max_iterations=2),
    "stabilised solver": RPNR(regularisation=0.001, max_iterations=1),
}


@pytest.mark.parametrize("solver", UNSETTLED)
def test_the_log_says_that_a_plan_is_not_settled(solver: str, caplog: pytest.LogCaptureFixture) -> None:
    state = labelled(0, [0, 0, 1, 1], None)
    generator = torch.Generator().manual_seed(0)
    state.phi_v, state.phi_r = (F.normalize(torch.randn(k, 4, generator=generator), dim=1) for k in (30, 20))
    match_epoch(state, UNSETTLED[solver], partial(believe, "full"))
    assert "epoch 0: the transport did not converge (" in caplog.text
    assert f"and the plan is that of the {solver}:" in caplog.text and "MGOT.MATCHER.REGULARISATION" in caplog.text


@st.composite
def feature_sets(draw: st.DrawFn) -> np.ndarray:
    """Any rows: duplicates, zeros, huge, tiny, infinite."""
    n, d = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    odd = st.sampled_from([0.0, 2.0**100, -(2.0**100), 2.0**-100, np.inf, NAN])
    values = st.one_of(st.floats(-3, 3, width=32), odd)
    rows = draw(arrays(np.float32, (n, d), elements=values))
    return rows[draw(arrays(np.int64, n, elements=st.integers(0, n - 1)))]


@settings(max_examples=60, deadline=None)
@example(f=np.full((2, 1), 1e-45, dtype=np.float32), k1=2, eps=0.5, min_samples=1)
@example(f=np.full((3, 4), 3e38, dtype=np.float32), k1=2, eps=0.5, min_samples=1)
@given(f=feature_sets(), k1=st.integers(1, 20), eps=st.floats(0.05, 0.95), min_samples=st.integers(1, 5))
def test_clustering_labels_or_explains(f: np.ndarray, k1: int, eps: float, min_samples: int) -> None:
    unusable = not np.isfinite(f).all() or (f == 0).all(axis=1).any()
    try:
        result = cluster(f, k1=k1, k2=1, eps=eps, min_samples=min_samples)
    except UserError as error:
        assert unusable and ("NaN or infinite" in str(error) or "zero" in str(error))
        return
    assert not unusable
    assert sorted(set(result.labels.tolist()) - {-1}) == list(range(result.n_clusters))


@settings(max_examples=60, deadline=None)
@given(
    k_v=st.integers(0, 7),
    k_r=st.integers(0, 7),
    repeats=st.booleans(),
    supply=st.sampled_from(["visible", "infrared"]),
    sharpness=st.sampled_from([1e-3, 25.0, 1e4]),
    seed=st.integers(0, 2**16),
)
def test_every_prototype_is_matched_where_both_modalities_have_one(
    k_v: int, k_r: int, repeats: bool, supply: str, sharpness: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    phi_v, phi_r = (rng.normal(size=(k, 3)).astype(np.float32) for k in (k_v, k_r))
    if repeats:  # all the same within a modality, opposite across
        phi_v[:], phi_r[:] = (0, 0, 1), (0, 0, -1)
    phi_v, phi_r = (p / np.linalg.norm(p, axis=1, keepdims=True) for p in (phi_v, phi_r))
    matching = OTPA(supply=supply, sharpness=sharpness, max_iterations=50)(Prototypes(phi_v, phi_r))
    both = k_v > 0 and k_r > 0
    assert ((matching.v2r >= 0) == both).all() and (matching.v2r < max(k_r, 1)).all()
    assert ((matching.r2v >= 0) == both).all() and (matching.r2v < max(k_v, 1)).all()
    if both:
        c_v, c_r = cross_labels(matching)
        phi_c = cross_prototypes(torch.as_tensor(phi_v), torch.as_tensor(phi_r), matching)
        assert torch.isfinite(phi_c).all() and max(c_v.max(), c_r.max()) < len(phi_c)


@settings(max_examples=60, deadline=None)
@given(
    k=st.integers(1, 5),
    b=st.integers(0, 12),
    momentum=st.floats(0, 0.99),
    scale=st.sampled_from([0.0, 1e-15, 1.0, 1e15]),
    seed=st.integers(0, 2**16),
)
def test_a_memory_stays_finite_and_no_longer_than_one(k: int, b: int, momentum: float, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    memory = PrototypeMemory(torch.randn(k, 4, generator=generator), momentum)
    y = torch.randint(-1, k, (b,), generator=generator)
    memory.update(scale * torch.randn(b, 4, generator=generator), y)
    assert torch.isfinite(memory.prototypes).all()
    assert (memory.prototypes.norm(dim=1) <= 1 + 1e-5).all()
