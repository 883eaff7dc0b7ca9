/* Rollups in a simulated world: made with the window they are of, gone with it, kept for their own time. */
#include "world.h"

#include "libblock/rollup.h"
#include "libkoal/env/disk_sim.h"
#include "tests/suite.h"

#include <stdlib.h>

static struct world w;
static const char   T[] = "anonymous";
enum { SERIES = 3, HOUR = 3600000 };
static int64_t base;

static void setup(void)
{
    w_init(&w, 7, 1);
    w.window_ms = HOUR / 4;
    w.compacts = true;
    w.rollup_ms[0] = INT64_C(48) * HOUR;
    w.rollup_ms[1] = INT64_C(96) * HOUR;
    w_start(&w);
    w_ready(&w);
    base = (w_now(&w) / HOUR + 1) * HOUR;
    while (w_now(&w) < base)
        kl_env_sim_run(w.sim, 60000);
}

static bool crashed;                                   /* a killed process leaves handles open, and frees nothing */

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

static void teardown(void)
{
    w_stop(&w);
    if (!crashed)
        w_deinit(&w);
    crashed = false;
}

static void restart(void)
{
    w_stop(&w);
    w_start(&w);
    w_ready(&w);
}

/* A sample each 20 s of every series from `from` to `to`, as the clock goes. */
static void write_span(int64_t from, int64_t to)
{
    for (int64_t t = from; t < to; t += 20000) {
        while (w_now(&w) < t)
            kl_env_sim_run(w.sim, 5000);
        for (unsigned s = 0; s < SERIES; s++)
            w_write(&w, 0, T, s, t, (double)(t % 7919) + s);
    }
}

static void pass(int64_t ms)
{
    int64_t until = w_now(&w) + ms;

    while (w_now(&w) < until)
        kl_env_sim_run(w.sim, 60000);
}

/* The one fileset of the first hour, and its rollups; `roll` -1: itself. */
static bool find(int roll, struct blk_info *info)
{
    struct blk_manifest m;
    bool                found = false;

    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        const struct blk_info *f = &m.filesets[i];

        if (f->window_start_ms != base || f->window_ms != HOUR ||
            f->resolution_ms != (roll < 0 ? 0 : blk_rollup_ms[roll]))
            continue;
        ck_assert(!found);
        found = true;
        *info = *f;
    }
    blk_manifest_deinit(&m);
    return found;
}

static unsigned number_of(struct kl_fp fp)
{
    for (unsigned n = 0;; n++) {
        struct kl_buf b = { 0 };
        struct kl_fp  x = w_labels(n, &b);

        kl_buf_deinit(&b);
        if (kl_fp_cmp(fp, x) == 0)
            return n;
    }
}

