"""Images that cannot be read are named; those that can come out whole."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgot.data.images import read_image_checked
from mgot.errors import UserError


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "фото 1.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8)).save(path)
    return path


def test_a_whole_image(photo: Path) -> None:
    image = read_image_checked(photo)
    assert (image.mode, image.size) == ("RGB", (32, 64))


def test_one_channel_becomes_three(tmp_path: Path) -> None:
    Image.new("L", (3, 5), 77).save(tmp_path / "grey.bmp")
    assert np.array(read_image_checked(tmp_path / "grey.bmp")).tolist() == [[[77] * 3] * 3] * 5


def test_a_truncated_image(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"фото 1\.jpg cannot be decoded \(image file is truncated"):
        read_image_checked(photo)


def test_an_empty_image(photo: Path) -> None:
    photo.write_bytes(b"")
    with pytest.raises(UserError, match=r"фото 1\.jpg is empty: restore it"):
        read_image_checked(photo)


def test_no_image(photo: Path) -> None:
    photo.write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"фото 1\.jpg cannot be decoded"):
        read_image_checked(photo)


def test_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.jpg is missing: restore it"):
        read_image_checked(tmp_path / "gone.jpg")


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    for name in ("\0.jpg", "a" * 300):
        with pytest.raises(UserError, match="cannot be decoded"):
            read_image_checked(tmp_path / name)


def test_a_folder_for_an_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        read_image_checked(tmp_path)


def test_a_small_file_that_claims_to_be_enormous(tmp_path: Path) -> None:
    head = b"IHDR" + struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(UserError, match=r"bomb\.png claims 9000 x 9000 pixels"):
        read_image_checked(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"claims 9000 x 9000 pixels, over 100:"):
        read_image_checked(tmp_path / "bomb.png", max_pixels=100)
