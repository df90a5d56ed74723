"""Grounds of the generator: laws of infrared, styles of drawing, presets, and what must never change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from mgot.data.sets.sysu import read_sysu
from mgot.data.synthetic.camera import CAMERAS
from mgot.data.synthetic.canvas import Canvas
from mgot.data.synthetic.contrast import set_apart
from mgot.data.synthetic.figure_motifs import motif_share
from mgot.data.synthetic.figures import CONTRAST as FIGURE_CONTRAST
from mgot.data.synthetic.figures import MOTIFS, Motif, sample_figure
from mgot.data.synthetic.layout import STAMP, write_sysu
from mgot.data.synthetic.materials import COLOUR_LAWS, DYES, INFRARED_BAND, LAWS, OWN_RANGE, curve, dyed, luminance
from mgot.data.synthetic.people import sample_pose
from mgot.data.synthetic.presets import PRESETS, WITH_STRANGERS, preset
from mgot.data.synthetic.settings import Settings
from mgot.data.synthetic.studio import picture
from mgot.data.synthetic.styles import STYLES
from mgot.errors import UserError

TINY = Settings(train_identities=4, test_identities=3, visible_per_camera=2, infrared_per_camera=3, width=32)


@pytest.mark.parametrize("law", list(COLOUR_LAWS))
def test_cloth_obeys_the_law_up_to_its_residue(law: str) -> None:
    rng = np.random.default_rng(1)
    for dye in DYES.values():
        reflectance = dyed(dye, rng, residue=0.03, luminance_share=0.4, law=law).reflectance
        followed = 0.4 * luminance(reflectance) + 0.6 * COLOUR_LAWS[law](reflectance)
        if 0.1 < followed < 0.9 and reflectance[:3].max() < 0.97:
            assert abs(reflectance[INFRARED_BAND] - followed) <= 0.03 + 1e-9


def test_the_curve_shines_on_both_sides_of_grey() -> None:
    red, grey, blue = (np.array([*dye, 0.0]) for dye in ((0.7, 0.1, 0.1), (0.4, 0.4, 0.4), (0.1, 0.1, 0.7)))
    assert curve(red) == pytest.approx(0.2 + 0.55 * np.sqrt(0.37) + 0.25 * 0.9)
    assert curve(red) == curve(blue)
    assert curve(grey) < curve(red) - 0.25


def test_a_law_of_its_own_ignores_the_colour() -> None:
    rng = np.random.default_rng(2)
    cloths = np.array(
        [
            dyed(dye, rng, residue=9.0, luminance_share=1.0, law="own").reflectance
            for dye in DYES.values()
            for _ in range(60)
        ]
    )
    infrared = cloths[:, INFRARED_BAND]
    low, high = OWN_RANGE
    assert low <= infrared.min() < low + 0.02
    assert high - 0.02 < infrared.max() <= high
    for followed in (luminance(cloths), *(colour_law(cloths) for colour_law in COLOUR_LAWS.values())):
        assert abs(np.corrcoef(followed, infrared)[0, 1]) < 0.1


# Means of four quarters, top to bottom, of one picture by each camera, as the first release of the renderer drew it.
FIRST_RELEASE = (
    (91.78, 108.02, 167.61, 133.70),
    (90.40, 90.51, 102.32, 101.05),
    (58.43, 84.62, 110.05, 76.15),
    (174.95, 163.75, 173.25, 181.34),
    (58.21, 54.78, 72.75, 69.25),
    (132.95, 154.33, 161.00, 124.46),
)


def test_the_defaults_draw_what_they_always_drew() -> None:
    """A change here calls for another RENDERER_VERSION, and for new weights and results of the demo."""
    pictures = np.stack([picture(Settings(seed=5, width=32), 3, camera, 1) for camera in CAMERAS])
    quarters = pictures.reshape(len(CAMERAS), 4, -1).mean(axis=2)
    np.testing.assert_allclose(quarters, FIRST_RELEASE, atol=0.02)


def test_styles_share_the_cameras_modalities() -> None:
    for style in STYLES.values():
        assert {number: model.infrared for number, model in style.cameras.items()} == {
            number: model.infrared for number, model in CAMERAS.items()
        }
        assert {model.place for model in style.cameras.values()} == set(style.places)
        assert style.cameras[2].place == style.cameras[3].place


@pytest.mark.parametrize("style", STYLES)
def test_every_style_stands_its_people_in_the_frame(style: str) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        canvas = Canvas(np.zeros((64, 32, 4), dtype=np.float32))
        who = STYLES[style].sample(np.random.default_rng(number), residue=0.03, luminance_share=0.4)
        STYLES[style].draw(canvas, who, sample_pose(rng, wobble=0.3))
        rows, columns = (canvas.body.max(axis=axis) > 0.5 for axis in (1, 0))
        assert rows.mean() > 0.65
        assert columns.mean() > 0.2
        assert canvas.body[:, 16].mean() > 0.3
        assert canvas.body.mean() < 0.6
        assert np.isfinite(canvas.relief).all()


def test_figures_are_the_same_from_the_same_seed_and_others_than_walkers() -> None:
    figures = dataclasses.replace(TINY, style="figures")
    np.testing.assert_array_equal(picture(figures, 2, 5, 1), picture(figures, 2, 5, 1))
    for camera in CAMERAS:
        assert (picture(figures, 2, camera, 1) != picture(TINY, 2, camera, 1)).mean() > 0.5


@pytest.mark.parametrize("law", LAWS)
def test_a_figures_accents_stand_out_in_both_spectra(law: str) -> None:
    for number in range(20):
        top = sample_figure(np.random.default_rng(number), residue=0.03, luminance_share=0.0, law=law).top
        base, accent = top.base.reflectance, top.accent.reflectance
        assert abs(luminance(base) - luminance(accent)) >= FIGURE_CONTRAST
        assert abs(base[INFRARED_BAND] - accent[INFRARED_BAND]) >= FIGURE_CONTRAST


@pytest.mark.parametrize("kind", MOTIFS)
def test_motif_shares_are_shares(kind: str) -> None:
    u, v = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(0, 4, 41))
    share = np.asarray(motif_share(Motif(kind, 0.8, 0.3, 1), u, v))
    assert share.min() >= 0.0
    assert share.max() <= 1.0
    assert (np.ptp(share) > 0.9) == (kind != "plain")


def test_unknown_motif() -> None:
    with pytest.raises(ValueError, match="paisley"):
        motif_share(Motif("paisley", 0.5, 0.0, 0), np.zeros(2), np.zeros(2))


@pytest.mark.parametrize("name", PRESETS)
def test_a_tiny_copy_of_each_preset_is_read(name: str, tmp_path: Path) -> None:
    settings = preset(
        name, train_identities=2, test_identities=1, visible_per_camera=1, infrared_per_camera=1, width=16
    )
    lists = read_sysu(write_sysu(tmp_path, settings, processes=1).parent)
    assert [len(part) for part in (lists.visible, lists.infrared, lists.query, lists.gallery)] == [8, 4, 2, 4]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_differs_from_warm_in_what_it_names(name: str) -> None:
    ground, warm = preset(name).stamp(), preset("warm").stamp()
    assert {field for field in warm if ground[field] != warm[field]} == set(PRESETS[name])


def test_split_shows_the_same_people_to_infrared_and_others_to_each_pair_of_cameras() -> None:
    split, warm = (preset(name, width=32) for name in ("split", "warm"))
    for camera, model in CAMERAS.items():
        same = picture(split, 2, camera, 1) == picture(warm, 2, camera, 1)
        assert same.all() if model.infrared else same.mean() < 0.2

    def colours(settings: Settings, camera: int) -> np.ndarray:
        """Mean shares of red, green and blue."""
        mean = np.stack([picture(settings, identity, camera, 1) for identity in range(1, 13)]).mean(axis=(0, 1, 2))
        return mean / mean.sum()

    for settings, least, most in ((warm, 0.0, 0.1), (split, 0.25, 1.0)):
        apart = np.abs(colours(settings, 1) - colours(settings, 4)).max()
        assert least <= apart <= most
        assert np.abs(colours(settings, 1) - colours(settings, 2)).max() < 0.15


def test_a_contrast_of_zero_is_no_contrast() -> None:
    for camera, model in CAMERAS.items():
        assert set_apart(model, camera, 0.0) is model
        assert (set_apart(model, camera, 0.5) is model) == model.infrared


def test_warm_is_the_default_and_each_preset_its_own() -> None:
    assert preset("warm") == preset("unpaired") == Settings()
    drawn = {
        name: b"".join(picture(preset(name, width=32), 1, camera, 1).tobytes() for camera in (1, 3)) for name in PRESETS
    }
    assert len(set(drawn.values())) == len(PRESETS) - len(WITH_STRANGERS)
    changed = preset("cold", seed=7, width=32)
    assert (changed.seed, changed.width, changed.law) == (7, 32, "curve")
    with pytest.raises(UserError, match="tepid"):
        preset("tepid")


def test_a_tree_from_before_a_field_is_still_the_default(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, train_identities=2, test_identities=1, width=16)
    tree = write_sysu(tmp_path, settings, processes=1)
    stamp = json.loads((tree / STAMP).read_text())
    del stamp["law"]
    (tree / STAMP).write_text(json.dumps(stamp))
    before = (tree / STAMP).stat().st_mtime_ns
    write_sysu(tmp_path, settings, processes=1)
    assert (tree / STAMP).stat().st_mtime_ns == before
    write_sysu(tmp_path, dataclasses.replace(settings, law="own"), processes=1)
    assert json.loads((tree / STAMP).read_text())["law"] == "own"
