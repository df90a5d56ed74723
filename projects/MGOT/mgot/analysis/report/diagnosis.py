"""The diagnosis in words: rules on what a run recorded. All [ours], and rules of thumb.

An *epoch* here is one mapping of measures to values, by the names of metrics.json; measures may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from mgot.analysis.diagnostics.run import Run
from mgot.forms import figure

Epochs = Mapping[int, Mapping[str, float]]
Config = Mapping[str, Any]

PROBLEM, WARNING, NOTE, GOOD = "problem", "warning", "note", "good"
CROWDED_SHARE = 0.3  # of the supply clusters in three demand clusters
CROWDED_TIMES = 3.0  # and so many times an even load
EMPTY_SHARE = 0.5  # of the demand clusters that were not taken
OUTLIER_SHARE = 0.5  # of the images
GIANT_SHARE = 0.5  # of the clustered images in one cluster
FEW_TIMES = 3.0  # times as many clusters in one modality as in the other
FAIRNESS_FALL = 0.1
STUCK_EPOCHS = 3
STUCK_ACCURACY = 0.5
STUCK_GAIN = 0.02
LOSS_RISE = 1.5


class Finding(NamedTuple):
    """One remark.

    Attributes:
        level: "problem", "warning", "note" or "good".
        text: what was seen, and when.
        remedy: what to try; may be empty.
    """

    level: str
    text: str
    remedy: str = ""


def diagnose(run: Run) -> list[Finding]:
    """Findings on a run, the gravest first; a healthy run gets one that says so."""
    epochs = by_epoch(run)
    found = [finding for rule in RULES for finding in rule(epochs, run.config)]
    found += [*_scores(run), *_end(run, epochs)]
    grave = [finding for finding in found if finding.level in (PROBLEM, WARNING)]
    if epochs and not grave:
        found.append(_healthy(epochs))
    order = (PROBLEM, WARNING, GOOD, NOTE)
    return sorted(found, key=lambda finding: order.index(finding.level))


def by_epoch(run: Run) -> dict[int, dict[str, float]]:
    """The finite measures of each epoch; for a repeated epoch, its last values."""
    epochs: dict[int, dict[str, float]] = {}
    for line in run.metrics:
        own = epochs.setdefault(int(line["iteration"]) // run.steps_per_epoch, {})
        own.update({name: value for name, value in line.items() if figure(value)})
    return dict(sorted(epochs.items()))


def _first(epochs: Epochs, holds: Callable[[Mapping[str, float]], bool]) -> int | None:
    return next((epoch for epoch, measures in epochs.items() if holds(measures)), None)


def _sides(config: Config) -> tuple[str, str]:
    supply = config.get("MGOT.MATCHER.SUPPLY", "visible")
    return supply, "infrared" if supply == "visible" else "visible"


def _load_in_words(measures: Mapping[str, float], config: Config) -> str:
    supply, demand = _sides(config)
    top, empty = measures.get("matching/load_top3", 0.0), measures.get("matching/load_empty", 0.0)
    return f"3 {demand} clusters take {top:.0%} of the {supply} ones, and {empty:.0%} are never taken"


def crowded(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """Most matches go to a few demand clusters: the collapse of the paper's Fig. 3."""
    _, demand = _sides(config)

    def holds(measures: Mapping[str, float]) -> bool:
        even = 3.0 / max(measures.get(f"{demand}/clusters", 0.0), 3.0)
        top = measures.get("matching/load_top3", 0.0)
        return (
            top >= max(CROWDED_SHARE, CROWDED_TIMES * even) or measures.get("matching/load_empty", 0.0) >= EMPTY_SHARE
        )

    epoch = _first(epochs, holds)
    off = config.get("MGOT.MATCHER.UNIFORM_PRIOR") is False
    if epoch is not None:
        prior = "The uniform prior is off (MGOT.MATCHER.UNIFORM_PRIOR False) and the" if off else "The"
        remedy = "set MGOT.MATCHER.UNIFORM_PRIOR True" if off else "raise MGOT.MATCHER.LAMBDA, or look at the clusters"
        text = f"{prior} matching is crowded from epoch {epoch} on: {_load_in_words(epochs[epoch], config)}."
        yield Finding(PROBLEM, text, remedy)
    elif off and epochs:
        worst = max(epochs, key=lambda each: epochs[each].get("matching/load_top3", 0.0))
        told = f"in epoch {worst}, {_load_in_words(epochs[worst], config)}"
        yield Finding(
            WARNING, f"The uniform prior is off (MGOT.MATCHER.UNIFORM_PRIOR False): {told}.", "set it to True"
        )


