/*
 * libkoal/bus/bus_nats: servers that are killed or stand still, alone or one of three, cost nothing
 * that was acked.
 */
#include "calls.h"

#include <nats/nats.h>

enum { LONG_RUN = 3000 };
struct run_op { struct kl_bus_append op; _Atomic unsigned done; char text[24]; unsigned tries; };
static struct run_op *run_ops;
static _Atomic unsigned run_done;

/* As the doorman does it: repeated under the same id until it is acked. */
static void run_over(struct kl_bus_append *op)
{
    struct run_op *r = kl_container_of(op, struct run_op, op);

    if (op->code == KL_OK) {
        atomic_store(&r->done, 1);
        atomic_fetch_add(&run_done, 1);
        return;
    }
    ck_assert_msg(op->code == KL_EAGAIN || op->code == KL_ETIMEOUT, "%d %s", op->code,
                  op->err.text);
    ck_assert_uint_lt(++r->tries, 1000);
    w.bus->append(w.bus, op);
}

static void run_issue(void *arg)
{
    unsigned *next = arg;

    for (unsigned i = 0; i < 10 && *next < LONG_RUN; i++, (*next)++) {
        struct run_op *r = &run_ops[*next];

        snprintf(r->text, sizeof r->text, "%u", *next);
        r->op = (struct kl_bus_append){ .partition = *next % PARTITIONS, .loop = w.loop,
                                        .record = kl_span_str(r->text), .done = run_over };
        snprintf(r->op.id, sizeof r->op.id, "run-%u", *next);
        w.bus->append(w.bus, &r->op);
    }
}

static void crowd_question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    (void)s;
    w.bus->answer(w.bus, q, KL_OK, q->bytes);
}

START_TEST(a_server_killed_and_restarted_in_mid_run_costs_nothing_that_was_acked)
{
    struct kl_bus_service s = { .subject = "echo", .question = crowd_question };
    struct watched x = { .watch = { .prefix = "", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };
    struct tape t[PARTITIONS];
    unsigned  next = 0;
    bool      seen[LONG_RUN] = { false };
    struct kl_bus_kv k;
    struct kl_bus_ask a;

    if (!has_server())
        return;
    server_start();
    bus_open();
    run_ops = calloc(LONG_RUN, sizeof *run_ops);
    run_done = 0;
    s.loop = x.watch.loop = w.loop;
    on_loop(serve_begin, &s);
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        tape_open(&t[p], p, 1);
    while (next < LONG_RUN) {
        on_loop(run_issue, &next);
        if (next == LONG_RUN / 3 || next == LONG_RUN / 3 * 2) {
            server_kill();
            usleep(next == LONG_RUN / 3 ? 300000 : 1500000);
            server_start();
        }
        usleep(1000);
    }
    wait_for(&run_done, LONG_RUN);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        wait_for(&t[p].count, LONG_RUN / PARTITIONS);
        settle(100);
        ck_assert_uint_eq(t[p].count, LONG_RUN / PARTITIONS);           /* and none twice */
        ck_assert_uint_eq(t[p].broken, 0);
        for (unsigned i = 0; i < t[p].count; i++) {
            unsigned n = (unsigned)atoi(t[p].at[i].text);

            ck_assert_uint_eq(t[p].at[i].seq, i + 1);
            ck_assert_uint_lt(n, LONG_RUN);
            ck_assert(!seen[n]);
            seen[n] = true;
        }
        tape_close(&t[p]);
    }
    for (unsigned i = 0; i < LONG_RUN; i++)
        ck_assert_msg(seen[i], "record %u was acked and is not there", i);
    for (int i = 0; (a = ask("echo", "still there?", 2000)).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", a.err.text);
    free(a.answer);
    k = kv(KL_BUS_KV_PUT, "after", "x", UINT64_MAX);
    ck_assert_msg(k.code == KL_OK, "%s", k.err.text);
    wait_for(&x.count, 2);
    ck_assert_str_eq(x.text[1], "after=x");
    on_loop(watch_end, &x);
    on_loop(serve_end, &s);
    free(run_ops);
}
END_TEST

static void servers_three(void)
{
    char *at = w.url;

    w.server_count = SERVERS_MAX;
    for (int i = 0; i < w.server_count; i++) {
        w.ports[i] = free_port();
        w.routes[i] = free_port();
        at += sprintf(at, "%snats://127.0.0.1:%d", i > 0 ? "," : "", w.ports[i]);
    }
    w.nats.log_replicas = 3;
}

/* Three servers, three replicas: of each partition the leader is lost at some time. */
START_TEST(with_three_replicas_the_loss_of_any_one_server_costs_nothing_that_was_acked)
{
    struct tape t[PARTITIONS];
    unsigned next = 0, waves = 0;
    bool     seen[LONG_RUN] = { false };
    struct kl_bus_append a;

    if (!has_server())
        return;
    servers_three();
    server_start();
    bus_open();
    for (uint32_t p = 0; p < PARTITIONS; p++)          /* until the cluster has elected itself */
        for (int i = 0; info(p).code != KL_OK; i++)
            ck_assert_msg(i < 20, "%s", info(p).err.text);
    run_ops = calloc(LONG_RUN, sizeof *run_ops);
    run_done = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        tape_open(&t[p], p, 1);
    for (; next < LONG_RUN; waves++) {
        on_loop(run_issue, &next);
        if (waves % 100 == 50)
            server_kill_one((int)(waves / 100 % 3));
        if (waves % 100 == 80) {                       /* back and caught up before the next goes */
            wait_for(&run_done, next);
            server_start_one((int)(waves / 100 % 3));
            usleep(3000000);
        }
        usleep(5000);
    }
    wait_for(&run_done, LONG_RUN);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        unsigned all = LONG_RUN / PARTITIONS, at = 0;

        for (unsigned once = 0; once < all; at++) {    /* what was sent twice may be there twice */
            unsigned n;

            wait_for(&t[p].count, at + 1);
            n = (unsigned)atoi(t[p].at[at].text);
            ck_assert_uint_eq(t[p].at[at].seq, at + 1);
            ck_assert_uint_lt(n, LONG_RUN);
            ck_assert(seen[n] == t[p].at[at].repeat);
            once += !seen[n];
            seen[n] = true;
        }
        ck_assert_msg(t[p].broken == 0, "%s", t[p].err.text);
        tape_close(&t[p]);
    }
    a = append(0, "goes on", "");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    free(run_ops);
}
END_TEST

