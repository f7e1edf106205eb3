import gzip
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cpsc_core.data import download as module
from cpsc_core.data.download import fetch, obtain
from cpsc_core.data.file_set import Download
from cpsc_core.data.parquet import PARQUET
from cpsc_core.data.torchvision_sets import MNIST
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@dataclass
class Site:
    """A web server: its files, how it misbehaves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {"/f": CONTENT})
    cut_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.headers.get("Range"))
            if site.statuses and (status := site.statuses.pop(0)) != 200:
                self.send_error(status)
                return
            whole = site.files.get(self.path)
            if whole is None:
                self.send_error(404)
                return
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(wanted[1]) if wanted and site.ranges else 0
            if start >= len(whole):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(whole) - start))
            self.end_headers()
            stop = start + site.cut_after.pop(0) if site.cut_after else len(whole)
            self.wfile.write(whole[start:stop])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_arrives_whole_and_its_progress_is_told(site: Site, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5, told=lambda *each: told.append(each))

    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert told[-1] == ("f", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_a_cut_connection_is_gone_on_with_from_where_it_was(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000, 200_000]

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)

    assert (tmp_path / "f").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_another_run_goes_on_with_what_is_there(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000] * 5
    with pytest.raises(DataError, match="what came is kept and the same command goes on with it"):
        fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)
    assert not (tmp_path / "f").exists()

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)

    assert site.asked[-1] == "bytes=500000-"
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_server_that_cannot_go_on_sends_it_all_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    site.cut_after = [300_000]

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)

    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)

    assert (tmp_path / "f").read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_removed(site: Site, tmp_path: Path) -> None:
    site.files["/f"] = CONTENT[:-1] + b"x"

    with pytest.raises(
        DataError, match=rf"gave a file with MD5 \w+, but the published one has {MD5}; it was rem"
    ):
        fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 500, 200]

    fetch(f"{site.url}/f", tmp_path / "f", md5=MD5)

    assert len(site.asked) == 3


@pytest.mark.parametrize("path", ["/nowhere"])
def test_what_is_not_there_is_not_asked_for_again(site: Site, tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match=rf"{path} cannot be downloaded .*404.* put the file at {tmp_path}/f"):
        fetch(f"{site.url}{path}", tmp_path / "f", md5=MD5)
    assert len(site.asked) == 1


def test_a_server_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)

    with pytest.raises(DataError, match=r"cannot be downloaded .*refused"):
        fetch("http://127.0.0.1:9/f", tmp_path / "f", md5=MD5)


def test_a_data_set_is_downloaded_and_unpacked_once(site: Site, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    site.files = {"/a.gz": packed}
    digest = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    names = MNIST.layout.names  # type: ignore[attr-defined]
    downloads = tuple(Download(f"{site.url}/a.gz", f"{name}.gz", digest, 1, unpack=name) for name in names)
    data_set = replace(MNIST, downloads=downloads)

    files = obtain(data_set, tmp_path / "d")
    again = obtain(data_set, tmp_path / "d")

    assert files == again == [tmp_path / "d" / name for name in names]
    assert all(path.read_bytes() == CONTENT for path in files)
    assert len(site.asked) == 4


def test_a_folder_in_an_archive_is_unpacked(site: Site, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("inner/x")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))
    site.files = {"/a.tar.gz": buffer.getvalue()}
    digest = hashlib.md5(buffer.getvalue(), usedforsecurity=False).hexdigest()
    names = ("inner/x",)
    data_set = replace(
        MNIST,
        layout=replace(MNIST.layout, names=names),  # type: ignore[type-var]
        downloads=(Download(f"{site.url}/a.tar.gz", "a.tar.gz", digest, 1, unpack="inner"),),
    )

    assert obtain(data_set, tmp_path) == [tmp_path / "inner/x"]
    assert (tmp_path / "inner/x").read_bytes() == CONTENT


def test_data_of_ones_own_cannot_be_downloaded(tmp_path: Path) -> None:
    own = PARQUET.adapted(DataSettings(name="parquet", size=8, classes=2, mean=(0.5,), std=(0.5,)))

    with pytest.raises(DataError, match="parquet is data of your own; there is nothing to download"):
        obtain(own, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_told() -> None:
    with pytest.raises(DataError, match="/proc/nowhere cannot be written to"):
        obtain(MNIST, Path("/proc/nowhere"))