def unfair(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """Fairness of the predictions against the cross memory falls."""
    for letter, name in (("v", "visible"), ("r", "infrared")):
        best = 0.0
        for epoch, measures in epochs.items():
            value = measures.get(f"fairness/{letter}_c")
            if value is None:
                continue
            if value < best - FAIRNESS_FALL:
                text = (
                    f"Fairness of the {name} predictions fell at epoch {epoch}, from {best:.2f} to {value:.2f}:"
                    f" {_load_in_words(measures, config)}."
                )
                yield Finding(PROBLEM, text, "look at the clusters and the plan of that epoch")
                break
            best = max(best, value)


def clusters_wrong(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """Too many outliers, one cluster that holds most, or modalities that cluster differently."""
    eps = config.get("MGOT.CLUSTER.EPS", "not recorded")
    for name in ("visible", "infrared"):
        giant = _first(epochs, lambda m, n=name: m.get(f"{n}/size_max_share", 0.0) >= GIANT_SHARE)  # type: ignore[misc]
        if giant is not None:
            clusters, share = epochs[giant].get(f"{name}/clusters", 0), epochs[giant][f"{name}/size_max_share"]
            text = f"One cluster of {clusters:.0f} has {share:.0%} of the clustered {name} images at epoch {giant}."
            yield Finding(PROBLEM, text, f"MGOT.CLUSTER.EPS is too large (now {eps}): lower it")
        lost = _first(epochs, lambda m, n=name: m.get(f"{n}/outliers", 0.0) >= OUTLIER_SHARE)  # type: ignore[misc]
        if lost is not None:
            share = epochs[lost][f"{name}/outliers"]
            text = f"{share:.0%} of the {name} images are outliers at epoch {lost} and do not train."
            yield Finding(PROBLEM, text, f"MGOT.CLUSTER.EPS is too small (now {eps}): raise it, or lower MIN_SAMPLES")
    uneven = _first(epochs, _uneven)
    if uneven is not None:
        v, r = epochs[uneven]["visible/clusters"], epochs[uneven]["infrared/clusters"]
        text = f"The modalities cluster differently at epoch {uneven}: {v:.0f} visible clusters, {r:.0f} infrared ones."
        yield Finding(WARNING, text, "one eps does not suit both; look at the cluster sizes")


def _uneven(measures: Mapping[str, float]) -> bool:
    counts = [measures.get(f"{name}/clusters", 0.0) for name in ("visible", "infrared")]
    return min(counts) > 0 and max(counts) >= FEW_TIMES * min(counts)


def unsolved(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """Sinkhorn stopped before the marginals were right."""
    bad = [epoch for epoch, measures in epochs.items() if measures.get("transport/converged", 1.0) == 0.0]
    if bad:
        error = max(epochs[epoch].get("transport/marginal_error", 0.0) for epoch in bad)
        text = (
            f"The transport did not converge in {len(bad)} of {len(epochs)} epochs, first in epoch {bad[0]};"
            f" the marginals are off by up to {error:.1%}."
        )
        now = config.get("MGOT.MATCHER.MAX_ITERATIONS", "not recorded")
        yield Finding(WARNING, text, f"raise MGOT.MATCHER.MAX_ITERATIONS (now {now}) or lower MGOT.MATCHER.LAMBDA")


def stuck(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """The matching does not change, but it is mostly wrong; without ground truth: few of its matches are mutual."""
    start = int(config.get("MGOT.CROSS_START_EPOCH", 0))
    for name, told in (("truth/matching_accuracy", "right"), ("matching/one_to_one", "mutual")):
        values = [measures[name] for epoch, measures in epochs.items() if epoch >= start and name in measures]
        tail = values[-STUCK_EPOCHS:]
        if (
            len(values) > STUCK_EPOCHS
            and max(tail) < STUCK_ACCURACY
            and max(tail) - values[-STUCK_EPOCHS - 1] < STUCK_GAIN
        ):
            text = f"The matching is stuck: {tail[-1]:.0%} of it is {told}, as {STUCK_EPOCHS} epochs before."
            remedy = "start the cross stage later (MGOT.CROSS_START_EPOCH) or from better weights"
            yield Finding(WARNING, text, remedy)
            return


def rising_loss(epochs: Epochs, config: Config) -> Iterator[Finding]:
    """The loss of the cross stage rises."""
    start = int(config.get("MGOT.CROSS_START_EPOCH", 0))
    losses = {e: m["total_loss"] for e, m in epochs.items() if e >= start and "total_loss" in m}
    if len(losses) > 1:
        best = min(losses, key=lambda epoch: losses[epoch])
        last = max(losses)
        if losses[best] > 0 and losses[last] > LOSS_RISE * losses[best]:
            text = f"The loss rose from {losses[best]:.2f} in epoch {best} to {losses[last]:.2f} in epoch {last}."
            yield Finding(WARNING, text, "lower SOLVER.BASE_LR, or look at the matching of those epochs")


RULES = (crowded, unfair, clusters_wrong, unsolved, stuck, rising_loss)


def _scores(run: Run) -> Iterator[Finding]:
    rows = run.results.get("rows", [])
    initial = {row["protocol"]: row for row in rows if row.get("stage") == "initial"}
    for row in run.rows[:1]:
        before = initial.get(row["protocol"])
        if before is not None:
            words = f"Rank-1 on {row['protocol']}: {before['rank1']:.2f} before training, {row['rank1']:.2f} after."
            if row["rank1"] < before["rank1"]:
                yield Finding(PROBLEM, f"Training made it worse. {words}", "look at the epochs below")
            else:
                yield Finding(NOTE, words)


def _end(run: Run, epochs: Epochs) -> Iterator[Finding]:
    if not epochs:
        eps = run.config.get("MGOT.CLUSTER.EPS", "not recorded")
        text = "No epoch was recorded: the training stopped in its first one, or has not ended it yet."
        remedy = f"if it said that a modality forms no cluster, MGOT.CLUSTER.EPS is too small (now {eps}); see log.txt"
        yield Finding(WARNING, text, remedy)
    elif run.status.startswith("unfinished"):
        yield Finding(NOTE, f"The run is {run.status}.", "continue with --resume")


def _healthy(epochs: Epochs) -> Finding:
    last = epochs[max(epochs)]
    parts = [
        f"{last['matching/one_to_one']:.0%} of the matches are mutual" if "matching/one_to_one" in last else "",
        f"fairness is {last['fairness/v_c']:.2f}" if "fairness/v_c" in last else "",
        f"{last['visible/outliers']:.0%} of the visible images are outliers" if "visible/outliers" in last else "",
    ]
    told = ", ".join(part for part in parts if part)
    return Finding(GOOD, f"Healthy: no rule found anything wrong{'; at the end ' + told if told else ''}.")