/* Its place among the servers. */
static int leader_of(uint32_t partition)
{
    char            stream[32];
    natsConnection *nc = NULL;
    jsCtx          *js = NULL;
    jsStreamInfo   *si = NULL;
    int             leader = -1;

    snprintf(stream, sizeof stream, "KOA_L_%s_%04u", w.nats.cell, partition);
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
    ck_assert_int_eq(js_GetStreamInfo(&si, js, stream, NULL, NULL), NATS_OK);
    ck_assert_ptr_nonnull(si->Cluster);
    ck_assert_int_eq(sscanf(si->Cluster->Leader, "s%d", &leader), 1);
    jsStreamInfo_Destroy(si);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return leader;
}

/* Its connections stay open, and so do ours to others: only silence tells. */
START_TEST(what_was_sent_to_a_leader_that_stands_still_is_sent_again_to_the_next)
{
    struct kl_bus_append a;
    int                  leader;

    if (!has_server())
        return;
    servers_three();
    server_start();
    w.nats.op_timeout_ms = 60000;                      /* its ack would be waited for as long */
    bus_open();
    a = append(0, "before", "id-1");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    leader = leader_of(0);
    kill(w.servers[leader], SIGSTOP);
    a = append(0, "after", "id-2");
    kill(w.servers[leader], SIGCONT);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.seq, 2);
}
END_TEST

static struct kl_bus_info info_of(struct kl_bus *bus, uint32_t partition)
{
    struct kl_bus_info i;
    struct kl_bus     *own = w.bus;

    w.bus = bus;
    for (int tries = 0; (i = info(partition)).code != KL_OK; tries++)
        ck_assert_msg(tries < 20, "%s", i.err.text);
    w.bus = own;
    return i;
}

/* What a server restarts from is not always what it said before. */
START_TEST(of_two_who_make_a_stream_at_once_both_see_one_incarnation_for_ever)
{
    struct kl_bus_info_wait ops[2][PARTITIONS];
    struct kl_bus *both[2];
    uint64_t       seen[PARTITIONS];

    if (!has_server())
        return;
    servers_three();
    server_start();
    w.nats.op_timeout_ms = 60000;                      /* the cluster elects itself meanwhile */
    bus_open();
    both[0] = w.bus;
    ck_assert_int_eq(kl_bus_nats_open(w.env, &w.nats, &both[1], &err), KL_OK);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (int k = 0; k < 2; k++) {
            ops[k][p] = (struct kl_bus_info_wait){ .op = { .partition = p, .loop = w.loop,
                                                           .done = kl_bus_info_over } };
            both[k]->info(both[k], &ops[k][p].op);
        }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        for (int k = 0; k < 2; k++) {
            wait_for(&ops[k][p].done, 1);
            ck_assert_msg(ops[k][p].op.code == KL_OK, "%s", ops[k][p].op.err.text);
        }
        seen[p] = ops[0][p].op.incarnation;
        ck_assert_uint_eq(seen[p], ops[1][p].op.incarnation);
    }
    for (int i = 0; i < w.server_count; i++) {
        server_kill_one(i);
        server_start_one(i);
        usleep(3000000);
        for (uint32_t p = 0; p < PARTITIONS; p++)
            for (int k = 0; k < 2; k++)
                ck_assert_uint_eq(info_of(both[k], p).incarnation, seen[p]);
    }
    both[1]->close(both[1]);
    both[1]->free(both[1]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus");
    TCase *t = tcase_create("nats");

    tcase_add_checked_fixture(t, world_unopened, world_close);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, a_server_killed_and_restarted_in_mid_run_costs_nothing_that_was_acked);
    tcase_add_test(t, of_two_who_make_a_stream_at_once_both_see_one_incarnation_for_ever);
    tcase_add_test(t, what_was_sent_to_a_leader_that_stands_still_is_sent_again_to_the_next);
    tcase_add_test(t, with_three_replicas_the_loss_of_any_one_server_costs_nothing_that_was_acked);
    suite_add_tcase(s, t);

    return run_suite(s);
}
