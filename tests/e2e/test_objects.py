"""Copies, deletes, metadata and keys that are hard to carry."""

import concurrent.futures
import time

import pytest

from content import CHUNK, EXTENT, KIB, MIB, data
from refusals import refused, send

KEYS = [
    "plain",
    "a/b",
    "a/b/c",
    "a",
    "a/",
    "/leading",
    "//two",
    "a//b",
    "a/../b",
    "a/./b",
    "../up",
    ".",
    "..",
    "with space",
    " ",
    "a+b",
    "a%2Bb",
    "%",
    "%00",
    "100%",
    "ümläut/größe",
    "日本語/キー",
    "🦀",
    "e\u0301 beside \u00e9",
    "quote'\"<>&;",
    "?x=1&y=2#z",
    "back\\slash",
    "tab\there",
    "~!@$^*()_-={}[]|:,.`",
    "x" * 1024,
    "ü" * 512,
    "\u00a0",
    "a=b,c",
    "trailing/",
    "\x7f",
]


@pytest.fixture(scope="module")
def keys_bucket(cluster):
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="keys")
    for key in KEYS:
        client.put_object(Bucket="keys", Key=key, Body=key.encode())
    return "keys"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key[:24]))
def test_a_key_is_kept_as_it_is(clients, keys_bucket, key):
    for client in clients:
        assert client.get_object(Bucket=keys_bucket, Key=key)["Body"].read() == key.encode()
        page = client.list_objects_v2(Bucket=keys_bucket, Prefix=key, MaxKeys=1)
        assert page["Contents"][0]["Key"] == key


def test_all_keys_are_listed_in_the_order_of_their_bytes(clients, keys_bucket):
    for client in clients:
        page = client.list_objects_v2(Bucket=keys_bucket)
        assert [o["Key"] for o in page["Contents"]] == sorted(KEYS, key=str.encode)


def test_each_key_is_deleted_alone(clients, bucket):
    for key in KEYS:
        clients[0].put_object(Bucket=bucket, Key=key, Body=b"x")
    left = sorted(KEYS, key=str.encode)

    for key in KEYS:
        clients[1].delete_object(Bucket=bucket, Key=key)
        left.remove(key)
        page = clients[2].list_objects_v2(Bucket=bucket)
        assert [o["Key"] for o in page.get("Contents", [])] == left


def test_a_key_of_more_than_1024_bytes_is_refused(s3, bucket):
    for key in ("x" * 1025, "ü" * 513):
        with refused("KeyTooLongError", status=400):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_control_characters_in_keys_are_listed_with_url_encoding(cluster, s3, bucket):
    for raw in ("%01", "a%0Ab", "%1F"):
        assert send(cluster.nodes[0], "PUT", f"/{bucket}/{raw}", body=b"x")[0] == 200

    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]]

    assert keys == ["\x01", "\x1f", "a\nb"]


def test_headers_that_describe_an_object_come_back_and_can_be_overridden(clients, bucket):
    described = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de, en",
    }
    clients[0].put_object(Bucket=bucket, Key="k", Body=b"x", **described)

    for client in clients:
        for answer in (
            client.get_object(Bucket=bucket, Key="k"),
            client.head_object(Bucket=bucket, Key="k"),
        ):
            assert {name: answer.get(name) for name in described} == described
        over = client.get_object(
            Bucket=bucket,
            Key="k",
            ResponseContentType="a/b",
            ResponseCacheControl="no-store",
            ResponseContentDisposition="inline",
            ResponseContentEncoding="br",
            ResponseContentLanguage="fr",
        )
        assert over["ContentType"] == "a/b"
        assert over["CacheControl"] == "no-store"
        assert over["ContentDisposition"] == "inline"
        assert over["ContentEncoding"] == "br"
        assert over["ContentLanguage"] == "fr"


def test_an_object_without_a_type_is_a_row_of_octets(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_metadata_comes_back_in_lower_case_and_whole(clients, bucket):
    metadata = {"Upper": "Value", "with-dash": "a, b", "empty": "", "long": "y" * 1500}
    clients[0].put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata)

    for client in clients:
        head = client.head_object(Bucket=bucket, Key="k")
        assert head["Metadata"] == {k.lower(): v for k, v in metadata.items()}


