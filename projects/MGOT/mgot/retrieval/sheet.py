"""A contact sheet: each query on the left, its answer on the right."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mgot.arguments import require_file_target
from mgot.data.images import read_image_checked
from mgot.errors import UserError, reason
from mgot.files import replacing
from mgot.retrieval.gallery import list_gallery
from mgot.retrieval.search import Answer, Request

TILE = (112, 224)  # width and height of a picture
GAP = 8
CAPTION = 34  # height of two lines of text below a picture
PER_LINE = 10
LARGEST = 65_000  # pixels of a side: no JPEG is larger than 65,535
_SMALLER = {"WEBP": 16_383}  # formats that take less
QUALITY = 88
INK, FAINT, PAPER, EMPTY, MARK = "#000000", "#555555", "#ffffff", "#eeeeee", "#0072B2"
HEADING = "nearest images: rank, cosine distance"
_LINE_HEIGHT = TILE[1] + CAPTION + GAP
_FIRST_LINE_AT = 4 * GAP
_BETWEEN = GAP  # of room more between two answers
_ANSWERS_AT = 2 * GAP + TILE[0] + 2 * GAP  # where the first hit is


def write_sheet(path: Path, answers: Sequence[Answer]) -> None:
    """Write the sheet of some answers; the suffix gives the format.

    Raises:
        UserError: the file cannot be written, its suffix is not an image format, or the sheet would be too large.
    """
    sheet = draw_sheet(answers)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            sheet.save(stream, format=_format(path), quality=QUALITY)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--output {path}: cannot be written ({reason(error)}): name a file such as search.jpg"
        ) from None


def check_sheet(path: Path, request: Request) -> None:
    """Raise UserError, before anything is computed, if the sheet of a request could not be written.

    Its suffix is not a format, it would be in the gallery, which is searched, or it would be too tall.
    """
    if Path(os.path.realpath(request.gallery)) in Path(os.path.realpath(path)).parents:
        raise UserError(f"--output {path} is in the gallery, and the next search would find it: name a file elsewhere")
    require_file_target(path, "--output")
    kind = _format(path)
    try:
        Image.new("RGB", (GAP, GAP)).save(io.BytesIO(), format=kind, quality=QUALITY)
    except Exception:  # some of Pillow's formats can only be read, or take no colours
        raise UserError(
            f"--output {path}: {path.suffix or 'no suffix'} is not an image format for a sheet: name a file such as"
            " search.jpg"
        ) from None
    hits, limit = request.top, _SMALLER.get(kind, LARGEST)
    if _height([hits] * len(request.queries)) > limit:  # unless the gallery is smaller than the answer
        hits = min(hits, len(list_gallery(request.gallery)))
        _require_height([hits] * len(request.queries), limit)


def _format(path: Path) -> str:
    """Pillow's name of a suffix's format; empty if there is none."""
    return Image.registered_extensions().get(path.suffix.lower(), "")


def _lines(hits: int) -> int:
    return max(1, math.ceil(hits / PER_LINE))


def _height(hits: Sequence[int]) -> int:
    """Of the sheet of answers with these numbers of hits."""
    return _FIRST_LINE_AT + sum(map(_lines, hits)) * _LINE_HEIGHT + len(hits) * _BETWEEN


def _require_height(hits: Sequence[int], limit: int) -> None:
    if _height(hits) > limit:
        raise UserError(
            f"a sheet of {sum(map(_lines, hits))} lines is too tall: give fewer queries, or a smaller --top"
        )


def draw_sheet(answers: Sequence[Answer]) -> Image.Image:
    """An RGB image: a block of lines for each answer, PER_LINE hits a line, with rank, distance and the path's end.

    Raises:
        UserError: a side would be longer than LARGEST.
    """
    columns = min(PER_LINE, max((len(answer.hits) for answer in answers), default=1))
    hits = [len(answer.hits) for answer in answers]
    _require_height(hits, LARGEST)
    size = (_ANSWERS_AT + columns * (TILE[0] + GAP) + GAP, _height(hits))
    sheet = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(sheet).text((_ANSWERS_AT, GAP), HEADING, fill=INK, font=_font(13))
    top = _FIRST_LINE_AT
    for answer in answers:
        n_lines = _lines(len(answer.hits))
        _tile(sheet, (GAP, top), answer.query, "query", mark=True)
        x = _ANSWERS_AT - GAP
        ImageDraw.Draw(sheet).line((x, top, x, top + n_lines * _LINE_HEIGHT - GAP), fill=FAINT)
        for i, hit in enumerate(answer.hits):
            place = (_ANSWERS_AT + i % PER_LINE * (TILE[0] + GAP), top + i // PER_LINE * _LINE_HEIGHT)
            _tile(sheet, place, hit.path, f"{i + 1}.   {hit.distance:.3f}")
        top += n_lines * _LINE_HEIGHT + _BETWEEN
    return sheet


def _tile(sheet: Image.Image, corner: tuple[int, int], path: Path, title: str, *, mark: bool = False) -> None:
    """Paste one picture, fitted into its tile, with a title and the end of its path below."""
    draw = ImageDraw.Draw(sheet)
    x, y = corner
    draw.rectangle((x, y, x + TILE[0] - 1, y + TILE[1] - 1), fill=EMPTY)
    try:
        picture = ImageOps.contain(read_image_checked(path), TILE, Image.Resampling.BICUBIC)
    except UserError:  # it was read when it was embedded, and has gone or changed since
        draw.text((x + GAP, y + GAP), "unreadable", fill=INK, font=_font(12))
    else:
        sheet.paste(picture, (x + (TILE[0] - picture.width) // 2, y + (TILE[1] - picture.height) // 2))
    if mark:
        draw.rectangle((x - 3, y - 3, x + TILE[0] + 2, y + TILE[1] + 2), outline=MARK, width=3)
    draw.text((x, y + TILE[1] + 4), title, fill=INK, font=_font(13))
    draw.text((x, y + TILE[1] + 20), _shortened(path), fill=FAINT, font=_font(10))


def _shortened(path: Path) -> str:
    """The end of a path: as many of its parts, or of its name, as fit below a picture."""
    text = path.as_posix().encode("utf-8", "backslashreplace").decode()
    font, lead = _font(10), ""
    while font.getlength(lead + text) > TILE[0]:
        _, slash, rest = text.partition("/")
        text, lead = (rest, ".../") if slash else (text[1:], "...")
    return lead + text


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
