"""The Slurm job starts a cluster with a token, goes on after a restart, and passes signals on."""

import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker/slurm.sbatch"

# Programs that stand for Slurm, Ray and ours: each notes how it was called, and what it saw.
PROGRAMS = {
    "scontrol": 'if [ "$1" = show ]; then echo n1; echo n2; else note "scontrol $*"; fi',
    "hostname": "echo 10.0.0.1 fd00::1",
    "srun": 'while case $1 in -*) true ;; *) false ;; esac; do shift; done; exec "$@"',
    "ray": """
        trap 'note "ray ends"; exit 0' TERM
        case "$*" in
            *health-check*) exit 0 ;;
            *--head*) note "token $(stat -c '%a %s' "$RAY_AUTH_TOKEN_PATH") in $RAY_AUTH_MODE mode" ;;
        esac
        note "ray $*"
        while true; do sleep 0.05; done
    """,
    "cpsc-orchestrate": """
        case "$1" in
            validate) [ "${3:-}" = --json ] && echo '{"sweep": "digits"}'; exit "${VALID:-0}" ;;
        esac
        until [ "$(grep -c '^ray start' "$NOTES")" = 2 ]; do sleep 0.05; done
        trap 'note "checkpoint"; exit 143' TERM
        note "$*"
        for _ in $(seq "${STEPS:-1}"); do sleep 0.05; done
        exit "${CODE:-0}"
    """,
}


class Job:
    """The script, run by stand-ins in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.storage = folder / "storage"
        self.storage.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name, body in PROGRAMS.items():
            path = programs / name
            path.write_text(f'#!/bin/bash\nnote() {{ echo "$*" >>"$NOTES"; }}\n{body}\n')
            path.chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "NOTES": str(self.notes),
            "SLURM_JOB_ID": "10042",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_CPUS_PER_TASK": "4",
        }

    def start(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", SCRIPT, "digits.yaml", str(self.storage), *options],
            env=self.environment | environment,
            text=True,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str, **environment: str) -> int:
        process = self.start(*options, **environment)
        process.communicate(timeout=30)
        return process.returncode

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def wait_for(self, reached: Callable[[list[str]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not reached(self.lines()):
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.02)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    yield Job(tmp_path)


def sweeps(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("sweep ", "resume "))]


def test_the_script_is_one_that_bash_can_read() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", ["slurm.sbatch", "join.sh"])
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    subprocess.run(["shellcheck", SCRIPT.parent / script], check=True)


def test_a_head_and_a_worker_start_with_the_jobs_own_token_and_end_with_it(job: Job) -> None:
    assert job.run() == 0

    lines = job.lines()
    starts = [line for line in lines if line.startswith("ray start")]
    (head,) = (line for line in starts if "--head" in line)
    (worker,) = (line for line in starts if "--head" not in line)
    assert "--node-ip-address=10.0.0.1 --port=20042" in head
    assert "--include-dashboard=false" in head
    assert "--num-cpus=4" in worker
    assert "--address=10.0.0.1:20042" in worker
    assert "token 600 64 in token mode" in lines
    assert lines.count("ray ends") == 2
    assert list((job.storage / ".slurm").iterdir()) == []


def test_the_token_is_in_a_folder_of_the_owners_alone(job: Job) -> None:
    process = job.start(STEPS="400")
    job.wait_for(lambda lines: bool(sweeps(lines)))

    assert stat.S_IMODE((job.storage / ".slurm/10042").stat().st_mode) == 0o700
    process.terminate()
    process.communicate(timeout=30)


def test_a_first_start_sweeps_with_the_options_that_were_given(job: Job) -> None:
    job.run("--set", "budget.trials=4")

    assert sweeps(job.lines()) == [
        f"sweep digits.yaml --storage {job.storage} --address 10.0.0.1:20042 --set budget.trials=4"
    ]


def test_a_start_by_slurm_after_the_first_resumes_what_is_there(job: Job) -> None:
    (job.storage / "digits").mkdir()
    (job.storage / "digits/manifest.json").write_text("{}")

    job.run(SLURM_RESTART_COUNT="1")

    assert sweeps(job.lines()) == [f"resume {job.storage}/digits --address 10.0.0.1:20042"]


def test_a_restart_before_anything_was_written_begins_anew(job: Job) -> None:
    job.run(SLURM_RESTART_COUNT="1")

    assert sweeps(job.lines())[0].startswith("sweep ")


def test_near_the_time_limit_the_trials_save_a_checkpoint_and_the_job_queues_again(job: Job) -> None:
    process = job.start(STEPS="400")
    job.wait_for(lambda lines: bool(sweeps(lines)))

    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)

    lines = job.lines()
    assert lines.index("checkpoint") < lines.index("ray ends") < lines.index("scontrol requeue 10042")
    assert process.returncode == 143


def test_on_termination_the_trials_save_a_checkpoint_and_slurm_has_the_say(job: Job) -> None:
    process = job.start(STEPS="400")
    job.wait_for(lambda lines: bool(sweeps(lines)))

    process.terminate()
    process.communicate(timeout=30)

    lines = job.lines()
    assert "checkpoint" in lines
    assert not any(line.startswith("scontrol") for line in lines)
    assert process.returncode == 143


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_the_job_ends_with_the_exit_code_of_the_sweep(job: Job, code: int) -> None:
    assert job.run(CODE=str(code)) == code


def test_an_experiment_file_with_mistakes_ends_the_job_before_a_cluster_starts(job: Job) -> None:
    assert job.run(VALID="2") == 2

    assert job.lines() == []
