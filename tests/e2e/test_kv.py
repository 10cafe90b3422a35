"""The key-value API: values side by side, contexts, scans, and who may do what."""

import base64
import email
import email.policy
import json
import subprocess
import urllib.parse

import pytest
from openapi_spec_validator import validate

from cluster import BINARY, clean_environment, until
from kv import Kv


@pytest.fixture(scope="session")
def kv(cluster):
    """The first node's API."""
    return Kv(cluster.nodes[0])


@pytest.fixture(scope="session")
def everywhere(cluster):
    """Each node's API."""
    return [Kv(node) for node in cluster.nodes]


def code(answer):
    return answer.status, answer.json()["code"]


def test_a_value_comes_back_from_every_node_byte_for_byte(everywhere, bucket):
    value = bytes(range(256)) * 1024

    put = everywhere[0].put(bucket, "a", value)
    got = [kv.get(bucket, "a") for kv in everywhere]

    assert (put.status, put.siblings) == (204, 1), put
    assert put.headers["x-quorate-level"] == "quorum" and put.headers["x-request-id"]
    for answer in got:
        assert (answer.status, answer.body) == (200, value)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.siblings == 1 and answer.context


@pytest.mark.parametrize("key", ["a/b", "a/b/c", "ü +%&?#", "/", "a//b", ".", "../x", "k" * 1024])
def test_any_key_is_legal(kv, bucket, key):
    assert kv.put(bucket, key, key.encode()).status == 204
    assert kv.get(bucket, key).body == key.encode()
    assert [entry["key"] for entry in kv.scan(bucket).json()["entries"]] == [key]


def test_an_empty_value_is_a_value(kv, bucket):
    assert kv.put(bucket, "k", b"").status == 204
    answer = kv.get(bucket, "k")
    assert (answer.status, answer.body) == (200, b"")


def test_a_write_with_the_context_of_a_read_replaces_what_was_read(everywhere, bucket):
    first, second, third = everywhere
    first.put(bucket, "k", b"1")

    context = second.get(bucket, "k").context
    put = third.put(bucket, "k", b"2", context)

    assert (put.status, put.siblings) == (204, 1)
    assert first.values(bucket, "k") == {b"2"}
    # The context of a write that stands alone will do for the next.
    assert first.put(bucket, "k", b"3", put.context).siblings == 1
    assert second.values(bucket, "k") == {b"3"}


def test_writers_that_saw_nothing_of_each_other_leave_siblings(everywhere, bucket):
    everywhere[0].put(bucket, "k", b"base")
    context = everywhere[1].get(bucket, "k").context

    puts = [kv.put(bucket, "k", b"%d" % n, context) for n, kv in enumerate(everywhere)]
    read = everywhere[0].get(bucket, "k")

    assert [put.status for put in puts] == [204, 204, 204]
    assert (read.status, read.siblings) == (300, 3), read
    document = read.json()
    assert document["context"] == read.context and document["deletions"] == 0
    assert {base64.b64decode(one["value"]) for one in document["siblings"]} == {b"0", b"1", b"2"}
    assert all(one["dot"] and one["stamp"] and one["crc32c"] for one in document["siblings"])
    # A writer that left others standing has not seen them, and gets no context.
    assert puts[2].context is None and puts[2].siblings == 3
    assert everywhere[2].put(bucket, "k", b"all", read.context).siblings == 1
    assert everywhere[1].values(bucket, "k") == {b"all"}


def test_an_old_context_replaces_only_what_it_has_seen(kv, bucket):
    old = kv.put(bucket, "k", b"1").context
    kv.put(bucket, "k", b"2", old)

    late = kv.put(bucket, "k", b"late", old)

    assert late.siblings == 2
    assert kv.values(bucket, "k") == {b"2", b"late"}


def test_siblings_come_as_parts_if_that_is_accepted(kv, bucket):
    kv.put(bucket, "k", b"one\r\n--")
    kv.put(bucket, "k", b"\0two")

    answer = kv.get(bucket, "k", headers={"accept": "multipart/mixed"})

    assert answer.status == 300
    head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.body, policy=email.policy.HTTP).get_payload()
    assert {part.get_payload(decode=True) for part in parts} == {b"one\r\n--", b"\0two"}
    assert all(part["x-quorate-stamp"] for part in parts)


