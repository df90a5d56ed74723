"""Images of one's own in folders: what is read, what is refused, and a training with and without identities."""

from __future__ import annotations

import json
import logging
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgot.analysis.pictures.album import draw_run
from mgot.analysis.report.page import write_report
from mgot.data.check import check_dataset
from mgot.data.items import INFRARED, VISIBLE, cameras, identities
from mgot.data.loaders import build_dataset, build_train_loader
from mgot.data.sets.folder import Folder
from mgot.engine.run import evaluate, train
from mgot.engine.setup import default_config, load_config
from mgot.errors import UserError
from mgot.evaluation import score_protocols
from mgot.truth import UNKNOWN_IDENTITY
from tests.trees import FOLDER_PEOPLE, coloured_images, folder_tree, write_images

REPO = Path(__file__).resolve().parent.parent
DEMO = str(REPO / "projects/MGOT/configs/demo.yml")
Options = Callable[..., list[str]]
NAMES = ("DATASETS.NAMES", "('Folder',)", "DATASETS.TESTS", "('Folder',)")
BOTH = ["folder-visible-to-infrared", "folder-infrared-to-visible"]


@pytest.fixture(name="check", scope="module")
def fixture_check() -> Callable[[list[str]], int]:
    return runpy.run_path(str(REPO / "tools/check_dataset.py"))["main"]


def names_of(items: Any) -> list[str]:
    return [Path(item.path).name for item in items]


def test_what_is_read(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    lists = Folder().read(tmp_path)
    assert lists.remarks == []
    assert names_of(lists.visible) == [f"{person}_{n}.jpg" for person in FOLDER_PEOPLE["train"] for n in range(2)]
    assert [len(items) for items in lists[:4]] == [6, 6, 10, 10]
    for items, modality in ((lists.visible + lists.gallery, VISIBLE), (lists.infrared + lists.query, INFRARED)):
        assert {item.modality for item in items} == {modality}
    people = {Path(item.path).parent.name: item.identity for item in lists.visible + lists.infrared + lists.pool}
    assert len(set(people.values())) == len(people) == 6
    for item in lists.visible + lists.infrared + lists.pool:
        assert people[Path(item.path).parent.name] == item.identity


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "jpeg", "png", "bmp"])
def test_kinds_of_images(tmp_path: Path, suffix: str) -> None:
    folder = folder_tree(tmp_path, suffix=suffix)
    for other in ("notes.txt", "._anna_0.jpg", "Thumbs.db"):
        (folder / "visible/train/anna" / other).write_text("x")
    (folder / "visible/train/.cache").mkdir()
    lists = Folder().read(tmp_path)
    assert (len(lists.visible), lists.remarks) == (6, [])


def test_cameras_come_from_names(tmp_path: Path) -> None:
    place = folder_tree(tmp_path) / "visible/gallery/dora"
    names = {"c3_1.jpg": 3, "c012_x.jpg": 12, "c_1.jpg": 0, "cam4_1.jpg": 0, "C5_1.jpg": 0, "c²_1.jpg": 0}
    names[f"c{'9' * 30}_1.jpg"] = 0
    write_images(place, names)
    lists = Folder().read(tmp_path)
    found = dict(zip(names_of(lists.gallery), cameras(lists.gallery).tolist(), strict=True))
    assert {name: found[name] for name in names} == names
    order = [(item.camera, item.identity, item.path) for item in lists.gallery]
    assert order == sorted(order)


def test_training_images_without_identities(tmp_path: Path) -> None:
    folder_tree(tmp_path, named=False)
    data = Folder()
    lists = data.read(tmp_path)
    assert {item.identity for item in lists.visible + lists.infrared} == {UNKNOWN_IDENTITY}
    assert (len(lists.visible), len(lists.infrared), lists.remarks) == (6, 6, [])
    assert data.counts(lists)["training identities"] == 0
    assert data.counts(lists)["test identities"] == 3


def test_some_without_identities_are_remarked(tmp_path: Path) -> None:
    folder = folder_tree(tmp_path)
    write_images(folder / "visible/train", ["loose.jpg"])
    lists = Folder().read(tmp_path)
    (remark,) = lists.remarks
    assert "visible/train: 1 of 7 images are not in a person's folder, so the figures of visible below truth/" in remark
    assert lists.visible[0].identity == UNKNOWN_IDENTITY not in identities(lists.visible[1:])


