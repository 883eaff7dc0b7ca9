/*
 * An ingestor in a simulated world: what of its log stops a partition, what an operator skips, and a
 * log made anew.
 */
#include "fixture.h"

struct w_purge { struct kl_bus_purge op; bool done; };
static void purge_done(struct kl_bus_purge *op) { kl_container_of(op, struct w_purge, op)->done = true; }

static void expect_stopped(uint32_t partition, const char *words)
{
    struct w_answer a = { 0 };
    struct kl_err   err = { 0 };

    ck_assert(!ing_ready(w.ing, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "alarm"));
    ck_assert_int_eq(w_live(&w, w_all(partition, T), &a, &err), KL_EAGAIN);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    w_answer_free(&a);
    ck_assert_int_eq(w_flush(&w, NULL, &err), KL_EAGAIN);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    ck_assert_int_eq(w_live(&w, w_all(1 - partition, T), &a, &err), KL_OK);    /* the other goes on */
    w_answer_free(&a);
}

START_TEST(records_purged_before_they_were_applied_stop_the_partition_with_words)
{
    struct w_purge p = { .op = { .partition = 0, .up_to = 4, .loop = w.loop, .done = purge_done } };

    w_place(&w, "b");
    kl_env_sim_run(w.sim, 1000);
    for (int i = 0; i < 8; i++)
        w_write(&w, 0, T, 1, w_now(&w) + i, i);
    w.bus->purge(w.bus, &p.op);
    ck_assert(w_until(&w, &p.done));
    ck_assert_int_eq(p.op.code, KL_OK);
    w_place(&w, "a");
    kl_env_sim_run(w.sim, 3000);
    expect_stopped(0, "purged");
}
END_TEST

START_TEST(a_record_that_cannot_be_read_stops_its_partition_alone)
{
    struct w_append a = { 0 };

    w_write(&w, 0, T, 1, w_now(&w), 1);
    w_write(&w, 1, T, 1, w_now(&w), 1);
    a.op = (struct kl_bus_append){ .partition = 0, .record = kl_span_str("no record at all"),
                                   .loop = w.loop, .done = w_append_done };
    w.bus->append(w.bus, &a.op);
    ck_assert(w_until(&w, &a.done));
    kl_env_sim_run(w.sim, 1000);
    expect_stopped(0, "record 2");
}
END_TEST

static void collect(void *ctx, const char *name, bool is_dir, uint64_t size)
{
    struct { char at[64][128]; int count; } *l = ctx;

    (void)is_dir;
    (void)size;
    snprintf(l->at[l->count++], 128, "%s", name);
}

/* While nobody runs, the log goes; keys and store stay. */
static void lose_the_log(void)
{
    struct { char at[64][128]; int count; } names = { .count = 0 };
    struct kl_env_dir *log;
    struct kl_err      err = { 0 };

    w_stop(&w);
    w.root = kl_env_disk_sim_root(w.disk);
    w.bus_dir = w_enter(&w, "bus");
    ck_assert_int_eq(w.bus_dir->enter(w.bus_dir, "log", false, &log, &err), KL_OK);
    ck_assert_int_eq(log->list(log, collect, &names, &err), KL_OK);
    for (int i = 0; i < names.count; i++)
        ck_assert_int_eq(log->remove(log, names.at[i], &err), KL_OK);
    log->leave(log);
    w.bus_dir->leave(w.bus_dir);
    w.root->leave(w.root);
    w_start(&w);
    w_ready(&w);
}