/* Rows as they are, against what was written. `hole`: deleted, both included. */
static void check_rows(const struct blk_info *info, int64_t hole_from, int64_t hole_to)
{
    char                path[BLK_PATH_MAX + 1];
    struct blk_fileset *f;
    struct blk_select  *sel;
    struct blk_selected x;
    struct kl_err       err = { 0 };
    unsigned            series = 0;

    if (hole_from <= hole_to)
        hole_to = blk_bucket_end(hole_to, info->resolution_ms);
    blk_fileset_path(info, path);
    ck_assert_msg(blk_fileset_open_store(w.store, path, &f, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &sel, &err), KL_OK);
    for (; blk_select_next(sel, &x, &err) == KL_OK; series++) {
        unsigned n = number_of(x.fp), rows = 0, want = 0;

        for (int64_t end = base; end <= base + HOUR - 1 + info->resolution_ms; end += info->resolution_ms) {
            int64_t last = end < base + HOUR ? end : base + HOUR - 20000;   /* 20 s divide any bucket */

            want += last > end - info->resolution_ms && last >= base && (last < hole_from || last > hole_to);
        }
        for (uint32_t c = 0; c < x.chunk_count; c++) {
            static int64_t        times[BLK_CHUNK_MAX];
            static struct kl_hist h[BLK_CHUNK_MAX];
            struct kl_arena       arena;
            uint32_t              k;

            kl_arena_init(&arena, 1 << 22);
            ck_assert_int_eq(blk_chunk_decode_hists(x.chunks[c].bytes, &arena, times, h, NULL, &k, &err), KL_OK);
            for (uint32_t i = 0; i < k; i++, rows++) {
                struct blk_row row;
                int64_t        end = blk_bucket_end(times[i], info->resolution_ms);
                double         max = -1;
                unsigned       count = 0;

                ck_assert(blk_row_get(&h[i], &row));
                for (int64_t t = end - info->resolution_ms + 20000; t <= times[i]; t += 20000) {
                    if (t < base)
                        continue;
                    count++;
                    max = (double)(t % 7919) + n > max ? (double)(t % 7919) + n : max;
                }
                ck_assert_double_eq(row.count, count);
                ck_assert_double_eq(row.max, max);
                ck_assert_double_eq(row.last, (double)(times[i] % 7919) + n);
            }
            kl_arena_deinit(&arena);
        }
        ck_assert_uint_eq(rows, want);
    }
    ck_assert_uint_eq(series, SERIES);
    blk_select_close(sel);
    blk_fileset_unref(f);
}

START_TEST(rollups_are_made_with_their_window_and_replaced_with_it)
{
    struct blk_info raw, roll, anew;

    write_span(base, base + HOUR + 60000);
    pass(HOUR / 2);
    ck_assert(find(-1, &raw));
    ck_assert_uint_eq(raw.rolled, 3);
    for (int i = 0; i < BLK_ROLLUPS_MAX; i++) {
        ck_assert(find(i, &roll));
        ck_assert(roll.id == raw.id && roll.generation == raw.generation);
        check_rows(&roll, 1, 0);
    }
    for (unsigned n = 0; n < 8; n++) {                 /* enough late ones for another merge */
        struct kl_err err;

        w_write(&w, 0, T, 1, base + 40000, (double)((base + 40000) % 7919) + 1);
        ck_assert_int_eq(w_flush(&w, NULL, &err), KL_OK);
    }
    pass(HOUR / 2);
    ck_assert(find(-1, &anew));
    ck_assert_uint_ne(anew.generation, raw.generation);
    for (int i = 0; i < BLK_ROLLUPS_MAX; i++) {
        ck_assert(find(i, &roll));
        ck_assert_uint_eq(roll.generation, anew.generation);
        check_rows(&roll, 1, 0);
    }
}
END_TEST

START_TEST(rollups_outlive_their_samples_by_their_own_retention_and_obey_deletions)
{
    struct blk_info   raw, roll;
    struct kl_matcher m = { KL_MATCH_NE, kl_span_str("host"), kl_span_str("h9"), NULL };
    uint64_t          seq;

    w.retention_ms = INT64_C(24) * HOUR;
    w.deletion_ms = 1000;
    restart();
    write_span(base, base + HOUR + 60000);
    pass(INT64_C(26) * HOUR);
    ck_assert(!find(-1, &raw));
    ck_assert(find(0, &roll));
    check_rows(&roll, 1, 0);
    seq = w_delete(&w, 0, T, &m, 1, base + 1200000 + 5000, base + 1800000);
    w_deleted(&w, 0, seq);
    pass(HOUR / 2);
    ck_assert(find(0, &roll) && find(1, &raw));        /* whole rows went, and the row of the hour */
    check_rows(&roll, base + 1200000 + 5000, base + 1800000);
    ck_assert_uint_eq(raw.sample_count, SERIES);       /* that of the full hour, alone in its bucket */
    pass(INT64_C(24) * HOUR);
    ck_assert(!find(0, &roll));
    ck_assert(find(1, &roll));
    pass(INT64_C(48) * HOUR);
    ck_assert(!find(1, &roll));
}
END_TEST

