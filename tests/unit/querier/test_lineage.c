/* What filesets were made of shows by the manifests one after the other, or is not known. */
#include "querier/lineage.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/suite.h"

enum { HOUR = 3600 * 1000, MIN = 60 * 1000 };
static struct blk_manifest m;
static struct qr_lineage  *now;

static void setup(void)
{
    m = (struct blk_manifest){ .partition = 3, .epoch = 2, .incarnation = 7, .replay_from = 5 };
    now = NULL;
}

static void teardown(void)
{
    qr_lineage_free(now);
    blk_manifest_deinit(&m);
}

static struct blk_info fileset(uint64_t id, uint64_t generation, int64_t from_h, int64_t to_h, uint64_t samples)
{
    struct blk_info f = { .tenant = "t", .partition = 3, .id = id, .generation = generation, .incarnation = 7,
                          .window_start_ms = from_h * HOUR, .window_ms = (to_h - from_h) * HOUR, .min_ms = from_h * HOUR,
                          .max_ms = to_h * HOUR - 1, .series_count = 1, .sample_count = samples, .content = id * 31 + generation };
    return f;
}

static void add(struct blk_info f) { blk_manifest_add(&m, &f); }
static void drop(struct blk_info f) { blk_manifest_drop(&m, blk_manifest_find(&m, &f), 1000); }

static void next_after(int64_t ago_ms)
{
    struct qr_lineage *l;

    m.revision++;
    l = qr_lineage_new(&m, now, ago_ms);
    qr_lineage_free(now);
    now = l;
}

static void next(void) { next_after(MIN); }

/* What there is of these hours, of what was there in that revision; ~0: something else has come. */
static uint64_t sum(int64_t from_h, int64_t to_h, uint64_t revision, uint64_t applied)
{
    const struct qr_origin *o;
    size_t                  n = qr_lineage_of(now, "t", &o);
    uint64_t                s = 0;

    for (size_t i = 0; i < n; i++) {
        ck_assert(i == 0 || o[i - 1].min_ms <= o[i].min_ms);
        if (o[i].min_ms >= to_h * HOUR || o[i].max_ms < from_h * HOUR)
            continue;
        if (o[i].added <= revision)
            s += o[i].hash;
        else if (!o[i].told || o[i].id > applied)
            return UINT64_MAX;
    }
    return s;
}

/* Two hours each, of 100 samples. */
static struct blk_info cut(int64_t n) { return fileset(10 + (uint64_t)n, 0, 2 * n, 2 * n + 2, 100); }

static uint64_t before[12];                            /* sums of each two hours in revision 1 */

static void day(void)
{
    for (int64_t n = 0; n < 12; n++)
        add(cut(n));
    next();
    for (int64_t n = 0; n < 12; n++)
        before[n] = sum(2 * n, 2 * n + 2, 1, 0);
}

static void merge(uint64_t samples)
{
    for (int64_t n = 0; n < 12; n++)
        drop(cut(n));
    add(fileset(21, 9, 0, 24, samples));
}

static bool all_hold(void)
{
    for (int64_t n = 0; n < 12; n++)
        if (sum(2 * n, 2 * n + 2, 1, 0) != before[n])
            return false;
    return true;
}

static bool none_holds(void)
{
    for (int64_t n = 0; n < 12; n++)
        if (sum(2 * n, 2 * n + 2, 1, 0) == before[n])
            return false;
    return true;
}

START_TEST(a_merge_that_loses_nothing_is_what_it_was_made_of)
{
    day();
    merge(1200);
    next();
    ck_assert(all_hold());
    next();                                            /* and stays that */
    next_after(INT64_MAX);
    ck_assert(all_hold());
    add(fileset(40, 0, 4, 5, 3));                      /* merged once more, with what came late */
    next();
    drop(fileset(21, 9, 0, 24, 1200));
    drop(fileset(40, 0, 4, 5, 3));
    add(fileset(40, 12, 0, 24, 1203));
    next();
    ck_assert(sum(2, 4, 1, 0) == before[1] && sum(6, 8, 1, 0) == before[3]);
    ck_assert(sum(4, 6, 1, 0) == UINT64_MAX);
    ck_assert_uint_eq(sum(4, 6, 1, 40), before[2]);    /* whose log had told it */
}
END_TEST

