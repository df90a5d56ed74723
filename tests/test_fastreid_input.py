"""fast-reid's samplers and transforms in MGOT's loader."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import transforms as T

from mgot.data.fastreid_input import HOST_SAMPLERS, FastreidSampler, FastreidTransforms, FastreidViews
from mgot.data.items import INFRARED, VISIBLE, Item
from mgot.engine.run import train
from mgot.engine.setup import load_config
from mgot.engine.trainer import MGOTTrainer
from mgot.errors import UserError

DEMO = str(Path(__file__).resolve().parent.parent / "projects/MGOT/configs/demo.yml")
LABELS_V = np.repeat([0, 1, -1, 2, 3], 6)
LABELS_R = np.repeat([2, 1, 0, -1], 5)


def host_sampler(name: str, n_classes: int = 2, n_batches: int = 8) -> FastreidSampler:
    visible = [Item(f"v{i}.jpg", 0, 1 + i % 4, VISIBLE) for i in range(len(LABELS_V))]
    infrared = [Item(f"r{i}.jpg", 0, 3 + 3 * (i % 2), INFRARED) for i in range(len(LABELS_R))]
    return FastreidSampler(name, visible, infrared, n_classes, 3, n_batches, seed=5)


def states() -> list[str]:
    """Of the generators that all of a process shares."""
    legacy = np.random.get_state()  # noqa: NPY002
    return [str(random.getstate()), str(legacy), str(torch.get_rng_state().tolist())]


def drawn(sampler: FastreidSampler, epoch: int = 0, skip: int = 0) -> list[tuple[list[int], list[int]]]:
    sampler.set_epoch(epoch, LABELS_V, LABELS_R, None, None, skip=skip)
    return [(v.tolist(), r.tolist()) for v, r in sampler]


@pytest.mark.parametrize("name", HOST_SAMPLERS)
def test_batches_are_full_without_outliers_and_follow_from_the_seed(name: str) -> None:
    sampler = host_sampler(name)
    assert list(sampler) == []
    batches = drawn(sampler)
    assert len(batches) == len(sampler) == 8
    for visible, infrared in batches:
        assert len(visible) == len(infrared) == 6
        assert (LABELS_V[visible] >= 0).all() and (LABELS_R[np.array(infrared) - len(LABELS_V)] >= 0).all()
    before = states()
    assert drawn(host_sampler(name)) == batches
    assert states() == before
    assert drawn(sampler, epoch=1) != batches
    assert drawn(sampler, skip=3) == batches[3:]


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_samplers_by_identity_draw_k_images_of_p_clusters(name: str) -> None:
    for visible, infrared in drawn(host_sampler(name)):
        for labels in (LABELS_V[visible], LABELS_R[np.array(infrared) - len(LABELS_V)]):
            of_cluster = labels.reshape(2, 3)
            assert (of_cluster == of_cluster[:, :1]).all() and of_cluster[0, 0] != of_cluster[1, 0]


@pytest.mark.parametrize("name", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_too_few_clusters_are_said_and_not_searched_for_ever(name: str) -> None:
    with pytest.raises(UserError, match="needs 4 clusters of each modality and has 3"):
        drawn(host_sampler(name, n_classes=4))


def test_transforms_draw_anew_for_each_copy_and_leave_the_generators_alone() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 4), dtype=torch.uint8)
    flips = FastreidTransforms(T.Compose([T.RandomHorizontalFlip(0.5), T.PILToTensor(), lambda x: x.float()]))
    before = torch.get_rng_state()
    out = flips(images, seed=3, copies=4)
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(flips(images, seed=3, copies=4), out)
    mirrored = [
        bool(torch.equal(made, image.flip(2).float()))
        for made, image in zip(out, images.repeat(4, 1, 1, 1), strict=True)
    ]
    plain = [bool(torch.equal(made, image.float())) for made, image in zip(out, images.repeat(4, 1, 1, 1), strict=True)]
    assert all(a or b for a, b in zip(mirrored, plain, strict=True)) and any(mirrored) and any(plain)


def test_views_after_the_hosts_transforms_are_plain_then_one_channel_then_jittered() -> None:
    visible, infrared = torch.rand(6, 3, 4, 2) * 255, torch.rand(2, 3, 4, 2) * 255
    out = FastreidViews(gray_prob=0.0, infrared_jitter=0.0)(visible, infrared, torch.Generator())
    assert torch.equal(out[:3], visible[:3]) and torch.allclose(out[6:], infrared)
    for view, image in zip(out[3:6], visible[3:], strict=True):
        assert any(torch.allclose(view, channel.expand(3, 4, 2)) for channel in image)


def test_colours_jitter_after_the_hosts_transforms_in_the_second_view_only() -> None:
    visible, infrared = torch.rand(6, 3, 4, 2) * 255, torch.rand(2, 3, 4, 2) * 255
    out = FastreidViews(gray_prob=0.0, infrared_jitter=0.0, colour_jitter=0.5)(visible, infrared, torch.Generator())
    assert torch.equal(out[:3], visible[:3]) and torch.equal(out[6:], infrared)
    for view, image in zip(out[3:6], visible[3:], strict=True):
        assert not any(torch.allclose(view, channel.expand(3, 4, 2), atol=1.0) for channel in image)


def test_a_transform_of_the_hosts_alone_is_not_passed_over(tiny_options: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match=r"INPUT.CJ.ENABLED is fast-reid's transform: add MGOT.AUG.BY host"):
        MGOTTrainer.build_train_loader(load_config(DEMO, tiny_options("INPUT.CJ.ENABLED", True)))


def test_training_with_the_hosts_sampler_and_transforms_repeats_itself(
    tiny_options: Callable[..., list[str]], tmp_path: Path
) -> None:
    keys: tuple[object, ...] = (
        "MGOT.AUG.BY",
        "host",
        "INPUT.CJ.ENABLED",
        True,
        "DATALOADER.SAMPLER_TRAIN",
        "BalancedIdentitySampler",
    )
    keys = (*keys, "SOLVER.MAX_EPOCH", 1, "MGOT.CROSS_START_EPOCH", 0, "MGOT.TEST.STAGES", ["final"])
    losses = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        cfg = load_config(DEMO, tiny_options(*keys, "OUTPUT_DIR", str(folder)))
        torch.manual_seed(cfg.SEED)
        train(cfg, resume=False)
        lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
        losses.append([line["total_loss"] for line in lines if "total_loss" in line])
    assert losses[0] == losses[1] and np.isfinite(losses[0]).all() and losses[0]


@pytest.mark.parametrize("by", ["batch", "host"])
def test_the_keys_of_colours_and_cameras_reach_the_loader(by: str, tiny_options: Callable[..., list[str]]) -> None:
    keys = ("MGOT.AUG.BY", by, "MGOT.AUG.COLOUR_JITTER", 0.4, "MGOT.OTHER_CAMERAS", True)
    loader = MGOTTrainer.build_train_loader(load_config(DEMO, tiny_options(*keys)))
    assert loader.augmentation.colour_jitter == 0.4
    cameras = np.array([item.camera for item in loader.dataset.items])
    assert len(set(cameras[: loader.n_visible])) > 1 and len(set(cameras[loader.n_visible :])) > 1
    labels = np.zeros(loader.n_visible, np.int64), np.zeros(len(cameras) - loader.n_visible, np.int64)
    loader.sampler.set_epoch(0, *labels)
    for batch in loader.sampler:
        for first, *others in np.concatenate(batch).reshape(-1, loader.sampler.n_instances):
            assert (cameras[others] != cameras[first]).all()