def test_one_value_comes_as_a_document_if_that_is_accepted(kv, bucket):
    kv.put(bucket, "k", b"v")

    answer = kv.get(bucket, "k", headers={"accept": "application/json"})

    assert answer.status == 200
    assert [base64.b64decode(one["value"]) for one in answer.json()["siblings"]] == [b"v"]


def test_head_says_what_get_would_say_without_the_values(kv, bucket):
    kv.put(bucket, "k", b"value")
    one = kv.ask("HEAD", bucket, "k")
    kv.put(bucket, "k", b"other")
    two = kv.ask("HEAD", bucket, "k")

    assert (one.status, one.body, one.headers["content-length"]) == (200, b"", "5")
    assert (two.status, two.body, two.siblings) == (300, b"", 2)
    assert kv.ask("HEAD", bucket, "absent").status == 404


def test_a_deletion_with_a_context_leaves_what_it_had_not_seen(everywhere, bucket):
    first, second, _ = everywhere
    seen = first.put(bucket, "k", b"seen").context
    second.put(bucket, "k", b"unseen")

    deleted = first.delete(bucket, "k", seen)

    assert deleted.status == 204 and deleted.siblings == 2
    answer = second.get(bucket, "k")
    assert (answer.status, answer.body, answer.siblings) == (200, b"unseen", 2)


def test_a_deletion_without_a_context_deletes_what_is_there(everywhere, bucket):
    first, second, _ = everywhere
    first.put(bucket, "k", b"1")
    first.put(bucket, "k", b"2")

    assert second.delete(bucket, "k").status == 204

    gone = first.get(bucket, "k")
    assert code(gone) == (404, "no_such_key")
    assert gone.context, "whoever writes next supersedes the deletion"
    assert first.scan(bucket).json()["entries"] == []
    again = first.put(bucket, "k", b"3", gone.context)
    assert again.siblings == 1 and second.values(bucket, "k") == {b"3"}


def test_deleting_what_is_not_there_succeeds(kv, bucket):
    assert kv.delete(bucket, "never").status == 204
    never = kv.get(bucket, "never")
    assert code(never) == (404, "no_such_key") and never.context is None


def test_a_blind_writer_gets_a_409_and_the_key_stays_readable(cluster, kv, bucket):
    before = sum(node.metric("quorate_kv_siblings_refused_total") for node in cluster.nodes)
    for number in range(16):
        assert kv.put(bucket, "k", b"%d" % number).status == 204, number

    refused = kv.put(bucket, "k", b"one more")

    assert code(refused) == (409, "too_many_siblings")
    assert refused.headers["x-quorate-outcome"] == "none"
    read = kv.get(bucket, "k")
    assert (read.status, read.siblings) == (300, 16)
    assert kv.put(bucket, "k", b"resolved", read.context).siblings == 1
    assert kv.values(bucket, "k") == {b"resolved"}
    after = sum(node.metric("quorate_kv_siblings_refused_total") for node in cluster.nodes)
    assert after == before + 1


def test_siblings_are_bounded_by_their_bytes_too(kv, bucket):
    value = b"x" * (256 << 10)
    for _ in range(4):
        assert kv.put(bucket, "k", value).status == 204

    assert code(kv.put(bucket, "k", b"x")) == (409, "too_many_siblings")
    assert kv.get(bucket, "k").siblings == 4
    entry = kv.scan(bucket).json()["entries"][0]
    assert (entry["siblings"], entry["bytes"]) == (4, 1 << 20)


def test_a_value_is_bounded(kv, bucket):
    limit = 256 << 10

    assert kv.put(bucket, "k", b"x" * limit).status == 204
    assert code(kv.put(bucket, "l", b"x" * (limit + 1))) == (413, "value_too_large")
    assert kv.get(bucket, "l").status == 404


def test_contexts_that_are_not_ours_are_refused(kv, bucket):
    context = kv.put(bucket, "k", b"v").context
    other = f"{context[:-2]}{'A' if context[-2] != 'A' else 'B'}{context[-1]}"

    for wrong in ["", "nonsense", other, context + "AAAA", "x" * 20_000]:
        assert code(kv.put(bucket, "k", b"w", wrong)) == (400, "invalid_context"), wrong[:40]
    assert code(kv.put(bucket, "other", b"w", context)) == (400, "invalid_context")
    assert code(kv.delete(bucket, "other", context)) == (400, "invalid_context")
    assert kv.values(bucket, "k") == {b"v"}


