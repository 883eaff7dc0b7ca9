/*
 * ingestor/tidy_plan: what is worth doing in a catalogue; and a merge never changes which of two
 * samples wins, however the catalogue came to be.
 */
#include "ingestor/tidy_priv.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR = 3600000, DAY = 24 * HOUR };
static const int64_t day0 = (int64_t)20000 * DAY;

static struct blk_manifest m;
static struct ing_tidy_plan plan;
static int64_t retention, window;

static void tenant(void *ctx, const char *name, int64_t *retention_ms, int64_t *window_ms)
{
    (void)ctx;
    *retention_ms = strcmp(name, "short") == 0 ? DAY : retention;
    *window_ms = window;
}

static struct ing_tidy_rules rules = { .block_ms = 2 * HOUR, .settle_ms = HOUR / 3, .files_min = 4,
                                       .bytes_max = 1000000, .deletion_ms = DAY, .tenant = tenant };

static void setup(void)
{
    m = (struct blk_manifest){ .partition = 1, .revision = 1 };
    retention = 0;
    window = DAY;
}

static void teardown(void)
{
    ing_tidy_plan_deinit(&plan);
    blk_manifest_deinit(&m);
}

/* Hours from day0; window 0: spans many. */
static void add(const char *name, uint64_t id, int window_hours, int from, int to, uint64_t bytes)
{
    struct blk_info f = { .partition = 1, .id = id, .window_ms = (int64_t)window_hours * HOUR,
                          .window_start_ms = day0 + (int64_t)from * HOUR, .incarnation = 1,
                          .first_seq = id, .min_ms = day0 + (int64_t)from * HOUR,
                          .max_ms = day0 + (int64_t)to * HOUR - 1, .series_count = 1,
                          .sample_count = 1, .chunk_bytes = bytes };

    strcpy(f.tenant, name);
    blk_manifest_add(&m, &f);
}

static void look(int hours)
{
    ing_tidy_plan_deinit(&plan);
    ing_tidy_plan(&m, &rules, day0 + (int64_t)hours * HOUR, &plan);
}

START_TEST(what_is_past_its_retention_is_dropped_whole_and_nothing_else)
{
    add("short", 1, 2, 0, 2, 10);
    add("short", 2, 2, 2, 4, 10);
    add("long", 3, 2, 0, 2, 10);
    look(25);
    ck_assert_int_ne(plan.what, ING_TIDY_DROP);        /* the last sample of the first is a day old */
    look(27);
    ck_assert_int_eq(plan.what, ING_TIDY_DROP);
    ck_assert_uint_eq(plan.input_count, 1);
    ck_assert_uint_eq(plan.inputs[0].id, 1);
    retention = 3 * HOUR;
    look(27);
    ck_assert_uint_eq(plan.input_count, 2);
    retention = 0;
    look(1000);
    ck_assert_uint_eq(plan.input_count, 2);            /* none of the one that is kept for ever */
}
END_TEST

START_TEST(a_day_that_is_over_becomes_one_fileset)
{
    for (int h = 0; h < 24; h += 2)
        add("t", 100 + (uint64_t)h, 2, h, h + 2, 1000);
    add("t", 200, 2, 24, 26, 1000);
    look(24);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);     /* not over for long enough */
    look(25);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.input_count, 12);
    ck_assert_uint_eq(plan.output_count, 1);
    ck_assert_int_eq(plan.outputs[0].window_start_ms, day0);
    ck_assert_int_eq(plan.outputs[0].window_ms, DAY);
    ck_assert_int_eq(plan.outputs[0].to_ms, day0 + DAY - 1);
    rules.bytes_max = 0;
    look(25);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
    rules.bytes_max = 1000000;
}
END_TEST

static void rollups(void *ctx, const char *name, int64_t keep_ms[BLK_ROLLUPS_MAX])
{
    (void)ctx;
    (void)name;
    keep_ms[0] = keep_ms[1] = 1000 * (int64_t)DAY;
}

