"""Batch augmentation against the per-image definition of each step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as TF

from mgot.data.transforms import (
    Augmentation,
    Laws,
    _crop_by_gather,
    _crop_by_slices,
    channel_view,
    colour_jitter,
    crop_and_flip,
    draw_laws,
    erase,
    level_jitter,
    turn_hue,
    under_laws,
    under_laws_each,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, h: int = 12, w: int = 8) -> Tensor:
    return torch.rand(n, 3, h, w, generator=seeded(9)) * 254 + 1


def crops(image: Tensor, padding: int) -> list[Tensor]:
    """Every crop of a padded image, and its mirror image."""
    _, h, w = image.shape
    padded = F.pad(image, [padding] * 4)
    found = [padded[:, i : i + h, j : j + w] for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
    return found + [crop.flip(2) for crop in found]


@pytest.mark.parametrize("padding", [0, 2])
def test_every_output_is_a_crop_of_its_padded_image(padding: int) -> None:
    x = images()
    for before, after in zip(x, crop_and_flip(x, padding, 0.5, seeded()), strict=True):
        assert any(torch.equal(after, crop) for crop in crops(before, padding))


def test_the_gather_of_gpus_crops_as_the_slices_of_processors() -> None:
    x, (top, left) = images(), torch.randint(0, 5, (2, 6, 1), generator=seeded())
    flip = torch.tensor([True, False] * 3)[:, None]
    gathered = _crop_by_gather(F.pad(x, [2] * 4), (12, 8), top, left, flip)
    sliced = _crop_by_slices(x, 2, *(part.flatten().tolist() for part in (top, left, flip)))
    assert torch.equal(gathered, sliced)


def test_flip_probability_is_obeyed() -> None:
    x = images(400, 2, 3)
    torch.testing.assert_close(crop_and_flip(x, 0, 0.0, seeded()), x)
    torch.testing.assert_close(crop_and_flip(x, 0, 1.0, seeded()), x.flip(3))
    flipped = (crop_and_flip(x, 0, 0.5, seeded()) != x).any(dim=(1, 2, 3)).float().mean()
    assert 0.4 < float(flipped) < 0.6


def test_erasing_fills_one_rectangle_of_the_stated_size() -> None:
    x = images(300, 40, 20)
    out = erase(x.clone(), 0.5, (0.0, 0.0, 0.0), seeded())
    gone = (out == 0).all(dim=1)
    assert 0.4 < float(gone.any(dim=(1, 2)).float().mean()) < 0.6
    for mask in gone[gone.any(dim=(1, 2))]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert int(mask.sum()) == int(rows * columns)
        assert 0.01 < float(mask.float().mean()) < 0.36
    assert torch.equal(erase(x.clone(), 0.0, (0.0, 0.0, 0.0), seeded()), x)


def test_channel_view_is_one_channel_or_luma() -> None:
    x = images(200)
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    gray = 0
    for before, after, grey in zip(x, channel_view(x, 0.5, seeded()), luma, strict=True):
        assert torch.equal(after[0], after[1]) and torch.equal(after[1], after[2])
        if torch.allclose(after[0], grey, atol=1e-3):
            gray += 1
        else:
            assert any(torch.equal(after[0], channel) for channel in before)
    assert 70 < gray < 130


def test_a_law_is_the_quadratic_of_each_pixel_at_lumas_level_and_contrast() -> None:
    x, laws = images(5), draw_laws(5, seeded(3))
    for image, after, w, a in zip(x, under_laws(x, laws), laws.linear, laws.square, strict=True):
        plain = torch.empty(12, 8)
        for i in range(12):
            for j in range(8):
                c = image[:, i, j] / 127.5 - 1
                plain[i, j] = w @ c + c @ a @ c
        luma = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)
        plain = (plain - plain.mean()) / plain.std(correction=0) * luma.std(correction=0) + luma.mean()
        torch.testing.assert_close(after, plain.clamp(0, 255).expand(3, 12, 8), atol=0.01, rtol=1e-4)


def test_a_law_leaves_nothing_of_the_colours_and_all_of_the_shape() -> None:
    """Two people of one shape whose colours are apart in hue look alike, or like a negative, under a linear law."""
    shape = (torch.rand(1, 12, 8, generator=seeded()) > 0.5).float()
    red = 50 + shape * torch.tensor([150.0, 10, 10]).view(3, 1, 1)
    blue = 50 + shape * torch.tensor([10.0, 10, 150]).view(3, 1, 1)
    law = Laws(torch.ones(2, 3), torch.zeros(2, 3, 3))
    seen = under_laws(torch.stack([red, blue]), law)[:, 0].flatten(1)
    assert float(torch.corrcoef(seen)[0, 1]) > 0.999
    flat = torch.full((1, 3, 4, 4), 80.0)
    torch.testing.assert_close(under_laws(flat, draw_laws(1, seeded())), flat, atol=1e-2, rtol=0)


def test_laws_follow_the_images_whatever_the_batches() -> None:
    x, laws = images(7), draw_laws(7, seeded(4))
    whole = under_laws(x, laws)
    for size in (1, 3, 7):
        batches = [{"images": part.to(torch.uint8).float(), "name": "kept"} for part in x.round().split(size)]
        seen = list(under_laws_each(batches, laws, torch.device("cpu")))
        assert all(batch["name"] == "kept" for batch in seen)
        assert torch.equal(torch.cat([batch["images"] for batch in seen]), under_laws(x.round(), laws))
    assert not torch.equal(whole, under_laws(x, draw_laws(7, seeded(5))))


def test_channel_views_under_laws_come_as_often_as_asked() -> None:
    x = images(300)
    plain, some = channel_view(x, 0.5, seeded()), channel_view(x, 0.5, seeded(), 0.4)
    assert torch.equal(plain, channel_view(x, 0.5, seeded(), 0.0))
    changed = (plain != some).flatten(1).any(dim=1)
    assert 90 < int(changed.sum()) < 150


@pytest.mark.parametrize("turn", [-0.5, -0.21, 0.0, 0.34, 0.5])
def test_a_turned_hue_is_torchvisions(turn: float) -> None:
    x = images(3)
    x[0], x[1, 2] = 70.0, x[1, 0]  # a grey image; one with two equal channels
    out = turn_hue(x, torch.full((3, 1, 1, 1), turn))
    assert torch.allclose(out, 255 * TF.adjust_hue(x / 255, turn), atol=1e-2)
    assert torch.equal(out.amax(dim=1), x.amax(dim=1))


def test_jitter_of_colours_is_torchvisions_with_each_images_own_numbers() -> None:
    x = images(20)
    out = colour_jitter(x, 0.4, seeded(3))
    drawn = 0.4 * (2 * torch.rand(4, 20, 1, 1, 1, generator=seeded(3)) - 1)
    for image, found, by in zip(x / 255, out / 255, drawn.flatten(1).T.tolist(), strict=True):
        expected = TF.adjust_saturation(
            TF.adjust_contrast(TF.adjust_brightness(image, 1 + by[0]), 1 + by[1]), 1 + by[2]
        )
        assert torch.allclose(found, TF.adjust_hue(expected, by[3]), atol=2e-3)


def test_no_jitter_of_colours_changes_and_draws_nothing() -> None:
    x, generator = images(4), seeded(3)
    assert colour_jitter(x, 0.0, generator) is x
    assert torch.equal(torch.rand(2, generator=generator), torch.rand(2, generator=seeded(3)))


def test_colours_jitter_in_the_second_visible_view_only() -> None:
    visible, infrared = images(4), images(3)
    augment = Augmentation(padding=0, flip_prob=0, erase_prob=0, gray_prob=0, infrared_jitter=0, colour_jitter=0.5)
    out = augment(visible, infrared, seeded())
    assert torch.equal(out[:4], visible) and torch.equal(out[8:], infrared)
    assert torch.equal(out[4:8, 0], out[4:8, 2])
    x, y = visible.flatten(2).double(), out[4:8, 0].flatten(1).double()
    for image, view in zip(x, y, strict=True):  # had the channel come first, the view would be an affine map of one
        inside = (view > 0) & (view < 255)
        correlations = [float(torch.corrcoef(torch.stack([channel[inside], view[inside]]))[0, 1]) for channel in image]
        assert max(map(abs, correlations)) < 0.999


def test_level_jitter_is_an_affine_map_inside_the_range() -> None:
    x = images(50)
    out = level_jitter(x.clone(), 0.2, seeded())
    assert float(out.min()) >= 0 and float(out.max()) <= 255
    assert torch.equal(level_jitter(x.clone(), 0.0, seeded()), x)
    inside = (out > 0) & (out < 255)
    for before, after, keep in zip(x, out, inside, strict=True):
        low, high = before[keep].argmin(), before[keep].argmax()
        gain = (after[keep][high] - after[keep][low]) / (before[keep][high] - before[keep][low])
        assert 0.8 <= float(gain) <= 1.2


def test_a_batch_is_two_visible_views_then_infrared_and_a_seed_fixes_it() -> None:
    visible, infrared = images(4).to(torch.uint8), images(3).to(torch.uint8)
    augment = Augmentation(padding=2)
    out = augment(visible, infrared, seeded(1))
    assert out.shape == (11, 3, 12, 8) and out.dtype == torch.float32
    assert torch.equal(out, augment(visible, infrared, seeded(1)))
    assert not torch.equal(out, augment(visible, infrared, seeded(2)))
    plain = Augmentation(padding=0, flip_prob=0, erase_prob=0, infrared_jitter=0)(visible, infrared, seeded())
    assert torch.equal(plain[:4], visible.float()) and torch.equal(plain[8:], infrared.float())
    assert torch.equal(plain[4:8, 0], plain[4:8, 1])
