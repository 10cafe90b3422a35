"""Every page of a listing, compared with a model that sorts and groups in Python."""

import concurrent.futures
import itertools
import random
import urllib.parse

import pytest

COUNT = 2500


def make_keys():
    """2,500 keys: nested folders, a name beside its folder, and characters around '/'."""
    fixed = ["a", "a/", "a/b", "a/b/c", "a/b/", "a-", "a0", "a b", "a+b", "a%2Fb", "ä/ö", "~", "//x"]
    made = [f"dir{i % 7}/sub{i % 11}/file-{i:05d}" for i in range(1200)]
    made += [f"flat-{i:05d}" for i in range(800)]
    made += [f"deep/{i % 3}/{i % 5}/{i % 7}/{i}" for i in range(COUNT - 2000 - len(fixed))]
    return fixed + made


def order(key):
    return key.encode()


def model(keys, prefix="", delimiter="", after=""):
    """What a listing must show: ("key", k) and ("prefix", p) in order, names after `after`."""
    shown = []
    for key in sorted(keys, key=order):
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            entry = ("prefix", prefix + rest.split(delimiter)[0] + delimiter)
        else:
            entry = ("key", key)
        # A listing goes on after a prefix that was its last entry, or after a key: a name inside
        # a prefix leaves that prefix in sight, as long as keys follow in it.
        if after and (entry[1] == after or order(key) <= order(after)):
            continue
        if not shown or shown[-1] != entry:
            shown.append(entry)
    return shown


def entries(page):
    """One page's keys and prefixes, merged in order as they count towards its size."""
    keys = [("key", item["Key"]) for item in page.get("Contents", [])]
    prefixes = [("prefix", item["Prefix"]) for item in page.get("CommonPrefixes", [])]
    assert keys == sorted(keys, key=lambda e: order(e[1]))
    assert prefixes == sorted(prefixes, key=lambda e: order(e[1]))
    return sorted(keys + prefixes, key=lambda e: order(e[1]))


def list_v2(client, bucket, size, limit=None, **options):
    shown, token = [], {}
    while limit is None or len(shown) < limit:
        page = client.list_objects_v2(Bucket=bucket, MaxKeys=size, **options, **token)
        found = entries(page)
        assert page["KeyCount"] == len(found) <= size
        assert len(found) == size or not page["IsTruncated"], "only the last page is short"
        shown += found
        if not page["IsTruncated"]:
            assert "NextContinuationToken" not in page
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    return shown


def list_v1(client, bucket, size, limit=None, **options):
    shown = []
    while limit is None or len(shown) < limit:
        page = client.list_objects(Bucket=bucket, MaxKeys=size, **options)
        found = entries(page)
        shown += found
        if not page["IsTruncated"]:
            break
        last = found[-1][1]
        # Without a delimiter S3 says no NextMarker: a client goes on after the last key.
        options["Marker"] = page.get("NextMarker", last)
        assert options["Marker"] == last
    return shown


@pytest.fixture(scope="module")
def filled(cluster):
    """A bucket of 2,500 keys, and its model."""
    client = cluster.nodes[0].s3()
    client.create_bucket(Bucket="listing")
    keys = make_keys()
    assert len(set(keys)) == COUNT
    random.Random(1).shuffle(keys)
    nodes = itertools.cycle(node.s3() for node in cluster.nodes)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        puts = [
            pool.submit(n.put_object, Bucket="listing", Key=k, Body=b"")
            for k, n in zip(keys, nodes)
        ]
        for put in puts:
            put.result()
    return "listing", keys


CASES = [
    {},
    {"Prefix": "dir3/"},
    {"Prefix": "dir3/", "Delimiter": "/"},
    {"Delimiter": "/"},
    {"Prefix": "a"},
    {"Prefix": "a", "Delimiter": "/"},
    {"Prefix": "a/", "Delimiter": "/"},
    {"Prefix": "deep/1/", "Delimiter": "/"},
    {"Prefix": "flat-0", "Delimiter": "0"},
    {"Delimiter": "-"},
    {"Delimiter": "sub1"},
    {"Prefix": "no such"},
]


def expected(keys, case, after=""):
    return model(keys, case.get("Prefix", ""), case.get("Delimiter", ""), after)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("lister", [list_v1, list_v2], ids=["v1", "v2"])
def test_all_pages_of_a_thousand_show_what_the_model_says(clients, filled, case, lister):
    bucket, keys = filled

    for client in clients:
        assert lister(client, bucket, 1000, **case) == expected(keys, case)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("lister", [list_v1, list_v2], ids=["v1", "v2"])
