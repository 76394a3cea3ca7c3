"""A SLURM of two nodes for the tests here, which `make test-slurm` runs; elsewhere each is skipped and counted."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import packages
from tests.slurm.cluster import Cluster
from tests.slurm.sites.configuration import Site
from tests.support.pretrain.pictures import fine_noise

SWITCH = "MOCO_SLURM"
MOST_JOBS = 4  # of the user in the queue, at the strict site
STRICT = Site(
    enforced=True,
    max_jobs=MOST_JOBS,
    gpu_type="a100",
    only_gres=True,
    kill_wait=1,
    environment={"SBATCH_EXPORT": "NONE"},
)
BARE = Site(accounting=False, remembered=5, locks=False)
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; skip them where nobody asked for a SLURM."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            if os.environ.get(SWITCH) != "1":
                item.add_marker(pytest.mark.skip(reason=f"run by make test-slurm ({SWITCH}=1)"))


def _started(folder: Path, site: Site) -> Iterator[Cluster]:
    if reason := packages.obstacle():
        pytest.skip(reason)
    with Cluster(folder, site) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once, stopped at the end; see `cluster`."""
    yield from _started(tmp_path_factory.mktemp("slurm"), Site())


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """A SLURM with two nodes and no job. What a test leaves, jobs or a dead node, is gone before the next."""
    yield whole_cluster
    whole_cluster.clear()


@pytest.fixture(scope="module")
def shared_cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """The same for tests whose jobs run side by side: cleared after all tests of a module."""
    yield whole_cluster
    whole_cluster.clear()


@pytest.fixture(scope="session")
def whole_strict_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once, stopped at the end; see `strict_site`."""
    yield from _started(tmp_path_factory.mktemp("strict"), STRICT)


@pytest.fixture
def strict_site(whole_strict_site: Cluster) -> Iterator[Cluster]:
    """A SLURM with enforced accounts, wckeys and limits, typed GPUs by --gres alone, and jobs that inherit nothing."""
    yield whole_strict_site
    whole_strict_site.clear()


@pytest.fixture(scope="session")
def whole_bare_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started once, stopped at the end; see `bare_site`."""
    yield from _started(tmp_path_factory.mktemp("bare"), BARE)


@pytest.fixture
def bare_site(whole_bare_site: Cluster) -> Iterator[Cluster]:
    """A SLURM without accounting that soon forgets jobs, on file systems without locks."""
    yield whole_bare_site
    whole_bare_site.clear()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 120 small images of noise."""
    return fine_noise(tmp_path_factory.mktemp("images"), 120)
