/*
 * Deletions in a simulated world: what precedes one in the log is gone, wherever it lies, and stays
 * gone; what follows it is there. The model knows every sample that should be.
 */
#include "model.h"

#include "libkoal/env/disk_sim.h"
#include "tests/suite.h"

static void begin(uint64_t seed)
{
    w_init(&w, seed, 1);
    w.deletion_ms = 3600000;
    model_begin();
}

static void setup(void) { begin(7); }

static void puts_to(unsigned from, unsigned to, double value)
{
    for (unsigned p = from; p < to; p++)
        for (unsigned s = 0; s < SERIES; s++)
            put(s, p, value + s * 1000 + p);
}

/* Series of an odd number, or one alone. */
static uint64_t delete_points(int series, unsigned from, unsigned to)
{
    char              host[16];
    struct kl_matcher m = { KL_MATCH_EQ, kl_span_str("host"), { 0 }, NULL };

    snprintf(host, sizeof host, "h%d", series);
    m.value = kl_span_str(host);
    if (series < 0)
        m = (struct kl_matcher){ KL_MATCH_RE, kl_span_str("__name__"), kl_span_str("req.*"), NULL };
    for (unsigned s = 0; s < SERIES; s++)
        for (unsigned p = from; p < to; p++)
            if (series < 0 ? s % 2 == 1 : (int)s == series)
                has[s][p] = false;
    return w_delete(&w, 0, T, &m, 1, at(from), at(to) - 1);
}

/* What the filesets hold, obeying nothing: as a thief of the store would read them. */
static void check_raw(const char *when)
{
    struct w_answer   a = { 0 };
    struct tsp_select s = w_all(0, T);

    w_stored_as(&w, &s, &a, true);
    compare(&a, when);
    w_answer_free(&a);
}

static uint32_t deletions(uint32_t *gone)
{
    struct blk_manifest m;
    uint32_t            n;

    w_catalogue(&w, 0, &m);
    n = m.deletion_count;
    if (gone != NULL)
        *gone = m.gone_count;
    blk_manifest_deinit(&m);
    return n;
}

START_TEST(what_memory_holds_is_gone_at_once_and_what_comes_later_is_seen)
{
    puts_to(0, 150, 0);                                /* chunks and open tails */
    put(2, 20, -1);                                    /* late samples */
    put(2, 60, -2);
    delete_points(2, 10, 30);
    check("of the middle");
    delete_points(-1, 0, 5);
    delete_points(-1, 140, 400);                       /* the tails */
    delete_points(4, 0, 400);                          /* all of it */
    check("in memory");
    put(4, 3, 77);                                     /* in the deleted span, after it */
    put(4, 200, 78);
    put(1, 160, 79);
    check("written again");
    restart();
    check("replayed");
    flush();
    check("flushed");
    check_raw("a fileset of a later cut has none of it");
}
END_TEST

START_TEST(filesets_of_earlier_cuts_are_hidden_and_samples_after_it_are_not)
{
    uint64_t seq;

    puts_to(0, 60, 0);
    flush();
    puts_to(60, 90, 0);
    seq = delete_points(-1, 10, 70);
    w_deleted(&w, 0, seq);
    check("hidden in a fileset and in memory");
    put(1, 20, 5);
    check("written again");
    flush();
    check("that is in a later fileset");
    restart();
    check("after a restart");
    ck_assert_uint_eq(deletions(NULL), 1);
    seq = delete_points(0, 0, 400);
    w_deleted(&w, 0, seq);
    check("a second one");
    restart();
    check("after a second restart");
}
END_TEST

