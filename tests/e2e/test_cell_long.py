"""The judged list of the cell at length, `make test-cluster-long`: only with KOA_LONG. Each prints its figures: what was
verified, and the longest time that a writer went without an ack. KOA_CELL_ROUNDS=N multiplies the rounds."""
import os
import random
import shutil
import signal
import time

from koa import api, check, eventually
from koa_apart import apart
from koa_cell import SILENT_S, Cell
from test_cell import done, kill_at_random, quiet_flush, three, under_cut, writers_of
from test_durability import Writer, verify

ROUNDS = int(os.environ.get("KOA_CELL_ROUNDS", 1))
TWO = ["ingestor-0", "ingestor-1"]


def figures(what, cell, writers, seconds=60):
    total = done(cell, writers, seconds)
    acked = sum(w.acked for w in writers)
    print(f"       {what}: {total} samples verified, {acked} of their times acked, "
          f"{sum(w.refused for w in writers)} pushes refused, longest without an ack "
          f"{max(w.worst_s for w in writers):.1f} s", flush=True)


def grow_split_and_shrink(cell, begin_ms, writers):
    """What happens besides a hundred kills, by how many there were."""
    def wide():
        """A metric that outgrows its partition while it is written."""
        writers.append(Writer(cell.push, len(writers), begin_ms, series=60, pause_s=0.5))
        writers[-1].start()

    def spread():
        name = f"checked_{writers[-1].writer}"
        asked = lambda: {p for s in api(cell.query, "query_explain", query=name)["selectors"] for p in s["partitions"]}
        eventually("the wide metric is spread", lambda: len(asked()) > 1, 60)

    def restart_all():
        cell.configure(8)                              # room for the split
        for p in (*cell.ingestors.values(), *cell.doormen, cell.querier):
            check(p.stop() == 0, f"{p.name} did not end well")
            p.start()
            cell.ready()
            cell.settled(TWO)

    def split():
        cell.wish("split", partitions=8)
        eventually("eight partitions", lambda: len(cell.shards()) == 8)

    def four():
        cell.add_ingestor(2)
        cell.add_ingestor(3)
        cell.ready()
        cell.settled([f"ingestor-{i}" for i in range(4)], 120)

    def two():
        for i in (2, 3):
            cell.wish("drain", node=f"ingestor-{i}")
            cell.wanted.discard(f"ingestor-{i}")
        cell.settled(TWO, 120)
    return {10: wide, 30: spread, 40: restart_all, 50: split, 60: four, 80: two}


def long_cell_a_hundred_kills_of_any_process_lose_and_double_nothing(world):
    """With three nats-servers; meanwhile a metric is spread, all are restarted, P is doubled, two become four and two again."""
    cell = three(world, flags=["--placement.spread_series=30", "--placement.spread_delay=2s", "--placement.spread_window=24h",
                               "--ingestor.census=1s"], partitions=4)
    writers = writers_of(cell)
    kill_at_random(cell, 100 * ROUNDS, seed=23, writers=writers,
                   besides=grow_split_and_shrink(cell, writers[0].begin_ms, writers))


def long_cell_a_hundred_kills_with_one_nats_server_lose_and_double_nothing(world):
    kill_at_random(Cell(world, doormen=1), 100 * ROUNDS, seed=24)


def long_cell_an_owner_that_sleeps_past_its_lease_again_and_again_changes_nothing(world):
    cell = Cell(world)
    cell.settled(TWO)
    writers = writers_of(cell)
    draw = random.Random(5)
    for n in range(6 * ROUNDS):
        sleeper = cell.ingestors[n % 2]
        sleeper.child.send_signal(signal.SIGSTOP)
        cell.owned_by(TWO[1 - n % 2])
        time.sleep(draw.uniform(0, SILENT_S))
        sleeper.child.send_signal(signal.SIGCONT)
        cell.ready()
        cell.settled(TWO)
        quiet_flush(cell)
    figures("sleeping owners", cell, writers)