START_TEST(a_merge_that_leaves_a_sample_out_is_new)
{
    day();
    merge(1199);                                       /* a deletion, a rule, or one of two at one time */
    next();
    ck_assert(none_holds());
}
END_TEST

START_TEST(what_came_and_went_between_two_manifests_makes_all_of_it_new)
{
    struct blk_info late = fileset(30, 0, 4, 5, 1);

    day();
    add(late);                                         /* one sample came, */
    drop(late);
    merge(1200);                                       /* and one went */
    next();
    ck_assert(none_holds());
}
END_TEST

/* 0: too long ago, what is gone may be listed no more; 1: what left is not listed as gone, 2: an older epoch, 3: of another
 * log, 4: it needs more of the log, as one that was made of the store; 5: without cuts, as that; 6: as old. */
START_TEST(where_it_is_not_sure_that_one_follows_the_other_nothing_is_known)
{
    m.cut_count = 1;
    m.cuts[0] = (struct blk_cut){ 5, 5 };
    day();
    merge(1200);
    m.gone_count -= _i == 1;
    m.epoch -= _i == 2;
    m.incarnation += _i == 3;
    m.replay_from -= _i == 4;
    m.cut_count -= _i == 5;
    m.revision -= _i == 6;
    next_after(_i == 0 ? BLK_GONE_MS : MIN);
    ck_assert(_i == 7 ? all_hold() : none_holds());
}
END_TEST

START_TEST(what_was_replaced_and_is_back_is_new)       /* a catalogue that was rebuilt */
{
    day();
    merge(1200);
    next();
    for (int64_t n = 0; n < 12; n++)
        add(cut(n));
    m.gone_count = 0;
    m.replay_from = 1;
    next();
    ck_assert(none_holds());
    ck_assert_uint_eq(sum(0, 2, 1, UINT64_MAX), UINT64_MAX);   /* and the log has not told it */
}
END_TEST

START_TEST(what_retention_takes_is_gone_for_all)
{
    day();
    merge(1200);
    next();
    drop(fileset(21, 9, 0, 24, 1200));
    next();
    ck_assert(none_holds());
}
END_TEST

START_TEST(a_cut_changes_nothing_for_who_had_read_the_log_so_far)
{
    day();
    add(fileset(50, 0, 1, 20, 9));
    next();
    ck_assert(sum(0, 2, 1, 50) == before[0] && sum(4, 6, 1, 50) == before[2]);
    ck_assert_uint_eq(sum(4, 6, 1, 49), UINT64_MAX);
    ck_assert_uint_ne(sum(4, 6, 2, 49), before[2]);    /* who saw it goes by it */
    /* When it goes, and nothing has it, who had it by the log has it no more. */
    drop(fileset(50, 0, 1, 20, 9));
    next();
    ck_assert_uint_eq(sum(4, 6, 1, 50), UINT64_MAX);
    ck_assert_uint_eq(sum(22, 24, 1, 50), before[11]);
    ck_assert_uint_eq(sum(4, 6, 3, 50), before[2]);
}
END_TEST

START_TEST(what_no_log_tells_is_told_of_none)          /* imported; quarantined; of the log before */
{
    struct blk_info f = fileset(50, 0, 1, 20, 9);

    day();
    if (_i == 0)
        f.incarnation = 0;
    f.quarantined = _i == 1;
    if (_i == 2)
        f.incarnation = 6;
    add(f);
    next();
    ck_assert_uint_eq(sum(4, 6, 1, 1000), UINT64_MAX);
    drop(f);                                           /* and nobody asked while it was there */
    next();
    ck_assert_uint_eq(sum(4, 6, 1, 1000), UINT64_MAX);
    ck_assert_uint_eq(sum(4, 6, 3, 1000), before[2]);
}
END_TEST

