"""The generated people: same seed same files, the real layout, and an infrared that is no grey filter."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from mgot.data.sets.llcm import read_llcm
from mgot.data.sets.regdb import read_regdb
from mgot.data.sets.sysu import read_sysu
from mgot.data.synthetic.camera import CAMERAS, Nuisance
from mgot.data.synthetic.canvas import Canvas
from mgot.data.synthetic.contact_sheet import CAMERA_ROWS, contact_sheet, write_contact_sheet
from mgot.data.synthetic.layout import STAMP, write_sysu
from mgot.data.synthetic.materials import (
    DYES,
    INFRARED_BAND,
    dyed,
    luminance,
)
from mgot.data.synthetic.other_layouts import write_llcm, write_regdb
from mgot.data.synthetic.patterns import accent_share, logo_share
from mgot.data.synthetic.people import CONTRAST, LOGOS, PATTERNS, Pattern, sample_person
from mgot.data.synthetic.presets import PRESETS
from mgot.data.synthetic.settings import Settings
from mgot.data.synthetic.spectral import copy_channel, mix_spectrum
from mgot.data.synthetic.studio import person, picture
from mgot.errors import UserError
from tests.scripts import script

TINY = Settings(train_identities=4, test_identities=3, visible_per_camera=2, infrared_per_camera=3, width=32)
INFRARED = [camera for camera, model in CAMERAS.items() if model.infrared]


def digests(tree: Path) -> dict[str, str]:
    """Every image and list of a tree by its content; MATLAB files carry the time of day and are compared elsewhere."""
    files = (path for path in sorted(tree.rglob("*")) if path.is_file() and path.suffix != ".mat")
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sysu(tmp_path_factory.mktemp("demo"), TINY, processes=1)


def test_same_seed_same_files_whatever_the_processes(tree: Path, tmp_path: Path) -> None:
    assert digests(write_sysu(tmp_path, TINY, processes=2)) == digests(tree)


def test_a_picture_depends_on_nothing_but_its_own_numbers() -> None:
    alone = picture(TINY, 3, 5, 2)
    more = dataclasses.replace(TINY, train_identities=9, visible_per_camera=7)
    picture(more, 1, 1, 1)
    np.testing.assert_array_equal(picture(more, 3, 5, 2), alone)
    assert (picture(dataclasses.replace(TINY, seed=1), 3, 5, 2) != alone).any()
    assert (picture(TINY, 3, 5, 1) != alone).any()


def test_layout_and_counts(tree: Path) -> None:
    assert tree.name == "SYSU-MM01"
    for camera, model in CAMERAS.items():
        for identity in range(1, TINY.identities + 1):
            names = sorted(path.name for path in (tree / f"cam{camera}" / f"{identity:04d}").iterdir())
            count = 3 if model.infrared else 2
            assert names == [f"{number:04d}.jpg" for number in range(1, count + 1)]
    assert {path.name for path in (tree / "exp").iterdir()} == {
        "train_id.txt",
        "val_id.txt",
        "test_id.txt",
        "rand_perm_cam.mat",
    }
    assert (tree / "exp" / "train_id.txt").read_text() == "1,2,3\n"
    assert (tree / "exp" / "val_id.txt").read_text() == "4\n"
    assert (tree / "exp" / "test_id.txt").read_text() == "5,6,7\n"
    assert Image.open(tree / "cam1" / "0001" / "0001.jpg").size == (32, 64)


def test_a_tenth_of_the_training_identities_is_for_validation(tmp_path: Path) -> None:
    settings = Settings(train_identities=20, test_identities=1, visible_per_camera=1, infrared_per_camera=1, width=16)
    folder = write_sysu(tmp_path, settings, processes=1) / "exp"
    training, validation = (folder / f"{name}_id.txt" for name in ("train", "val"))
    assert [int(identity) for identity in validation.read_text().split(",")] == [19, 20]
    assert [int(identity) for identity in training.read_text().split(",")] == list(range(1, 19))


def test_permutations_have_the_official_nesting(tree: Path) -> None:
    permutations = loadmat(tree / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    assert permutations.shape == (6, 1)
    for camera, model in CAMERAS.items():
        assert permutations[camera - 1][0].shape == (TINY.identities, 1)
        for identity in range(1, TINY.identities + 1):
            draws = permutations[camera - 1][0][identity - 1][0]
            count = 3 if model.infrared else 2
            assert draws.shape == (10, count)
            assert all(sorted(row) == list(range(1, count + 1)) for row in draws.tolist())


def test_infrared_is_grey_and_visible_is_not(tree: Path) -> None:
    for camera in CAMERAS:
        pixels = np.asarray(Image.open(tree / f"cam{camera}" / "0002" / "0001.jpg").convert("RGB"), dtype=int)
        spread = np.ptp(pixels, axis=2)
        if camera in INFRARED:
            assert spread.max() <= 1
        else:
            assert spread.mean() > 5


def test_infrared_follows_luminance_only_in_part() -> None:
    rng = np.random.default_rng(0)
    settings = Settings()
    cloths = np.array(
        [
            dyed(dye, rng, residue=settings.residue, luminance_share=settings.luminance_share).reflectance
            for dye in DYES.values()
            for _ in range(40)
        ]
    )
    correlation = np.corrcoef(luminance(cloths), cloths[:, INFRARED_BAND])[0, 1]
    assert 0.1 < correlation < 0.8


def test_accents_stand_out_in_both_spectra() -> None:
    for number in range(30):
        upper = sample_person(np.random.default_rng(number), residue=0.03, luminance_share=0.25).upper
        base, accent = upper.base.reflectance, upper.accent.reflectance
        assert abs(luminance(base) - luminance(accent)) >= CONTRAST
        assert abs(base[INFRARED_BAND] - accent[INFRARED_BAND]) >= CONTRAST


def test_people_differ_more_than_pictures_of_one() -> None:
    calm = dataclasses.replace(TINY, nuisance=Nuisance(wobble=0.2, light=0.2, occlusion=0.0, noise=0.2, blur=0.5))
    shots = np.stack([[picture(calm, identity, 1, n)[:, 8:24] for n in range(6)] for identity in range(1, 7)]) / 255.0
    means = shots.mean(axis=1)
    within = np.square(shots - means[:, None]).mean()
    between = np.square(means - means.mean(axis=0)).mean() * 6
    assert between > within


def test_same_settings_write_nothing_and_others_write_anew(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, train_identities=2, test_identities=1)
    written = write_sysu(tmp_path, settings, processes=1)
    image = written / "cam1" / "0001" / "0001.jpg"
    image.write_bytes(b"touched")
    write_sysu(tmp_path, settings, processes=1)
    assert image.read_bytes() == b"touched"
    write_sysu(tmp_path, dataclasses.replace(settings, seed=7), processes=1)
    assert image.read_bytes() != b"touched"
    assert json.loads((written / STAMP).read_text())["seed"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["SYSU-MM01"]


def test_foreign_data_is_never_replaced(tmp_path: Path) -> None:
    real = tmp_path / "SYSU-MM01" / "cam1" / "0001" / "0001.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"real")
    with pytest.raises(UserError, match="was not generated"):
        write_sysu(tmp_path, TINY, processes=1)
    assert real.read_bytes() == b"real"


@pytest.mark.parametrize(
    "stamp", ["{}", '{"a": 1}', "[" * 20_000, "[]", '{"nuisance": {}}', json.dumps({**TINY.stamp(), "nuisance": {}})]
)
def test_a_stamp_that_is_not_ours_is_foreign_data(stamp: str, tmp_path: Path) -> None:
    path = tmp_path / "SYSU-MM01" / STAMP
    path.parent.mkdir()
    path.write_text(stamp)
    for settings in (TINY, Settings()):
        with pytest.raises(UserError, match=r"was not generated \(demo\.json missing or damaged\); choose another"):
            write_sysu(tmp_path, settings, processes=1)
    assert path.read_text() == stamp and len(list(tmp_path.rglob("*"))) == 2


def test_a_stamp_of_the_first_version_has_the_defaults_of_later_fields(tmp_path: Path) -> None:
    path = tmp_path / "SYSU-MM01" / STAMP
    path.parent.mkdir()
    later = ("validation_identities", "style", "law", "camera_contrast")
    path.write_text(json.dumps({key: value for key, value in Settings().stamp().items() if key not in later}))
    write_sysu(tmp_path, Settings(), processes=1)
    assert [each.name for each in path.parent.iterdir()] == [STAMP]


def test_nothing_half_written_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mgot.data.synthetic.layout._take", fail)
    with pytest.raises(KeyboardInterrupt):
        write_sysu(tmp_path, TINY, processes=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_identities": 1},
        {"seed": -1},
        {"test_identities": 10_000},
        {"width": 3},
        {"infrared_per_camera": 0},
        {"law": "none"},
        {"style": "none"},
        {"camera_contrast": -0.5},
        {"camera_contrast": float("nan")},
    ],
)
def test_settings_refuse(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", PATTERNS)
def test_pattern_shares_are_shares(kind: str) -> None:
    u, v = np.meshgrid(np.linspace(-1, 1, 21), np.linspace(0, 4, 41))
    share = np.asarray(accent_share(Pattern(kind, 0.6, 0.3, 0.5), u, v))
    assert share.min() >= 0.0
    assert share.max() <= 1.0
    assert (np.ptp(share) > 0.9) == (kind != "plain")


def test_unknown_pattern_and_logo() -> None:
    u = np.zeros((2, 2))
    with pytest.raises(ValueError, match="paisley"):
        accent_share(Pattern("paisley", 0.5, 0.0, 0.5), u, u)
    with pytest.raises(ValueError, match="heart"):
        logo_share("heart", u, u)
    for kind in LOGOS[1:]:
        assert np.max(logo_share(kind, np.array([0.0, 0.4]), np.array([0.75, 0.75]))) == 1.0


def test_a_limb_covers_its_axis_and_nothing_far_off() -> None:
    canvas = Canvas(np.zeros((40, 20, 4), dtype=np.float32))
    canvas.paint(canvas.limb((10.0, 5.0), (10.0, 30.0), 3.0, 2.0), np.ones(4))
    assert canvas.reflectance[17, 10].min() == 1.0
    assert canvas.reflectance[17, 2].max() == 0.0
    assert canvas.reflectance[38, 10].max() == 0.0


def test_shapes_outside_the_canvas_change_nothing() -> None:
    canvas = Canvas(np.zeros((40, 20, 4), dtype=np.float32))
    canvas.paint(canvas.ellipse((-50.0, 10.0), 4.0, 5.0), np.ones(4))
    canvas.paint(canvas.limb((100.0, 80.0), (120.0, 90.0), 3.0, 3.0), np.ones(4))
    assert canvas.reflectance.max() == 0.0


@pytest.mark.parametrize("augment", [copy_channel, mix_spectrum])
def test_colour_is_taken_away(augment: object) -> None:
    assert callable(augment)
    images = np.stack([picture(TINY, identity, 1, 1) for identity in (1, 2, 3)])
    grey = augment(images, np.random.default_rng(0))
    assert grey.shape == images.shape
    assert grey.dtype == np.uint8
    assert np.ptp(grey, axis=3).max() == 0
    assert grey.std() > 5


def test_figure(tmp_path: Path) -> None:
    sheet = contact_sheet(TINY, people=2, width=16)
    assert sheet.shape == (len(CAMERA_ROWS) * 36 - 4, 2 * 20 - 4, 3)
    path = write_contact_sheet(tmp_path / "deep" / "people.png", TINY, people=2)
    assert Image.open(path).format == "PNG"
    with pytest.raises(UserError, match="cannot write"):
        write_contact_sheet(tmp_path, TINY, people=1)


def test_person_is_one_and_the_same() -> None:
    assert person(TINY, 1) is person(TINY, 1)
    assert person(TINY, 1) != person(TINY, 2)


def test_command(tmp_path: Path) -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "make_demo_data.py"
    base = ["--root", str(tmp_path), "--test-ids", "1", "--visible", "1", "--infrared", "1", "--train-ids"]
    done = subprocess.run([sys.executable, str(tool), *base, "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "SYSU-MM01" / "cam6" / "0003" / "0001.jpg").is_file()
    assert script(tool).main([*base, "2", "--preset", "cold", "--processes", "1"]) == 0
    assert json.loads((tmp_path / "SYSU-MM01" / STAMP).read_text())["law"] == PRESETS["cold"]["law"]


def test_regdb_layout_is_read_by_its_reader(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, width=16)
    tree = write_regdb(tmp_path, settings, processes=1)
    with Image.open(tree / "Thermal" / "2" / "thermal_00001.bmp") as image:
        assert (image.format, image.size) == ("BMP", (16, 32))
    splits = [read_regdb(tmp_path, split) for split in range(1, 11)]
    for lists in splits:
        assert [len(part) for part in (lists.visible, lists.infrared, lists.query, lists.gallery)] == [8, 12, 9, 6]
        assert {item.identity for item in lists.visible} == {item.identity for item in lists.infrared} == set(range(4))
    assert len({tuple(item.path for item in lists.visible) for lists in splits}) > 1


def test_llcm_layout_is_read_by_its_reader(tmp_path: Path) -> None:
    settings = Settings(train_identities=2, test_identities=1, visible_per_camera=1, infrared_per_camera=1, width=16)
    lists = read_llcm(write_llcm(tmp_path, settings, processes=1).parent)
    assert [len(part) for part in (lists.visible, lists.infrared, lists.query, lists.gallery)] == [18, 16, 8, 9]
    assert {item.camera for item in lists.visible} == set(range(1, 10))
    assert {item.camera for item in lists.query} == {1, 2, 4, 5, 6, 7, 8, 9}
    assert {item.identity for item in lists.query} == {item.identity for item in lists.gallery} == {3}
    assert lists.visible[0].identity == 0
    pictures = {Path(item.path).read_bytes() for item in lists.visible}
    assert len(pictures) == 18


def test_sysu_layout_is_read_by_its_reader(tree: Path) -> None:
    lists = read_sysu(tree.parent)
    assert [len(part) for part in (lists.visible, lists.infrared, lists.query, lists.gallery)] == [32, 24, 18, 24]