START_TEST(a_record_that_an_operator_skips_stops_nobody_now_or_after_a_restart)
{
    struct w_append    a = { 0 };
    struct w_kv        kv = { 0 };
    struct w_answer    got;
    struct tsp_logskip skips = { 0 };
    struct kl_buf      b = { 0 };
    struct kl_err      err = { 0 };
    int64_t            t = w_now(&w);

    w_write(&w, 0, T, 1, t, 1);
    kl_env_sim_run(w.sim, 1000);                       /* the log has its mark */
    a.op = (struct kl_bus_append){ .partition = 0, .record = kl_span_str("no record at all"),
                                   .loop = w.loop, .done = w_append_done };
    w.bus->append(w.bus, &a.op);
    ck_assert(w_until(&w, &a.done));
    w_write(&w, 0, T, 1, t + 1, 2);
    kl_env_sim_run(w.sim, 1000);
    expect_stopped(0, "record 2");
    ck_assert_int_eq(tsp_logskip_add(&skips, mark_of(0).incarnation, 1, &err), KL_OK);  /* not that one */
    for (int round = 0; round < 2; round++) {
        kl_buf_reset(&b);
        tsp_logskip_encode(&skips, &b);
        kv = (struct w_kv){ .op = { .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&b), .expect = UINT64_MAX,
                                    .loop = w.loop, .done = w_kv_done } };
        tsp_logskip_key(kv.op.key, sizeof kv.op.key, 0);
        w.bus->kv(w.bus, &kv.op);
        ck_assert(w_until(&w, &kv.done));
        kl_env_sim_run(w.sim, 5000);
        if (round == 0) {
            expect_stopped(0, "record 2");
            ck_assert_int_eq(tsp_logskip_add(&skips, mark_of(0).incarnation, 2, &err), KL_OK);
        }
    }
    skips = (struct tsp_logskip){ 0 };
    kl_buf_deinit(&b);
    for (int round = 0; round < 2; round++) {
        w_ready(&w);
        got = read_all(0);
        ck_assert_uint_eq(got.series[0].count, 1);     /* record 1 was listed, too: it was read before */
        ck_assert(got.series[0].at[0].value == 2);
        w_answer_free(&got);
        w_stop(&w);
        w_start(&w);
    }
}
END_TEST

START_TEST(what_a_snapshot_has_of_a_log_that_is_gone_is_sealed_and_what_follows_is_named)
{
    struct w_answer    a;
    struct tsp_logmark m;
    int64_t            t = w_now(&w);
    uint64_t           before;

    w_stop(&w);
    w.snapshot_ms = 2000;
    w_start(&w);
    w_ready(&w);
    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i, i);
    kl_env_sim_run(w.sim, 10000);                      /* no cut, but a snapshot */
    before = mark_of(0).incarnation;
    ck_assert_uint_ne(before, 0);
    lose_the_log();
    w_write(&w, 0, T, 1, t + 21, 21);
    for (int round = 0; round < 2; round++) {
        m = mark_of(0);
        ck_assert_uint_ne(m.incarnation, before);
        ck_assert_uint_eq(m.lost_count, 1);
        ck_assert_uint_eq(m.lost[0].incarnation, before);
        ck_assert_uint_eq(m.lost[0].first_seq, 21);
        ck_assert_int_le(m.lost[0].from_ms, m.lost[0].to_ms);
        a = read_all(0);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_uint_eq(a.series[0].count, 21);
        ck_assert(a.series[0].at[20].value == 21);
        w_answer_free(&a);
        w_stop(&w);
        w_start(&w);
        w_ready(&w);
    }
}
END_TEST

START_TEST(a_log_made_anew_is_read_from_its_start_and_the_filesets_stay)
{
    struct w_answer    a;
    int64_t            t = w_now(&w);

    for (int i = 0; i < 20; i++)
        w_write(&w, 0, T, 1, t + i, i);
    flush_ok(NULL);
    w_write(&w, 0, T, 1, t + 20, 20);                  /* this one will be lost, and an alarm says so */
    lose_the_log();
    w_write(&w, 0, T, 1, t + 21, 21);
    for (int round = 0; round < 3; round++) {
        a = read_all(0);
        ck_assert_uint_eq(a.count, 1);
        ck_assert_uint_eq(a.series[0].count, 21);
        ck_assert(a.series[0].at[19].value == 19);
        ck_assert(a.series[0].at[20].value == 21);
        w_answer_free(&a);
        if (round == 0) {
            flush_ok(NULL);
        } else {
            w_stop(&w);
            w_start(&w);
            w_ready(&w);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor: the log");
    TCase *t = tcase_create("world");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, records_purged_before_they_were_applied_stop_the_partition_with_words);
    tcase_add_test(t, a_record_that_cannot_be_read_stops_its_partition_alone);
    tcase_add_test(t, a_record_that_an_operator_skips_stops_nobody_now_or_after_a_restart);
    tcase_add_test(t,
                   what_a_snapshot_has_of_a_log_that_is_gone_is_sealed_and_what_follows_is_named);
    tcase_add_test(t, a_log_made_anew_is_read_from_its_start_and_the_filesets_stay);
    suite_add_tcase(s, t);

    return run_suite(s);
}