START_TEST(cut_that_waits_for_the_store_is_hidden_at_once_and_when_it_is_there)
{
    struct kl_store_faults faults = { .seed = 5 };
    struct kl_err          err = { 0 };
    uint64_t               seq;

    w_stop(&w);
    w.faults = &faults;
    w_start(&w);
    w_ready(&w);
    puts_to(0, 150, 0);
    put(3, 30, -3);
    faults.down = true;
    ck_assert_int_ne(w_flush(&w, NULL, &err), KL_OK);  /* sealed, and on its way */
    puts_to(150, 170, 0);
    seq = delete_points(-1, 20, 160);
    {
        struct w_answer a = { 0 };

        ck_assert_int_eq(w_live(&w, w_all(0, T), &a, &err), KL_OK);
        compare(&a, "the store is down");
        w_answer_free(&a);
    }
    put(1, 50, 9);
    faults.down = false;
    w_deleted(&w, 0, seq);
    check("the store is back");
    flush();
    check("flushed");
    restart();
    check("restarted");
    w_stop(&w);
    w.faults = NULL;
    w_start(&w);
    w_ready(&w);
}
END_TEST

/* A manifest lists so many; none beyond is dropped without a word. */
START_TEST(more_deletions_than_the_catalogue_lists_stop_the_partition_with_words)
{
    enum { A_RECORD = 256 };
    struct kl_store_faults faults = { .seed = 5 };
    struct kl_err          err = { 0 };
    struct tsp_deletion    d = { .to_ms = base, .matcher_count = 1 };

    d.matchers[0] = (struct kl_matcher){ KL_MATCH_EQ, kl_span_str("host"), kl_span_str("h9"), NULL };
    w_stop(&w);
    w.faults = &faults;
    w_start(&w);
    w_ready(&w);
    faults.down = true;
    for (unsigned r = 0; r <= BLK_DELETIONS_MAX / A_RECORD; r++) {
        for (unsigned i = 0; i < A_RECORD; i++)
            tsp_record_delete(w.writer, kl_span_str(T), &d);
        w_send_wait(&w, 0);
        kl_env_sim_run(w.sim, 1000);
        ck_assert_int_eq(ing_ready(w.ing, &err), r < BLK_DELETIONS_MAX / A_RECORD);
    }
    ck_assert_msg(strstr(err.text, "stopped by an alarm") != NULL, "%s", err.text);
    w_stop(&w);
    w.faults = NULL;
    w_start(&w);
}
END_TEST

START_TEST(restart_before_the_catalogue_has_it_obeys_it_all_the_same)
{
    struct kl_store_faults faults = { .seed = 5 };
    uint64_t               seq;

    puts_to(0, 60, 0);
    flush();
    puts_to(60, 80, 0);
    w_stop(&w);
    w.faults = &faults;
    w.snapshot_ms = 1000;
    w_start(&w);
    w_ready(&w);
    faults.down = true;
    seq = delete_points(1, 0, 400);
    puts_to(80, 90, 0);
    kl_env_sim_run(w.sim, 30000);                      /* time for snapshots, which must not be made */
    w_crash(&w, true, 3);
    crashed = true;
    faults.down = false;
    w_start(&w);
    w_ready(&w);
    w_deleted(&w, 0, seq);
    check("after the crash");
}
END_TEST

/* Everything after it is younger, so nothing but the deletion itself holds the log back. */
START_TEST(log_is_kept_from_a_deletion_on_until_the_catalogue_has_it)
{
    struct kl_store_faults faults = { .seed = 5 };
    struct blk_manifest    m = { 0 };
    struct kl_err          err = { 0 };
    uint64_t               seq, deleted = 0;

    w_stop(&w);
    w.faults = &faults;
    w_start(&w);
    w_ready(&w);
    puts_to(0, 30, 0);
    faults.down = true;
    w_flush(&w, NULL, &err);
    seq = delete_points(-1, 0, 20);
    puts_to(30, 40, 0);
    faults.down = false;
    do {                                               /* the cut is in the catalogue: no further */
        blk_manifest_deinit(&m);
        ck_assert(kl_env_sim_step(w.sim, INT64_MAX));
        w_catalogue(&w, 0, &m);
        deleted = m.deleted_seq;
    } while (m.fileset_count == 0);
    ck_assert_uint_eq(deleted, 0);
    ck_assert_uint_le(m.replay_from, seq);
    blk_manifest_deinit(&m);
    w_crash(&w, false, 1);
    crashed = true;
    w_start(&w);
    w_ready(&w);
    w_deleted(&w, 0, seq);
    check("after the crash");
}
END_TEST