def test_levels_and_numbers_are_taken_per_request(kv, bucket):
    for query, level in [
        ({"level": "eventual"}, "eventual"),
        ({"level": "all"}, "all"),
        ({"level": "strict"}, "strict"),
        ({"w": 3}, "r=2,w=3"),
    ]:
        put = kv.put(bucket, "k", b"v", **query)
        assert (put.status, put.headers["x-quorate-level"]) == (204, level)
    assert kv.get(bucket, "k", r=1).headers["x-quorate-level"] == "r=1,w=2"
    for query in [{"level": "most"}, {"r": 4}, {"r": 0}, {"level": "all", "r": 1}]:
        assert code(kv.get(bucket, "k", **query)) == (400, "invalid_level"), query


def test_what_is_not_served_is_refused(kv, bucket):
    def refused(method, headers=None, key="k", **query):
        value = b"v" if method == "PUT" else None
        return code(kv.ask(method, bucket, key, value, headers=headers, **query))

    assert refused("PUT", {"if-match": "x"}) == (501, "not_implemented")
    assert refused("PUT", {"if-none-match": "*"}) == (501, "not_implemented")
    assert refused("GET", {"range": "bytes=0-1"}) == (501, "not_implemented")
    assert refused("PUT", {"content-encoding": "gzip"}) == (501, "not_implemented")
    assert refused("GET", {"x-quorate-context": "c"}) == (400, "invalid_request")
    assert refused("GET", ttl=1) == (400, "invalid_request")
    assert refused("PUT", r=1) == (400, "invalid_request")
    assert refused("POST") == (405, "method_not_allowed")
    assert refused("PUT", key="") == (405, "method_not_allowed")
    assert refused("GET", key="k" * 1025) == (400, "invalid_key")
    assert code(kv.ask("GET", "no-such-bucket-here", "k")) == (404, "no_such_bucket")
    assert code(kv.raw("GET", "/other")) == (404, "no_such_path")
    assert code(kv.raw("GET", f"/kv/v1/{bucket}/%zz")) == (400, "invalid_request")


def keys(answer):
    assert answer.status == 200, answer
    return [entry.get("key", entry.get("prefix")) for entry in answer.json()["entries"]]


def test_scans_are_in_the_order_of_the_keys_and_go_on_page_by_page(everywhere, bucket):
    names = sorted([f"{n:03}" for n in range(120)] + ["a", "a/b", "ü", "Z"], key=str.encode)
    for number, name in enumerate(names):
        everywhere[number % 3].put(bucket, name, name.encode())

    found, token = [], {}
    while True:
        page = everywhere[len(found) % 3].scan(bucket, limit=50, **token)
        found += keys(page)
        if page.json()["next"] is None:
            break
        token = {"token": page.json()["next"]}

    assert found == names
    kv = everywhere[0]
    assert keys(kv.scan(bucket, prefix="00")) == [f"00{n}" for n in range(10)]
    assert keys(kv.scan(bucket, prefix="00", after="005")) == ["006", "007", "008", "009"]
    assert keys(kv.scan(bucket, **{"from": "Z"})) == ["Z", "a", "a/b", "ü"]
    assert len(keys(kv.scan(bucket))) == 100, "the default limit"


def test_a_delimiter_groups_keys(kv, bucket):
    for name in ["a", "a/1", "a/2", "b/1/x", "c"]:
        kv.put(bucket, name, b"v")

    assert keys(kv.scan(bucket, delimiter="/")) == ["a", "a/", "b/", "c"]
    assert keys(kv.scan(bucket, delimiter="/", prefix="b/")) == ["b/1/"]
    assert keys(kv.scan(bucket, delimiter="/", after="a/")) == ["b/", "c"]


