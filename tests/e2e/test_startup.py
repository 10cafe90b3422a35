"""A node that cannot start says why and how to mend it; one that can is soon of use."""

import os
import socket
import subprocess

import pytest

from cluster import BINARY, Cluster, clean_environment, free_port
from content import MIB


@pytest.fixture
def node():
    """A node of a cluster that was not started."""
    cluster = Cluster(1)
    cluster.nodes[0].write_config()
    yield cluster.nodes[0]
    cluster.close()


def run(*arguments, patience=20, **environment):
    """Runs the binary, which shall end by itself; gives its code and all it said."""
    done = subprocess.run(
        [BINARY, *map(str, arguments)],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def refuses(node, *words, **environment):
    code, said = run("server", "--config", node.config, **environment)
    assert code not in (0, 101, None) and code > 0, said
    for word in words:
        assert word in said, said
    assert "panicked" not in said
    return said


def change(node, old, new):
    text = node.config.read_text()
    assert old in text
    node.config.write_text(text.replace(old, new, 1))


def test_a_configuration_that_is_not_there_is_named(node):
    node.config.unlink()

    refuses(node, str(node.config), "No such file")


def test_an_unknown_key_is_an_error_that_names_the_nearest(node):
    change(node, "capacity =", "capasity =")

    refuses(node, "quorate.toml:4", "capasity", "did you mean 'capacity'?")


def test_an_unknown_section_is_an_error_that_names_the_nearest(node):
    change(node, "[admin]", "[admim]")

    refuses(node, "admim", "did you mean 'admin'?")


def test_an_unknown_variable_is_an_error(node):
    refuses(node, "QUORATE_NODE__NAMES", QUORATE_NODE__NAMES="x")


def test_a_configuration_that_is_not_toml_is_named_with_its_line(node):
    change(node, 'name = "n1"', 'name = "n1')

    refuses(node, "quorate.toml")


def test_a_missing_secret_is_named(node):
    change(node, f'secret = "{node.cluster.secret}"\n', "")

    refuses(node, "cluster.secret")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('capacity = "10GiB"', 'capacity = "10 bananas"', ("quorate.toml:4", "10 bananas")),
        ('zone = "zone-1"', 'zone = ""', ("zone",)),
        ('name = "n1"', 'name = "a b"', ("name",)),
        ('root_domains = ["localhost"', 'root_domains = ["http://x/"', ("root_domains",)),
    ],
)
def test_a_value_that_cannot_be_used_is_named(node, old, new, words):
    change(node, old, new)

    refuses(node, *words)


def test_a_secret_file_that_is_not_there_is_named(node, tmp_path):
    change(node, f'secret = "{node.cluster.secret}"', f'secret_file = "{tmp_path}/none"')

    refuses(node, f"{tmp_path}/none")


@pytest.mark.parametrize("port", ["s3_port", "tls_port", "admin_port", "peer_port"])
def test_a_port_that_is_taken_is_named(node, port):
    number = getattr(node, port)
    kind = socket.SOCK_DGRAM if port == "peer_port" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", number))
        if kind == socket.SOCK_STREAM:
            taken.listen()

        refuses(node, f"127.0.0.1:{number}", "in use")


def test_a_data_folder_that_cannot_be_written_is_named(node, tmp_path):
    if os.geteuid() != 0:
        folder = tmp_path / "read-only"
        folder.mkdir(mode=0o500)
        change(node, str(node.data_dir), str(folder / "data"))
        refuses(node, str(folder))
        return
    # Root may write everywhere but to a file system that is mounted read-only.
    folder = tmp_path / "read-only"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "quorate-e2e", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no read-only file system can be mounted here")
    try:
        change(node, str(node.data_dir), str(folder / "data"))
        refuses(node, str(folder), "ead-only")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_data_folder_that_is_a_file_is_named(node, tmp_path):
    (tmp_path / "file").write_text("x")
    change(node, str(node.data_dir), str(tmp_path / "file"))

    refuses(node, str(tmp_path / "file"))


def test_a_second_process_on_the_same_folder_is_refused(node):
    node.start()
    for port in ("s3_port", "tls_port", "admin_port", "peer_port"):
        # Other ports, so that only the folder is in the way.
        kind = socket.SOCK_DGRAM if port == "peer_port" else socket.SOCK_STREAM
        text = node.config.read_text()
        node.config.write_text(text.replace(str(getattr(node, port)), str(free_port(kind))))

    refuses(node, str(node.data_dir))

    assert node.alive() and node.healthy("live")


def test_no_arguments_and_unknown_arguments_get_usage():
    for arguments in ([], ["servr"], ["server", "--confg", "x"]):
        code, said = run(*arguments)
        assert code != 0 and "Usage" in said, said


def test_a_configuration_can_be_checked_without_a_start(node):
    assert run("config", "check", node.config)[0] == 0
    change(node, "capacity =", "capasity =")
    code, said = run("config", "check", node.config)
    assert code != 0 and "capacity" in said


def test_the_first_credential_can_be_made_as_soon_as_the_cluster_is_founded():
    for turn in range(3):
        cluster = Cluster(3)
        try:
            for one in cluster.nodes:
                one.write_config()
                one.start(wait=None)
            for one in cluster.nodes:
                one.wait("live")
            cluster.nodes[0].cli("cluster", "init", "--expect", "3")
            for one in cluster.nodes:
                one.wait("ready")

            made = cluster.nodes[turn].cli("key", "create", "first", "-o", "json", check=False)

            assert made.returncode == 0, f"turn {turn}: {made.stderr}\n{cluster.tails()}"
        finally:
            cluster.close()


def test_one_node_alone_is_a_cluster_and_keeps_its_objects():
    cluster = Cluster(1)
    try:
        node = cluster.start().nodes[0]
        client = node.s3()
        client.create_bucket(Bucket="one")
        client.put_object(Bucket="one", Key="k", Body=b"x" * MIB)
        node.stop()
        node.start(wait="ready")

        assert client.get_object(Bucket="one", Key="k")["Body"].read() == b"x" * MIB
    finally:
        cluster.close()
