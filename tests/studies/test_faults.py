"""Every command that writes ends with one sentence where the machine refuses, leaves nothing half written, and carries on."""

import pytest

from studies import faults

NAMES = tuple(faults.commands(faults.ROOT, faults.ROOT))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if not faults.may_mount():
        pytest.skip("mounting a file system takes the rights of root")
    return faults.make_world(tmp_path_factory.mktemp("faults"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_refusal_of_the_machine_ends_in_one_sentence_and_the_next_run_carries_on(world, kind, name):
    told, again = faults.try_one(kind, name, world)
    assert told.in_words or (kind == faults.KINDS[2] and told.status == 0), told.error
    assert kind != "read-only" or told.left == ()
    assert again.returncode == 0, again.stderr
