/*
 * ingestor/member: three members over one KV, in virtual time. The placement table is the test's; what a
 * member holds is what the table gives it. At every step no partition has two owners of one epoch.
 */
#include "ingestor/member_priv.h"
#include "libkoal/env/dir.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { P = 4, MEMBERS = 4, HEARTBEAT_MS = 1000, SILENT_MS = 8000, GONE_MS = 60000 };

struct who {
    struct kl_env     *env;                            /* each a process: may be killed alone */
    struct ing_member *m;
    bool broken;
};
static struct kl_env_sim      *sim;
static struct kl_env_disk_sim *disk;
static struct kl_env          *env;
static struct kl_env_dir      *root;
static struct kl_bus          *bus;
static struct kl_env_loop     *loop;
static struct who              who[MEMBERS];
static struct kl_err           err;
static uint64_t                epoch_seen;

static uint32_t holdings(void *ctx, struct tsp_holding *out)
{
    struct who *w = ctx;
    uint32_t    count = 0;

    for (uint32_t p = 0; w->m != NULL && w->m->table != NULL && p < P; p++) {
        const char *names[TSP_REPLICAS_MAX];
        unsigned    n = tsp_placement_members(w->m->table, p, names, TSP_REPLICAS_MAX);

        for (unsigned k = 0; k < n; k++)
            if (strcmp(names[k], w->m->node.name) == 0)
                out[count++] = (struct tsp_holding){ p, w->broken ? TSP_HOLDING_BROKEN
                                                                  : TSP_HOLDING_READY, 1, 0 };
    }
    return count;
}

static uint64_t seen(void *ctx, uint32_t partition)
{
    (void)ctx;
    (void)partition;
    return epoch_seen;
}

static void start(int i, const char *name, uint8_t instance, uint8_t disk_id)
{
    struct ing_member_options o = {
        .name = name, .zone = "", .address = "h:1", .version = "t", .capacity = 1, .partitions = P,
        .instance = { { instance } }, .disk = { { disk_id } }, .heartbeat_ms = HEARTBEAT_MS,
        .silent_ms = SILENT_MS, .gone_ms = GONE_MS, .holdings = holdings, .epoch_seen = seen,
        .ctx = &who[i],
    };

    who[i].env = kl_env_sim_process(sim);
    ck_assert_int_eq(ing_member_new(who[i].env, bus, &o, &who[i].m, &err), KL_OK);
}

/* ---- the KV ---- */

static bool done;
static void kv_done(struct kl_bus_kv *op)
{
    ck_assert_msg(op->code == KL_OK, "%s", op->err.text);
    done = true;
}

static void kv(enum kl_bus_kv_kind kind, const char *key, struct kl_span value)
{
    struct kl_bus_kv op = { .kind = kind, .value = value, .expect = UINT64_MAX, .loop = loop,
                            .done = kv_done };

    snprintf(op.key, sizeof op.key, "%s", key);
    done = false;
    bus->kv(bus, &op);
    while (!done)
        ck_assert(kl_env_sim_step(sim, INT64_MAX));
}

static void place(const char *a, const char *b)
{
    static uint64_t       revision = 1;
    struct tsp_placement *p = tsp_placement_new(P);
    struct kl_buf         bytes = { 0 };

    for (uint32_t i = 0; i < P; i++)
        ck_assert_int_eq(tsp_placement_assign(p, i, (const char *[]){ a, b }, b == NULL ? 1 : 2, &err),
                         KL_OK);
    tsp_placement_set_revision(p, revision++);
    ck_assert_int_eq(tsp_placement_encode(p, &bytes, &err), KL_OK);
    kv(KL_BUS_KV_PUT, TSP_PLACEMENT_KEY, kl_buf_span(&bytes));
    kl_buf_deinit(&bytes);
    tsp_placement_free(p);
}

static void setup(void)
{
    struct kl_bus_local_options o = { .partitions = P };

    sim = kl_env_sim_new(11);
    disk = kl_env_disk_sim_new();
    env = kl_env_sim_env(sim);
    root = kl_env_disk_sim_root(disk);
    ck_assert_int_eq(kl_bus_local_open(env, root, &o, &bus, &err), KL_OK);
    loop = env->sched->loop_new(env->sched, "test", 100);
    memset(who, 0, sizeof who);
    epoch_seen = 0;
}

static void teardown(void)
{
    bus->close(bus);
    kl_env_sim_run(sim, 1000);
    for (int i = 0; i < MEMBERS; i++)
        ing_member_free(who[i].m);
    env->sched->loop_free(loop);
    bus->free(bus);
    root->leave(root);
    kl_env_disk_sim_free(disk);
    kl_env_sim_free(sim);
}

