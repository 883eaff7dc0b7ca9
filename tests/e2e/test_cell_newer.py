"""The most important of the cell once more, with the nats-server of the next Debian. `KOA_NATS=nats-server-newer` runs any
test so."""
import functools
import os

import koa
import test_cell as cell
import test_permissions as permissions


def on_newer(test):
    @functools.wraps(test)
    def run(world):
        if not os.path.exists(os.path.join(koa.PEERS, "nats-server-newer")):
            print("       LEFT OUT: tests/peers.sh found no newer nats-server, and said why", flush=True)
            return
        before, koa.NATS = koa.NATS, "nats-server-newer"
        try:
            test(world)
        finally:
            koa.NATS = before
    return run


for promise in (cell.test_cell_on_three_nats_servers_goes_on_without_one_and_without_an_owner,
                cell.test_cell_a_stream_deleted_under_us_loses_nothing_applied_and_what_may_be_lost_is_named,
                cell.test_cell_kill_9_of_any_process_at_random_loses_and_doubles_nothing,
                permissions.test_each_service_works_with_the_permissions_that_we_ship_and_not_beyond):
    globals()[f"{promise.__name__}_newer"] = on_newer(promise)
