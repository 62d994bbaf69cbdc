"""``gazed export`` and ``gazed query`` as their users run them, with processes that get killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree, rmtree

import psutil
import pytest
from click.testing import CliRunner

from gazed.cli import main
from gazed_plugins.export.place import HIDDEN
from gazed_plugins.export.testing import tree_of
from gazed_recorder.testing_rich import make_rich_recording


def gazed(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def start(*arguments, **options):
    """Start ``gazed`` in a session of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "gazed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Six recordings of three sessions, and one that is none."""
    root = tmp_path_factory.mktemp("study")
    for number in range(6):
        make_rich_recording(root, seconds=0.4, videos=False, session=f"P{number % 3}", number=number)
    broken = root / "P9" / "000"
    broken.mkdir(parents=True)
    (broken / "info.player.json").write_text("{")
    return root


@pytest.fixture(scope="module")
def serial(study, tmp_path_factory):
    output = tmp_path_factory.mktemp("serial") / "out"
    done = gazed("export", study, "--to", "parquet", "--output", output, "--json")
    assert done.exit_code == 1
    return output, json.loads(done.stdout)


def test_many_recordings_one_of_which_fails(study, serial):
    output, told = serial
    assert told["format"] == "parquet"
    assert sorted(Path(path).name for path in told["done"].values()) == [
        f"recording=P{session}-00{number}" for session in range(3) for number in range(2)
    ]
    assert told["skipped"] == {}
    assert told["failed"].keys() == {str(study / "P9" / "000")}
    assert told["failed"][str(study / "P9" / "000")]["code"] == "damaged-file"
    assert sorted(path.name for path in output.iterdir())[0] == HIDDEN


def test_what_was_done_is_refused_skipped_or_replaced(study, serial):
    output, told = serial
    before = tree_of(output)
    again = gazed("export", study, "--to", "parquet", "--output", output)
    assert again.exit_code == 1
    assert again.stderr.count("failed: ") == 7
    assert again.stdout == f"done 0, skipped 0, failed 7; in {output}\n"
    resumed = gazed("export", study, "--to", "parquet", "--output", output, "--resume", "--json")
    assert json.loads(resumed.stdout)["skipped"] == told["done"]
    forced = gazed("export", study, "--to", "parquet", "--output", output, "--force", "--json")
    assert json.loads(forced.stdout)["done"] == told["done"]
    assert tree_of(output) == before


def test_one_recording(study, tmp_path):
    folder = copytree(study / "P0" / "000", tmp_path / "P0" / "000")
    done = gazed("export", folder, "--to", "parquet")
    assert done.exit_code == 0
    assert done.stdout == f"{folder / 'exports' / 'parquet' / 'recording=P0-000'}\n"
    again = gazed("export", folder, "--to", "parquet")
    assert again.exit_code == 2
    assert "--force replaces it" in again.stderr
    assert json.loads(gazed("export", folder, "--to", "parquet", "--resume", "--json").stdout)["skipped"]
    broken = gazed("export", study / "P9" / "000", "--to", "parquet", "--json")
    assert broken.exit_code == 6
    assert json.loads(broken.stdout)["error"]["code"] == "damaged-file"