static uint64_t epoch(int i, uint32_t p) { return ing_member_epoch(who[i].m, p); }

/* Step by step; no two own a partition, as far as clocks that run alike can tell. */
static void run_s(int s)
{
    int64_t until = kl_env_mono_ns(env) + (int64_t)s * 1000000000;

    while (kl_env_sim_step(sim, until))
        for (uint32_t p = 0; p < P; p++) {
            unsigned owners = 0;

            for (int i = 0; i < MEMBERS; i++)
                owners += who[i].m != NULL && epoch(i, p) != 0;
            ck_assert_uint_le(owners, 1);
        }
}

START_TEST(the_first_in_the_table_owns)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    for (uint32_t p = 0; p < P; p++) {
        ck_assert_uint_eq(epoch(0, p), 1);
        ck_assert_uint_eq(epoch(1, p), 0);
    }
    ck_assert(ing_member_ready(who[0].m, &err) && ing_member_ready(who[1].m, &err));
}
END_TEST

/* A killed process frees nothing, and what was on its way to it is lost. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

static void kill_it(int i)
{
    kl_env_sim_kill(sim, who[i].env);
    who[i].m = NULL;
}

START_TEST(a_killed_owner_is_followed_with_a_higher_epoch_once_it_is_silent)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    kill_it(0);
    run_s(SILENT_MS / 1000 - 2);
    ck_assert_uint_eq(epoch(1, 0), 0);
    run_s(5);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(epoch(1, p), 2);
    start(2, "a", 3, 1);                               /* back on its disk: its name at once, */
    run_s(4);
    ck_assert(ing_member_ready(who[2].m, &err));
    run_s(10);                                         /* and as the first its partitions */
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(epoch(2, p), 3);
}
END_TEST

/* NATS 2.9 may lose a change that a watch has told, when servers come back. */
START_TEST(a_lease_whose_last_change_the_kv_lost_is_taken_anew)
{
    struct ing_member *m;
    struct tsp_lease   given = { .instance = { { 1 } }, .epoch = 5 };
    struct kl_buf      bytes = { 0 };
    char               key[64];

    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    m = who[0].m;
    ck_assert_int_eq(tsp_lease_encode(&given, &bytes, &err), KL_OK);
    for (uint32_t p = 0; p < P; p++) {
        tsp_lease_key(p, key, sizeof key);
        if (p == 1)
            kv(KL_BUS_KV_DELETE, key, kl_span("", 0));
        run_s(2);
        m->lease_watch.change(&m->lease_watch, key, kl_buf_span(&bytes), m->leases[p].revision + 1000);
        ck_assert_uint_eq(epoch(0, p), 0);
    }
    kl_buf_deinit(&bytes);
    run_s(10);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(epoch(0, p), 6);
    ck_assert_uint_lt(m->leases[0].revision, 1000);    /* what stands there again */
}
END_TEST

START_TEST(a_heartbeat_that_the_kv_lost_is_followed_by_others)
{
    place("a", NULL);
    start(0, "a", 1, 1);
    run_s(20);
    who[0].m->revision += 1000;
    run_s(60);
    ck_assert(ing_member_ready(who[0].m, &err));
    ck_assert_uint_eq(epoch(0, 0), 1);
    ck_assert_uint_lt(who[0].m->revision, 1000);
}
END_TEST

START_TEST(two_of_one_name_are_one_until_it_is_silent)
{
    place("a", NULL);
    start(0, "a", 1, 1);
    run_s(5);
    start(1, "a", 2, 2);                               /* another disk */
    run_s(60);
    ck_assert(ing_member_ready(who[0].m, &err));
    ck_assert(!ing_member_ready(who[1].m, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "another ingestor runs under the name a"));
    ck_assert_uint_eq(epoch(0, 0), 1);
    kill_it(0);
    run_s(30);
    ck_assert(ing_member_ready(who[1].m, &err));
    ck_assert_uint_eq(epoch(1, 0), 2);
}
END_TEST

START_TEST(a_table_with_another_first_moves_the_lease_without_a_wait)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    place("b", "a");
    run_s(4);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(epoch(1, p), 2);
}
END_TEST

static bool left;
static void has_left(void *ctx)
{
    (void)ctx;
    left = true;
}

START_TEST(one_that_leaves_is_followed_at_once)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    left = false;
    ing_member_leave(who[0].m, has_left, NULL);
    run_s(3);                                          /* less than the silence that a crash takes */
    ck_assert(left);
    for (uint32_t p = 0; p < P; p++)
        ck_assert_uint_eq(epoch(1, p), 2);
}
END_TEST

