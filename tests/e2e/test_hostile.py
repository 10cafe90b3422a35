"""Bytes that no honest program sends, at every port, while honest clients go on."""

import base64
import contextlib
import hashlib
import random
import socket
import ssl
import threading
import time

import pytest

from cluster import until
from content import MIB, data
from refusals import send


@pytest.fixture(scope="module")
def target(cluster):
    """A node, a bucket and an object in it."""
    client = cluster.nodes[1].s3()
    client.create_bucket(Bucket="hostile")
    client.put_object(Bucket="hostile", Key="k", Body=b"calm")
    return cluster.nodes[1]


@pytest.fixture(scope="module", autouse=True)
def half_a_head(target):
    """A thread that waits for the end of a connection on which half a head was sent."""
    peer = connect(target.s3_port)
    peer.sendall(b"GET / HTTP/1.1\r\nx: ")
    peer.settimeout(90)

    def wait():
        with contextlib.closing(peer), contextlib.suppress(ConnectionError):
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture(autouse=True)
def lives_on(target, cluster):
    """After each test the node serves, grew little, and did not panic."""
    before = target.rss_bytes()
    yield
    assert target.alive(), target.tail()
    assert target.s3().get_object(Bucket="hostile", Key="k")["Body"].read() == b"calm"
    assert target.healthy("live") and target.healthy("ready")
    assert target.rss_bytes() < before + 64 * MIB
    for node in cluster.nodes:
        assert "panicked" not in node.log_text(), node.tail()


def connect(port, tls=None):
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    if tls is None:
        return plain
    context = ssl.create_default_context(cafile=tls.certificate)
    return context.wrap_socket(plain, server_hostname="localhost")


def talk(port, *pieces, tls=None, patience=5):
    """Sends the pieces and gives all that comes back until the end or a silence."""
    out = b""
    with contextlib.closing(connect(port, tls)) as peer:
        with contextlib.suppress(OSError):
            for piece in pieces:
                peer.sendall(piece)
        peer.settimeout(patience)
        with contextlib.suppress(OSError):
            while piece := peer.recv(65536):
                out += piece
    return out


