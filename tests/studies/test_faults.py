"""Every command that writes ends with one message on a full disk, leaves nothing half written, and carries on. The study tries the rest."""

import pytest

from studies import faults
from studies.fault_rig.commands import COMMANDS, leaves

HEAVY = {"demo", "advise", "map", "export-terratorch"}
WRITERS = [command for command in COMMANDS if command.writes and command.name not in HEAVY]


def test_no_command_is_left_out():
    list(leaves())  # a second call registers nothing again
    assert sorted(leaves()) == sorted(command.name for command in COMMANDS)


@pytest.fixture(scope="module")
def rig():
    if not faults.may_mount():
        pytest.skip("mounting a file system takes the rights of root")
    with faults.make_rig() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command.name)
def test_a_full_disk_ends_in_one_message_and_the_next_run_carries_on(rig, command):
    outcome = faults.full_disk(rig, command)
    assert outcome.held, outcome.told
