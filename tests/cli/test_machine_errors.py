"""The machine's own faults end a command with one sentence: what, where, what to do."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from rs05bench.errors import DataError, MachineError, machine_error, refusal

FULL = Path("/dev/full")


def test_a_full_disk_is_named_with_its_path():
    told = machine_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/out.csv"))
    assert "/somewhere/out.csv: the disk is full" in str(told)


def test_a_writer_s_hidden_folder_is_not_named():
    told = machine_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/.writing-host.1.abc/manifest/a.parquet"))
    assert "/out/manifest/a.parquet: the disk is full" in str(told)


def test_an_error_that_only_quotes_the_system_s_words_is_recognised():
    told = machine_error(RuntimeError("could not write block: No space left on device (os error 28)"))
    assert "the disk is full" in str(told)


def test_a_wrapped_error_is_recognised():
    error = RuntimeError("library says no")
    error.__cause__ = OSError(errno.EROFS, os.strerror(errno.EROFS), "/ro/x")
    assert refusal(error) == errno.EROFS


def test_a_bug_is_not_the_machine_s_fault():
    assert machine_error(ValueError("operands could not be broadcast")) is None


def test_a_machine_error_survives_the_way_between_processes():
    error = MachineError("the disk is full", source="/a", remedy="Make room.")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.problem, again.source) == (str(error), error.problem, error.source)


def test_an_unusable_temporary_folder_names_tmpdir():
    told = machine_error(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/x']"))
    assert "TMPDIR" in str(told)


def test_data_errors_stay_what_they_are():
    assert not isinstance(machine_error(DataError("no column 'x'")), MachineError)


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_full_standard_output_ends_with_one_sentence():
    with FULL.open("w") as full:
        done = subprocess.run([sys.executable, "-m", "rs05bench.cli", "tasks"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.startswith("MachineError: the disk is full")
