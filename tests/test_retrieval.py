"""The gallery index: what it finds, what it keeps, what it embeds anew, and what it refuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mgot.errors import UserError
from mgot.retrieval import embedder as embedding
from mgot.retrieval.gallery import ImageFile, list_gallery
from mgot.retrieval.index import build_index, default_path, kept, load_index, save_index
from mgot.retrieval.report import as_json, as_text
from mgot.retrieval.search import Answer, Hit, Outcome, Request, search_folder
from mgot.retrieval.sheet import PER_LINE, check_sheet, draw_sheet, write_sheet

COLOURS = {"red": (250, 10, 10), "pink": (250, 90, 90), "green": (10, 250, 10), "blue": (10, 10, 250)}


class MeanColour:
    """An embedder whose feature is the mean colour; keeps what it was given."""

    def __init__(self, fingerprint: str = "one", *, two_stream: bool = False) -> None:
        self.size, self.fingerprint, self.two_stream = (8, 4), fingerprint, two_stream
        self.weights = Path("colours.onnx")
        self.modalities: list[set[bool]] = []
        self.images = 0
        self.fail_after = 10**9

    def embed(self, images: np.ndarray, is_visible: np.ndarray | None) -> np.ndarray:
        assert images.shape[1:] == (3, *self.size) and images.dtype == np.uint8
        if self.images >= self.fail_after:
            raise MemoryError
        self.images += len(images)
        if is_visible is not None:
            self.modalities.append({bool(each) for each in is_visible})
        mean = images.mean(axis=(2, 3), dtype=np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def write_image(path: Path, colour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 12), COLOURS[colour]).save(path)
    return path


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    for name, colour in {"a/1.png": "red", "a/b/2.bmp": "green", "3.webp": "blue", "c/4.PNG": "pink"}.items():
        write_image(folder / name, colour)
    return folder


@pytest.fixture
def query(tmp_path: Path) -> Path:
    return write_image(tmp_path / "query.png", "red")


def names(answer: Answer, gallery: Path) -> list[str]:
    return [hit.path.relative_to(gallery).as_posix() for hit in answer.hits]


def ask(gallery: Path, *queries: Path, embedder: MeanColour | None = None, **options: object) -> Outcome:
    return search_folder(embedder or MeanColour(), Request(gallery, queries, **options))  # type: ignore[arg-type]


def test_nearest_first_with_cosine_distances(gallery: Path, query: Path) -> None:
    outcome = ask(gallery, query, write_image(query.with_name("q2.png"), "blue"))
    assert names(outcome.answers[0], gallery)[:2] == ["a/1.png", "c/4.PNG"]
    assert names(outcome.answers[1], gallery)[0] == "3.webp"
    red, pink = (np.array(COLOURS[colour], dtype=float) for colour in ("red", "pink"))
    expected = 1 - red @ pink / np.linalg.norm(red) / np.linalg.norm(pink)
    distances = [hit.distance for hit in outcome.answers[0].hits]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[1] == pytest.approx(expected, abs=1e-5)
    assert distances == sorted(distances) and len(distances) == 4
    assert (outcome.images, outcome.embedded, outcome.exact) == (4, 4, True)
    assert outcome.index == gallery.with_name("people.mgot-index.npz") and outcome.index.is_file()


def test_only_what_changed_goes_through_the_model(gallery: Path, query: Path) -> None:
    def embedded(**options: object) -> tuple[int, int, int]:
        model = MeanColour()
        outcome = ask(gallery, query, embedder=model, **options)
        assert model.images == 1 + outcome.embedded  # the query itself
        return outcome.images, outcome.embedded, outcome.removed

    assert embedded() == (4, 4, 0)
    before = default_path(gallery).stat()
    assert embedded(top=1) == (4, 0, 0)
    assert default_path(gallery).stat().st_mtime_ns == before.st_mtime_ns
    write_image(gallery / "z/new.jpg", "green")
    assert embedded() == (5, 1, 0)
    (gallery / "a/1.png").unlink()
    assert embedded() == (4, 0, 1)
    os.utime(write_image(gallery / "3.webp", "red"), ns=(1, 1))
    assert embedded() == (4, 1, 1)
    assert names(ask(gallery, query).answers[0], gallery)[0] == "3.webp"
    shutil.move(gallery, gallery.with_name("moved"))
    moved = Request(gallery.with_name("moved"), [query], index=default_path(gallery))
    assert search_folder(MeanColour(), moved).embedded == 0


def test_another_model_builds_anew(gallery: Path, query: Path) -> None:
    ask(gallery, query)
    assert ask(gallery, query, embedder=MeanColour("two")).embedded == 4
    assert ask(gallery, query, embedder=MeanColour("two")).embedded == 0


def test_an_updated_index_answers_as_a_new_one(gallery: Path, query: Path) -> None:
    ask(gallery, query)
    write_image(gallery / "0.png", "pink")
    (gallery / "3.webp").unlink()
    updated = ask(gallery, query)
    anew = ask(gallery, query, index=gallery.with_name("other.npz"))
    assert updated.answers == anew.answers and updated.embedded == 1


def test_unreadable_images_are_listed_and_not_tried_again(gallery: Path, query: Path) -> None:
    (gallery / "a/empty.jpg").touch()
    (gallery / "a/text.png").write_text("no image")
    first = ask(gallery, query)
    assert (first.images, first.embedded) == (4, 6)
    assert {path.name: reason.split(" ")[1] for path, reason in first.unreadable.items()} == {
        "empty.jpg": "is",
        "text.png": "cannot",
    }
    second = ask(gallery, query)
    assert (second.embedded, second.unreadable) == (0, first.unreadable)
    write_image(gallery / "a/text.png", "red")
    third = ask(gallery, query)
    assert (third.images, third.embedded, len(third.unreadable)) == (5, 1, 1)


def test_what_was_embedded_before_a_failure_is_kept(
    gallery: Path, query: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "BATCH", 1)
    failing = MeanColour()
    failing.fail_after = 3
    with pytest.raises(MemoryError):
        ask(gallery, query, embedder=failing)
    assert ask(gallery, query).embedded == 2


def test_a_query_in_the_gallery_is_not_its_own_answer(gallery: Path) -> None:
    (answer,) = ask(gallery, gallery / "a/../a/1.png", top=3).answers
    assert names(answer, gallery)[0] == "c/4.PNG" and len(answer.hits) == 3


def test_two_stream_models_are_told_the_modalities(gallery: Path, query: Path) -> None:
    with pytest.raises(UserError, match="--query-modality"):
        ask(gallery, query, embedder=MeanColour(two_stream=True))
    for options, expected in (
        ({"query_visible": False}, [{False}, {True}]),
        ({"query_visible": False, "gallery_visible": False}, [{False}, {False}]),
    ):
        model = MeanColour(two_stream=True)
        assert ask(gallery, query, embedder=model, **options).embedded == 4  # features of another modality differ
        assert model.modalities == expected


def test_gallery_lists_images_at_any_depth_and_links_without_circles(gallery: Path) -> None:
    (gallery / ".hidden").mkdir()
    for name in (".hidden/1.png", "a/._2.png"):
        write_image(gallery / name, "red")
    (gallery / "a/notes.txt").touch()
    (gallery / "folder.png").mkdir()
    (gallery / "gone.png").symlink_to("nowhere.png")
    (gallery / "a/circle").symlink_to(gallery)
    (gallery / "twin").symlink_to(gallery / "c")
    assert [file.path for file in list_gallery(gallery)] == ["3.webp", "a/1.png", "a/b/2.bmp", "c/4.PNG", "twin/4.PNG"]


def files_and_features(n: int, seed: int = 0) -> dict[ImageFile, np.ndarray | str]:
    features = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return {ImageFile(f"{i:05d}.jpg", i, i): feature for i, feature in enumerate(features)}


def test_cells_keep_every_feature_and_find_near_images(tmp_path: Path) -> None:
    found = files_and_features(2000)
    index = build_index("f", found, exact_up_to=1999)
    assert not index.exact and isinstance(index.vectors, faiss.IndexIVF) and index.vectors.nlist == 50
    save_index(index, tmp_path / "i.npz")
    again = load_index(tmp_path / "i.npz")
    assert again is not None and not again.exact
    back = kept(again, list(found))
    assert all(np.array_equal(back[file], found[file]) for file in found)
    queries = np.stack([feature for feature in found.values() if isinstance(feature, np.ndarray)])[:200]
    exact = build_index("f", found).search(queries, 5)
    near = again.search(queries, 5)
    for row, (a, b) in enumerate(zip(exact, near, strict=True)):  # each is its own nearest; faiss rounds as it searches
        assert a[0][0] == b[0][0] == row and max(a[0][1], b[0][1]) < 1e-6
    agreed = [len({row for row, _ in a} & {row for row, _ in b}) for a, b in zip(exact, near, strict=True)]
    assert np.mean(agreed) / 5 > 0.6


def test_a_gallery_that_outgrows_the_exact_search_is_indexed_by_cells(gallery: Path, query: Path) -> None:
    assert ask(gallery, query).exact
    changed = ask(gallery, query, exact_up_to=3)
    assert (changed.exact, changed.embedded) == (False, 0)
    assert names(changed.answers[0], gallery)[0] == "a/1.png"
    assert ask(gallery, query).exact


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 30), k=st.integers(1, 40), seed=st.integers(0, 5))
def test_search_agrees_with_a_plain_sort(n: int, k: int, seed: int) -> None:
    found = files_and_features(n, seed)
    features = np.stack([feature for feature in found.values() if isinstance(feature, np.ndarray)])
    query = np.roll(features[:1], 1, axis=1)
    (hits,) = build_index("f", found).search(query, k)
    distances = 1 - features.astype(np.float64) @ query[0].astype(np.float64)
    assert [row for row, _ in hits] == np.argsort(distances, kind="stable")[:k].tolist()
    np.testing.assert_allclose([distance for _, distance in hits], np.sort(distances)[:k], atol=1e-5)


def test_index_files_round_trip(tmp_path: Path) -> None:
    found = files_and_features(3)
    found[ImageFile("bad \udcff.png", 1, 2)] = "it is empty"
    index = build_index("f", found)
    save_index(index, tmp_path / "i.npz")
    again = load_index(tmp_path / "i.npz")
    assert again is not None
    assert (again.fingerprint, again.files, again.unreadable) == ("f", index.files, index.unreadable)
    np.testing.assert_array_equal(again.features(), index.features())
    assert [path.name for path in tmp_path.iterdir()] == ["i.npz"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def pickled(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, about=np.array([object()], dtype=object))


@pytest.mark.parametrize("harm", [cut, flip_a_byte, pickled, lambda path: path.write_text("my notes")])
def test_a_file_that_is_no_index_is_refused_and_left(
    harm: Callable[[Path], object], gallery: Path, query: Path
) -> None:
    path = ask(gallery, query).index
    harm(path)
    content = path.read_bytes()
    with pytest.raises(UserError, match=r"people\.mgot-index\.npz is .*--index"):
        ask(gallery, query)
    assert path.read_bytes() == content


def test_an_index_of_another_format_is_built_anew(gallery: Path, query: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgot.retrieval.index.FORMAT", "mgot gallery index 0")
    ask(gallery, query)
    monkeypatch.undo()
    assert ask(gallery, query).embedded == 4


def test_an_index_of_another_width_is_told(gallery: Path, query: Path) -> None:
    path = ask(gallery, query).index
    index = load_index(path)
    assert index is not None
    other = faiss.IndexFlatIP(5)
    other.add(np.eye(4, 5, dtype=np.float32))
    save_index(index._replace(vectors=other), path)
    with pytest.raises(UserError, match=r"people\.mgot-index\.npz is damaged"):
        ask(gallery, query)
    assert ask(gallery, query, embedder=MeanColour("two")).embedded == 4  # whose features may have any width


def test_features_that_are_not_finite_are_told_with_their_weights_and_none_is_kept(gallery: Path, query: Path) -> None:
    class Black(MeanColour):
        def embed(self, images: np.ndarray, is_visible: np.ndarray | None) -> np.ndarray:
            return np.where(images.max() > 240, np.nan, super().embed(images, is_visible))

    with pytest.raises(UserError, match=r"--weights colours\.onnx: its features hold NaN or infinity"):
        ask(gallery, query, embedder=Black())
    assert not default_path(gallery).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "--top must be 1 or more"),
        ({"exact_up_to": -1}, "--exact-up-to must be 0 or more"),
        ({"queries": [Path("none.jpg")]}, "--query none.jpg does not exist"),
        ({"queries": [Path("/")]}, "--query / is a folder"),
        ({"gallery": Path("nowhere")}, "--gallery nowhere does not exist"),
        ({"queries": [Path("q" * 300)]}, "--query q+ does not exist"),
        ({"gallery": Path("g" * 300)}, "--gallery g+ does not exist"),
        ({"index": Path("i" * 300)}, "the index i+ cannot be written"),
        ({"index": Path("/proc/i.npz")}, "the index /proc/i.npz cannot be written"),
        ({"index": Path("/dev/null")}, "the index /dev/null cannot be written"),
        ({"gallery": Path(__file__)}, "is a file: name the folder"),
        ({"index": Path("/")}, "the index / cannot be written"),
        ({"index": Path(__file__) / "index.npz"}, "cannot be written"),
    ],
)
def test_mistakes_are_met_before_a_model_is_needed(
    options: dict[str, object], message: str, gallery: Path, query: Path
) -> None:
    request = Request(**{"gallery": gallery, "queries": [query], **options})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        request.check()


def test_galleries_and_queries_without_an_image(tmp_path: Path, query: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        ask(tmp_path / "empty", query)
    (tmp_path / "empty/1.jpg").touch()
    with pytest.raises(UserError, match=r"none of 1 images can be read; .*1\.jpg is empty"):
        ask(tmp_path / "empty", query)
    with pytest.raises(UserError, match=r"1\.jpg is empty"):
        ask(tmp_path, tmp_path / "empty/1.jpg")


def test_sheet_holds_every_answer(gallery: Path, query: Path, tmp_path: Path) -> None:
    hits = [Hit(gallery / "a/1.png", 0.1)] * (PER_LINE + 1) + [Hit(gallery / "gone.png", 0.2)]
    one, both = draw_sheet([Answer(query, hits[:1])]), draw_sheet([Answer(query, hits), Answer(query, [])])
    assert both.width > one.width and both.height > 2 * one.height
    red = np.all(np.abs(np.asarray(both).astype(int) - COLOURS["red"]) < 5, axis=2)
    assert red.sum() == pytest.approx((len(hits) + 1) * 112 * 224, rel=0.02)
    write_sheet(tmp_path / "new/sheet.jpg", [Answer(query, hits)])
    assert Image.open(tmp_path / "new/sheet.jpg").format == "JPEG"
    with pytest.raises(UserError, match="too tall"):
        draw_sheet([Answer(query, hits)] * 300)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sheet.docx", "is not an image format"),
        ("sheet", "no suffix"),
        ("people/a/x.png", "is in the gallery"),
        ("d.jpg", "is a folder"),
        ("query.png/deep.jpg", "is not a folder"),
        ("/proc/x.jpg", "cannot be written"),
        ("pipe.jpg", "is not a regular file"),
        (f"{'s' * 300}.jpg", "File name too long"),
        *((f"sheet.{suffix}", "is not an image format") for suffix in ("xbm", "palm", "blp", "WMF", "h5", "psd")),
    ],
)
def test_sheets_that_are_refused(name: str, message: str, gallery: Path, query: Path, tmp_path: Path) -> None:
    (tmp_path / "d.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match=message):
        check_sheet(tmp_path / name, Request(gallery, [query]))


def test_a_sheet_that_would_be_too_tall_is_refused_before_the_search(
    gallery: Path, query: Path, tmp_path: Path
) -> None:
    def check(name: str, queries: int, top: int) -> None:
        check_sheet(tmp_path / name, Request(gallery, [query] * queries, top=top))

    check("s.jpg", 100, 10**6)  # the gallery has four images
    check("s.webp", 50, 10)
    for name, queries in (("s.jpg", 400), ("s.webp", 100)):
        with pytest.raises(UserError, match=rf"^a sheet of {queries} lines is too tall"):
            check(name, queries, 10)
    with pytest.raises(UserError, match=r"^a sheet of 400 lines is too tall"):
        write_sheet(tmp_path / "s.jpg", [Answer(query, [])] * 400)
    assert not list(tmp_path.glob("s.*"))


@pytest.mark.parametrize("suffix", ["bmp", "gif", "JPG", "pdf", "png", "ppm", "tiff", "webp"])
def test_every_format_that_passes_can_be_written(suffix: str, gallery: Path, query: Path, tmp_path: Path) -> None:
    path = tmp_path / f"sheet.{suffix}"
    check_sheet(path, Request(gallery, [query]))
    write_sheet(path, [Answer(query, [Hit(gallery / "a/1.png", 0.1)])])
    assert path.stat().st_size > 0


def test_links_in_a_circle_are_told(gallery: Path, query: Path, tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(UserError, match=r"circle/s\.jpg: Too many levels of symbolic links"):
        check_sheet(circle / "s.jpg", Request(gallery, [query]))
    for options in ({"gallery": circle}, {"queries": [circle]}, {"index": circle / "i.npz"}):
        with pytest.raises(UserError, match="circle"):
            Request(**{"gallery": gallery, "queries": [query], **options}).check()  # type: ignore[arg-type]


def test_report_tells_all(gallery: Path, query: Path, tmp_path: Path) -> None:
    (gallery / "a/empty.jpg").touch()
    outcome = ask(gallery, query, top=2)
    told = as_json(outcome, tmp_path / "s.jpg", 1.23456)
    assert told["queries"][0]["query"] == str(query)
    assert [each["rank"] for each in told["queries"][0]["results"]] == [1, 2]
    assert told["queries"][0]["results"][0] == {"rank": 1, "path": str(gallery / "a/1.png"), "distance": 0.0}
    assert told["unreadable"][0]["path"] == str(gallery / "a/empty.jpg")
    text = as_text(outcome, tmp_path / "s.jpg", 1.23456)
    assert "1 images cannot be read:\n- " in text and "5 embedded now" in text and str(gallery / "c/4.PNG") in text