START_TEST(rollups_that_are_wanted_later_are_made_later_and_once)
{
    struct blk_info raw, roll, again;

    w.rollup_ms[0] = w.rollup_ms[1] = 0;
    restart();
    write_span(base, base + HOUR + 60000);
    pass(HOUR / 2);
    ck_assert(find(-1, &raw));
    ck_assert(!find(0, &roll) && !find(1, &roll));
    w.rollup_ms[1] = INT64_C(96) * HOUR;
    restart();
    pass(HOUR / 4);
    ck_assert(!find(0, &roll));
    ck_assert(find(1, &roll));
    check_rows(&roll, 1, 0);
    pass(HOUR);
    ck_assert(find(1, &again));
    ck_assert_uint_eq(again.generation, roll.generation);
}
END_TEST

/* Which series have samples, and which rows: a bit each. */
static void held(unsigned *samples, unsigned *rows)
{
    struct blk_manifest m;

    *samples = *rows = 0;
    w_catalogue(&w, 0, &m);
    for (uint32_t i = 0; i < m.fileset_count; i++) {
        char                path[BLK_PATH_MAX + 1];
        struct blk_fileset *f;
        struct blk_select  *sel;
        struct blk_selected x;
        struct kl_err       err = { 0 };

        blk_fileset_path(&m.filesets[i], path);
        ck_assert_msg(blk_fileset_open_store(w.store, path, &f, &err) == KL_OK, "%s", err.text);
        ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, false, &sel, &err), KL_OK);
        while (blk_select_next(sel, &x, &err) == KL_OK)
            *(m.filesets[i].resolution_ms == 0 ? samples : rows) |= 1u << number_of(x.fp);
        blk_select_close(sel);
        blk_fileset_unref(f);
    }
    blk_manifest_deinit(&m);
}

START_TEST(rules_keep_some_series_shorter_and_some_longer)
{
    unsigned samples, rows;

    w.retention_ms = INT64_C(10) * HOUR;
    w.rollup_ms[1] = 0;
    w.retention_rules = "[{\"match\":\"{host='h0'}\",\"keep\":\"4h\"},{\"match\":\"requests_total\",\"keep\":\"20h\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(2 * HOUR);
    held(&samples, &rows);
    ck_assert(samples == 7 && rows == 7);
    pass(3 * HOUR + HOUR / 2);                         /* past 4 h: h0 goes, with its rows */
    held(&samples, &rows);
    ck_assert_msg(samples == 6 && rows == 6, "%u %u", samples, rows);
    pass(6 * HOUR);                                    /* past 10 h: only what a rule keeps longer stays */
    held(&samples, &rows);
    ck_assert_msg(samples == 2 && rows == 2, "%u %u", samples, rows);
    restart();
    pass(10 * HOUR);                                   /* past 20 h; rows are kept for 48, but for what rules say */
    held(&samples, &rows);
    ck_assert_msg(samples == 0 && rows == 0, "%u %u", samples, rows);
}
END_TEST

/* Which series have rows of an hour, a bit each; of each row of an hour that is full, all its samples counted. */
static unsigned full_rows(int roll)
{
    struct blk_info     info;
    char                path[BLK_PATH_MAX + 1];
    struct blk_fileset *f;
    struct blk_select  *sel;
    struct blk_selected x;
    struct kl_err       err = { 0 };
    unsigned            seen = 0;

    if (!find(roll, &info))
        return 0;
    blk_fileset_path(&info, path);
    ck_assert_msg(blk_fileset_open_store(w.store, path, &f, &err) == KL_OK, "%s", err.text);
    ck_assert_msg(blk_fileset_verify(f, &err) == KL_OK, "%s", err.text);
    ck_assert_int_eq(blk_select_open(f, NULL, 0, INT64_MIN, INT64_MAX, true, &sel, &err), KL_OK);
    while (blk_select_next(sel, &x, &err) == KL_OK) {
        static int64_t        times[BLK_CHUNK_MAX];
        static struct kl_hist h[BLK_CHUNK_MAX];
        struct kl_arena       arena;
        uint32_t              n;
        double                count = 0;

        ck_assert_uint_eq(x.chunk_count, 1);
        kl_arena_init(&arena, 1 << 22);
        ck_assert_int_eq(blk_chunk_decode_hists(x.chunks[0].bytes, &arena, times, h, NULL, &n, &err), KL_OK);
        for (uint32_t i = 0; i < n; i++) {
            struct blk_row row;

            ck_assert(blk_row_get(&h[i], &row));
            count += row.count;
        }
        kl_arena_deinit(&arena);
        ck_assert_double_eq(count, HOUR / 20000);
        seen |= 1u << number_of(x.fp);
    }
    blk_select_close(sel);
    blk_fileset_unref(f);
    return seen;
}

