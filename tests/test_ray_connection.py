"""Ray from outside: processes that start it, join it, or cannot; a cluster of two machines, one of which dies."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

ROOT = Path(__file__).parents[1]
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | {
    "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0",
}  # fmt: skip

FAST_DEATH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""So that a cluster knows sooner than in half a minute that a machine is gone."""


def run(code: str, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """What a new Python process prints on both its streams."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:rlsched", "-c", code],
        cwd=cwd, env=CLEAN | (environment or {}), text=True, timeout=300, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def family(pid: int) -> list[int]:
    """`pid` and all its descendants, children first."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it ended meanwhile
    children = [child for child, parent in parents.items() if parent == pid]
    return [one for child in children for one in family(child)] + [pid]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a machine as a power cut does."""
    for pid in family(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def test_the_agents_do_not_need_ray(tmp_path):
    said = run(
        "import sys\n"
        "import rlsched.agents, rlsched.agents.rollouts\n"
        "assert 'ray' not in sys.modules\n"
        "sys.modules['ray'] = None\n"
        "try:\n    import rlsched.agents.rollouts.ray_backend\n"
        "except rlsched._check.ArgumentError as error:\n    print(error)",
        tmp_path,
    )
    assert said == "Workers need Ray, which is not installed: pip install 'rlsched[ray]'\n"


def test_a_ray_of_our_own_is_quiet_finds_the_users_module_and_ends_with_the_backend(tmp_path):
    (tmp_path / "mytask.py").write_text("class Job:\n    def run(self, setting, weights):\n        return 42\n")
    said = run(
        "import sys; sys.path.insert(0, '')\n"
        "import mytask, ray\n"
        "from rlsched.agents.rollouts.ray_backend import RayBackend\n"
        "from tests.ray_jobs import SETTING\n"
        "with RayBackend(SETTING, 2) as backend:\n"
        "    print(backend.run([mytask.Job()] * 3), ray.cluster_resources()['CPU'])\n"
        "print(ray.is_initialized())\n",
        tmp_path,
    )
    assert said == "[42, 42, 42] 2.0\nFalse\n"


def test_more_gpus_than_there_are_and_addresses_that_are_none_are_refused(tmp_path):
    said = run(
        "import socket, threading\n"
        "from rlsched.agents.rollouts import ray_connection\n"
        "from rlsched.agents.rollouts.ray_backend import RayBackend\n"
        "from tests.ray_jobs import SETTING\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "ray_connection.JOIN = 3.0\n"
        "for address in ('ray://host:10001', 'host', '127.0.0.1:1', '127.0.0.1:%d' % silent.getsockname()[1]):\n"
        "    try:\n        RayBackend(SETTING, 1, address=address)\n"
        "    except (ValueError, RuntimeError) as error:\n        print(type(error).__name__, error)\n"
        "try:\n    RayBackend(SETTING, 1, num_gpus=1000)\n"
        "except ValueError as error:\n    print(error)\n",
        tmp_path,
    ).splitlines()
    assert "ArgumentError address must be" in said[0]
    assert "Ray Client is not supported" in said[0]
    assert "ArgumentError address must be" in said[1]
    assert "ClusterError nothing answers at the Ray address 127.0.0.1:1" in said[2]
    assert "did not let us join within 3 s" in said[3]
    assert "num_gpus must be at most the" in said[4]


DRIVER = """
import os, sys, time
from pathlib import Path
from rlsched.agents.rollouts import InProcess
from rlsched.agents.rollouts.ray_backend import RayBackend
from tests.ray_jobs import SETTING, WEIGHTS, Train, Waiting, same
folder = Path(sys.argv[1])
waiting = [Waiting(folder, seed) for seed in range(4)]
expected = InProcess(SETTING).run([Train(seed) for seed in range(4)], WEIGHTS)
def ready(count):
    end = time.monotonic() + 120
    while backend.ready != count and time.monotonic() < end:
        backend.run([])
        time.sleep(0.1)
    return backend.ready
with RayBackend(SETTING, 2) as backend:  # RAY_ADDRESS says where
    print("ready", ready(2), flush=True)
    pending = backend.submit(waiting, WEIGHTS)
    input()  # until one machine is dead
    (folder / "go").touch()
    print("same", same(pending.results(), expected), flush=True)
    input()  # until there is another
    print("ready", ready(2), flush=True)
    print("same", same(backend.run(waiting, WEIGHTS), expected), flush=True)
"""


@pytest.fixture
def machines():
    """A function that starts a Ray node on this machine, the first as the head; and the environment of drivers."""
    folder = tempfile.mkdtemp(prefix="rl", dir="/tmp")  # sockets lie in it, whose paths must be short
    port = free_port()
    processes: list[subprocess.Popen[bytes]] = []
    environment = CLEAN | FAST_DEATH | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        command += ["--disable-usage-stats", "--object-store-memory=80000000"]
        if processes:
            command += [f"--address=127.0.0.1:{port}"]
        else:
            command += ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        processes.append(process)
        assert process.stdout is not None
        said = b""
        for line in process.stdout:
            said += line
            if b"Ray runtime started" in line:
                return process
        raise AssertionError(said.decode())

    yield start, environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    for process in reversed(processes):
        kill(process)
        assert process.stdout is not None
        process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_machine_dies_at_work_and_another_joins(machines, tmp_path):
    start, environment = machines
    start()
    second = start()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert driver.stdin is not None
    assert driver.stdout is not None
    said = []

    def expect(words: str) -> None:
        for line in driver.stdout:  # type: ignore[union-attr]
            said.append(line)
            if line.strip() == words:
                return
        raise AssertionError("".join(said))

    def go_on() -> None:
        driver.stdin.write("\n")  # type: ignore[union-attr]
        driver.stdin.flush()  # type: ignore[union-attr]

    with driver:
        try:
            expect("ready 2")
            end = time.monotonic() + 60
            while len(list(tmp_path.glob("*.pid"))) < 2:
                assert time.monotonic() < end
                time.sleep(0.05)
            there = {str(pid) for pid in family(second.pid)}
            assert len(there & {path.stem for path in tmp_path.glob("*.pid")}) == 1, "one job is done there"
            kill(second)
            go_on()
            expect("same True")
            start()
            go_on()
            expect("ready 2")
            expect("same True")
        except BaseException:
            driver.kill()
            raise
    assert driver.returncode == 0, "".join(said)
