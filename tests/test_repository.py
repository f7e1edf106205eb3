"""What the repository says about itself is true."""

import ast
import importlib
import inspect
import pkgutil
import re
import shlex
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cpsc_core
import orchestrator
from cpsc_core.errors import CoreError
from orchestrator.cli import main
from orchestrator.errors import OrchestratorError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def modules() -> Iterator[str]:
    for package in (cpsc_core, orchestrator):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield found.name


def shell_lines() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("cpsc-orchestrate")])
def test_each_command_of_the_readme_is_one_that_the_program_accepts(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, name, *arguments = shlex.split(line)
    command = main.commands[name]

    command.make_context(name, arguments)


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("make")])
def test_each_target_of_the_readme_is_in_the_makefile(line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)

    assert line.split()[1] in targets


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "experiments/README.md",
    "experiments/benchmarks/README.md",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]

    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert newest is not None
    assert newest.group(1) == cpsc_core.__version__
    assert f'version = "{cpsc_core.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_names_are_unique_and_real(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])

    assert len(public) == len(set(public))
    assert all(hasattr(module, each) for each in public)


def dataclass_fields(module: ModuleType) -> Iterator[tuple[str, bool]]:
    """Each field of each dataclass of a module, and whether a sentence stands under it."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
            continue
        if not any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            continue
        for entry, following in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(entry, ast.AnnAssign) and not ast.unparse(entry.target).startswith("_"):
                has_sentence = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                yield f"{module.__name__}.{node.name}.{ast.unparse(entry.target)}", has_sentence


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_sentence_stands_under_every_field_of_a_public_dataclass(name: str) -> None:
    bare = [
        field for field, has_sentence in dataclass_fields(importlib.import_module(name)) if not has_sentence
    ]

    assert bare == []


@pytest.mark.parametrize("base", [CoreError, OrchestratorError])
def test_every_error_derives_from_the_tree_that_its_module_draws(base: type[Exception]) -> None:
    module = importlib.import_module(base.__module__)
    errors = [each for _, each in inspect.getmembers(module, inspect.isclass) if issubclass(each, Exception)]

    assert all(issubclass(error, base) for error in errors)
    assert all(error.__name__ in (module.__doc__ or "") for error in errors)


def required(name: str, seen: set[str]) -> set[str]:
    """A package that is installed, and all that it needs here."""
    if name not in seen:
        seen.add(name)
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                required(canonicalize_name(needed.name), seen)
    return seen


def test_the_lock_names_one_version_of_all_that_is_needed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    locked = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}

    assert required("cpsc-orchestrate", set()) - {"cpsc-orchestrate"} - {"setuptools"} <= locked.keys()
