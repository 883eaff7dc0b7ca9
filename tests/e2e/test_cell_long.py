"""The judged list of the cell at length, `make test-cluster-long`: only with KOA_LONG. Each prints its figures: what was
verified, and the longest time that a writer went without an ack. KOA_CELL_ROUNDS=N multiplies the rounds."""
import os
import random
import shutil
import signal
import time

from koa import check, eventually
from koa_cell import SILENT_S, Cell
from test_cell import done, kill_at_random, quiet_flush, writers_of
from test_durability import verify

ROUNDS = int(os.environ.get("KOA_CELL_ROUNDS", 1))
TWO = ["ingestor-0", "ingestor-1"]


def figures(what, cell, writers, seconds=60):
    total = done(cell, writers, seconds)
    acked = sum(w.acked for w in writers)
    print(f"       {what}: {total} samples verified, {acked} batches of indexes acked, "
          f"{sum(w.refused for w in writers)} pushes refused, longest without an ack "
          f"{max(w.longest_s for w in writers):.1f} s", flush=True)


def taken_again(what, writers, seconds):
    before, begin = [w.acked for w in writers], time.monotonic()
    eventually(f"writes {what}", lambda: all(w.acked > b for w, b in zip(writers, before)), seconds)
    return time.monotonic() - begin


def long_cell_a_hundred_kills_of_any_process_lose_and_double_nothing(world):
    kill_at_random(Cell(world, doormen=1), 100 * ROUNDS, seed=23)


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


def long_cell_a_nats_server_that_is_cut_off_and_each_leader_after_it_cost_time_and_no_more(world):
    """Cut off: it stands still, its connections stay open. Three times around it was a leader of something each time."""
    cell = Cell(world, servers=3)
    cell.settled(TWO, 120)
    writers = writers_of(cell)
    back = []
    for n in range(3 * ROUNDS):
        server = cell.nats[n % 3]
        time.sleep(1)
        server.child.send_signal(signal.SIGSTOP)
        try:
            back.append(taken_again(f"while {server.name} is cut off", writers, 90))
        finally:
            server.child.send_signal(signal.SIGCONT)
        cell.ready()
        cell.settled(TWO, 90)
    print("       writes were taken again after", ", ".join(f"{s:.1f} s" for s in back), flush=True)
    figures("servers cut off", cell, writers)


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