/* As if it had been done. */
static void done(void)
{
    struct blk_info made = plan.inputs[plan.input_count - 1];

    ck_assert_uint_eq(plan.output_count, 1);
    made.window_start_ms = plan.outputs[0].window_start_ms;
    made.window_ms = plan.outputs[0].window_ms;
    made.rolled = plan.outputs[0].rolls;
    made.chunk_bytes = 0;
    made.generation++;
    for (uint32_t i = 0; i < plan.input_count; i++) {
        made.chunk_bytes += plan.inputs[i].chunk_bytes;
        if (plan.inputs[i].min_ms < made.min_ms)
            made.min_ms = plan.inputs[i].min_ms;
        blk_manifest_drop(&m, blk_manifest_find(&m, &plan.inputs[i]), 0);
    }
    blk_manifest_add(&m, &made);
}

/* Twelve blocks of which the last two weigh more: 14 in all. */
START_TEST(a_day_that_is_too_large_stays_in_parts_and_has_its_rollups)
{
    static const struct { uint64_t most; uint32_t parts, merges; } some[] = {
        { 14000, 1, 1 }, { 13999, 2, 2 }, { 7999, 3, 3 }, { 4999, 6, 6 }, { 2999, 12, 12 }, { 999, 12, 12 } };

    rules.rollups = rollups;
    rules.bytes_max = some[_i].most;
    for (int h = 0; h < 24; h += 2)
        add("t", 100 + (uint64_t)h, 2, h, h + 2, h >= 20 ? 2000 : 1000);
    look(14);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);     /* a half is not merged while the whole may be */
    for (uint32_t i = 0; i < some[_i].merges; i++) {
        look(25);
        ck_assert_msg(plan.what == ING_TIDY_COMPACT, "after %u of %u", i, some[_i].merges);
        ck_assert_uint_eq(plan.outputs[0].rolls, 3);
        done();
    }
    look(25);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
    look(500);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
    ck_assert_uint_eq(m.fileset_count, some[_i].parts);
    for (uint32_t i = 0; i < m.fileset_count; i++)
        ck_assert_uint_eq(m.filesets[i].rolled, 3);
    rules.rollups = NULL;
    rules.bytes_max = 1000000;
}
END_TEST

/* A week that came late, of 700: 100 a day. */
START_TEST(one_of_many_windows_that_is_too_large_to_merge_is_cut_where_they_end)
{
    static const struct { uint64_t most; uint32_t pieces; int64_t window; } some[] = {
        { 1400, 0, 0 }, { 1399, 8, DAY }, { 200, 8, DAY }, { 199, 15, DAY / 2 }, { 99, 29, DAY / 4 }, { 9, 29, DAY / 4 } };

    rules.bytes_max = some[_i].most;
    add("t", 100, 0, 7, 7 + 7 * 24, 700);
    look(some[_i].window == DAY / 4 ? 6 * 24 : some[_i].window == DAY / 2 ? 7 * 24 + 12 : 8 * 24);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);     /* its last window is not over */
    look(8 * 24 + 1);
    if (some[_i].pieces == 0) {
        ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
        return;
    }
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.input_count, 1);
    ck_assert_uint_eq(plan.output_count, some[_i].pieces);
    for (uint32_t i = 0; i < plan.output_count; i++) {
        const struct ing_tidy_output *o = &plan.outputs[i];

        ck_assert(o->first == 0 && o->count == 1 && o->window_ms == 0 && o->window_start_ms == o->from_ms);
        ck_assert_int_eq(o->to_ms + 1 - o->from_ms, some[_i].window);
        ck_assert_int_eq(o->from_ms, i == 0 ? (day0 + 7 * (int64_t)HOUR) / some[_i].window * some[_i].window : plan.outputs[i - 1].to_ms + 1);
    }
    ck_assert_int_ge(plan.outputs[plan.output_count - 1].to_ms, plan.inputs[0].max_ms);
    rules.bytes_max = 1000000;
}
END_TEST

START_TEST(a_merged_day_is_written_again_only_when_it_is_worth_it)
{
    add("t", 100, 24, 0, 24, 10000);
    add("t", 200, 0, 5, 9, 100);
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
    add("t", 300, 0, 2, 3, 2500);
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.input_count, 3);
    m.fileset_count = 2;
    for (uint64_t id = 400; id < 403; id++)
        add("t", id, 0, 5, 9, 10);
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);     /* many small ones are worth it, too */
    ck_assert_uint_eq(plan.input_count, 5);
}
END_TEST

