"""The downloader against a real HTTP server on this machine that describes files as Zenodo does."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "download_jetclass"
CONTENT = np.random.default_rng(0).bytes(3_000_000)
NAME = "JetClass_Pythia_val_5M_small.tar"


class Record(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files = {NAME: hashlib.md5(CONTENT).hexdigest()}
        self.breaks = 0
        self.ranges: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Record

    def do_GET(self) -> None:
        if self.path == "/record":
            files = [
                {
                    "key": k,
                    "size": len(CONTENT),
                    "checksum": f"md5:{v}",
                    "links": {"self": f"{self.server.url}/f"},
                }
                for k, v in self.server.files.items()
            ]
            self.answer(200, json.dumps({"files": files}).encode())
            return
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        body = CONTENT[start:]
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
        self.answer(206 if asked else 200, body)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def record():
    server = Record()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def fetch(record: Record, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run("--split", "val", "--out", out, "--record-url", f"{record.url}/record", *more)


def test_downloads_and_verifies(tmp_path, record):
    done = fetch(record, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert "checksum right" in done.stdout
    assert "genscale convert" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_a_second_run_downloads_nothing(tmp_path, record):
    fetch(record, tmp_path)
    asked = len(record.ranges)
    assert "already there" in fetch(record, tmp_path).stdout
    assert len(record.ranges) == asked


def test_a_broken_connection_goes_on_where_it_was(tmp_path, record):
    record.breaks = 1
    assert fetch(record, tmp_path).returncode == 0
    assert record.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_killed_run_goes_on_where_it_was(tmp_path, record):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1_000_000])
    assert fetch(record, tmp_path).returncode == 0
    assert record.ranges == ["bytes=1000000-"]
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_wrong_content_never_gets_the_name(tmp_path, record):
    (tmp_path / f"{NAME}.part").write_bytes(bytes(1_000_000))
    done = fetch(record, tmp_path)
    assert done.returncode == 2
    assert "instead of" in done.stderr
    assert not list(tmp_path.iterdir())
    assert fetch(record, tmp_path).returncode == 0


def test_a_record_that_contradicts_the_authors(tmp_path, record):
    record.files = {"JetClass_Pythia_val_5M.tar": "0" * 32}
    done = fetch(record, tmp_path)
    assert done.returncode == 2
    assert "the authors published 7235ccb577ed85023ea3ab4d5e6160cf" in done.stderr


def test_a_record_without_the_files(tmp_path, record):
    record.files = {"README.md": "0" * 32}
    done = fetch(record, tmp_path)
    assert done.returncode == 2
    assert "has no file JetClass_Pythia_val_5M* (found README.md)" in done.stderr


def test_no_network_is_explained(tmp_path):
    done = run("--split", "val", "--out", tmp_path, "--record-url", "http://127.0.0.1:9/record")
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert "compute nodes" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_needs_no_network(tmp_path):
    done = run("--split", "train", "--parts", "2", "--dry-run", "--out", tmp_path / "new")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines() if "md5" in line]
    assert names == ["JetClass_Pythia_train_100M_part0.tar", "JetClass_Pythia_train_100M_part1.tar"]
    assert not (tmp_path / "new").exists()


def test_bad_arguments():
    assert run("--split", "valid").returncode == 2
    assert run("--split", "val", "--parts", "0").returncode == 2