def test_pages_of_seven_show_what_the_model_says(clients, filled, case, lister):
    bucket, keys = filled
    # All pages where they are few; else the first of them.
    limit = 280

    shown = lister(clients[1], bucket, 7, limit, **case)

    assert shown == expected(keys, case)[: len(shown)]
    assert len(shown) >= min(limit, len(expected(keys, case)))


@pytest.mark.parametrize("lister", [list_v1, list_v2], ids=["v1", "v2"])
def test_every_page_of_seven_of_the_whole_bucket_shows_what_the_model_says(
    clients, filled, lister
):
    bucket, keys = filled

    assert lister(clients[2], bucket, 7) == expected(keys, {})


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("lister", [list_v1, list_v2], ids=["v1", "v2"])
def test_pages_of_one_show_what_the_model_says(clients, filled, case, lister):
    bucket, keys = filled

    shown = lister(clients[2], bucket, 1, 40, **case)

    assert shown == expected(keys, case)[: len(shown)]
    assert len(shown) >= min(40, len(expected(keys, case)))


@pytest.mark.parametrize("after", ["a", "a/", "a/b", "dir3/", "dir3/sub1", "flat-00400", "zzz", "~", "~~"])
@pytest.mark.parametrize("case", [{}, {"Delimiter": "/"}, {"Prefix": "dir3/"}], ids=str)
def test_a_listing_begins_after_the_name_it_is_given(clients, filled, case, after):
    bucket, keys = filled
    wanted = expected(keys, case, after)[:30]

    assert list_v2(clients[0], bucket, 1000, StartAfter=after, **case)[:30] == wanted
    assert list_v1(clients[1], bucket, 1000, Marker=after, **case)[:30] == wanted


def test_a_listing_encoded_for_urls_names_the_same_keys(clients, filled):
    bucket, keys = filled
    client = clients[0]
    # boto3 asks for encoding-type=url and decodes by itself; here it shall not.
    client.meta.events.unregister(
        "after-call.s3.ListObjectsV2", unique_id="unused", handler=lambda **_: None
    )

    page = client.list_objects_v2(Bucket=bucket, EncodingType="url", Prefix="a", MaxKeys=1000)
    raw = [item["Key"] for item in page["Contents"]]

    assert page["EncodingType"] == "url"
    assert "a%20b" in raw or "a+b" in raw
    assert "a%252Fb" in raw
    assert [urllib.parse.unquote_plus(key) for key in raw] == [
        key for _, key in model(keys, "a")
    ]


def test_no_keys_asked_for_is_an_empty_page_that_is_not_cut(clients, filled):
    bucket, _ = filled

    for page in (
        clients[0].list_objects_v2(Bucket=bucket, MaxKeys=0),
        clients[0].list_objects(Bucket=bucket, MaxKeys=0),
    ):
        assert not page["IsTruncated"]
        assert "Contents" not in page


def test_what_is_deleted_is_no_longer_listed_by_any_node(clients, cluster):
    bucket = "listing-deletes"
    clients[0].create_bucket(Bucket=bucket)
    keys = [f"{i % 10}/{i:04d}" for i in range(400)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda k: clients[0].put_object(Bucket=bucket, Key=k, Body=b""), keys))
    gone = [key for key in keys if key.startswith(("3/", "7/")) or key.endswith("5")]

    clients[1].delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": k} for k in gone]})

    left = set(keys) - set(gone)
    for client in clients:
        for size, case in itertools.product((1000, 7), ({}, {"Delimiter": "/"}, {"Prefix": "3/"})):
            assert list_v2(client, bucket, size, **case) == expected(left, case)
            assert list_v1(client, bucket, size, **case) == expected(left, case)


def test_a_put_is_in_the_next_listing_of_every_node(clients, bucket):
    for number in range(30):
        key = f"k{number:02d}"
        clients[number % 3].put_object(Bucket=bucket, Key=key, Body=b"x")
        for client in clients:
            page = client.list_objects_v2(Bucket=bucket)
            assert [item["Key"] for item in page["Contents"]][-1] == key


def test_each_row_of_a_listing_agrees_with_the_object(clients, bucket):
    for number in range(5):
        clients[0].put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * number)

    page = clients[1].list_objects_v2(Bucket=bucket, FetchOwner=True)

    for item in page["Contents"]:
        head = clients[2].head_object(Bucket=bucket, Key=item["Key"])
        assert item["ETag"] == head["ETag"]
        assert item["Size"] == head["ContentLength"]
        assert item["LastModified"].replace(microsecond=0) == head["LastModified"]
        assert item["StorageClass"] == "STANDARD"
        assert item["Owner"]["ID"]