START_TEST(samples_that_wait_for_their_definition_are_meant_when_it_comes)
{
    int64_t t = at(1);
    double  v = 5;

    tsp_record_floats(w.writer, kl_span_str(T), 1, &t, &v, 1);
    w_send_wait(&w, 0);
    delete_points(-1, 0, 3);
    delete_points(2, 0, 400);
    t = at(2);
    v = 6;
    tsp_record_floats(w.writer, kl_span_str(T), 1, &t, &v, 1);
    w_send_wait(&w, 0);
    has[1][2] = true;
    sent[1][2] = 6;
    put(1, 5, 7);
    check("joined");
    restart();
    check("joined again");
}
END_TEST

START_TEST(deletion_is_rewritten_away_in_its_time_and_forgotten_when_its_bytes_are_gone)
{
    uint32_t gone;
    uint64_t seq;

    w.compacts = true;
    restart();
    puts_to(0, 60, 0);
    flush();
    seq = delete_points(3, 10, 40);
    w_deleted(&w, 0, seq);
    seq = delete_points(0, 390, 400);                  /* concerns no fileset: no time, */
    w_deleted(&w, 0, seq);
    kl_env_sim_run(w.sim, 30 * 60000);
    check("hidden");
    ck_assert_uint_eq(deletions(NULL), 1);
    kl_env_sim_run(w.sim, 45 * 60000);                 /* an hour after it came */
    check_raw("rewritten");
    ck_assert_uint_eq(deletions(&gone), 1);            /* its bytes are in the store yet, */
    ck_assert_uint_eq(gone, 1);
    kl_env_sim_run(w.sim, 20 * 60000);
    ck_assert_uint_eq(deletions(NULL), 0);             /* and now nowhere */
    check("in the end");
    check_raw("in the store, too");
}
END_TEST

static void cleaned(struct ing_flush *f) { kl_container_of(f, struct w_flush, f)->done = true; }

START_TEST(cleaning_on_request_rewrites_at_once_only_what_has_it)
{
    struct w_flush f = { .f = { .loop = w.loop, .done = cleaned, .clean = true } };
    struct blk_manifest m;
    int64_t        t = at(3);
    double         v = 3;

    w.deletion_ms = INT64_MAX / 4;
    restart();
    f.f.loop = w.loop;
    puts_to(0, 5, 0);
    flush();
    w_define(&w, T, 4);                                /* a fileset that does not have the series */
    tsp_record_floats(w.writer, kl_span_str(T), 4, &t, &v, 1);
    w_send_wait(&w, 0);
    has[4][3] = true;
    sent[4][3] = 3;
    flush();
    w_deleted(&w, 0, delete_points(5, 1, 5));
    ing_flush(w.ing, &f.f);
    ck_assert(w_until(&w, &f.done));
    ck_assert_msg(f.f.code == KL_OK, "%s", f.f.err.text);
    check_raw("cleaned");
    check("cleaned");
    w_catalogue(&w, 0, &m);
    ck_assert_uint_eq(m.fileset_count, 2);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(m.filesets[i].obeyed, 1);
    ck_assert((m.filesets[0].generation == 0) != (m.filesets[1].generation == 0));
    blk_manifest_deinit(&m);
}
END_TEST