START_TEST(what_lies_outside_of_the_window_stays_apart)
{
    add("t", 100, 2, 0, 2, 1000);
    add("t", 200, 0, -30, 30, 1000);
    add("t", 300, 2, 2, 4, 1000);
    look(25);                                          /* the day before has but one */
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.input_count, 3);
    ck_assert_uint_eq(plan.output_count, 3);
    ck_assert_uint_eq(plan.outputs[1].first, 1);
    ck_assert_uint_eq(plan.outputs[1].count, 1);
    ck_assert_int_eq(plan.outputs[1].window_ms, 0);
    ck_assert_int_eq(plan.outputs[1].to_ms, day0 - 1);
    ck_assert_int_lt(plan.outputs[1].window_start_ms, day0);
    ck_assert_int_eq(plan.outputs[2].from_ms, day0 + DAY);
    ck_assert_int_ge(plan.outputs[2].window_start_ms, day0 + DAY);
}
END_TEST

START_TEST(a_run_of_small_filesets_becomes_one_even_today)
{
    for (uint64_t i = 0; i < 4; i++)
        add("t", 100 + i, 0, 0, 1, 100);
    look(1);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.input_count, 4);
    ck_assert_uint_eq(plan.output_count, 1);
    m.filesets[0].chunk_bytes = 1000;                  /* one is most of it: it is not written again */
    look(1);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
}
END_TEST

START_TEST(a_run_that_would_be_taken_apart_again_is_not_made)
{
    for (int i = 0; i < 5; i++)
        if (i != 2)
            add("t", 200 + (uint64_t)i, 0, 2 * i, 2 * i + 1, 100);
    look(10);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    add("t", 100, 2, 4, 6, 1000);                      /* in the middle a window is one fileset already */
    look(10);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
}
END_TEST

static void delete_all(const char *name, uint64_t seq)
{
    struct kl_matcher    x = { KL_MATCH_EQ, kl_span_str("__name__"), kl_span_str("up"), NULL };
    struct blk_deletion  like = { .number = m.deletions_made + 1, .seq = seq, .incarnation = 1,
                                  .at_ms = day0 + 50 * (int64_t)HOUR, .from_ms = INT64_MIN,
                                  .to_ms = INT64_MAX, .matcher_count = 1, .matchers = &x };
    struct blk_deletion *d;
    struct kl_err        err;

    strcpy(like.tenant, name);
    ck_assert_msg(blk_deletion_new(&like, &d, &err) == KL_OK, "%s", err.text);
    blk_manifest_delete(&m, d);
}

/* The output of a merge lies behind deletions that lie between its inputs: those that it has not obeyed
 * would hide nothing any more. */
START_TEST(no_merge_takes_samples_past_a_deletion_that_it_does_not_obey)
{
    add("t", 100, 2, 0, 2, 1000);
    add("t", 900, 2, 2, 4, 1000);
    for (unsigned i = 0; i < BLK_HIDDEN_MAX; i++)
        delete_all("t", 200 + i);
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.obeyed, BLK_HIDDEN_MAX);
    delete_all("t", 300);
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_OBEY);        /* first those that are too many, each in its place */
    ck_assert_uint_eq(plan.input_count, 1);
    ck_assert_uint_eq(plan.inputs[0].id, 100);
    ck_assert_uint_eq(plan.obeyed, BLK_HIDDEN_MAX);
    m.filesets[0].obeyed = plan.obeyed;
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_COMPACT);
    ck_assert_uint_eq(plan.obeyed, BLK_HIDDEN_MAX + 1);
}
END_TEST

START_TEST(a_fileset_in_quarantine_is_not_touched)
{
    add("t", 100, 2, 0, 2, 1000);
    add("t", 200, 2, 2, 4, 1000);
    m.filesets[1].quarantined = true;
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
    retention = DAY;
    look(50);                                          /* but it goes when its time has come */
    ck_assert_int_eq(plan.what, ING_TIDY_DROP);
    ck_assert_uint_eq(plan.input_count, 2);
}
END_TEST

