"""Four real clients, each doing a person's job against one node and checked through another."""

import hashlib
import pathlib
import socket
import subprocess

import boto3.s3.transfer
import pytest
import urllib3.util.connection

from cluster import REGION, clean_environment
from content import KIB, MIB, Stream, data
from refusals import sign

BIG = 20 * MIB + 3


@pytest.fixture
def tree(tmp_path):
    """A folder with small files, odd names and one file that goes up in parts."""
    root = tmp_path / "tree"
    files = {
        "empty": b"",
        "a/one byte": b"1",
        "a/b/c+d.txt": data("c", 17 * KIB),
        "ü/größe.bin": data("g", 300 * KIB),
        "big.bin": data("big", BIG),
    }
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root, files


def run(arguments, **environment):
    done = subprocess.run(
        [str(a) for a in arguments],
        env=clean_environment(**{k: str(v) for k, v in environment.items()}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def stored(client, bucket):
    """Every object of a bucket, by key."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            answer = client.get_object(Bucket=bucket, Key=item["Key"])
            found[item["Key"]] = answer["Body"].read()
            assert item["Size"] == len(found[item["Key"]])
    return found


def read_tree(root):
    root = pathlib.Path(root)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_boto3_puts_gets_lists_copies_and_deletes(cluster, bucket, tls, tmp_path):
    client = cluster.nodes[1].s3(tls=tls)
    transfer = boto3.s3.transfer.TransferConfig(
        multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4
    )
    client.put_object(Bucket=bucket, Key="small", Body=b"small", Metadata={"a": "b"})
    client.upload_fileobj(Stream("boto", BIG), bucket, "big", Config=transfer)
    client.copy({"Bucket": bucket, "Key": "big"}, bucket, "copied", Config=transfer)

    client.download_file(bucket, "copied", str(tmp_path / "copied"), Config=transfer)

    with open(tmp_path / "copied", "rb") as body:
        assert Stream("boto", BIG).equals(body)
    other = cluster.nodes[2].s3(tls=tls)
    assert other.head_object(Bucket=bucket, Key="small")["Metadata"] == {"a": "b"}
    listed = [o["Key"] for o in other.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == ["big", "copied", "small"]
    for key in listed:
        client.delete_object(Bucket=bucket, Key=key)
    assert other.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    other.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_the_aws_cli_syncs_a_folder_up_and_down(cluster, tree, tmp_path, tls):
    node, (root, files) = cluster.nodes[0], tree
    name = f"aws-cli-{tls}".lower()
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": home,
        "AWS_ACCESS_KEY_ID": cluster.key[0],
        "AWS_SECRET_ACCESS_KEY": cluster.key[1],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CA_BUNDLE": node.certificate,
        "LC_ALL": "C.UTF-8",
    }
    endpoint = node.tls_endpoint if tls else node.endpoint
    aws = ["aws", "--endpoint-url", endpoint, "s3"]

    run([*aws, "mb", f"s3://{name}"], **environment)
    run([*aws, "sync", root, f"s3://{name}/tree"], **environment)
    run([*aws, "cp", f"s3://{name}/tree/big.bin", f"s3://{name}/copy of big"], **environment)
    run([*aws, "sync", f"s3://{name}/tree", tmp_path / "down"], **environment)

    assert read_tree(tmp_path / "down") == files
    assert run([*aws, "sync", root, f"s3://{name}/tree"], **environment) == "", "all is there"
    expected = {f"tree/{k}": v for k, v in files.items()} | {"copy of big": files["big.bin"]}
    assert stored(cluster.nodes[2].s3(), name) == expected
    (root / "empty").unlink()
    run([*aws, "sync", "--delete", root, f"s3://{name}/tree"], **environment)
    assert "empty" not in run([*aws, "ls", f"s3://{name}/tree/"], **environment)
    run([*aws, "rb", "--force", f"s3://{name}"], **environment)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_rclone_syncs_checks_moves_and_purges(cluster, tree, tmp_path, tls):
    node, (root, files) = cluster.nodes[1], tree
    name = f"rclone-{tls}".lower()
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[q]\ntype = s3\nprovider = Other\naccess_key_id = {cluster.key[0]}\n"
        f"secret_access_key = {cluster.key[1]}\nregion = {REGION}\n"
        f"endpoint = {node.tls_endpoint if tls else node.endpoint}\n"
        "upload_cutoff = 8Mi\nchunk_size = 8Mi\ncopy_cutoff = 8Mi\n"
    )
    rclone = ["rclone", "--config", config, "--ca-cert", node.certificate, "--retries", "1"]
    rclone += ["--low-level-retries", "1"]
    environment = {"HOME": tmp_path}

    run([*rclone, "mkdir", f"q:{name}"], **environment)
    run([*rclone, "sync", root, f"q:{name}/tree"], **environment)
    run([*rclone, "check", "--download", root, f"q:{name}/tree"], **environment)
    run([*rclone, "copy", f"q:{name}/tree/big.bin", f"q:{name}/copies"], **environment)
    run([*rclone, "moveto", f"q:{name}/tree/a/one byte", f"q:{name}/moved"], **environment)
    run([*rclone, "sync", f"q:{name}/tree", tmp_path / "down"], **environment)

    left = {k: v for k, v in files.items() if k != "a/one byte"}
    assert read_tree(tmp_path / "down") == left
    expected = {f"tree/{k}": v for k, v in left.items()}
    expected |= {"copies/big.bin": files["big.bin"], "moved": b"1"}
    assert stored(cluster.nodes[0].s3(), name) == expected
    run([*rclone, "purge", f"q:{name}"], **environment)
    names = [b["Name"] for b in cluster.nodes[2].s3().list_buckets()["Buckets"]]
    assert name not in names


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_s3cmd_puts_gets_syncs_copies_and_deletes(cluster, tree, tmp_path, tls):
    node, (root, files) = cluster.nodes[2], tree
    name = f"s3cmd-{tls}".lower()
    config = tmp_path / "s3cfg"
    host = f"localhost:{node.tls_port}" if tls else f"127.0.0.1:{node.s3_port}"
    config.write_text(
        f"[default]\naccess_key = {cluster.key[0]}\nsecret_key = {cluster.key[1]}\n"
        f"host_base = {host}\nhost_bucket = {host}\nbucket_location = {REGION}\n"
        f"use_https = {tls}\nca_certs_file = {node.certificate}\nmax_retries = 1\n"
        "multipart_chunk_size_mb = 8\nprogress_meter = False\n"
    )
    s3cmd = ["s3cmd", "-c", config]
    environment = {"HOME": tmp_path, "LC_ALL": "C.UTF-8"}

    run([*s3cmd, "mb", f"s3://{name}"], **environment)
    run([*s3cmd, "sync", f"{root}/", f"s3://{name}/tree/"], **environment)
    run([*s3cmd, "cp", f"s3://{name}/tree/big.bin", f"s3://{name}/copied"], **environment)
    run([*s3cmd, "get", f"s3://{name}/copied", tmp_path / "copied"], **environment)
    (tmp_path / "down").mkdir()
    run([*s3cmd, "sync", f"s3://{name}/tree/", f"{tmp_path}/down/"], **environment)

    assert (tmp_path / "copied").read_bytes() == files["big.bin"]
    assert read_tree(tmp_path / "down") == files
    expected = {f"tree/{k}": v for k, v in files.items()} | {"copied": files["big.bin"]}
    assert stored(cluster.nodes[0].s3(), name) == expected
    run([*s3cmd, "info", f"s3://{name}/copied"], **environment)
    run([*s3cmd, "del", "--recursive", "--force", f"s3://{name}"], **environment)
    run([*s3cmd, "rb", f"s3://{name}"], **environment)


@pytest.mark.parametrize("what", ["empty", "refused"])
def test_an_expectation_that_gets_no_hundred_ends_its_connection(cluster, bucket, what):
    # The AWS CLI's botocore reads the next answer on such a connection without its status line,
    # and then misses all headers. AWS always sends 100 Continue, or closes.
    node = cluster.nodes[0]
    headers = {"host": f"127.0.0.1:{node.s3_port}", "expect": "100-continue"}
    headers = sign("PUT", f"/{bucket}/k", headers, b"", cluster.key)
    if what == "refused":
        headers["authorization"] = headers["authorization"][:-4] + "0000"
    headers["content-length"] = "0" if what == "empty" else "5"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", node.s3_port), timeout=5) as peer:
        peer.sendall(f"PUT /{bucket}/k HTTP/1.1\r\n{lines}\r\n".encode())
        answer = peer.recv(65536)

        if answer.startswith(b"HTTP/1.1 100 "):
            return
        assert answer.startswith(b"HTTP/1.1 200 " if what == "empty" else b"HTTP/1.1 403 ")
        if b"connection: close\r\n" not in answer.lower():
            # Not announced, so it must at least be done.
            peer.settimeout(2)
            while piece := peer.recv(65536):
                answer += piece


@pytest.fixture
def loopback_names(monkeypatch):
    """Makes bucket.localhost this machine, as most resolvers do by themselves."""
    real = socket.getaddrinfo

    def resolve(host, *arguments, **more):
        if isinstance(host, str) and host.endswith(".localhost"):
            host = "127.0.0.1"
        return real(host, *arguments, **more)

    monkeypatch.setattr(urllib3.util.connection.socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("loopback_names")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_bucket_is_reached_by_its_host_name(cluster, bucket, tls):
    node = cluster.nodes[0]
    # No client takes a wildcard of one label (*.localhost) in a certificate.
    https = f"https://s3.localhost:{node.tls_port}"
    endpoint = https if tls else f"http://localhost:{node.s3_port}"
    client = cluster.client(
        endpoint, style="virtual", verify=str(node.certificate) if tls else None
    )
    hosts = []
    client.meta.events.register("before-send.s3", lambda request, **_: hosts.append(request.url))

    client.put_object(Bucket=bucket, Key="a/b c", Body=b"by name")

    assert client.get_object(Bucket=bucket, Key="a/b c")["Body"].read() == b"by name"
    assert [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b c"]
    assert all(f"//{bucket}." in url and "localhost:" in url for url in hosts), hosts
    through_path = cluster.nodes[1].s3().get_object(Bucket=bucket, Key="a/b c")["Body"].read()
    assert hashlib.md5(through_path).hexdigest() == hashlib.md5(b"by name").hexdigest()