static bool lacks(int roll)
{
    struct blk_info info;

    return find(roll, &info) && info.lacks;
}

static bool is_carried(int roll)
{
    struct blk_info info;

    return find(roll, &info) && info.carried;
}

/* h0's samples go after 4 h, its rows of an hour after 30; h1's rows of five minutes before its samples. */
START_TEST(rows_outlive_samples_of_their_series_or_go_before_them_as_rules_say)
{
    unsigned         samples, rows;
    struct blk_info  raw, anew;
    struct kl_matcher m = { KL_MATCH_EQ, kl_span_str("host"), kl_span_str("h2"), NULL };
    uint64_t         seq;

    w.retention_ms = INT64_C(20) * HOUR;
    w.deletion_ms = 1000;
    w.retention_rules = "[{\"match\":\"{host='h0'}\",\"keep\":\"4h\",\"keep_1h\":\"30h\"},"
                        "{\"match\":\"{host='h1'}\",\"keep\":\"40h\",\"keep_5m\":\"10h\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(2 * HOUR);
    ck_assert(full_rows(0) == 7 && full_rows(1) == 7 && find(-1, &raw));
    ck_assert(!is_carried(0) && !is_carried(1));
    pass(3 * HOUR + HOUR / 2);                         /* past 4 h */
    ck_assert(find(-1, &anew) && anew.generation != raw.generation);
    held(&samples, &rows);
    ck_assert_uint_eq(samples, 6);
    ck_assert_msg(full_rows(0) == 6 && full_rows(1) == 7, "%u %u", full_rows(0), full_rows(1));
    ck_assert(!is_carried(0) && is_carried(1));
    restart();                                         /* the catalogue knows */
    ck_assert(is_carried(1));
    for (unsigned n = 0; n < 8; n++) {                 /* late, and past its time: makes no row any more */
        struct kl_err err;

        w_write(&w, 0, T, 0, base + 40001, 1e9);
        w_write(&w, 0, T, 2, base + 40000, (double)((base + 40000) % 7919) + 2);
        ck_assert_int_eq(w_flush(&w, NULL, &err), KL_OK);
    }
    pass(HOUR);
    ck_assert(find(-1, &raw) && anew.generation != raw.generation);
    held(&samples, &rows);
    ck_assert(samples == 6 && full_rows(0) == 6 && full_rows(1) == 7 && is_carried(1));
    seq = w_delete(&w, 0, T, &m, 1, base - HOUR, base + 2 * HOUR);     /* made anew once more */
    w_deleted(&w, 0, seq);
    pass(HOUR / 2);
    held(&samples, &rows);
    ck_assert(samples == 2 && full_rows(0) == 2 && full_rows(1) == 3 && is_carried(1) && !lacks(0) && !lacks(1));
    pass(4 * HOUR);                                    /* past 10 h: h1's rows of five minutes */
    held(&samples, &rows);
    ck_assert_msg(samples == 2 && full_rows(0) == 0 && full_rows(1) == 3, "%u %u %u", samples, full_rows(0), full_rows(1));
    pass(20 * HOUR);                                   /* past 30 h */
    held(&samples, &rows);
    ck_assert_msg(samples == 2 && full_rows(1) == 2, "%u %u", samples, full_rows(1));
    pass(10 * HOUR);                                   /* past 40 h; rows of an hour are kept as rollup.1h says, and no longer than samples */
    held(&samples, &rows);
    ck_assert(samples == 0 && rows == 0);
}
END_TEST