START_TEST(tenants_and_incarnations_are_not_mixed)
{
    add("a", 100, 2, 0, 2, 1000);
    add("b", 101, 2, 0, 2, 1000);
    add("a", 102, 2, 2, 4, 1000);
    m.filesets[2].incarnation = 2;
    look(50);
    ck_assert_int_eq(plan.what, ING_TIDY_NOTHING);
}
END_TEST

/* ---- any catalogue: merging until nothing is left to do ---- */

static uint64_t seed;
static uint64_t draw(uint64_t below)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

/* Every fileset has, in this model, a sample at every hour it spans, whose value is the cut's id.
 * What is at an hour, by fileset: */
enum { HOURS = 24 * 8, FILES = 400 };
struct model { struct blk_info info; uint64_t at[HOURS]; uint32_t weight[HOURS]; };
static struct model files[FILES];
static uint32_t     file_count;

static int by_log(const void *a, const void *b)
{
    const struct blk_info *x = &(*(struct model *const *)a)->info, *y = &(*(struct model *const *)b)->info;

    return x->id != y->id ? (x->id < y->id ? -1 : 1) : 0;
}

static void wins(uint64_t at[HOURS])
{
    struct model *sorted[FILES];

    for (uint32_t i = 0; i < file_count; i++)
        sorted[i] = &files[i];
    qsort(sorted, file_count, sizeof *sorted, by_log);
    memset(at, 0, HOURS * sizeof *at);
    for (uint32_t i = 0; i < file_count; i++)
        for (int h = 0; h < HOURS; h++)
            if (sorted[i]->at[h] != 0)
                at[h] = sorted[i]->at[h];
}

static void bounds(struct model *f)
{
    int first = HOURS, last = -1;

    f->info.chunk_bytes = 0;
    for (int h = 0; h < HOURS; h++)
        if (f->at[h] != 0) {
            first = first == HOURS ? h : first;
            last = h;
            f->info.chunk_bytes += f->weight[h];
        }
    f->info.series_count = last >= 0;
    f->info.min_ms = day0 + (int64_t)first * HOUR;
    f->info.max_ms = day0 + (int64_t)last * HOUR;
}

static bool heavy;

static void model_add(uint64_t id, int from, int to, int window_hours)
{
    struct model *f = &files[file_count++];

    memset(f, 0, sizeof *f);
    strcpy(f->info.tenant, "t");
    f->info = (struct blk_info){ .partition = 1, .id = id, .incarnation = 1, .first_seq = id,
                                 .window_ms = (int64_t)window_hours * HOUR,
                                 .window_start_ms = day0 + (int64_t)from * HOUR };
    strcpy(f->info.tenant, "t");
    for (int h = from; h < to; h++)
        if (h == from || draw(3) > 0)
            f->at[h] = id;
    for (int h = from; h < to; h++)
        f->weight[h] = f->at[h] == 0 ? 0 : window_hours > 0 ? 100 : heavy ? 20 : 3;  /* what is late or early is little, or not */
    bounds(f);
}

static void model_compact(uint64_t generation)
{
    static struct model outputs[2 * BLK_INPUTS_MAX + 1];
    static struct model inputs[BLK_INPUTS_MAX];

    for (uint32_t i = 0; i < plan.input_count; i++) {
        uint32_t k = 0;

        while (files[k].info.id != plan.inputs[i].id ||
               files[k].info.generation != plan.inputs[i].generation ||
               files[k].info.window_start_ms != plan.inputs[i].window_start_ms)
            ck_assert_uint_lt(++k, file_count);
        inputs[i] = files[k];
        files[k] = files[--file_count];
    }
    for (uint32_t o = 0; o < plan.output_count; o++) {
        const struct ing_tidy_output *x = &plan.outputs[o];
        struct model                 *f = &outputs[o];

        memset(f, 0, sizeof *f);
        f->info = inputs[x->first + x->count - 1].info;
        f->info.generation = generation;
        f->info.window_start_ms = x->window_start_ms;
        f->info.window_ms = x->window_ms;
        for (uint32_t i = x->first; i < x->first + x->count; i++) {
            for (int h = 0; h < HOURS; h++) {
                int64_t t = day0 + (int64_t)h * HOUR;

                if (inputs[i].at[h] != 0 && ((x->from_ms == 0 && x->to_ms == 0) ||
                                             (t >= x->from_ms && t <= x->to_ms))) {
                    f->at[h] = inputs[i].at[h];
                    f->weight[h] = inputs[i].weight[h] > f->weight[h] ? inputs[i].weight[h] : f->weight[h];
                }
            }
        }
        bounds(f);
        for (uint32_t k = 0; k < o; k++)               /* no two of one name */
            ck_assert(outputs[k].info.id != f->info.id ||
                      outputs[k].info.window_start_ms != f->info.window_start_ms);
    }
    for (uint32_t o = 0; o < plan.output_count; o++)
        if (outputs[o].info.series_count > 0)
            files[file_count++] = outputs[o];
}