def test_exports_go_into_each_recording_if_nothing_else_is_said(study, tmp_path):
    root = copytree(study, tmp_path / "study")
    rmtree(root / "P9")
    assert gazed("export", root / "P0", root / "P1", "--to", "parquet").exit_code == 0
    assert sorted(path.parts[-4] for path in root.glob("*/*/exports/parquet/recording=*")) == [
        "000",
        "000",
        "001",
        "001",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--to", "parqet"], "did you mean parquet?"),
        (["--to", "parquet", "--layout", "classic"], "no argument 'layout'"),
        (["--to", "parquet", "--set", "size=3"], "no argument 'size'"),
        (["--to", "parquet", "--set", "size"], "wanted KEY=VALUE"),
        (["--to", "netcdf", "--set", "mthod=2d"], "did you mean method?"),
        (["--to", "netcdf", "--subject", "3"], "it takes: method"),
        ([], "--to FORMAT is missing"),
    ],
)
def test_what_a_format_does_not_take_is_refused(study, tmp_path, arguments, text):
    done = gazed("export", study, "--output", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_recordings_at_all(tmp_path):
    assert "name at least one" in gazed("export", "--to", "parquet").stderr
    done = gazed("export", tmp_path, "--to", "parquet")
    assert done.exit_code == 2
    assert "there is no recording in" in done.stderr
    assert gazed("export", tmp_path / "gone", "--to", "parquet").exit_code == 2


def test_two_of_one_name_are_refused_before_anything_is_made(study, tmp_path):
    for name in ("a", "b"):
        copytree(study / "P0" / "000", tmp_path / name / "P0" / "000")
    done = gazed("export", tmp_path / "a", tmp_path / "b", "--to", "parquet", "--output", tmp_path / "out")
    assert done.exit_code == 2
    assert "would both be exported as P0-000" in done.stderr
    assert not (tmp_path / "out").exists()
    assert gazed("export", tmp_path, "--to", "parquet", "--output", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "recording=a-P0-000").is_dir()


def test_the_formats_are_listed_and_told():
    listed = gazed("export", "--formats")
    assert listed.exit_code == 0
    assert [line for line in listed.stdout.splitlines() if line.startswith("parquet  ")]
    assert "Hive" in gazed("export", "--formats", "--to", "parquet").stdout
    assert "parquet" in json.loads(gazed("export", "--formats", "--json").stdout)["formats"]


def wait_until(true, process):
    """Return what ``true`` returns once that is something; the process still runs then."""
    deadline = time.monotonic() + 60
    while not (found := true()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def workers_of(process):
    """Return the processes that export: children of the command that were spawned."""
    found = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def some_recordings(tmp_path, seconds, count=30):
    root = tmp_path / "many"
    for number in range(count):
        make_rich_recording(root, seconds=seconds, videos=False, classic=False, session=f"P{number % 5}", number=number)
    return root


def test_a_killed_worker_loses_nothing_and_several_do_what_one_does(tmp_path):
    root, output = some_recordings(tmp_path, seconds=4), tmp_path / "parallel"
    process = start("export", root, "--to", "parquet", "--output", output, "--workers", 2, "--json")
    wait_until(lambda: len(workers_of(process)) == 2, process)
    listening = [each.laddr.ip for each in psutil.net_connections("inet") if each.status == "LISTEN" and each.pid in
                 {process.pid, *(child.pid for child in workers_of(process))}]  # fmt: skip
    assert set(listening) == {"127.0.0.1"}
    wait_until(lambda: len(list(output.glob("recording=*"))) > 3, process)
    workers_of(process)[0].kill()
    told, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert len(json.loads(told)["done"]) == 30
    assert gazed("export", root, "--to", "parquet", "--output", tmp_path / "serial").exit_code == 0
    assert tree_of(output) == tree_of(tmp_path / "serial")


def exporting(process, label):
    """Return the worker that has the lock of an export."""
    for worker in workers_of(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(f"recording={label}-" in file.path for file in worker.open_files()):
                return worker
    return None


def test_only_the_recording_whose_workers_keep_dying_fails(tmp_path):
    root, output = some_recordings(tmp_path, seconds=1, count=6), tmp_path / "out"
    make_rich_recording(root, seconds=600, rate=200, videos=False, classic=False, session="A", number=99)
    process = start("export", root, "--to", "parquet", "--output", output, "--workers", 2, "--json")
    killed = 0
    while process.poll() is None:
        if worker := exporting(process, "A-000"):
            worker.kill()
            worker.wait()
            killed += 1
        time.sleep(0.01)
    told = json.loads(process.communicate()[0])
    assert process.returncode == 1
    assert {folder: error["code"] for folder, error in told["failed"].items()} == {
        str(root / "A" / "000"): "worker-died"
    }
    assert len(told["done"]) == 6
    assert killed == 4
    assert not list((output / HIDDEN).glob("*.writing"))


@pytest.mark.parametrize(("workers", "number", "code"), [(1, signal.SIGTERM, 143), (2, signal.SIGINT, 130)])
def test_a_stopped_run_leaves_nothing_half_done_and_another_goes_on(tmp_path, number, code, workers):
    root, output = some_recordings(tmp_path, seconds=4), tmp_path / "out"
    process = start("export", root, "--to", "parquet", "--output", output, "--workers", workers)
    wait_until(lambda: len(list(output.glob("recording=*"))) > 1, process)
    # As a terminal does on Ctrl-C: all processes get it.
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not list((output / HIDDEN).glob("*.writing"))
    done = len(list(output.glob("recording=*")))
    assert 1 < done < 30
    assert all((path / "recording.parquet").exists() for path in output.glob("recording=*"))
    resumed = json.loads(gazed("export", root, "--to", "parquet", "--output", output, "--resume", "--json").stdout)
    assert len(resumed["skipped"]) == done
    assert len(resumed["done"]) == 30 - done


def test_a_killed_run_takes_its_workers_with_it_and_another_goes_on(tmp_path):
    root, output = some_recordings(tmp_path, seconds=4, count=8), tmp_path / "out"
    process = start("export", root, "--to", "parquet", "--output", output, "--workers", 2)
    wait_until(lambda: list(output.glob("recording=*")), process)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=10)[1]
    resumed = gazed("export", root, "--to", "parquet", "--output", output, "--resume", "--json")
    assert resumed.exit_code == 0
    assert not list((output / HIDDEN).glob("*.writing"))


@contextlib.contextmanager
def running_dask(tmp_path, *arguments):
    command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def scheduler(tmp_path):
    """The address of a dask scheduler with two workers, and its process."""
    file = tmp_path / "scheduler.json"

    def address():
        # It is there before it is whole.
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads(file.read_text())["address"]

    with running_dask(tmp_path, "scheduler", "--port", "0", "--scheduler-file", str(file)) as process:
        found = wait_until(address, process)
        options = ("--nworkers", "2", "--nthreads", "1", "--local-directory", str(tmp_path))
        with running_dask(tmp_path, "worker", found, *options):
            yield found, process


def test_a_scheduler_that_runs_shares_it_out(scheduler, study, serial, tmp_path):
    address, _ = scheduler
    process = start("export", study, "--to", "parquet", "--output", tmp_path / "out", "--scheduler", address, "--json")
    told, said = process.communicate(timeout=100)
    assert process.returncode == 1, said
    assert json.loads(told)["failed"] == serial[1]["failed"]
    assert tree_of(tmp_path / "out") == tree_of(serial[0])


def test_a_scheduler_that_goes_away_is_told(scheduler, tmp_path):
    address, running = scheduler
    root, output = some_recordings(tmp_path, seconds=4), tmp_path / "out"
    process = start("export", root, "--to", "parquet", "--output", output, "--scheduler", address)
    wait_until(lambda: list(output.glob("recording=*")), process)
    running.kill()
    _, said = process.communicate(timeout=100)
    assert process.returncode == 3, said
    assert "the scheduler went away" in said
    assert "--resume" in said


@pytest.mark.parametrize("address", ["there", "http://127.0.0.1:1", "tcp://127.0.0.1", "tcp://127.0.0.1:x"])
def test_what_is_no_address_of_a_scheduler_is_told(study, tmp_path, address):
    done = gazed("export", study, "--to", "parquet", "--output", tmp_path / "out", "--scheduler", address)
    assert done.exit_code == 3
    assert "is no address of a scheduler" in done.stderr


def test_a_scheduler_that_is_not_there_is_told(study, tmp_path):
    done = gazed("export", study, "--to", "parquet", "--output", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:1")
    assert done.exit_code == 3
    assert "tcp://127.0.0.1:1 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(tmp_path, workers):
    root, disk = some_recordings(tmp_path, seconds=4, count=6), tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(disk)], check=True)
    try:
        process = start("export", root, "--to", "parquet", "--output", disk / "out", "--workers", workers)
        _, said = process.communicate(timeout=100)
        assert process.returncode == 7, said
        assert "is full" in said
        assert "--resume" in said
        assert not list(disk.glob(f"out/{HIDDEN}/*.writing"))
        subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        told = gazed("export", root, "--to", "parquet", "--output", disk / "out", "--resume", "--json")
        assert told.exit_code == 0
        assert len(json.loads(told.stdout)["skipped"]) >= 1
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_two_runs_into_one_dataset_leave_it_complete(study, tmp_path):
    command = ["--to", "bids", "--output", tmp_path / "out"]
    running = [start("export", study / f"P{number}", *command) for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0], [process.communicate() for process in running]
    for process in running:
        process.communicate()
    participants = (tmp_path / "out" / "participants.tsv").read_text().splitlines()
    assert len(participants) == 1 + len(list((tmp_path / "out").glob("sub-*")))


def test_a_query(serial, tmp_path):
    output, _ = serial
    sql = "SELECT recording, count(*) AS n, sum(eye_id) AS s FROM pupil GROUP BY recording ORDER BY recording LIMIT 2"
    told = json.loads(gazed("query", sql, "--data", output, "--json").stdout)
    assert told["columns"] == ["recording", "n", "s"]
    assert told["rows"][0] == ["P0-000", 192, 96]
    assert gazed("query", sql, "--data", output, "--format", "csv").stdout.splitlines()[0] == "recording,n,s"
    assert "P0-001" in gazed("query", sql, "--data", output).stdout
    for name in ("answer.csv", "answer.parquet"):
        done = gazed("query", sql, "--data", output, "--output", tmp_path / name)
        assert done.stdout == f"2 rows in {tmp_path / name}\n"
    assert (tmp_path / "answer.csv").read_text().splitlines()[1] == "P0-000,192,96"
    many = gazed("query", "SELECT * FROM pupil", "--data", output).stdout
    assert "and more" in many


def test_a_query_that_cannot_be_answered(serial, tmp_path):
    wrong = gazed("query", "SELECT pupil FROM pupils", "--data", serial[0])
    assert wrong.exit_code == 2
    assert "hint: there are pupil, gaze" in wrong.stderr
    assert gazed("query", "SELECT 1", "--data", tmp_path).exit_code == 2
    assert gazed("query", "SELECT 1", "--data", serial[0], "--output", tmp_path / "x.txt").exit_code == 2
    unfinished = gazed("query", "SELECT topic::INT FROM pupil", "--data", serial[0], "--output", tmp_path / "x.csv")
    assert unfinished.exit_code == 2
    assert list(tmp_path.iterdir()) == []