START_TEST(a_rollup_whose_rows_of_a_series_went_before_its_samples_is_known_to_lack_them)
{
    struct blk_info raw;
    unsigned        samples, rows;

    w.retention_ms = INT64_C(20) * HOUR;
    w.retention_rules = "[{\"match\":\"{host='h1'}\",\"keep\":\"20h\",\"keep_5m\":\"5h\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(2 * HOUR);
    ck_assert(full_rows(0) == 7 && full_rows(1) == 7 && !lacks(0) && !lacks(1) && find(-1, &raw));
    pass(5 * HOUR);
    held(&samples, &rows);
    ck_assert_msg(samples == 7 && full_rows(0) == 5 && full_rows(1) == 7, "%u %u %u", samples, full_rows(0), full_rows(1));
    ck_assert(lacks(0) && !lacks(1));
    restart();
    ck_assert(lacks(0) && !lacks(1) && !is_carried(0));
}
END_TEST

/* Rollups and the rule come long after the data, of a tenant that keeps all for ever. */
START_TEST(rows_of_old_samples_are_made_before_a_new_rule_lets_these_go)
{
    unsigned samples, rows;

    w.rollup_ms[0] = w.rollup_ms[1] = 0;
    restart();
    write_span(base, base + HOUR + 60000);
    pass(20 * HOUR);
    w.rollup_ms[0] = w.rollup_ms[1] = INT64_C(96) * HOUR;
    w.retention_rules = "[{\"match\":\"{host='h0'}\",\"keep\":\"4h\",\"keep_1h\":\"0\"}]";
    restart();
    pass(HOUR);
    held(&samples, &rows);
    ck_assert_msg(samples == 6 && full_rows(0) == 6 && full_rows(1) == 7, "%u %u %u", samples, full_rows(0), full_rows(1));
}
END_TEST

/* All samples of a window may go while rows stay, and of what is deleted then nothing is left. */
START_TEST(rows_that_are_all_there_is_obey_deletions)
{
    unsigned          samples, rows;
    struct blk_info   raw;
    struct kl_matcher m = { KL_MATCH_EQ, kl_span_str("host"), kl_span_str("h1"), NULL };
    uint64_t          seq;

    w.retention_ms = INT64_C(20) * HOUR;
    w.deletion_ms = 1000;
    w.retention_rules = "[{\"match\":\"{host=~'h0|h1'}\",\"keep\":\"15m\",\"keep_1h\":\"0\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(3 * HOUR);                                    /* kept for the rows that were to be made, and then not */
    held(&samples, &rows);
    ck_assert_msg(samples == 4 && full_rows(0) == 4 && full_rows(1) == 7, "%u %u %u", samples, full_rows(0), full_rows(1));
    seq = w_delete(&w, 0, T, &m, 1, base - HOUR, base + 2 * HOUR);
    w_deleted(&w, 0, seq);
    pass(HOUR / 2);
    ck_assert_msg(full_rows(1) == 5, "%u", full_rows(1));
    pass(20 * HOUR);
    held(&samples, &rows);
    ck_assert_msg(samples == 0 && full_rows(1) == 5 && !find(-1, &raw), "%u %u", samples, full_rows(1));
    w.rollup_ms[1] = INT64_C(30) * HOUR;
    restart();
    pass(10 * HOUR);                                   /* past what the tenant keeps: only the rule's is left */
    ck_assert_msg(full_rows(1) == 1, "%u", full_rows(1));
    m.value = kl_span_str("h0");
    seq = w_delete(&w, 0, T, &m, 1, base - HOUR, base + 2 * HOUR);
    w_deleted(&w, 0, seq);
    pass(HOUR / 2);
    ck_assert_uint_eq(full_rows(1), 0);
}
END_TEST

