"""Trials on a Ray cluster, and in a database that several searches share. Both need what the checks do not install."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import call, planted

from prismrec.errors import PrismError
from prismrec.io import read_json
from prismrec.studies.jobs import Task, work

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are many

TUNE = ["--model", "bpr", "--set", "model.dim=8", "--set", "train.epochs=3", "--sampler", "random", "--pruner", "none"]


def double(x: int) -> int:
    return 2 * x


def refuse(why: str) -> None:
    raise PrismError(why)


def die_once(mark: Path) -> str:
    """A process that is lost the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two machines of one CPU each, as far as Ray can tell."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "prismrec[ray]"')
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the folder of tests
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def test_tasks_on_a_cluster_come_out_as_at_home_and_one_that_is_lost_is_begun_again(
    address: str, tmp_path: Path
) -> None:
    from prismrec.cluster import cluster
    from prismrec.studies.cluster_jobs import room, work_on

    tasks = [Task("a", double, (2,)), Task("b", refuse, ("not so",)), None, Task("c", double, ("x",))]
    with cluster(address, 2):
        assert room(1) == 2 and room(2) == 1
        found = {(o.task.name, o.value, o.error, bool(o.trace)) for o in work_on(iter(tasks), 2, 1)}
        (lost,) = work_on([Task("d", die_once, (tmp_path / "mark",))], 2, 1)
        with pytest.raises(PrismError, match="none is being done"):
            list(work_on([None], 2, 1))
    assert found == {(o.task.name, o.value, o.error, bool(o.trace)) for o in work(iter(tasks), 2)}
    assert ("b", None, "not so", False) in found
    assert lost.value == "done" and lost.error == ""


def test_a_search_on_a_cluster_finds_what_it_finds_at_home(address: str, tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    for where in ([], ["--ray", address]):
        folder = tmp_path / f"study{len(where)}"
        said = call("tune", data, *TUNE, "--trials", 4, "--jobs", 2, *where, "--out", folder)
        assert said.status == 0, said.err
    home, away = (read_json(tmp_path / f"study{n}" / "trials" / "bpr" / "search.json")["trials"] for n in (0, 2))
    assert len(home) == 4
    for mine, theirs in zip(home, away, strict=True):
        assert mine["settings"] == theirs["settings"] and mine["value"] == theirs["value"]


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, of a server that lives as long as the test."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install psycopg[binary]")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = shutil.which("initdb") or (str(found[-1]) if found else None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.getuid() == 0 else None  # its server does not run as root
    place = tmp_path_factory.mktemp("postgres")
    for folder in (place, *place.parents):
        if folder.stat().st_mode & 0o005 == 0o005:
            break
        folder.chmod(0o755)
    if user is not None:
        shutil.chown(place, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = Path(programs).with_name("pg_ctl")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run([programs, "-D", place / "data", "-U", "me", "-A", "trust"], check=True, user=user, cwd=place,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    subprocess.run([control, "-D", place / "data", "-o", options, "-l", place / "log", "-w", "start"], check=True,
                   user=user, cwd=place, stdout=subprocess.DEVNULL)  # fmt: skip
    yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
    subprocess.run([control, "-D", place / "data", "-m", "immediate", "stop"], user=user, cwd=place,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def test_searches_of_two_machines_share_a_study_in_postgresql(database: str, tmp_path: Path) -> None:
    data = planted(tmp_path / "data")
    command = [
        sys.executable,
        "-m",
        "prismrec",
        "tune",
        data,
        *TUNE,
        "--trials",
        "6",
        "--storage",
        database,
        "--jobs",
        "1",
    ]
    ends = [subprocess.Popen([*command, "--out", tmp_path / name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    for end in ends:
        _, err = end.communicate(timeout=200)
        assert end.returncode == 0, err
    known = [read_json(tmp_path / name / "trials" / "bpr" / "search.json")["trials"] for name in "ab"]
    again = call("tune", "--resume", tmp_path / "a", "--storage", database)
    assert again.status == 0, again.err
    whole = read_json(tmp_path / "a" / "trials" / "bpr" / "search.json")["trials"]
    assert [trial["number"] for trial in whole] == list(range(len(whole))) and len(whole) >= 6
    assert len({str(trial["settings"]) for trial in whole}) == len(whole)  # nobody did what the other had done
    mine, theirs = ({t["number"] for t in trials if t["here"]} for trials in known)
    assert mine and theirs and not mine & theirs