/* Writes, late writes, deletions, flushes, merges, snapshots, crashes; the store fails now and then. */
START_TEST(any_life_ends_with_what_should_be_there)
{
    struct kl_store_faults faults = { .seed = 99 + (uint64_t)_i };
    struct kl_err          err = { 0 };
    uint64_t               seq = 0;

    w_stop(&w);
    begin(1000 + (uint64_t)_i);
    w.faults = &faults;
    w.compacts = true;
    w.deletion_ms = 60000;
    w.snapshot_ms = _i % 2 ? 3000 : 0;
    restart();
    for (unsigned round = 0, point = 0; round < 60; round++) {
        uint64_t dice = kl_env_sim_draw(w.sim);

        faults.before = dice % 5 == 0 ? 100 : 0;
        faults.after = dice % 7 == 0 ? 100 : 0;
        for (unsigned n = dice % 4; n > 0 && point < POINTS; n--, point++)
            puts_to(point, point + 1, (double)round * 100000);
        if (dice / 8 % 3 == 0 && point > 0)            /* late */
            put(dice / 16 % SERIES, (unsigned)(dice / 256 % point), (double)dice);
        if (dice / 1024 % 3 == 0) {
            unsigned from = (unsigned)(dice / 4096 % (point + 1)), to = from + 1 + dice / 65536 % 40;

            seq = delete_points((int)(dice / 77 % (SERIES + 1)) - 1, from, to < POINTS ? to : POINTS);
        }
        if (dice / 31 % 4 == 0)
            w_flush(&w, NULL, &err);
        if (dice / 37 % 3 == 0)
            kl_env_sim_run(w.sim, (int64_t)(dice / 41 % 30000));
        if (dice / 43 % 9 == 0) {
            w_crash(&w, dice / 47 % 2, dice);
            crashed = true;
            w_start(&w);
            faults.before = faults.after = 0;
            w_ready(&w);
        }
        if (dice / 53 % 6 == 0) {
            faults.before = faults.after = 0;
            if (seq > 0)
                w_deleted(&w, 0, seq);
            check("on the way");
        }
    }
    faults = (struct kl_store_faults){ .seed = 1 };
    if (seq > 0)
        w_deleted(&w, 0, seq);
    check("at the end");
    flush();
    kl_env_sim_run(w.sim, 20 * 60000);
    check("merged");
    check_raw("rewritten");
    kl_env_sim_run(w.sim, 40 * 60000);
    ck_assert_uint_eq(deletions(NULL), 0);
    check("at last");
    w_stop(&w);
    w.faults = NULL;
    w_start(&w);
    w_ready(&w);
}
END_TEST

static uint32_t rollups(void)
{
    struct blk_manifest m;
    uint32_t            n = 0;

    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        n += m.filesets[i].resolution_ms != 0;
    blk_manifest_deinit(&m);
    return n;
}

/* Filesets, a merge that is due, a flush and a deletion under way: the process dies at the nth call of
 * its disk, which is the store's, too, before it does anything; and what happens then is as always. False:
 * there were not so many. `power`: what was not synced is torn. `more`: rollups, local copies and snapshots, too. */
