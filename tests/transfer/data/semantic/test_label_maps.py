"""The reading of label maps: indices of palettes, 16 bits, and what is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfer.data.semantic.label_maps import read_label_map
from transfer.errors import UnreadableImageError

VALUES = np.array([[0, 1, 20], [255, 15, 0]], dtype=np.uint8)


def save_palette(path: Path) -> Path:
    image = Image.fromarray(VALUES, mode="P")
    image.putpalette([(37 * value) % 256 for value in range(768)])
    image.save(path)
    return path


def test_a_palette_is_read_by_its_indices(tmp_path: Path) -> None:
    assert read_label_map(save_palette(tmp_path / "a.png")).tolist() == VALUES.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_indices(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(VALUES.astype(dtype)).save(tmp_path / "a.png")
    found = read_label_map(tmp_path / "a.png")
    assert (found.dtype, found.tolist()) == (np.uint8, VALUES.tolist())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_few_bits_are_not_stretched(bits: int, tmp_path: Path) -> None:
    """Decoders make 0 to 255 of them: of 4 bits the index 1 would be 17."""
    values = range(min(2**bits, 16))
    packed = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(-(-len(values) * bits // 8))
    packed = (int.from_bytes(packed) << -len(values) * bits % 8).to_bytes(len(packed))
    header = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + packed)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert read_label_map(tmp_path / "a.png").tolist() == [list(values)]


def test_a_palette_made_colours_is_refused(tmp_path: Path) -> None:
    Image.open(save_palette(tmp_path / "a.png")).convert("RGB").save(tmp_path / "b.png")
    with pytest.raises(UnreadableImageError, match=r"b\.png: a picture in colours \(RGB\).*one channel"):
        read_label_map(tmp_path / "b.png")


def test_a_jpeg_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(UnreadableImageError, match=r"a\.png: a JPEG file; a label map is a PNG"):
        read_label_map(tmp_path / "a.png")


def test_instance_ids_are_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(VALUES.astype(np.uint16) + 24000).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="values from 24000 to 24255"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"a\.png"):
        read_label_map(path)
