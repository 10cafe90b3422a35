"""Clusters for the tests, and what is printed when one of them fails."""

import os
import pathlib
import secrets

import pytest

from cluster import Cluster

LOGS = pathlib.Path(os.environ.get("E2E_LOGS", "/tmp/quorate-e2e-logs"))
_open = []


def pytest_collection_modifyitems(items):
    if os.environ.get("E2E_HEAVY") == "1":
        return
    for item in items:
        if "heavy" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="set E2E_HEAVY=1 to run it"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    item.stash.setdefault(_failed, False)
    if report.failed:
        item.stash[_failed] = True
        for cluster in _open:
            cluster.failed = True
            for node in cluster.nodes:
                state = "running" if node.alive() else f"ended: {node.process and node.process.poll()}"
                report.sections.append((f"node {node.number} ({state})", node.tail(12)))


_failed = pytest.StashKey[bool]()


def _opened(cluster):
    cluster.failed = False
    _open.append(cluster)
    try:
        return cluster.start()
    except BaseException:
        print(cluster.tails())
        _closed(cluster)
        raise


def _closed(cluster):
    if cluster in _open:
        _open.remove(cluster)
        cluster.close(keep_logs_in=LOGS if cluster.failed else None)


@pytest.fixture(scope="session")
def cluster():
    """Three nodes that all quiet tests share."""
    made = _opened(Cluster(3))
    yield made
    _closed(made)


@pytest.fixture
def new_cluster():
    """Makes clusters for one test that breaks them."""
    made = []

    def make(count=3, **options):
        made.append(_opened(Cluster(count, **options)))
        return made[-1]

    yield make
    for one in made:
        _closed(one)


@pytest.fixture(scope="session")
def s3(cluster):
    """boto3 on the first node."""
    return cluster.nodes[0].s3()


@pytest.fixture(scope="session")
def clients(cluster):
    """boto3 on each node."""
    return [node.s3() for node in cluster.nodes]


@pytest.fixture
def bucket(s3):
    """A bucket of this test's own."""
    name = f"t-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name
