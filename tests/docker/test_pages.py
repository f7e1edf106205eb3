"""The pages link to what is there, and give commands that the program accepts."""

import re
import shlex
from pathlib import Path

import pytest

from orchestrator.cli import main

DOCKER = Path(__file__).parents[2] / "docker"
PAGES = sorted(DOCKER.glob("*.md"))


def commands() -> list[str]:
    """Each command of the program in a page's shell blocks, whatever stands before it."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            found += re.findall(r"(?:^|submit |-- )cpsc-orchestrate (.*)", block, flags=re.MULTILINE)
            found += re.findall(r"cpsc-orchestrate:cpu (?=[a-z])(.*)", block)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("line", commands())
def test_each_command_of_a_page_is_one_that_the_program_accepts(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DOCKER.parent)
    name, *arguments = shlex.split(line.replace("/experiments/", "experiments/"))

    main.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("way", ["compose.md", "kubernetes.md", "slurm.md"])
def test_the_index_leads_to_every_way(way: str) -> None:
    assert f"({way})" in (DOCKER / "README.md").read_text()


def test_no_page_shows_a_secret() -> None:
    text = "".join(page.read_text() for page in PAGES)

    assert re.findall(r"(?i)(?:token|password|secret)\w*=[^\s\"'$<]*[0-9a-f]{16}", text) == []
