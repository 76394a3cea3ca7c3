"""The files of the body: named with their address where they are missing, and read without running anything."""

import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.support.body import prism, write_body
from transfer.data.densepose.body_files import (
    ADDRESS,
    DISTANCES,
    EVALUATION_FILES,
    SEAMS,
    SURFACE,
    check_body_files,
    read_pickled_arrays,
)
from transfer.data.densepose.body_model import read_body_model
from transfer.errors import TransferError


def test_each_missing_file_is_named_with_its_address(tmp_path: Path) -> None:
    (tmp_path / SEAMS).touch()
    with pytest.raises(TransferError) as error:
        check_body_files(tmp_path, EVALUATION_FILES, "the evaluation")
    for name in EVALUATION_FILES:
        assert f"{tmp_path / name}: " in str(error.value)
        assert f"{ADDRESS}/{name}" in str(error.value)


def test_body_is_read_as_written(tmp_path: Path) -> None:
    vertices = prism()
    body = read_body_model(write_body(tmp_path, vertices))
    np.testing.assert_array_equal(body.parts, vertices[:, 0])
    np.testing.assert_array_equal(body.uv, vertices[:, 1:3])
    first, second = np.array([0, 9, 100, 5]), np.array([1, 200, 3, 5])
    apart = np.linalg.norm(vertices[first, 3:] - vertices[second, 3:], axis=1)
    np.testing.assert_allclose(body.distances_between(first, second), apart, rtol=1e-7)
    np.testing.assert_array_equal(body.nearest(np.array([0, 25]), np.zeros((2, 2))), [-1, -1])


def test_distances_have_the_precision_that_is_squared(tmp_path: Path) -> None:
    body = read_body_model(write_body(tmp_path, prism()))
    assert body.distances_between(np.array([0, 9]), np.array([1, 200])).dtype == np.float32
    same, nowhere = np.array([0, 9]), np.array([1, -1])
    assert body.distances_between(same, same).dtype == body.distances_between(same, nowhere).dtype == np.float64


def test_array_that_python_2_pickled_is_read_as_bytes(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(6, 1)
    text = numbers.tobytes()
    # As Python 2 wrote it: strings of bytes, by the opcode that Python 3 has no use for.
    string = lambda value: b"T" + len(value).to_bytes(4, "little") + value  # noqa: E731
    shape, none = b"K\x06K\x01\x86", b"N"
    dtype = (
        b"cnumpy\ndtype\n"
        + string(b"f4")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"<")
        + none * 3
        + (b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + string(b"b") + b"\x87R(K\x01" + shape
    path = tmp_path / DISTANCES
    path.write_bytes(b"\x80\x02}" + string(b"Pdist_matrix") + array + dtype + b"\x89" + string(text) + b"tbs.")
    np.testing.assert_array_equal(read_pickled_arrays(path)["Pdist_matrix"], numbers)


class Harmful:
    """An object whose pickle makes a file where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return subprocess.check_call, (["touch", str(self.mark)],)


@pytest.mark.parametrize("in_an_array", [False, True])
def test_a_command_in_a_pickle_is_refused_unrun(in_an_array: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / DISTANCES, tmp_path / "it ran"
    content = np.array([Harmful(mark)]) if in_an_array else Harmful(mark)
    path.write_bytes(pickle.dumps({"Pdist_matrix": content}))
    with pytest.raises(TransferError, match="not a pickle of numpy arrays alone"):
        read_pickled_arrays(path)
    assert not mark.exists()


def test_a_pickled_array_of_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / DISTANCES
    path.write_bytes(pickle.dumps({"Pdist_matrix": np.array([None])}))
    with pytest.raises(TransferError, match="not a pickle of numpy arrays alone"):
        read_pickled_arrays(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (SURFACE, b"<html>404</html>", "the page that a download answered with"),
        (SURFACE, b"MATLAB 5.0 MAT-file" + bytes(200), "not a MATLAB file"),
        (DISTANCES, b"\x80\x02}", "not a pickle"),
        (DISTANCES, pickle.dumps([1]), "a dictionary of arrays is expected"),
        (DISTANCES, pickle.dumps({"other": np.zeros(3)}), "Pdist_matrix"),
        (DISTANCES, pickle.dumps({"Pdist_matrix": np.zeros(3)}), "3 distances do not belong to 216 vertices"),
        (DISTANCES, pickle.dumps({"Pdist_matrix": np.array([np.nan])}), "not finite"),
    ],
)
def test_damaged_file_is_named(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    write_body(tmp_path, prism())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TransferError, match=said) as error:
        read_body_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_surface_without_a_part_is_refused(tmp_path: Path) -> None:
    write_body(tmp_path, prism())
    savemat(tmp_path / SURFACE, {"U_subdiv": np.zeros(216), "V_subdiv": np.zeros(216), "Part_ID_subdiv": np.ones(216)})
    with pytest.raises(TransferError, match="the parts are not 1 to 24"):
        read_body_model(tmp_path)