def long_cell_a_nats_server_that_is_cut_off_and_then_each_leader_cost_time_and_no_more(world):
    """Its network is gone, its connections stay open, it does not know. One of them, then who leads the keys, then who leads
    a writer's log."""
    cell = three(world, net=apart(world, 3))
    writers = writers_of(cell)
    eventually("they write", lambda: all(w.acked > 0 for w in writers))
    for n in range(ROUNDS):
        under_cut(cell, writers, n % 3)
        under_cut(cell, writers, cell.replicas_of("KV_KOA_e2e")[0], ", which leads the keys,")
        for w in writers[:2]:
            (p,) = cell.ask(f"leader?metric=checked_{w.writer}")["partitions"]
            under_cut(cell, writers, cell.replicas_of(f"KOA_L_e2e_{p['partition']:04d}")[0], ", which leads a log,")
    figures("servers cut off", cell, writers)


def long_cell_a_nats_server_that_comes_back_after_a_cut_does_not_keep_writers_waiting(world):
    """KOA_CELL_RETURNS of them, after cuts of 5 to 30 s. A server that was alone has called elections that nobody heard."""
    cell = three(world, net=apart(world, 3))
    begin_ms = int(time.time() * 1000) - 3 * 3600_000
    writers = [Writer(cell.push, n, begin_ms, series=8, pause_s=0.02) for n in range(3)]
    for w in writers:
        w.start()
    eventually("they write", lambda: all(w.acked > 0 for w in writers))
    waits = []

    def leaders(by):
        def all_of_them():
            known = [cell.replicas_of(stream, by)[0] for stream in cell.streams()]
            return None not in known and known
        return eventually("every stream has a leader", all_of_them, 60)
    for n in range(int(os.environ.get("KOA_CELL_RETURNS", 3)) * ROUNDS):
        i, lasts = n % 3, (5, 8, 12, 20, 30)[n % 5]
        led = leaders((i + 1) % 3).count(i)
        for w in writers:
            w.anew()
        cell.net.cut(i, cell.nats[i])
        time.sleep(lasts)
        eventually("writes while it is cut off", lambda: all(w.since_s is None for w in writers), 90, 0.05)
        cut = max(w.longest_s for w in writers)
        before = leaders((i + 1) % 3)
        for w in writers:
            w.anew()
        cell.net.mend(i, cell.nats[i])
        time.sleep(12)                                 # an election takes up to 9 s
        cell.nats_whole()
        for w in writers:                              # the last wait may not have ended
            w.since_s = time.monotonic()
        eventually("writes when it is back", lambda: all(w.since_s is None for w in writers), 90, 0.05)
        waits.append(max(w.longest_s for w in writers))
        moved = [stream for stream, a, b in zip(cell.streams(), before, leaders(i)) if a != b]
        print(f"       {time.strftime('%T')} nats-{i}, which led {led} of {len(before)}, cut off for {lasts} s: {cut:.1f} s without an ack; "
              f"back: {waits[-1]:.1f} s, {len(moved)} led by others than before"
              f" [{' '.join(m.split('_')[-1] for m in moved)}]", flush=True)
    print(f"       {len(waits)} returns: {sum(w > 1 for w in waits)} cost more than a second, at most {max(waits):.1f} s")
    figures("servers that came back", cell, writers)


def long_cell_disks_that_are_lost_one_after_another_are_filled_again(world):
    cell = Cell(world)
    cell.settled(TWO)
    writers = writers_of(cell)
    for n in range(4 * ROUNDS):
        time.sleep(0.5)
        quiet_flush(cell)
        p = cell.ingestors[n % 2]
        p.kill()
        shutil.rmtree(world.path(p.name))
        p.start()
        cell.ready()
        cell.settled(TWO)
    figures("lost disks", cell, writers)
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")


def long_cell_grows_and_shrinks_and_restarts_all_round_under_load(world):
    cell = Cell(world)
    cell.settled(TWO)
    writers = writers_of(cell)
    cell.add_ingestor(2)
    cell.add_ingestor(3)
    cell.ready()
    four = [f"ingestor-{i}" for i in range(4)]
    for _ in range(2 * ROUNDS):
        cell.settled(four)
        eventually("all four hold something",
                   lambda: {m["node"] for p in cell.shards() for m in p["members"]} == set(four), 60)
        for i in (2, 3):
            cell.wish("drain", node=f"ingestor-{i}")
        cell.settled(TWO)
        for p in (*cell.ingestors.values(), *cell.doormen, cell.querier):
            check(p.stop() == 0, f"{p.name} did not end well")
            p.start()
            cell.ready()
        cell.settled(TWO)
        for i in (2, 3):
            cell.wish("drain", node=f"ingestor-{i}", undo="true")
    cell.settled(four)
    figures("growing, shrinking, restarts", cell, writers)
