"""The demo's initial weights: how they are made, kept and loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mgot.data.synthetic.settings import Settings
from mgot.errors import UserError

pytest.importorskip("fastreid")

from mgot.data.synthetic.pretrain import PEOPLE, Recipe, _pictures_of, pretrain, save_half
from mgot.modeling.backbones import BLOCKS_PER_STAGE, SLIM_WIDTHS, SlimResNet
from mgot.modeling.weights import load_backbone_weights

SHIPPED = Path(__file__).resolve().parents[1] / "projects" / "MGOT" / "weights" / "demo_slim_resnet.pth"
FEW = Settings(seed=5, train_identities=4, visible_per_camera=2, width=32)


def slim(widths: tuple[int, ...] = SLIM_WIDTHS) -> SlimResNet:
    return SlimResNet(widths=widths, blocks=BLOCKS_PER_STAGE["10x"], last_stride=1, norm="BN")


@pytest.fixture(scope="module")
def shown() -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([_pictures_of(FEW, identity) for identity in range(1, 5)]), np.repeat(np.arange(4), 8)


def test_only_visible_images_of_people_who_are_not_in_the_demo(shown: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = shown
    assert images.shape == (len(labels), 64, 32, 3)
    assert (np.ptp(images.astype(int), axis=3).mean(axis=(1, 2)) > 3).all()
    assert PEOPLE.seed != Settings().seed


def test_training_lowers_the_loss_and_repeats_itself(shown: tuple[np.ndarray, np.ndarray]) -> None:
    recipe = dataclasses.replace(Recipe(), people=FEW, epochs=8, batch=16, erased=0.0)
    model, losses = pretrain(recipe, *shown)
    assert len(losses) == 8
    assert losses[-1] < 0.9 * losses[0]
    again, _ = pretrain(dataclasses.replace(recipe, epochs=1), *shown)
    once_more, _ = pretrain(dataclasses.replace(recipe, epochs=1), *shown)
    assert not model.training
    for one, other in zip(again.state_dict().values(), once_more.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_weights_survive_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, copy = slim(), slim()
    path = tmp_path / "deep" / "weights.pth"
    save_half(model, path)
    load_backbone_weights(copy, str(path))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert copy.conv1.weight.dtype is torch.float32
    assert [file.name for file in path.parent.iterdir()] == ["weights.pth"]


def test_slim_resnet_has_the_hosts_stages() -> None:
    model = slim().eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 128, 64)).shape == (2, 256, 8, 4)
    assert all(hasattr(model, f"layer{stage}") for stage in (1, 2, 3, 4))


def test_unfit_weights_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        load_backbone_weights(slim(), str(tmp_path / "none.pth"))
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"no weights at all")
    with pytest.raises(UserError, match="not a readable file of tensors"):
        load_backbone_weights(slim(), str(garbage))
    save_half(slim((8, 16, 32, 64)), tmp_path / "narrow.pth")
    with pytest.raises(UserError, match="does not fit"):
        load_backbone_weights(slim(), str(tmp_path / "narrow.pth"))


def test_shipped_weights_are_small_plain_and_fit() -> None:
    assert SHIPPED.stat().st_size <= 3_000_000
    state = torch.load(SHIPPED, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    load_backbone_weights(slim(), str(SHIPPED))