/* The process dies at the nth call of its disk, which is the store's, too, after samples' time has come and rows stay. False:
 * there were not so many. */
static bool die_at(uint64_t nth, bool power)
{
    struct w_objects o;
    unsigned         samples, rows;
    uint64_t         calls;
    bool             hit;

    w.retention_rules = "[{\"match\":\"{host='h0'}\",\"keep\":\"4h\",\"keep_1h\":\"0\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(2 * HOUR);
    ck_assert(full_rows(0) == 7 && full_rows(1) == 7);
    calls = kl_env_disk_sim_calls(w.disk);
    kl_env_disk_sim_die(w.disk, nth);
    pass(4 * HOUR);
    hit = kl_env_disk_sim_calls(w.disk) - calls >= nth;
    w_crash(&w, power, nth);
    crashed = true;
    w_start(&w);
    w_ready(&w);
    pass(HOUR);
    held(&samples, &rows);
    ck_assert_msg(samples == 6 && full_rows(0) == 6 && full_rows(1) == 7 && is_carried(1), "call %u: %u %u %u", (unsigned)nth,
                  samples, full_rows(0), full_rows(1));
    w_objects(&w, &o);
    ck_assert_msg(o.strange == 0, "call %u: %u objects that nobody knows, such as %s", (unsigned)nth, o.strange, o.first);
    return hit;
}

/* Every twelfth call, as a process dies or as power fails; all of it with KOA_LONG=1. */
START_TEST(kill_at_any_call_while_samples_go_and_rows_stay_loses_none_and_leaves_nothing)
{
    uint64_t each = getenv("KOA_LONG") != NULL ? 1 : 12, nth;

    for (nth = 1 + (uint64_t)_i * each; die_at(nth, nth / each % 2 == 1); nth += 4 * each) {
        teardown();
        setup();
    }
    ck_assert_uint_gt(nth, 40);                        /* they were many */
}
END_TEST

START_TEST(what_rules_leave_as_it_is_is_looked_at_once)
{
    struct blk_manifest m;
    uint64_t            revision;

    w.rollup_ms[0] = w.rollup_ms[1] = 0;
    w.retention_rules = "[{\"match\":\"{host='none'}\",\"keep\":\"1h\"}]";
    restart();
    write_span(base, base + HOUR + 60000);
    pass(4 * HOUR);
    w_catalogue(&w, 0, &m);
    revision = m.revision;
    blk_manifest_deinit(&m);
    pass(4 * HOUR);
    w_catalogue(&w, 0, &m);
    ck_assert_uint_eq(m.revision, revision);
    blk_manifest_deinit(&m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ingestor/rollup");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, rollups_are_made_with_their_window_and_replaced_with_it);
    tcase_add_test(t, rollups_outlive_their_samples_by_their_own_retention_and_obey_deletions);
    tcase_add_test(t, rollups_that_are_wanted_later_are_made_later_and_once);
    tcase_add_test(t, rules_keep_some_series_shorter_and_some_longer);
    tcase_add_test(t, rows_outlive_samples_of_their_series_or_go_before_them_as_rules_say);
    tcase_add_test(t, rows_that_are_all_there_is_obey_deletions);
    tcase_add_test(t, a_rollup_whose_rows_of_a_series_went_before_its_samples_is_known_to_lack_them);
    tcase_add_test(t, rows_of_old_samples_are_made_before_a_new_rule_lets_these_go);
    tcase_add_loop_test(t, kill_at_any_call_while_samples_go_and_rows_stay_loses_none_and_leaves_nothing, 0, 4);
    tcase_add_test(t, what_rules_leave_as_it_is_is_looked_at_once);
    suite_add_tcase(s, t);
    return run_suite(s);
}
