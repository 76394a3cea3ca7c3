"""webdataset's shards: which members are images, and which archives are refused."""

import bz2
import contextlib
import gzip
import io
import lzma
import pathlib
import pickle
import random
import tarfile
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.data.images import shards
from pretrain.data.images.roots import EXTENSIONS
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain.shard_files import write_shard

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def scan(path: pathlib.Path) -> dict[str, bytes]:
    """Name and content of each image found."""
    found = shards.scan_shard(str(path), EXTENSIONS)
    content = path.read_bytes()
    return {
        name: content[offset : offset + size]
        for name, offset, size in zip(found.names, found.offsets, found.sizes, strict=True)
    }


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(PretrainError) as caught:
        shards.scan_shard(str(path), EXTENSIONS)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_the_image_of_each_sample_is_found(form: int, tmp_path: pathlib.Path) -> None:
    long = "/".join(["folder" * 12] * 2) + "/" + "n" * 60  # longer than a plain header takes
    members = [
        ("000.jpg", b"zero"), ("000.cls", b"1"), ("000.json", b"{}"),
        ("a/001.txt", b"words"), ("a/001.seg.png", b"mask"), ("a/001.JPEG", b"one"),
        ("a/002.input.png", b"two"), ("a/002.pyd", pickle.dumps([1])),
        ("./003.webp", b""), ("._004.jpg", b"hidden"), ("noextension", b"x"), ("005.txt", b"text alone"),
        (f"{long}.png", b"far" * 999),
    ]  # fmt: skip
    found = scan(write_shard(tmp_path / "x.tar", members, form))
    assert found == {
        "000.jpg": b"zero", "a/001.JPEG": b"one", "a/002.input.png": b"two", "./003.webp": b"",
        f"{long}.png": b"far" * 999,
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.text("abé/", min_size=1, max_size=200), st.binary(max_size=1500)), max_size=8),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_offsets_are_those_of_the_standard_library(members: list[tuple[str, bytes]], form: int) -> None:
    members = [(f"d/{k}{name.replace('/', '_')}.png", content) for k, (name, content) in enumerate(members)]
    with tempfile.TemporaryDirectory() as folder:
        path = write_shard(pathlib.Path(folder) / "x.tar", members, form)
        found = shards.scan_shard(str(path), EXTENSIONS)
        with tarfile.open(path) as archive:
            expected = [(member.name, member.offset_data, member.size) for member in archive]
    assert list(zip(found.names, found.offsets, found.sizes, strict=True)) == expected


def test_folders_in_an_archive_are_passed_over(tmp_path: pathlib.Path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "1.jpg").write_bytes(b"one")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    assert scan(tmp_path / "x.tar") == {"./a/1.jpg": b"one"}


def with_member(path: pathlib.Path, **attributes: object) -> pathlib.Path:
    """A shard with one good image and one member of these attributes."""
    with tarfile.open(path, "w") as archive:
        good = tarfile.TarInfo("0.jpg")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        odd = tarfile.TarInfo("odd.jpg")
        for name, value in attributes.items():
            setattr(odd, name, value)
        archive.addfile(odd)
    return path


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "member 'odd.jpg' is a link"),
        ({"type": tarfile.LNKTYPE, "linkname": "0.jpg"}, "member 'odd.jpg' is a link"),
        ({"type": tarfile.FIFOTYPE}, "member 'odd.jpg' is neither a plain file nor a folder"),
        ({"type": tarfile.CHRTYPE}, "member 'odd.jpg' is neither a plain file nor a folder"),
        ({"type": tarfile.GNUTYPE_SPARSE}, "member 'odd.jpg' is neither a plain file nor a folder"),
        ({"pax_headers": {"GNU.sparse.major": "1"}}, "member 'odd.jpg' is neither a plain file nor a folder"),
        ({"name": "/etc/odd.jpg"}, "member '/etc/odd.jpg' leads out of the folder"),
        ({"name": "../odd.jpg"}, "member '../odd.jpg' leads out of the folder"),
        ({"name": "a/../../odd.jpg"}, "member 'a/../../odd.jpg' leads out of the folder"),
        ({"pax_headers": {"path": "../pax.jpg"}}, "member '../pax.jpg' leads out of the folder"),
        ({"pax_headers": {"size": "-512"}}, "damaged: no valid tar header at byte"),
        ({"pax_headers": {"size": "1e3"}}, "damaged: no valid tar header at byte"),
        ({"pax_headers": {"size": "99999999"}}, "cut short: 'odd.jpg' continues after its end"),
    ],
)
def test_members_that_are_no_plain_file_inside_are_refused(
    attributes: dict[str, object], reason: str, tmp_path: pathlib.Path
) -> None:
    assert reason in refusal(with_member(tmp_path / "x.tar", **attributes))


