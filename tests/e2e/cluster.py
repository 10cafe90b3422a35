"""Real nodes on loopback: started from a configuration file, ended by their recorded pids."""

import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config

BINARY = os.environ.get("QUORATE_BIN", "target/release/quorate")
REGION = "us-east-1"
# Cores are often shared with builds; what must be quick is measured where it matters.
PATIENCE_SECONDS = 30


class NodeEnded(Exception):
    """A node's process ended on its own."""


def free_port(kind=socket.SOCK_STREAM):
    """A port that nobody listens on now; outside the range from which the kernel draws others'."""
    while True:
        port = 20000 + secrets.randbelow(10000)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def clean_environment(**more):
    """This process's environment without what would configure nodes or clients."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QUORATE_", "AWS_", "RCLONE_"))
        and name.lower() not in ("http_proxy", "https_proxy", "all_proxy")
    }
    return {**kept, "NO_PROXY": "*", **more}


class Node:
    """One process, its ports and its folder."""

    def __init__(self, cluster, number, data_dir=None):
        self.cluster = cluster
        self.number = number
        self.folder = cluster.folder / f"node-{number}"
        self.data_dir = pathlib.Path(data_dir) if data_dir else self.folder / "data"
        self.s3_port, self.tls_port, self.admin_port = free_port(), free_port(), free_port()
        self.kv_port, self.kv_tls_port = free_port(), free_port()
        self.peer_port = free_port(socket.SOCK_DGRAM)
        self.config = self.folder / "quorate.toml"
        self.log = self.folder / "log"
        self.process = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def tls_endpoint(self):
        return f"https://localhost:{self.tls_port}"

    @property
    def kv_url(self):
        return f"http://127.0.0.1:{self.kv_port}"

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def certificate(self):
        return self.data_dir / "tls" / "cert.pem"

    def write_config(self, secret=None, peers=None):
        self.data_dir.mkdir(parents=True, exist_ok=True)
        others = [n.peer_port for n in self.cluster.nodes if n is not self]
        peers = peers if peers is not None else [f"127.0.0.1:{port}" for port in others]
        self.config.write_text(
            f"""[node]
name = "n{self.number}"
zone = "zone-{self.number}"
capacity = "10GiB"
data_dir = "{self.data_dir}"

[cluster]
secret = "{secret or self.cluster.secret}"
peers = {json.dumps(peers)}

[peer]
listen = "127.0.0.1:{self.peer_port}"
advertise = "127.0.0.1:{self.peer_port}"

[s3]
listen = "127.0.0.1:{self.s3_port}"
tls_listen = "127.0.0.1:{self.tls_port}"
root_domains = ["localhost", "s3.localhost"]

[kv]
listen = "127.0.0.1:{self.kv_port}"
tls_listen = "127.0.0.1:{self.kv_tls_port}"

[admin]
listen = "127.0.0.1:{self.admin_port}"
token = "{self.cluster.token}"