def status_of(answer):
    """The status of a raw answer; 0 for a connection that was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def test_random_datagrams_at_the_peer_port_change_nothing(target):
    rng = random.Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        sent = 0
        while sent < 4 * MIB:
            size = rng.choice([1, 7, 21, 60, 1200, 1200, 1400])
            junk = bytearray(rng.randbytes(size))
            if rng.random() < 0.6:
                # It looks like a QUIC packet: a long header of version 1, or a short one.
                junk[0] = rng.choice([0xC3, 0xD0, 0xE1, 0xF0, 0x41])
                junk[1:5] = b"\0\0\0\1"
            with contextlib.suppress(OSError):
                peer.sendto(junk, ("127.0.0.1", target.peer_port))
            sent += size
            if rng.random() < 0.01:
                time.sleep(0.001)


@pytest.mark.parametrize("port", ["s3_port", "tls_port", "kv_port", "admin_port"])
def test_random_bytes_at_a_port_change_nothing(target, port):
    rng = random.Random(port)
    for _ in range(40):
        answer = talk(getattr(target, port), rng.randbytes(rng.choice([1, 100, 60_000])), patience=0.3)
        assert status_of(answer) in (0, 400, 431), answer[:80]
    for _ in range(4):
        talk(getattr(target, port), *[rng.randbytes(MIB // 4) for _ in range(4)], patience=0.3)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_random_bytes_inside_tls_or_after_a_good_head_change_nothing(target, tls):
    rng = random.Random(3)
    port = target.tls_port if tls else target.s3_port
    for _ in range(15):
        junk = rng.randbytes(20_000)
        answer = talk(port, b"GET / HTTP/1.1\r\n", junk, tls=target if tls else None, patience=0.3)
        assert status_of(answer) in (0, 400, 431), answer[:80]


HEADS = {
    "a header of a megabyte": b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * MIB + b"\r\n\r\n",
    "twenty thousand headers": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    "a path of a megabyte": b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
    "a control character": b"GET / HTTP/1.1\r\nhost: a\r\nx: \x01\x02\r\n\r\n",
    "two lengths": b"PUT /hostile/x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "a negative length": b"PUT /hostile/x HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    "a length that is no number": b"PUT /hostile/x HTTP/1.1\r\nhost: a\r\ncontent-length: 9x\r\n\r\n",
    "a length beyond 64 bits": b"PUT /hostile/x HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n",
    "length and chunks": b"POST /hostile?delete HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "an unknown transfer encoding": b"PUT /hostile/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    "dots in the path": b"GET /../../../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n",
    "bad percent signs": b"GET /hostile/%zz%f HTTP/1.1\r\nhost: a\r\n\r\n",
    "bytes that are not UTF-8 in the path": b"GET /hostile/%ff%fe HTTP/1.1\r\nhost: a\r\n\r\n",
    "an absolute address": b"GET http://elsewhere/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
    "http 2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\xff" * 64,
    "an authorization of a kilobyte of rubbish": b"GET / HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 " + b"/=, " * 250 + b"\r\n\r\n",
}


@pytest.mark.parametrize("port", ["s3_port", "admin_port"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_hostile_head_is_refused(target, port, head):
    answer = talk(getattr(target, port), head, patience=1)

    # "0" is a connection that was closed, or an answer of HTTP/2.
    assert status_of(answer) == 0 or 400 <= status_of(answer) <= 505, answer[:200]
    assert status_of(answer) != 500, answer[:400]


CHUNKS = {
    "no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "a negative number": b"-1\r\nabc\r\n0\r\n\r\n",
    "a number beyond 64 bits": b"fffffffffffffffffffff\r\nabc",
    "a chunk that is longer than it says": b"2\r\nabcdef\r\n0\r\n\r\n",
    "an extension without end": b"1;" + b"a" * (2 * MIB) + b"\r\nx\r\n0\r\n\r\n",
    "an end in the middle": b"5\r\nab",
    "trailers without end": b"1\r\nx\r\n0\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
@pytest.mark.parametrize("framing", ["http", "aws"])
def test_a_body_of_bad_chunks_stores_nothing(target, framing, chunks):
    url = target.s3().generate_presigned_url(
        "put_object", Params={"Bucket": "hostile", "Key": "chunks"}
    )
    path = url.split(str(target.s3_port), 1)[1]
    head = f"PUT {path} HTTP/1.1\r\nhost: 127.0.0.1:{target.s3_port}\r\n"
    if framing == "http":
        head += "transfer-encoding: chunked\r\n"
    else:
        head += (
            "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\n"
            f"x-amz-decoded-content-length: 3\r\ncontent-length: {len(chunks)}\r\n"
        )

    answer = talk(target.s3_port, head.encode() + b"\r\n", chunks, patience=1)

    assert status_of(answer) == 0 or 400 <= status_of(answer) < 500, answer[:300]
    assert "Contents" not in target.s3().list_objects_v2(Bucket="hostile", Prefix="chunks")


def test_an_upload_that_breaks_off_stores_nothing(target):
    url = target.s3().generate_presigned_url("put_object", Params={"Bucket": "hostile", "Key": "cut"})
    path = url.split(str(target.s3_port), 1)[1]
    head = f"PUT {path} HTTP/1.1\r\nhost: 127.0.0.1:{target.s3_port}\r\ncontent-length: {8 * MIB}\r\n\r\n"
    for _ in range(10):
        with contextlib.closing(connect(target.s3_port)) as peer:
            peer.sendall(head.encode() + data("cut", 3 * MIB))

    until(
        lambda: "Contents" not in target.s3().list_objects_v2(Bucket="hostile", Prefix="cut"),
        2,
        lambda: "half an object is listed",
    )


XML = {
    "nothing": b"",
    "no end": b"<Delete><Object><Key>k",
    "deep": b"<a>" * 100_000,
    "entities": b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">' + b'<!ENTITY b "&a;&a;&a;&a;">' + b"]><Delete><Object><Key>&b;</Key></Object></Delete>",
    "outside": b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>',
    "not XML": b"\xff\xfe\0\0 random" * 100,
    "too long": b"<Delete>" + b"<Object><Key>" + b"k" * (9 * MIB) + b"</Key></Object></Delete>",
}


@pytest.mark.parametrize("document", XML.values(), ids=XML.keys())
def test_a_hostile_document_is_refused(target, document):
    headers = {"content-md5": base64.b64encode(hashlib.md5(document).digest()).decode()}
    try:
        status, _, body = send(target, "POST", "/hostile?delete", headers, document)
    except ConnectionError:
        # It was refused and closed before all of it was sent.
        assert len(document) > 2 * MIB
        return

    assert 400 <= status < 500, body
    assert b"root:" not in body
    assert b"<Code>MalformedXML</Code>" in body or b"<Code>Max" in body or b"<Code>Entity" in body


def test_fifty_slow_connections_keep_nobody_else_from_being_served(target):
    slow = [connect(target.s3_port) for _ in range(25)] + [
        connect(target.tls_port) for _ in range(25)
    ]
    try:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            for number, peer in enumerate(slow):
                with contextlib.suppress(OSError):
                    peer.send(b"GET / HTTP/1.1\r\nx: "[number % 10 : number % 10 + 1])
            began = time.monotonic()
            assert target.s3().get_object(Bucket="hostile", Key="k")["Body"].read() == b"calm"
            assert time.monotonic() - began < 2
            time.sleep(0.3)
    finally:
        for peer in slow:
            peer.close()


def test_the_admin_api_does_nothing_without_its_token(target):
    for token in (b"", b"authorization: Bearer x\r\n", b"authorization: Basic eDp4\r\n"):
        for method, path in [
            (b"GET", b"/v1/status"),
            (b"GET", b"/v1/keys"),
            (b"POST", b"/v1/keys"),
            (b"DELETE", b"/v1/buckets/hostile"),
            (b"GET", b"/v1/no-such-path"),
        ]:
            head = method + b" " + path + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
            answer = talk(target.admin_port, head + token + b"content-length: 0\r\n\r\n")
            assert status_of(answer) == 401, (method, path, answer[:200])


def test_a_connection_that_sends_no_head_is_closed_in_the_end(half_a_head):
    half_a_head.join(timeout=60)

    assert not half_a_head.is_alive(), "it is still open after a minute"