@pytest.mark.parametrize("value", ["größe".encode(), "größe".encode("latin-1"), b"=?UTF-8?Q?gr?="])
def test_metadata_of_other_bytes_than_ascii_comes_back_byte_for_byte(cluster, bucket, value):
    # SDKs refuse such values; browsers and other programs send them, as UTF-8 or as Latin-1.
    node = cluster.nodes[0]
    status, _, body = send(node, "PUT", f"/{bucket}/k", {"x-amz-meta-name": value}, b"x")
    assert status == 200, body

    _, headers, _ = send(node, "HEAD", f"/{bucket}/k")

    assert headers["x-amz-meta-name"].encode("latin-1") == value


def test_metadata_beyond_ascii_comes_back_to_boto3(cluster, bucket):
    # boto3's own check is passed by; it sends UTF-8 and takes what comes back for Latin-1.
    client = cluster.nodes[0].s3()
    client.meta.events.register(
        "before-call.s3.PutObject",
        lambda params, **_: params["headers"].update({"x-amz-meta-name": "Hello World\xe9"}),
    )
    client.put_object(Bucket=bucket, Key="k", Body=b"x")

    metadata = cluster.nodes[1].s3().head_object(Bucket=bucket, Key="k")["Metadata"]

    assert metadata["name"].encode("latin-1").decode() == "Hello World\xe9"


def test_metadata_beyond_two_kibibytes_is_refused(s3, bucket):
    with refused("MetadataTooLarge", status=400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "x" * 2049})
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("size", [0, 5, 16 * KIB + 1, MIB + 1, EXTENT + 1])
def test_a_copy_has_the_bytes_and_headers_of_its_source(clients, bucket, size):
    body = data(f"copy {size}", size)
    clients[0].put_object(
        Bucket=bucket, Key="from/ü +", Body=body, ContentType="a/b", Metadata={"m": "1"}
    )

    copied = clients[1].copy_object(
        Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from/ü +"}
    )
    clients[2].delete_object(Bucket=bucket, Key="from/ü +")

    for client in clients:
        answer = client.get_object(Bucket=bucket, Key="to")
        assert answer["Body"].read() == body
        assert answer["ETag"] == copied["CopyObjectResult"]["ETag"]
        assert answer["ContentType"] == "a/b"
        assert answer["Metadata"] == {"m": "1"}


def test_a_copy_with_replaced_metadata_has_only_the_new(clients, bucket):
    clients[0].put_object(
        Bucket=bucket, Key="k", Body=b"x", ContentType="a/b", Metadata={"old": "1"}
    )

    clients[1].copy_object(
        Bucket=bucket,
        Key="to",
        CopySource=f"{bucket}/k",
        MetadataDirective="REPLACE",
        Metadata={"new": "2"},
        ContentType="c/d",
    )

    head = clients[2].head_object(Bucket=bucket, Key="to")
    assert head["Metadata"] == {"new": "2"}
    assert head["ContentType"] == "c/d"


@pytest.mark.parametrize("size", [5, MIB + 1, EXTENT + 1])
def test_a_copy_onto_itself_replaces_metadata_and_keeps_the_bytes(clients, bucket, size):
    body = data("itself", size)
    clients[0].put_object(Bucket=bucket, Key="k", Body=body, Metadata={"old": "1"})

    for number in range(3):
        clients[number].copy_object(
            Bucket=bucket,
            Key="k",
            CopySource=f"{bucket}/k",
            MetadataDirective="REPLACE",
            Metadata={"new": str(number)},
        )

    for client in clients:
        answer = client.get_object(Bucket=bucket, Key="k")
        assert answer["Metadata"] == {"new": "2"}
        assert answer["Body"].read() == body
    with refused("InvalidRequest", status=400):
        clients[0].copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/k")


def test_a_copy_of_what_is_not_there_is_refused(s3, bucket):
    with refused("NoSuchKey", status=404):
        s3.copy_object(Bucket=bucket, Key="k", CopySource=f"{bucket}/none")
    with refused("NoSuchBucket", status=404):
        s3.copy_object(Bucket=bucket, Key="k", CopySource="no-such-bucket-here/k")


def test_a_copy_obeys_the_conditions_on_its_source(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "k"}

    s3.copy_object(Bucket=bucket, Key="a", CopySource=source, CopySourceIfMatch=etag)
    for condition in ({"CopySourceIfMatch": '"0"'}, {"CopySourceIfNoneMatch": etag}):
        with refused("PreconditionFailed", status=412):
            s3.copy_object(Bucket=bucket, Key="b", CopySource=source, **condition)

    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 2


