"""Many machines on one: HAProxy asks of the daemons what a cluster would."""

import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from testkit.load import Kind, Load, Outcome, Profile, Record
from testkit.waiting import until
from tests import cluster as clusters
from tests.cluster import Cluster, Member

pytestmark = pytest.mark.slow
CALM = 100  # answers between two steps
WINDOW = 60.0  # seconds; HAProxy keeps its clients' connections for as long
HELD = Profile(keepalive=30, fresh=0, rate=1000, kinds=(Kind("held", sleep=10.0),), requests=1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster; a test leaves it as it was."""
    if reason := clusters.missing():
        pytest.skip(reason)
    with clusters.running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def calm(load: Load) -> None:
    """Wait until the load has had ``CALM`` more answers."""
    goal = load.answered + CALM
    until(lambda: load.answered >= goal, f"no {CALM} more answers")


def ask_all(member: Member, load: Load) -> None:
    """Wait until every worker of a member has answered the load."""
    until(
        lambda: {*member.daemon.workers()} <= {record.worker for record in list(load.records)},
        f"a worker of {member.server} gets no request",
    )


def replace(cluster: Cluster, member: Member) -> None:
    """Stop one daemon as an orchestrator does, and start the next instead."""
    begun = time.monotonic()
    member.daemon.send(signal.SIGTERM)
    cluster.wait_down(member)
    assert member.daemon.process.poll() is None, "it exited before HAProxy noticed"
    assert member.daemon.wait() == 0
    assert time.monotonic() - begun >= clusters.STOP_DELAY
    member.start()
    member.daemon.ready(2)
    cluster.wait_up(member)


def begun(members: Iterable[Member], load: Load) -> Counter[str]:
    """Return how often each request of a load reached a handler of these members."""
    notes = sum((member.notes() for member in members), Counter[str]())
    mark = f"+{load.name}-"
    return Counter({line[1:]: count for line, count in notes.items() if line.startswith(mark)})


def test_replacing_every_daemon_in_turn_loses_nothing(cluster: Cluster) -> None:
    load = Load("rolling", cluster.port, Profile(), WINDOW)
    load.start()
    try:
        calm(load)
        for member in cluster.members:
            ask_all(member, load)
            replace(cluster, member)
            calm(load)
            ask_all(member, load)
    finally:
        load.stop()
    assert [record for record in load.records if record.outcome is not Outcome.ANSWERED] == []
    assert begun(cluster.members, load) == Counter(
        record.ident for record in load.records
    )  # none of them twice
    assert len(load.records) > (clusters.MEMBERS + 1) * CALM
    # Two workers of each daemon and of its successor.
    assert len({record.worker for record in load.records}) == 2 * 2 * clusters.MEMBERS


def test_a_killed_daemon_loses_its_in_flight_requests_only(cluster: Cluster) -> None:
    load = Load("steady", cluster.port, Profile(), WINDOW)
    held = Load("held", cluster.port, HELD, WINDOW)
    victim = cluster.members[1]
    load.start()
    try:
        calm(load)
        held.start()
        until(lambda: begun(cluster.members, held).total() == HELD.keepalive, "not all arrived")
        killing = time.monotonic()
        victim.daemon.kill()
        cluster.wait_down(victim)
        noticed = time.monotonic()
        held.wait()
        calm(load)
        victim.start()
        victim.daemon.ready(2)
        cluster.wait_up(victim)
        calm(load)
    finally:
        load.stop()
    records = load.records + held.records
    lost = {record.ident: record for record in records if _is_lost(record)}
    assert _unfinished(victim) <= set(lost)
    assert len(_unfinished(victim)) >= HELD.keepalive // clusters.MEMBERS // 2
    for record in lost.values():
        assert record.began <= noticed, record
        assert record.ended >= killing, record
    others = [member for member in cluster.members if member is not victim]
    for source in (load, held):
        assert set(lost).isdisjoint(begun(others, source))
        assert set(begun(cluster.members, source).values()) == {1}


def _is_lost(record: Record) -> bool:
    return record.outcome is not Outcome.ANSWERED


def _unfinished(member: Member) -> set[str]:
    notes = member.notes()
    return {line[1:] for line in notes if line.startswith("+") and not notes["-" + line[1:]]}