def test_each_query_searches_the_gallery_of_the_other_modality(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    data = Folder()
    lists = data.read(tmp_path)
    protocols = data.protocols(tmp_path, lists)
    assert [protocol.name for protocol in protocols] == BOTH
    for protocol, source, target in zip(protocols, ("visible", "infrared"), ("infrared", "visible"), strict=True):
        (trial,) = protocol.trials
        assert {Path(lists.pool[i].path).parts[-4:-2] for i in trial.query} == {(source, "query")}
        assert {Path(lists.pool[i].path).parts[-4:-2] for i in trial.gallery} == {(target, "gallery")}
        assert (len(trial.query), len(trial.gallery)) == (4, 6)
        assert (protocol.drop, protocol.unique_identities, protocol.draws) == ("none", False, "whole gallery")


def test_a_query_without_a_true_match_is_left_out_of_the_mean(tmp_path: Path) -> None:
    folder = folder_tree(tmp_path)
    write_images(folder / "visible/query/gone", ["0.jpg", "1.jpg", "2.jpg"])
    data = Folder(directions=["visible-to-infrared"])
    lists = data.read(tmp_path)
    people = identities(lists.pool)
    features = np.eye(people.max() + 1)[people]
    (row,) = score_protocols(data.protocols(tmp_path, lists), people, cameras(lists.pool), features=features)
    assert (row["n_queries"], row["n_valid_queries"], row["rank1"], row["mAP"]) == (7, 4, 100.0, 100.0)


def drop(folder: Path, *places: str) -> None:
    for place in places:
        shutil.rmtree(folder / place)


@pytest.mark.parametrize(
    ("dropped", "left"),
    [(["visible/gallery", "infrared/query"], BOTH[:1]), (["visible/query", "infrared/gallery"], BOTH[1:]), ([], BOTH)],
)
def test_directions_that_are_there(tmp_path: Path, dropped: list[str], left: list[str]) -> None:
    drop(folder_tree(tmp_path), *dropped)
    lists = Folder().read(tmp_path)
    assert [protocol.name for protocol in Folder().protocols(tmp_path, lists)] == left
    assert lists.remarks == []
    for one in BOTH:
        asked = Folder(directions=[one.removeprefix("folder-")])
        if one in left:
            assert [protocol.name for protocol in asked.protocols(tmp_path, lists)] == [one]
        else:
            with pytest.raises(UserError, match=r"my-data has queries and a gallery for none of .*: put images into"):
                asked.protocols(tmp_path, lists)


def test_no_such_direction(tmp_path: Path) -> None:
    folder_tree(tmp_path)
    data = Folder(directions=["sideways"])
    with pytest.raises(UserError, match="no direction 'sideways'"):
        data.protocols(tmp_path, data.read(tmp_path))


@pytest.mark.parametrize("empty", [["visible/gallery", "infrared/gallery"], ["visible/query", "infrared/query"]])
def test_nothing_to_score(tmp_path: Path, empty: list[str], check: Any, capsys: Any, monkeypatch: Any) -> None:
    """Refused before the training, and by the check; but for a training that scores nothing."""
    drop(folder_tree(tmp_path), *empty)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    told = "has queries and a gallery for none of visible-to-infrared, infrared-to-visible: put images into visible/"
    with pytest.raises(UserError, match=f"{tmp_path / 'my-data'} {told}"):
        build_train_loader(load_config(DEMO, NAMES))
    assert check(["Folder", "--root", str(tmp_path)]) == 1
    assert told in capsys.readouterr().out
    assert build_train_loader(load_config(DEMO, [*NAMES, "DATASETS.TESTS", "()"])).n_visible == 6


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_no_training_images(tmp_path: Path, modality: str, monkeypatch: Any, caplog: Any, check: Any) -> None:
    """A training is refused, the check tells; a scoring goes on."""
    folder = folder_tree(tmp_path)
    drop(folder, f"{modality}/train")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    monkeypatch.setattr(logging.getLogger("mgot"), "propagate", True)
    with pytest.raises(UserError, match=rf"{folder} holds no {modality} training image: .*docs/data\.md shows"):
        build_train_loader(load_config(DEMO, NAMES))
    assert f"{folder / modality / 'train'} holds no image: a training needs some there" in caplog.text
    assert check(["Folder", "--root", str(tmp_path)]) == 1
    assert len(build_dataset(load_config(DEMO, NAMES), "Folder").protocols()) == 2


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_no_folder_of_a_modality(tmp_path: Path, modality: str) -> None:
    folder = folder_tree(tmp_path)
    drop(folder, modality)
    with pytest.raises(UserError, match=rf"{modality} is missing: {folder} must hold the folders visible and infrared"):
        Folder().read(tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    told = r"my-data is not a folder: set FASTREID_DATASETS, or --root, .* holds my-data/ \(MGOT\.DATA\.FOLDER names it"
    with pytest.raises(UserError, match=told):
        Folder().read(tmp_path)


def test_what_is_passed_over_is_remarked(tmp_path: Path) -> None:
    folder = folder_tree(tmp_path)
    write_images(folder / "infrared/gallery", ["a.jpg", "b.jpg"])
    (folder / "visible/query/nobody").mkdir()
    write_images(folder / "visible/query/anna", ["0.jpg"])
    before = {name: len(items) for name, items in Folder().read(tmp_path)._asdict().items() if name != "remarks"}
    assert before == {"visible": 6, "infrared": 6, "query": 10, "gallery": 11}
    assert set(Folder().read(tmp_path).remarks) == {
        f"{folder}: of train's IDs 1 are in query or gallery too, as is 'anna': rename or move them",
        f"{folder / 'infrared/gallery'}: 2 images are not in a person's folder and are skipped",
        f"{folder / 'visible/query/nobody'} holds no image",
    }


@pytest.mark.parametrize("name", ["../other", "/etc", "a/../../b", "C:/data", "..", ".", "", "./"])
def test_the_folder_lies_below_the_root(tmp_path: Path, name: str, check: Any, capsys: Any) -> None:
    folder_tree(tmp_path, "other")
    (tmp_path / "root").mkdir()
    told = f"MGOT.DATA.FOLDER must name a folder below the data root, not '{name}'"
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        Folder(name)
    assert check(["Folder", "--root", str(tmp_path / "root"), "--folder", name]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("link", ["visible", "visible/train", "infrared/query/dora", "visible/gallery/fay/fay_1.jpg"])
def test_links_that_lead_out_are_refused(tmp_path: Path, link: str) -> None:
    folder, outside = folder_tree(tmp_path), tmp_path / "outside"
    (folder / link).rename(outside)
    (folder / link).symlink_to(outside)
    with pytest.raises(UserError, match=r" is a link out of .*my-data: put the images themselves there"):
        Folder().read(tmp_path)


def test_links_within_and_a_link_to_the_folder_are_followed(tmp_path: Path) -> None:
    folder = folder_tree(tmp_path / "disk")
    shutil.rmtree(folder / "visible/query")
    (folder / "visible/query").symlink_to(folder / "visible/gallery", target_is_directory=True)
    (folder / "visible/train/anna/c1_again.jpg").symlink_to("anna_0.jpg")
    (tmp_path / "my-data").symlink_to(folder, target_is_directory=True)
    lists = Folder().read(tmp_path)
    assert (len(lists.visible), len(lists.gallery), lists.remarks) == (7, 12, [])


def test_a_link_in_a_circle_is_named_by_the_check(tmp_path: Path) -> None:
    path = folder_tree(tmp_path) / "visible/train/anna/circle.jpg"
    path.symlink_to(path)
    assert any(str(path) in line for line in check_dataset("Folder", tmp_path, workers=1).differences)


def test_a_check_that_finds_nothing(tmp_path: Path, check: Any, capsys: Any) -> None:
    folder_tree(tmp_path, "site")
    assert check(["Folder", "--root", str(tmp_path), "--folder", "site", "--workers", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["visible", "training", "images", "6"] in lines
    assert ["valid", "queries", "of", "folder-visible-to-infrared", "4"] in lines
    assert ["32", "images", "opened"] in lines
    assert lines[-1] == ["Folder:", "in", "order"]


def test_a_truncated_image(tmp_path: Path, check: Any, capsys: Any, monkeypatch: Any) -> None:
    path = folder_tree(tmp_path) / "infrared/train/ben/ben_1.jpg"
    path.unlink()
    Image.new("RGB", (60, 60), (9, 120, 33)).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    assert check(["Folder", "--root", str(tmp_path), "--workers", "1"]) == 1
    assert f"- {path} cannot be decoded" in capsys.readouterr().out
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(UserError, match=r"ben_1\.jpg cannot be decoded"):
        build_train_loader(load_config(DEMO, [*NAMES, "DATALOADER.CACHE", "ram"]))


def test_the_recipe_asks_for_it() -> None:
    cfg = load_config(str(REPO / "projects/MGOT/configs/folder.yml"))
    assert (list(cfg.DATASETS.NAMES), list(cfg.DATASETS.TESTS), cfg.MGOT.DATA.FOLDER) == (
        ["Folder"],
        ["Folder"],
        "my-data",
    )
    assert Folder(**Folder.options(default_config().MGOT)) == Folder(directions=Folder.options(cfg.MGOT)["directions"])


@pytest.fixture(name="coloured")
def fixture_coloured(tmp_path: Path, tiny_options: Options, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Path]:
    """Writes a tree of eight people to train on and four to score, whom random weights can cluster; its root."""

    def write(named: bool) -> Path:
        monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "data"))
        for modality in ("visible", "infrared"):
            for person in range(12):
                parts = ["train"] if person < 8 else ["query", "gallery"]
                images = list(coloured_images(person, modality, 8))
                for part, own in zip(parts, np.array_split(range(8), len(parts)), strict=True):
                    place = tmp_path / "data/site" / modality / part / (str(person) if named or person >= 8 else "")
                    place.mkdir(parents=True, exist_ok=True)
                    for n in own:
                        images[n].save(place / f"c{1 + n % 2}_{person}_{n}.png")
        return tmp_path / "data"

    return write


def trained(options: list[str]) -> Path:
    cfg = load_config(DEMO, options)
    folder = Path(cfg.OUTPUT_DIR)
    folder.mkdir(parents=True)
    train(cfg, resume=False)
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_two_epochs_and_a_scoring(named: bool, coloured: Any, tiny_options: Options) -> None:
    """Without identities the figures below truth/ are absent, and nothing that is drawn says right or wrong."""
    root = coloured(named)
    options = tiny_options(*NAMES, "MGOT.DATA.FOLDER", "site")
    folder = trained(options)
    rows = json.loads((folder / "results.json").read_text())["rows"]
    assert [row["protocol"] for row in rows if row["stage"] == "final"] == BOTH
    assert {(row["n_queries"], row["n_valid_queries"], row["n_gallery"]) for row in rows} == {(16, 16, 16)}
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    truth = {name for line in lines for name in line if name.startswith("truth/")}
    figures = {f"truth/{modality}_{figure}" for modality in ("visible", "infrared") for figure in ("ari", "nmi")}
    assert truth == ({*figures, "truth/matching_accuracy"} if named else set())
    assert any("loss_mcl" in line for line in lines)

    evaluate(load_config(DEMO, [*options, "MODEL.WEIGHTS", str(folder / "model_final.pth")]))
    again = json.loads((folder / "evaluation/results.json").read_text())["rows"]
    assert [row["rank1"] for row in again] == [row["rank1"] for row in rows if row["stage"] == "final"]

    pictures = {path.stem for path in draw_run(folder, folder / "pictures")}
    assert pictures >= {"plan", "degraded", "features", "sizes", "rankings", "curves"}
    assert ("distances" in pictures) == named
    page = write_report(folder, root=root).read_text(encoding="utf-8")
    assert ("Of pairs of sampled training images, by ground truth." in page) == named


def test_one_modality_with_identities(coloured: Any, tiny_options: Options) -> None:
    place = coloured(True) / "site/infrared/train"
    for path in list(place.rglob("*.png")):
        path.rename(place / path.name)
    folder = trained(tiny_options(*NAMES, "MGOT.DATA.FOLDER", "site", "SOLVER.MAX_EPOCH", 1))
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    truth = {name for line in lines for name in line if name.startswith("truth/")}
    assert truth == {"truth/visible_ari", "truth/visible_nmi"}
    assert "distances" in {path.stem for path in draw_run(folder, folder / "pictures")}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MGOT.MODE", "supervised"),
        ("MGOT.CLUSTER.NAME", "oracle"),
        ("MGOT.MATCHER.NAME", "oracle"),
        ("MGOT.DATA.OVERLAP", 0.5),
        ("MGOT.DATA.REPLACED", 0.5),
    ],
)
def test_keys_that_ask_who_is_seen(key: str, value: object, coloured: Any, tiny_options: Options) -> None:
    coloured(False)
    more = ("MGOT.DATA.STRANGERS", "LLCM") if key == "MGOT.DATA.REPLACED" else ()
    cfg = load_config(DEMO, tiny_options(*NAMES, "MGOT.DATA.FOLDER", "site", key, value, *more))
    with pytest.raises(
        UserError, match=f"{key} needs identities, and Folder does not have them for every training image"
    ):
        build_train_loader(cfg)


def test_strangers_must_be_known_apart(coloured: Any, tiny_options: Options, tiny_root: Path) -> None:
    (coloured(False) / "SYSU-MM01").symlink_to(tiny_root / "SYSU-MM01")
    keys = ("MGOT.DATA.FOLDER", "site", "MGOT.DATA.REPLACED", 0.5, "MGOT.DATA.STRANGERS", "Folder")
    with pytest.raises(UserError, match=r"STRANGERS: Folder does not say who is in its visible training images"):
        build_train_loader(load_config(DEMO, tiny_options(*keys)))


def test_a_training_that_scores_nothing(coloured: Any, tiny_options: Options) -> None:
    root = coloured(False)
    for modality in ("visible", "infrared"):
        drop(root / "site" / modality, "query", "gallery")
    folder = trained(tiny_options(*NAMES, "DATASETS.TESTS", "()", "MGOT.DATA.FOLDER", "site", "SOLVER.MAX_EPOCH", 1))
    assert json.loads((folder / "results.json").read_text())["rows"] == []
    assert (folder / "model_final.pth").is_file()
