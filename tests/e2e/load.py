"""A mixed load of several clients that remembers what was acknowledged."""

import random
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from content import KIB, MIB, data

SIZES = [0, 1, 3 * KIB, 16 * KIB + 1, 300 * KIB, MIB + 1, 6 * MIB]
WEIGHTS = [1, 2, 8, 4, 3, 2, 1]
ABSENT = None


class Load:
    """Threads that put, get, list and delete; each writes keys of its own, so it knows what it
    must read: the last acknowledged value, or one of those whose outcome is unknown."""

    def __init__(self, clients, bucket, threads=6, seed=0):
        self.bucket = bucket
        self.failures = []
        self.wrong = []
        self.done = 0
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self.workers = [
            Worker(self, clients[n % len(clients)], n, random.Random(seed * 100 + n))
            for n in range(threads)
        ]

    def __enter__(self):
        for worker in self.workers:
            worker.thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def stop(self):
        """No further request is begun."""
        self._ending.set()

    def end(self):
        self.stop()
        for worker in self.workers:
            worker.thread.join()

    def is_ending(self):
        return self._ending.is_set()

    def note(self, error, began, what):
        with self._lock:
            self.failures.append((time.monotonic(), began, what, repr(error)))

    def count(self):
        with self._lock:
            self.done += 1

    def failed_after(self, moment):
        """Requests that began after `moment` and failed."""
        return [f"{what}: {error}" for _, began, what, error in self.failures if began > moment]

    def audit(self, clients):
        """Reads every key through every client; gives what does not agree."""
        lost = []
        for client in clients:
            for worker in self.workers:
                for key, allowed in sorted(worker.allowed.items()):
                    found = worker.read(client, key)
                    if found not in allowed:
                        lost.append((client.meta.endpoint_url, key, found, allowed))
        return lost

    def acknowledged(self):
        """How many keys must be there."""
        return sum(
            1 for w in self.workers for allowed in w.allowed.values() if ABSENT not in allowed
        )


class Worker:
    """One client. `allowed` holds for each key the (seed, size) that a read may find."""

    def __init__(self, load, client, number, rng):
        self.load, self.client, self.number, self.rng = load, client, number, rng
        self.allowed = {}
        self.turn = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.load.is_ending():
            action = self.rng.choices([self.put, self.get, self.delete, self.list], [5, 5, 1, 1])[0]
            began = time.monotonic()
            try:
                action()
                self.load.count()
            except (ClientError, BotoCoreError, OSError) as error:
                self.load.note(error, began, f"{action.__name__} by client {self.number}")
                time.sleep(0.02)

    def put(self):
        self.turn += 1
        key = f"{self.number}/{self.rng.randrange(40):03d}"
        size = self.rng.choices(SIZES, WEIGHTS)[0]
        value = (f"{self.number}.{self.turn}", size)
        before = self.allowed.get(key, {ABSENT})
        # Until it is acknowledged, either may be read: an unanswered put may have happened.
        self.allowed[key] = before | {value}
        self.client.put_object(
            Bucket=self.load.bucket, Key=key, Body=data(*value), Metadata={"seed": value[0]}
        )
        self.allowed[key] = {value}

    def delete(self):
        if not self.allowed:
            return
        key = self.rng.choice(sorted(self.allowed))
        self.allowed[key] = self.allowed[key] | {ABSENT}
        self.client.delete_object(Bucket=self.load.bucket, Key=key)
        self.allowed[key] = {ABSENT}

    def get(self):
        if not self.allowed:
            return
        key = self.rng.choice(sorted(self.allowed))
        found = self.read(self.client, key)
        if found not in self.allowed[key]:
            self.load.wrong.append((key, found, self.allowed[key]))

    def list(self):
        self.client.list_objects_v2(Bucket=self.load.bucket, Prefix=f"{self.number}/")

    def read(self, client, key):
        """The (seed, size) whose bytes are there, ABSENT, or what is wrong with them."""
        try:
            answer = client.get_object(Bucket=self.load.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return ABSENT
            raise
        body = answer["Body"].read()
        value = (answer["Metadata"]["seed"], len(body))
        return value if body == data(*value) else f"damaged bytes of {value}"
