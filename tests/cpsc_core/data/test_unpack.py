import gzip
import io
import tarfile
from pathlib import Path

import pytest

from cpsc_core.data.unpack import unpack
from cpsc_core.errors import DataError


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def file(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def test_the_named_folder_of_an_archive_appears_whole(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar.gz", file("d/a", b"1"), file("d/e/b", b"2"), file("other/c"))

    unpack(archive, tmp_path / "d")

    assert (tmp_path / "d/a").read_bytes() + (tmp_path / "d/e/b").read_bytes() == b"12"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "d"]


def test_a_single_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"hello"))

    unpack(tmp_path / "f.gz", tmp_path / "f")

    assert (tmp_path / "f").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "member",
    [
        file("../outside"),
        file("d/../../outside"),
        file("/outside"),
        link("d/link", "/etc/passwd"),
        link("d/link", "../..", tarfile.LNKTYPE),
        link("d/device", "", tarfile.CHRTYPE),
        link("d/pipe", "", tarfile.FIFOTYPE),
    ],
    ids=lambda member: member[0].name,
)
def test_what_leads_out_is_refused_and_nothing_is_left(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    archive = packed(inside / "a.tar.gz", file("d/a"), member)

    with pytest.raises(
        DataError, match="which leads out of it or is no plain file; it is not what it claims"
    ):
        unpack(archive, inside / "d")

    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "er", "a.tar.gz"]


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.gz"])
def test_an_archive_that_unpacks_to_far_more_than_it_weighs_is_refused(tmp_path: Path, name: str) -> None:
    zeros = b"\0" * (20 << 20)
    if name.endswith(".tar.gz"):
        packed(tmp_path / name, file("d/a", zeros))
    else:
        (tmp_path / name).write_bytes(gzip.compress(zeros))

    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        unpack(tmp_path / name, tmp_path / "d")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.tar.gz", "a.gz"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello", gzip.compress(b"hello" * 1000, mtime=0)[:-12]],
    ids=["empty", "no archive", "torn"],
)
def test_a_damaged_archive_is_refused_and_nothing_is_left(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    if content or name == "a.tar.gz":
        with pytest.raises(DataError, match=rf"{name} .*remove it and download it again"):
            unpack(tmp_path / name, tmp_path / "d")
        assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_archive_without_the_folder_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.tar.gz", file("other/a"))

    with pytest.raises(DataError, match="has no folder d; remove it and download it again"):
        unpack(archive, tmp_path / "d")