static bool die_at(uint64_t nth, bool power, bool more)
{
    struct kl_err    err = { 0 };
    struct w_objects o;
    struct w_append  a;
    struct kl_matcher m = { KL_MATCH_RE, kl_span_str("__name__"), kl_span_str("req.*"), NULL };
    struct tsp_deletion d = { .from_ms = at(1), .to_ms = at(4) - 1, .matcher_count = 1 };
    bool             acked, hit;
    uint64_t         calls;

    w_stop(&w);
    begin(nth);
    w.compacts = true;
    w.deletion_ms = 1000;
    if (more) {
        w.window_ms = 75000;                           /* four of them are merged: five minutes */
        w.rollup_ms[0] = INT64_C(48) * 3600000;
        w.local_ms = 20 * 60000;
        w.snapshot_ms = 5000;
    }
    restart();
    for (unsigned n = 0; n < 2; n++) {
        puts_to(n * 2, n * 2 + 2, 10 * n);
        put(0, 0, 100 + n);
        flush();
    }
    puts_to(4, 6, 0);
    put(1, 1, -1);
    d.matchers[0] = m;
    tsp_record_delete(w.writer, kl_span_str(T), &d);
    d.from_ms = d.to_ms = at(5);
    tsp_record_delete(w.writer, kl_span_str(T), &d);
    calls = kl_env_disk_sim_calls(w.disk);
    kl_env_disk_sim_die(w.disk, nth);
    w_send(&w, 0, &a);
    w_flush(&w, NULL, &err);
    kl_env_sim_run(w.sim, 45000);
    hit = kl_env_disk_sim_calls(w.disk) - calls >= nth;
    acked = a.done && a.op.code == KL_OK;
    w_crash(&w, power, nth);
    crashed = true;
    w_start(&w);
    w_ready(&w);
    if (!acked) {                                      /* as who got no answer would: once more */
        w_delete(&w, 0, T, &m, 1, at(1), at(4) - 1);
        w_deleted(&w, 0, w_delete(&w, 0, T, &m, 1, at(5), at(5)));
    }
    for (unsigned s = 1; s < SERIES; s += 2)
        has[s][1] = has[s][2] = has[s][3] = has[s][5] = false;
    if (acked)
        w_deleted(&w, 0, a.op.seq);
    check("after the kill");
    put(1, 2, 5);                                      /* after it */
    flush();
    kl_env_sim_run(w.sim, 5 * 60000);
    check("later");
    check_raw("rewritten");
    kl_env_sim_run(w.sim, 40 * 60000);
    put(0, 7, 1);
    flush();
    kl_env_sim_run(w.sim, 40 * 60000);
    check("in the end");
    ck_assert_uint_eq(deletions(NULL), 0);
    ck_assert_int_eq(rollups() > 0, more);
    w_objects(&w, &o);
    ck_assert_msg(o.strange == 0, "call %u: %u objects that nobody knows, such as %s", (unsigned)nth,
                  o.strange, o.first);
    kl_buf_deinit(&a.bytes);
    return hit;
}

/* Every second call, as a process dies or as power fails, and every sixth with `more`; all of it with KOA_LONG=1. */
START_TEST(kill_at_any_call_of_flush_merge_and_deletion_loses_doubles_and_leaves_nothing)
{
    bool     all = getenv("KOA_LONG") != NULL, more = _i >= 12;
    uint64_t part = (uint64_t)_i % 12, each = all ? 1 : more ? 6 : 2, nth;

    for (nth = 1 + part * each;; nth += 12 * each) {
        bool power = (nth / each) % 2 == 1, hit = die_at(nth, power, more);

        if (all)
            hit = die_at(nth, !power, more) || hit;
        if (!hit)
            break;
    }
    ck_assert_uint_gt(nth, 300);                       /* they were many */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/deletion");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_memory_holds_is_gone_at_once_and_what_comes_later_is_seen);
    tcase_add_test(t, filesets_of_earlier_cuts_are_hidden_and_samples_after_it_are_not);
    tcase_add_test(t, cut_that_waits_for_the_store_is_hidden_at_once_and_when_it_is_there);
    tcase_add_test(t, more_deletions_than_the_catalogue_lists_stop_the_partition_with_words);
    tcase_add_test(t, restart_before_the_catalogue_has_it_obeys_it_all_the_same);
    tcase_add_test(t, log_is_kept_from_a_deletion_on_until_the_catalogue_has_it);
    tcase_add_test(t, samples_that_wait_for_their_definition_are_meant_when_it_comes);
    tcase_add_test(t, deletion_is_rewritten_away_in_its_time_and_forgotten_when_its_bytes_are_gone);
    tcase_add_test(t, cleaning_on_request_rewrites_at_once_only_what_has_it);
    tcase_add_loop_test(t, any_life_ends_with_what_should_be_there, 0, getenv("KOA_LONG") != NULL ? 30 : 10);
    tcase_add_loop_test(t, kill_at_any_call_of_flush_merge_and_deletion_loses_doubles_and_leaves_nothing,
                        0, 24);
    suite_add_tcase(s, t);
    return run_suite(s);
}