def test_a_scan_brings_values_if_asked_and_ends_its_page_when_it_has_enough(kv, bucket):
    large = b"x" * (256 << 10)
    for number in range(20):
        kv.put(bucket, f"{number:02}", large + b"%d" % number if number == 99 else large)
    kv.put(bucket, "99", b"l")
    kv.put(bucket, "99", b"r")

    first = kv.scan(bucket, values="true").json()
    rest = kv.scan(bucket, values="true", token=first["next"]).json()

    assert [entry["key"] for entry in first["entries"]] == [f"{n:02}" for n in range(16)]
    assert [entry["key"] for entry in rest["entries"]] == ["16", "17", "18", "19", "99"]
    assert rest["next"] is None
    both = rest["entries"][-1]
    assert {base64.b64decode(one["value"]) for one in both["values"]} == {b"l", b"r"}
    assert kv.put(bucket, "99", b"w", both["context"]).siblings == 1


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"token": "x"}, {"values": "y"}])
def test_scans_that_make_no_sense_are_refused(kv, bucket, query):
    assert code(kv.scan(bucket, **query)) == (400, "invalid_request")


def test_signed_requests_are_served(cluster, bucket):
    kv = Kv(cluster.nodes[1], signed=True)

    assert kv.put(bucket, "a/b c+ü", b"signed").status == 204
    assert kv.get(bucket, "a/b c+ü").body == b"signed"
    assert keys(kv.scan(bucket, prefix="a/", delimiter="+")) == ["a/b c+"]


def test_a_value_that_is_not_what_was_signed_is_refused(cluster, bucket):
    kv = Kv(cluster.nodes[0], signed=True)
    path = f"/kv/v1/{bucket}/k"
    headers = kv._who("PUT", path, b"signed")

    answer = kv.raw("PUT", path, b"forged", headers)

    assert code(answer) == (400, "invalid_request")
    assert kv.get(bucket, "k").status == 404


def test_tls_takes_bearer_tokens(cluster, bucket):
    kv = Kv(cluster.nodes[0], tls=True)

    assert kv.put(bucket, "k", b"v").status == 204
    assert kv.get(bucket, "k").body == b"v"


def test_strangers_and_the_unknown_are_refused(cluster, kv, bucket):
    kv.put(bucket, "k", b"v")
    stranger = Kv(cluster.nodes[0], key=cluster.create_key("kv-stranger"))
    wrong = Kv(cluster.nodes[0], key=(cluster.key[0], "wrong"))
    unknown = Kv(cluster.nodes[0], key=("QKUNKNOWN", "x"))
    forged = Kv(cluster.nodes[0], key=(cluster.key[0], "wrong"), signed=True)

    for who in [stranger, wrong, unknown, forged]:
        assert code(who.get(bucket, "k")) == (403, "access_denied")
        assert code(who.put(bucket, "k", b"w")) == (403, "access_denied")
        assert code(who.scan(bucket)) == (403, "access_denied")
    nobody = kv.raw("GET", f"/kv/v1/{bucket}/k")
    assert code(nobody) == (401, "unauthenticated") and nobody.headers["www-authenticate"]
    assert kv.values(bucket, "k") == {b"v"}


def test_a_bucket_with_keys_is_not_empty(s3, kv, bucket):
    kv.put(bucket, "k", b"v")
    with pytest.raises(s3.exceptions.ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket=bucket)
    kv.delete(bucket, "k")

    s3.delete_bucket(Bucket=bucket)

    assert code(kv.get(bucket, "k")) == (404, "no_such_bucket")


def test_objects_and_keys_of_one_name_are_two_things(s3, kv, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"object")
    kv.put(bucket, "k", b"value")

    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"object"
    assert kv.get(bucket, "k").body == b"value"


def test_the_document_is_valid_and_served_to_anybody(kv):
    answer = kv.raw("GET", "/kv/v1/openapi.json")

    assert answer.status == 200
    validate(answer.json())