{self.cluster.more_config}
"""
        )

    def start(self, wait="live"):
        assert not self.alive(), f"node {self.number} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "server", "--config", str(self.config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=clean_environment(),
                start_new_session=True,
            )
        if wait:
            self.wait(wait)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def healthy(self, what):
        try:
            with urllib.request.urlopen(f"{self.admin_url}/health/{what}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait(self, what, patience=PATIENCE_SECONDS):
        until(
            lambda: self.healthy(what),
            patience,
            lambda: f"node {self.number} is not {what}; {self.tail()}",
            lambda: self.must_be_alive(),
        )

    def must_be_alive(self):
        if not self.alive():
            raise NodeEnded(f"node {self.number} ended; {self.tail()}")

    def kill(self):
        """As a crash would: no warning."""
        self._end(signal.SIGKILL)

    def stop(self):
        """In order."""
        self._end(signal.SIGTERM)
        return self.process.returncode if self.process else None

    def _end(self, how):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=40)

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise NodeEnded(f"node {self.number} has no resident memory; {self.tail()}")

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines=25):
        kept = self.log_text().splitlines()[-lines:]
        return f"the end of {self.log}:\n" + "\n".join(kept)

    def metric(self, name):
        """The sum over all labels of that counter; 0 if it has not been counted yet."""
        with urllib.request.urlopen(f"{self.admin_url}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        lines = (line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def cli(self, *arguments, check=True):
        run = subprocess.run(
            [BINARY, *arguments],
            env=clean_environment(
                QUORATE_ADMIN_URL=self.admin_url, QUORATE_ADMIN_TOKEN=self.cluster.token
            ),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        if check and run.returncode not in (0, 3):
            raise AssertionError(f"{arguments}: {run.returncode}: {run.stdout}{run.stderr}")
        return run

    def s3(self, key=None, tls=False, **options):
        """A boto3 client of this node that tries nothing twice."""
        return self.cluster.client(
            self.tls_endpoint if tls else self.endpoint,
            key,
            verify=str(self.certificate) if tls else None,
            **options,
        )


class Cluster:
    """Nodes that form one cluster, in a temporary folder."""

    def __init__(self, count, data_dirs=None, more_config=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="quorate-e2e-"))
        self.secret = secrets.token_hex(32)
        self.token = secrets.token_hex(32)
        self.more_config = more_config
        self.nodes = []
        self.key = None
        for number in range(1, count + 1):
            self.nodes.append(Node(self, number, (data_dirs or {}).get(number)))
            self.nodes[-1].folder.mkdir(parents=True)

    def start(self):
        for node in self.nodes:
            node.write_config()
            node.start(wait=None)
        for node in self.nodes:
            node.wait("live")
        self.nodes[0].cli("cluster", "init", "--expect", str(len(self.nodes)))
        for node in self.nodes:
            node.wait("ready")
        self.nodes[0].wait("cluster")
        self.key = self.create_key("e2e")
        return self

    def create_key(self, name):
        """A credential that every node knows of."""
        made = json.loads(self._key_create(name).stdout)
        key = (made["access_key_id"], made["secret_access_key"])
        for node in self.nodes:
            if node.alive():
                until(lambda n=node: self._knows(n, key), 10, lambda: f"{name} is not known")
        return key

    def _key_create(self, name):
        """Credentials need all members up, and gossip may still be on its way to one of them."""
        made = None

        def attempt():
            nonlocal made
            made = self.nodes[0].cli("key", "create", name, "-o", "json", check=False)
            return made.returncode == 0

        until(attempt, 10, lambda: f"key create: {made.stdout}{made.stderr}")
        return made

    def _knows(self, node, key):
        try:
            node.s3(key).list_buckets()
        except Exception:  # noqa: BLE001 - whatever it is, it is asked again
            return False
        return True

    def client(self, endpoint, key=None, verify=None, style="path", **options):
        key = key or self.key
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            s3={"addressing_style": style},
            signature_version=options.pop("signature_version", "s3v4"),
            connect_timeout=5,
            read_timeout=options.pop("read_timeout", 60),
            max_pool_connections=32,
            proxies={},
            **options,
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            verify=verify,
            config=config,
        )

    def restart(self):
        for node in self.nodes:
            node.start(wait=None)
        for node in self.nodes:
            node.wait("ready")

    def kill_all(self):
        for node in self.nodes:
            if node.alive():
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            if node.process:
                node.process.wait(timeout=40)

    def tails(self):
        return "\n\n".join(node.tail() for node in self.nodes)

    def close(self, keep_logs_in=None):
        self.kill_all()
        try:
            if keep_logs_in:
                self._keep_logs(keep_logs_in)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _keep_logs(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            if node.log.exists():
                shutil.copy(node.log, folder / f"{self.folder.name}-node-{node.number}.log")


def until(condition, patience, message, also=lambda: None):
    """Asks until it holds; fails after `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        if condition():
            return
        also()
        if time.monotonic() > end:
            raise AssertionError(message())
        time.sleep(0.05)