START_TEST(no_merge_changes_what_wins_and_merging_comes_to_an_end)
{
    static uint64_t before[HOURS], after[HOURS];
    uint64_t        id = 1, generation = 1;
    unsigned        merges = 0;

    seed = (uint64_t)_i;
    file_count = 0;
    window = _i % 3 == 0 ? 8 * HOUR : DAY;
    heavy = _i % 8 == 2;
    rules.bytes_max = _i % 4 == 1 ? 2000 : _i % 4 == 2 ? 1000 : 1000000;   /* a day has 1900, and what came late */
    for (int h = 0; h < HOURS - 30; h += 2) {
        int late = (int)draw(4), flushes = (int)draw(3);

        for (int n = 0; n < flushes; n++, id++) {
            int from = h - (int)draw(h < 40 ? (uint64_t)h + 1 : 40);
            model_add(id, from, h + 1 + (int)draw(2), 0);
        }
        if (late > 0 && h > 4)
            model_add(id, (int)draw((uint64_t)h - 3), h, 0);
        if (draw(8) > 0)
            model_add(id, h, h + 2, 2);
        id++;
        for (unsigned n = 0; n < 30; n++) {
            m.fileset_count = 0;
            for (uint32_t i = 0; i < file_count; i++)
                blk_manifest_add(&m, &files[i].info);
            look(h + 2 + (int)draw(3));
            if (plan.what != ING_TIDY_COMPACT)
                break;
            wins(before);
            model_compact(++generation);
            wins(after);
            ck_assert_msg(memcmp(before, after, sizeof before) == 0, "seed %d, merge %u", _i, merges);
            merges++;
        }
    }
    for (unsigned n = 0;; n++) {
        m.fileset_count = 0;
        for (uint32_t i = 0; i < file_count; i++)
            blk_manifest_add(&m, &files[i].info);
        look(HOURS + 48);
        if (plan.what != ING_TIDY_COMPACT)
            break;
        ck_assert_uint_lt(n, 1000);
        wins(before);
        model_compact(++generation);
        wins(after);
        ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    }
    ck_assert_uint_gt(merges, 3);
    if (!heavy)                                        /* else even a block's late samples are too many */
        ck_assert_uint_lt(file_count, rules.bytes_max < 1000000 ? 8u * 13 : 8u * (uint32_t)(DAY / window) * 4);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("ingestor/tidy_plan");
    TCase   *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_past_its_retention_is_dropped_whole_and_nothing_else);
    tcase_add_test(t, a_day_that_is_over_becomes_one_fileset);
    tcase_add_loop_test(t, a_day_that_is_too_large_stays_in_parts_and_has_its_rollups, 0, 6);
    tcase_add_loop_test(t, one_of_many_windows_that_is_too_large_to_merge_is_cut_where_they_end, 0, 6);
    tcase_add_test(t, a_merged_day_is_written_again_only_when_it_is_worth_it);
    tcase_add_test(t, what_lies_outside_of_the_window_stays_apart);
    tcase_add_test(t, a_run_of_small_filesets_becomes_one_even_today);
    tcase_add_test(t, a_run_that_would_be_taken_apart_again_is_not_made);
    tcase_add_test(t, no_merge_takes_samples_past_a_deletion_that_it_does_not_obey);
    tcase_add_test(t, a_fileset_in_quarantine_is_not_touched);
    tcase_add_test(t, tenants_and_incarnations_are_not_mixed);
    tcase_add_loop_test(t, no_merge_changes_what_wins_and_merging_comes_to_an_end, 0, 60);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