def command(node, *arguments, value=None, check=True):
    run = subprocess.run(
        [BINARY, "kv", *arguments],
        env=clean_environment(
            QUORATE_KV_URL=node.kv_url,
            AWS_ACCESS_KEY_ID=node.cluster.key[0],
            AWS_SECRET_ACCESS_KEY=node.cluster.key[1],
        ),
        input=value,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not check or run.returncode == 0, run
    return run


def test_the_command_line_reads_writes_resolves_deletes_and_lists(cluster, bucket):
    first, second = cluster.nodes[0], cluster.nodes[1]
    command(first, "put", bucket, "a/k", "one")
    command(second, "put", bucket, "a/k", "-", value=b"\0two")

    both = command(second, "get", bucket, "a/k", check=False)
    document = json.loads(command(first, "get", bucket, "a/k", "-o", "json", check=False).stdout)
    written = json.loads(
        command(
            first, "put", bucket, "a/k", "three", "--context", document["context"],
            "--level", "all", "-o", "json",
        ).stdout
    )

    assert both.returncode == 3 and b"2 values" in both.stdout and b"one" in both.stdout
    assert len(document["siblings"]) == 2
    assert (written["siblings"], written["level"]) == (1, "all")
    assert command(second, "get", bucket, "a/k").stdout == b"three"
    assert b"a/k" in command(first, "list", bucket, "--prefix", "a").stdout
    listed = json.loads(command(first, "list", bucket, "--delimiter", "/", "-o", "json").stdout)
    assert listed["entries"] == [{"prefix": "a/"}]
    command(first, "delete", bucket, "a/k")
    gone = command(first, "get", bucket, "a/k", check=False)
    assert gone.returncode == 1 and b"no such key" in gone.stderr


def test_eventual_requests_go_on_with_two_of_three_nodes_gone(new_cluster):
    cluster = new_cluster(3)
    first, second, third = cluster.nodes
    first.s3().create_bucket(Bucket="kv-bucket")
    kv = Kv(first)
    kv.put("kv-bucket", "k", b"before", level="all")
    context = kv.get("kv-bucket", "k").context
    second.kill()
    third.kill()

    written = []

    def attempt():
        written.append(kv.put("kv-bucket", "k", b"after", context, level="eventual"))
        return written[-1].status == 204

    until(attempt, 20, lambda: f"{written[-1]}")
    strict = kv.put("kv-bucket", "k", b"strict", context, level="strict")

    assert code(strict) == (503, "unavailable") and strict.headers["retry-after"]
    assert strict.headers["x-quorate-outcome"] in ("none", "unknown")
    assert b"after" in kv.values("kv-bucket", "k", level="eventual")
    cluster.nodes[1].start()
    cluster.nodes[2].start()
    for node in cluster.nodes:
        node.wait("ready")
    until(
        lambda: b"after" in Kv(third).values("kv-bucket", "k"), 30, lambda: "the write is not found"
    )


def put_until_done(kv, value, context):
    answers = []

    def attempt():
        answers.append(kv.put("kv-bucket", "k", value, context, level="quorum"))
        return answers[-1].status == 204

    until(attempt, 20, lambda: f"{answers[-1]}")


def test_nothing_acknowledged_is_lost_when_writers_on_both_sides_cannot_see_each_other(new_cluster):
    cluster = new_cluster(3)
    cluster.nodes[0].s3().create_bucket(Bucket="kv-bucket")
    Kv(cluster.nodes[0]).put("kv-bucket", "k", b"base", level="all")
    context = Kv(cluster.nodes[0]).get("kv-bucket", "k").context

    # One side after the other: what is down now has not seen what is written now.
    acknowledged = set()
    for number, (down, up) in enumerate([(2, 0), (0, 2)]):
        cluster.nodes[down].kill()
        value = b"side %d" % number
        put_until_done(Kv(cluster.nodes[up]), value, context)
        acknowledged.add(value)
        cluster.nodes[down].start(wait="ready")

    for node in cluster.nodes:
        answers = []

        def answered(kv=Kv(node), answers=answers):
            # A node that has just come back may not know all addresses yet.
            answers.append(kv.get("kv-bucket", "k", level="all"))
            return answers[-1].status != 503

        until(answered, 30, lambda answers=answers: f"{answers[-1]}")
        found = Kv(node).values("kv-bucket", "k", level="all")
        assert acknowledged <= found and b"base" not in found, found


def test_paths_are_decoded_once(kv, bucket):
    kv.put(bucket, "a%2Fb", b"escaped")

    assert kv.get(bucket, "a/b").status == 404
    assert kv.get(bucket, "a%2Fb").body == b"escaped"
    quoted = urllib.parse.quote("a%2Fb", safe="")
    assert kv.scan(bucket).json()["entries"][0]["key"] == urllib.parse.unquote(quoted)