START_TEST(a_first_that_is_not_ready_owns_nothing)
{
    place("a", "b");
    who[0].broken = true;
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    ck_assert_uint_eq(epoch(1, 0), 1);
    who[0].broken = false;
    run_s(6);
    ck_assert_uint_eq(epoch(0, 0), 2);
}
END_TEST

START_TEST(a_removed_member_owns_nothing_and_says_why)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    kv(KL_BUS_KV_PUT, "mark.a", kl_span_str("removed"));
    run_s(10);
    ck_assert_uint_eq(epoch(1, 0), 2);
    ck_assert(!ing_member_ready(who[0].m, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "was removed from the cell"));
    kv(KL_BUS_KV_DELETE, "mark.a", kl_span("", 0));
    run_s(10);
    ck_assert(ing_member_ready(who[0].m, &err));
    ck_assert_uint_eq(epoch(0, 0), 3);
}
END_TEST

static enum kl_code mark_code;
static struct kl_bus_kv mark_op;

static void mark_read(struct kl_bus_kv *op)
{
    mark_code = op->code;
    free(op->got);
    done = true;
}

static bool marked(const char *name)
{
    done = false;
    mark_op = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = loop, .done = mark_read };
    snprintf(mark_op.key, sizeof mark_op.key, "mark.%s", name);
    bus->kv(bus, &mark_op);
    run_s(2);
    ck_assert(done);
    return mark_code == KL_OK;
}

/* _i: what its last life said, what an operator said, and what is said while it runs. */
START_TEST(one_that_comes_back_takes_back_that_it_leaves_and_nothing_else)
{
    static const char *const marks[] = { "leaving", "leaving drain", "drain" };

    place("a", "b");
    kv(KL_BUS_KV_PUT, "mark.a", kl_span_str(marks[_i]));
    kv(KL_BUS_KV_PUT, "mark.b", kl_span_str("leaving"));
    start(0, "a", 1, 1);
    run_s(10);
    ck_assert_int_eq(marked("a"), _i == 2);
    ck_assert(marked("b"));
    kv(KL_BUS_KV_PUT, "mark.a", kl_span_str("leaving"));
    run_s(20);
    ck_assert(marked("a"));
}
END_TEST

START_TEST(keys_that_are_wiped_come_again_with_higher_epochs)
{
    place("a", "b");
    start(0, "a", 1, 1);
    start(1, "b", 2, 2);
    run_s(20);
    epoch_seen = 7;
    kv(KL_BUS_KV_DELETE, "node.a", kl_span("", 0));
    kv(KL_BUS_KV_DELETE, "lease.0000", kl_span("", 0));
    kv(KL_BUS_KV_DELETE, TSP_PLACEMENT_KEY, kl_span("", 0));
    run_s(30);
    ck_assert(ing_member_ready(who[0].m, &err));
    ck_assert_uint_eq(epoch(0, 0), 8);
    for (uint32_t p = 1; p < P; p++)
        ck_assert_uint_gt(epoch(0, p), 0);
}
END_TEST

START_TEST(a_name_that_is_a_wildcard_is_refused)
{
    struct ing_member_options o = { .name = "*", .zone = "", .address = "", .version = "",
                                    .capacity = 1, .partitions = P };
    struct ing_member        *m = NULL;

    ck_assert_int_eq(ing_member_new(env, bus, &o, &m, &err), KL_EINVAL);
    ck_assert_ptr_null(m);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("ingestor/member");
    TCase   *t = tcase_create("member");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_lease_whose_last_change_the_kv_lost_is_taken_anew);
    tcase_add_test(t, a_heartbeat_that_the_kv_lost_is_followed_by_others);
    tcase_add_test(t, the_first_in_the_table_owns);
    tcase_add_test(t, a_killed_owner_is_followed_with_a_higher_epoch_once_it_is_silent);
    tcase_add_test(t, two_of_one_name_are_one_until_it_is_silent);
    tcase_add_test(t, a_table_with_another_first_moves_the_lease_without_a_wait);
    tcase_add_test(t, one_that_leaves_is_followed_at_once);
    tcase_add_test(t, a_first_that_is_not_ready_owns_nothing);
    tcase_add_test(t, a_removed_member_owns_nothing_and_says_why);
    tcase_add_loop_test(t, one_that_comes_back_takes_back_that_it_leaves_and_nothing_else, 0, 3);
    tcase_add_test(t, keys_that_are_wiped_come_again_with_higher_epochs);
    tcase_add_test(t, a_name_that_is_a_wildcard_is_refused);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