def test_a_sample_with_two_images_is_refused(tmp_path: pathlib.Path) -> None:
    members = [("cat.0001.jpg", b"one"), ("cat.0002.jpg", b"two")]
    message = refusal(write_shard(tmp_path / "x.tar", members))
    assert "sample 'cat' has 2 images ('cat.0001.jpg', 'cat.0002.jpg')" in message


@pytest.mark.parametrize(
    ("compress", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")]
)
def test_compressed_archives_are_refused(compress: object, name: str, tmp_path: pathlib.Path) -> None:
    path = write_shard(tmp_path / "x.tar", [("0.jpg", b"zero")])
    path.write_bytes(compress(path.read_bytes()))  # type: ignore[operator]
    assert f"compressed ({name})" in refusal(path)


def test_a_cut_or_damaged_archive_is_refused(tmp_path: pathlib.Path) -> None:
    members = [(f"{'long' * 40}{k}.png", bytes(700 + k)) for k in range(3)]
    whole = write_shard(tmp_path / "whole.tar", members).read_bytes()
    end = max(k for k, byte in enumerate(whole) if byte) // 512 * 512  # of the last header
    path = tmp_path / "cut.tar"
    end_of_members = end + 512 + 1024
    for length in [*range(0, end_of_members + 512, 128)]:
        path.write_bytes(whole[:length])
        assert "cut short" in refusal(path), length
    path.write_bytes(whole[: end_of_members + 512])  # one block of zeros is enough of an end
    assert len(scan(path)) == 3
    path.write_bytes(b"a text" * 999)
    assert "not a tar file" in refusal(path)
    path.write_bytes(whole[:end] + b"\1" + whole[end + 1 :])
    assert f"damaged: no valid tar header at byte {end}" in refusal(path)


def test_noise_in_an_archive_ends_in_names_or_a_refusal(tmp_path: pathlib.Path) -> None:
    whole = bytearray(
        write_shard(tmp_path / "x.tar", [(f"{'long' * 40}{k}.png", bytes(600)) for k in range(3)]).read_bytes()
    )
    rng = random.Random(0)
    path = tmp_path / "noise.tar"
    for _ in range(300):
        noisy = bytearray(whole)
        start = rng.randrange(len(noisy) - 40)
        noisy[start : start + 40] = rng.randbytes(40)
        path.write_bytes(noisy)
        with contextlib.suppress(PretrainError):  # and nothing else may be raised
            scan(path)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
    ],
)
def test_brace_patterns(pattern: str, paths: list[str]) -> None:
    assert shards.expand_braces(pattern) == paths


@pytest.mark.parametrize("pattern", ["a{1}.tar", "a{}.tar", "a{0..1", "a}.tar", "{a,{b,c}}.tar", "{a..c}"])
def test_other_braces_are_refused(pattern: str) -> None:
    with pytest.raises(PretrainError, match="braces are understood as"):
        shards.expand_braces(pattern)


def test_braces_that_count_down_or_too_far_are_refused() -> None:
    with pytest.raises(PretrainError, match=r"\{9\.\.0\} counts down; write \{0\.\.9\}"):
        shards.expand_braces("x-{9..0}.tar")
    for pattern in ("x-{0..999999999999}.tar", "{000..999}/{0000..9999}.tar"):
        with pytest.raises(PretrainError, match="more than 1,000,000 shards"):
            shards.expand_braces(pattern)