def test_reads_obey_their_conditions(clients, bucket):
    put = clients[0].put_object(Bucket=bucket, Key="k", Body=b"x")
    date = clients[0].head_object(Bucket=bucket, Key="k")["LastModified"]

    for client in clients:
        assert client.get_object(Bucket=bucket, Key="k", IfMatch=put["ETag"])
        assert client.get_object(Bucket=bucket, Key="k", IfUnmodifiedSince=date)
        with refused("PreconditionFailed", "412", status=412):
            client.get_object(Bucket=bucket, Key="k", IfMatch='"0"')
        with refused("304", "NotModified", status=304):
            client.get_object(Bucket=bucket, Key="k", IfNoneMatch=put["ETag"])
        with refused("304", "NotModified", status=304):
            client.head_object(Bucket=bucket, Key="k", IfModifiedSince=date)


def test_a_deleted_object_is_gone_from_every_node_and_may_be_put_again(clients, bucket):
    for turn in range(5):
        clients[turn % 3].put_object(Bucket=bucket, Key="k", Body=str(turn).encode())
        for client in clients:
            assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == str(turn).encode()
        clients[(turn + 1) % 3].delete_object(Bucket=bucket, Key="k")
        for client in clients:
            with refused("NoSuchKey", status=404):
                client.get_object(Bucket=bucket, Key="k")
            with refused("404"):
                client.head_object(Bucket=bucket, Key="k")
    answer = clients[0].delete_object(Bucket=bucket, Key="never was")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_thousand_keys_are_deleted_at_once(clients, bucket):
    keys = [f"k/{i:04d} &<ü" for i in range(1000)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda k: clients[0].put_object(Bucket=bucket, Key=k, Body=b"x"), keys))
    clients[0].put_object(Bucket=bucket, Key="stays", Body=b"x")

    began = time.monotonic()
    answer = clients[1].delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]}
    )
    print(f"1,000 deletes in {time.monotonic() - began:.2f} s")

    assert sorted(d["Key"] for d in answer["Deleted"]) == keys
    assert "Errors" not in answer
    for client in clients:
        assert [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["stays"]
    quiet = clients[2].delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "stays"}, {"Key": "no"}], "Quiet": True}
    )
    assert "Deleted" not in quiet
    with refused("MalformedXML", status=400):
        clients[0].delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": str(i)} for i in range(1001)]}
        )


def test_the_last_of_several_overwrites_is_read_from_every_node(clients, bucket):
    for turn, size in enumerate([10, 2 * MIB, 20 * KIB, 0, CHUNK * 5]):
        body = data(f"turn {turn}", size)
        clients[turn % 3].put_object(Bucket=bucket, Key="k", Body=body)
        for client in clients:
            assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_buckets_are_made_listed_and_deleted_only_when_empty(clients):
    clients[0].create_bucket(Bucket="to-go")
    clients[1].create_bucket(Bucket="to-go")
    names = [b["Name"] for b in clients[2].list_buckets()["Buckets"]]
    assert "to-go" in names and names == sorted(names)
    assert clients[1].head_bucket(Bucket="to-go")
    assert clients[1].get_bucket_location(Bucket="to-go")["LocationConstraint"] is None

    clients[0].put_object(Bucket="to-go", Key="k", Body=b"x")
    with refused("BucketNotEmpty", status=409):
        clients[1].delete_bucket(Bucket="to-go")
    clients[2].delete_object(Bucket="to-go", Key="k")
    clients[1].delete_bucket(Bucket="to-go")

    for client in clients:
        with refused("NoSuchBucket", status=404):
            client.list_objects_v2(Bucket="to-go")
        with refused("NoSuchBucket", status=404):
            client.put_object(Bucket="to-go", Key="k", Body=b"x")


@pytest.mark.parametrize(
    "name", ["UPPER", "a_b", "192.168.0.1", "xn--a", "a..b", "ab", "-ab", "ab-", "x" * 64]
)
def test_bucket_names_that_s3_does_not_know_are_refused(cluster, name):
    status, _, body = send(cluster.nodes[0], "PUT", f"/{name}")

    assert status == 400 and b"<Code>InvalidBucketName</Code>" in body, body
