"""A contact sheet: each query on the left, its answer on the right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mgot.data.images import read_image_checked
from mgot.errors import UserError
from mgot.retrieval.search import Answer

TILE = (112, 224)  # width and height of a picture
GAP = 8
CAPTION = 34  # height of two lines of text below a picture
PER_LINE = 10
LARGEST = 65_000  # pixels of a side: no JPEG is larger than 65,535
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_sheet(answers).save(path, quality=QUALITY)
    except (OSError, ValueError) as error:
        raise UserError(f"--output {path}: cannot be written ({error}): name a file such as search.jpg") from None


def check_sheet(path: Path, gallery: Path) -> None:
    """Raise UserError if a suffix is not a format, or if the sheet would be in the gallery, which is searched."""
    if gallery.resolve() in path.resolve().parents:
        raise UserError(f"--output {path} is in the gallery, and the next search would find it: name a file elsewhere")
    suffix = path.suffix.lower()
    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise UserError(
            f"--output {path}: {suffix or 'no suffix'} is not an image format: name a file such as search.jpg"
        )


def draw_sheet(answers: Sequence[Answer]) -> Image.Image:
    """An RGB image: a block of lines for each answer, PER_LINE hits a line, with rank, distance and the path's end.

    Raises:
        UserError: a side would be longer than LARGEST.
    """
    columns = min(PER_LINE, max((len(answer.hits) for answer in answers), default=1))
    lines = [max(1, math.ceil(len(answer.hits) / PER_LINE)) for answer in answers]
    height = _FIRST_LINE_AT + sum(lines) * _LINE_HEIGHT + len(answers) * _BETWEEN
    size = (_ANSWERS_AT + columns * (TILE[0] + GAP) + GAP, height)
    if size[1] > LARGEST:
        raise UserError(f"a sheet of {sum(lines)} lines is too tall: give fewer queries, or a smaller --top")
    sheet = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(sheet).text((_ANSWERS_AT, GAP), HEADING, fill=INK, font=_font(13))
    top = _FIRST_LINE_AT
    for answer, n_lines in zip(answers, lines, strict=True):
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