START_TEST(a_late_fileset_that_is_cut_by_windows_stays_what_it_was_in_each)
{
    struct blk_info late = fileset(60, 0, 0, 48, 20);
    uint64_t        first, second;

    add(fileset(21, 9, 0, 24, 1200));
    add(fileset(22, 9, 24, 48, 1200));
    add(late);
    next();
    first = sum(2, 4, 1, 0);
    second = sum(30, 32, 1, 0);
    drop(late);                                        /* with the windows that it lies in */
    drop(fileset(21, 9, 0, 24, 1200));
    drop(fileset(22, 9, 24, 48, 1200));
    add(fileset(60, 10, 0, 24, 1208));
    add(fileset(60, 10, 24, 48, 1212));
    next();
    ck_assert(sum(2, 4, 1, 0) == first && sum(30, 32, 1, 0) == second);
    drop(fileset(60, 10, 0, 24, 1208));                /* a day goes; the other knows nothing of it */
    next();
    ck_assert(sum(2, 4, 1, 0) != first && sum(30, 32, 1, 0) == second);
}
END_TEST

START_TEST(rows_beside_their_samples_are_nothing_new_and_alone_they_are)
{
    struct blk_info rows = fileset(21, 9, 0, 24, 24);
    struct blk_info all = fileset(21, 9, 0, 24, 1200);

    rows.resolution_ms = HOUR;
    day();
    merge(1200);
    rows.carried = _i == 1;
    add(rows);
    next();
    ck_assert(_i == 1 ? none_holds() : all_hold());
    drop(all);
    next();
    ck_assert(none_holds());
    ck_assert_uint_eq(sum(0, 2, 1, 0), UINT64_MAX);
}
END_TEST

START_TEST(another_tenants_merge_is_its_own)
{
    struct blk_info a = fileset(70, 0, 0, 2, 5), b = fileset(71, 0, 2, 4, 6), both = fileset(71, 9, 0, 4, 11);

    strcpy(a.tenant, "u");
    strcpy(b.tenant, "u");
    strcpy(both.tenant, "u");
    add(a);
    add(b);
    day();
    drop(a);
    drop(b);
    add(both);
    drop(cut(0));
    next();
    ck_assert(sum(0, 2, 1, 0) != before[0] && sum(2, 4, 1, 0) == before[1]);
}
END_TEST

START_TEST(what_went_long_ago_is_forgotten_with_all_that_is_as_old)
{
    day();
    for (uint64_t round = 0; round < 60; round++) {    /* a hundred at once */
        for (uint64_t i = 0; i < 100; i++)
            add(fileset(1000 + 100 * round + i, 0, 200, 201, 1));
        next();
        for (uint64_t i = 0; i < 100; i++)
            drop(fileset(1000 + 100 * round + i, 0, 200, 201, 1));
        next();
    }
    ck_assert(qr_lineage_floor(now) > 20 && qr_lineage_floor(now) < m.revision - 60);
    ck_assert(all_hold());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("querier/lineage");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_merge_that_loses_nothing_is_what_it_was_made_of);
    tcase_add_test(t, a_merge_that_leaves_a_sample_out_is_new);
    tcase_add_test(t, what_came_and_went_between_two_manifests_makes_all_of_it_new);
    tcase_add_loop_test(t, where_it_is_not_sure_that_one_follows_the_other_nothing_is_known, 0, 8);
    tcase_add_test(t, what_was_replaced_and_is_back_is_new);
    tcase_add_test(t, what_retention_takes_is_gone_for_all);
    tcase_add_test(t, a_cut_changes_nothing_for_who_had_read_the_log_so_far);
    tcase_add_loop_test(t, what_no_log_tells_is_told_of_none, 0, 3);
    tcase_add_test(t, a_late_fileset_that_is_cut_by_windows_stays_what_it_was_in_each);
    tcase_add_loop_test(t, rows_beside_their_samples_are_nothing_new_and_alone_they_are, 0, 2);
    tcase_add_test(t, another_tenants_merge_is_its_own);
    tcase_add_test(t, what_went_long_ago_is_forgotten_with_all_that_is_as_old);
    suite_add_tcase(s, t);
    return run_suite(s);
}
