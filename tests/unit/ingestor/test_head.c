/* The head alone: tails bit for bit, series against a plain model, matchers against a plain scan. */
#include "ingestor/head_priv.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/record.h"
#include "tests/suite.h"

static uint64_t state;
static uint64_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Values of every sort: counters, gauges, any bits at all, the special ones. */
static double value_like(unsigned sort, double before)
{
    static const uint64_t special[] = { 0x7ff0000000000002, 0x7ff8000000000001, 0xfff8000000000000,
                                        0x7ff0000000000000, 0xfff0000000000000, 0x8000000000000000,
                                        0, 1, 0x000fffffffffffff, 0x433fffffffffffff,
                                        0x4340000000000000, 0xc340000000000000 };
    switch (sort % 5) {
    case 0: return before + (double)(draw() % 1000);
    case 1: return before + ((double)(draw() % 2000) - 1000) / 8;
    case 2: return kl_bits_f64(draw());
    case 3: return kl_bits_f64(special[draw() % 12]);
    default: return draw() % 3 ? before : (double)(int64_t)(draw() >> (draw() % 64));
    }
}

START_TEST(a_tail_gives_back_every_bit)
{
    state = (uint64_t)_i;
    for (int round = 0; round < 200; round++) {
        struct ing_tail t = { 0 };
        struct ing_run  run;
        int64_t         times[ING_TAIL_MAX], starts[ING_TAIL_MAX] = { 0 };
        struct ing_blocks b = { 0 };
        double          values[ING_TAIL_MAX], v = 0;
        int64_t         now = (int64_t)(draw() % 4000000000000) - 1000000000000;
        uint32_t        n = 0;
        uint8_t         end;
        unsigned        pace = (unsigned)(draw() % 4);

        while (n < ING_TAIL_MAX) {
            v = value_like((unsigned)(draw() % 20 == 0 ? draw() : (uint64_t)round), v);
            if (!ing_tail_add(&t, now, v, &b))
                break;
            times[n] = now;
            values[n] = v;
            if (draw() % 8 == 0) {
                starts[n] = now - (int64_t)(draw() % 100000000);
                if (!ing_tail_start(&t, starts[n], &b))
                    starts[n] = 0;                     /* full: the series seals it then */
            }
            n++;
            now += pace == 0 ? 15000
                 : pace == 1 ? 15000 + (int64_t)(draw() % 20) - 10
                 : pace == 2 ? 1 + (int64_t)(draw() % 100000)
                             : 1 + (int64_t)(draw() % (1ull << (draw() % 34)));
        }
        ck_assert_uint_gt(n, 0);
        ck_assert_int_ge(b.bytes, t.room);
        end = t.end;
        ck_assert(ing_tail_check(&t));
        ck_assert_uint_eq(t.end, end);
        ing_tail_floats(&t, &run);
        ck_assert_uint_eq(run.count, n);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_int_eq(ing_tail_has(&t, times[i], values[i]), starts[i] == 0);
            ck_assert_int_eq(run.times[i], times[i]);
            ck_assert_int_eq(run.starts[i], starts[i]);
            ck_assert(kl_f64_bits(run.values[i]) == kl_f64_bits(values[i]));
        }
        ing_tail_drop(&t, &b);
        ing_blocks_deinit(&b);
    }
}
END_TEST

START_TEST(a_regular_counter_costs_three_bytes_a_sample)
{
    struct ing_tail   t = { 0 };
    struct ing_blocks b = { 0 };
    double            v = 1e6;
    int               n = 0;

    state = 3;
    while (ing_tail_add(&t, 1700000000000 + n * 15000, v, &b)) {
        v += (double)(draw() % 5000);
        n++;
    }
    ck_assert_uint_ge(n, 24);
    ck_assert_uint_le(t.size, 3 * n + 16);
    ing_tail_drop(&t, &b);
    ing_blocks_deinit(&b);
}
END_TEST

START_TEST(a_value_that_stays_costs_nothing_a_sample)
{
    struct ing_tail   t = { 0 };
    struct ing_blocks b = { 0 };
    int64_t           now = 1700000000000;
    uint16_t          size;

    while (ing_tail_add(&t, now, 2.5, &b))
        now += 15000;
    ck_assert_uint_eq(t.count, ING_TAIL_MAX);
    ck_assert_uint_eq(t.room, ING_TAIL_TINY);
    size = t.size;
    ck_assert_uint_le(size, 16);
    ck_assert(ing_tail_check(&t));
    ck_assert(ing_tail_has(&t, now - 15000 * 60, 2.5));
    ck_assert(!ing_tail_has(&t, now - 15000 * 60 + 1, 2.5) && !ing_tail_has(&t, now - 15000 * 60, 2));
    /* Of what a file may say: a count too large, none, cut off, before there is a distance. */
    t.bytes[size - 1]++;
    ck_assert(!ing_tail_check(&t));
    t.bytes[size - 1] = 1;
    ck_assert(!ing_tail_check(&t));
    t.size--;
    ck_assert(!ing_tail_check(&t));
    t.bytes[8] = t.bytes[size - 2];
    t.bytes[9] = ING_TAIL_MAX - 1;
    t.size = 10;
    ck_assert(!ing_tail_check(&t));
    ing_tail_drop(&t, &b);
    ing_blocks_deinit(&b);
}
END_TEST

/* ---- series against a plain list ---- */

enum { MODEL_MAX = 4000 };
struct model { int64_t time; double value; int64_t start; bool hist; };
static struct model model[MODEL_MAX];
static unsigned     model_count;

static struct model *model_at(int64_t time)
{
    unsigned at = 0;

    while (at < model_count && model[at].time < time)
        at++;
    if (at == model_count || model[at].time != time) {
        memmove(model + at + 1, model + at, (model_count - at) * sizeof *model);
        model[at] = (struct model){ .time = time };
        model_count++;
    }
    return &model[at];
}

struct seen { struct model at[MODEL_MAX]; unsigned count; int64_t end_ms; };

static void see(struct seen *s, const struct ing_chunk *c)
{
    int64_t        times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double         values[BLK_CHUNK_MAX];
    struct kl_hist hists[BLK_CHUNK_MAX];
    struct kl_arena arena;
    struct kl_err  err;
    uint32_t       count;

    kl_arena_init(&arena, 64 << 20);
    if (c->kind == BLK_FLOATS)
        ck_assert_int_eq(blk_chunk_decode(kl_span(c->bytes, c->size), times, values, starts, &count,
                                          &err), KL_OK);
    else
        ck_assert_int_eq(blk_chunk_decode_hists(kl_span(c->bytes, c->size), &arena, times, hists,
                                                starts, &count, &err), KL_OK);
    ck_assert_int_eq(times[0], c->first_ms);
    ck_assert_int_eq(times[count - 1], ing_chunk_last(c));
    for (uint32_t i = 0; i < count; i++) {
        unsigned at = 0;

        while (at < s->count && s->at[at].time != times[i])
            at++;
        if (at == s->count)
            s->count++;
        s->at[at] = (struct model){ times[i], c->kind == BLK_FLOATS ? values[i] : hists[i].sum,
                                    starts[i], c->kind != BLK_FLOATS };
    }
    kl_arena_deinit(&arena);
}

static void taken(void *ctx, struct ing_series *s, struct ing_chunk *c)
{
    struct seen *seen = ctx;

    (void)s;
    ck_assert_int_lt(ing_chunk_last(c), seen->end_ms);
    see(seen, c);
}

static struct kl_buf hist_bytes(double sum)
{
    static const struct kl_hist_span span = { 0, 2 };
    double         counts[2] = { 1, 2 };
    struct kl_hist h = { .schema = 2, .count = 3, .sum = sum, .pos_span_count = 1, .pos_count = 2,
                         .pos_spans = &span, .pos = counts };
    struct kl_buf  b = { 0 };

    tsp_hist_put(&b, &h);
    return b;
}

static void check_taken(const struct seen *seen, int64_t end_ms)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < model_count; i++) {
        unsigned at = 0;

        if (model[i].time >= end_ms) {
            model[kept++] = model[i];
            continue;
        }
        while (at < seen->count && seen->at[at].time != model[i].time)
            at++;
        ck_assert_uint_lt(at, seen->count);
        ck_assert(kl_f64_bits(seen->at[at].value) == kl_f64_bits(model[i].value));
        ck_assert_int_eq(seen->at[at].start, model[i].start);
        ck_assert_int_eq(seen->at[at].hist, model[i].hist);
    }
    ck_assert_uint_eq(seen->count, model_count - kept);
    model_count = kept;
}

/* A sample once more, equal to the last byte: it has no start time then, unless it is told again; and start times
 * of samples that are not held, or that a cut took whose chunks are in memory still, which mean nothing. */
static void repeat_some(struct ing_head *h, struct ing_series *s, int64_t now, bool with_starts)
{
    struct model *m = &model[draw() % model_count];
    int64_t       time = now - (int64_t)(draw() % 400) * 500;

    h->again = draw() % 2 == 0;
    if (m->hist) {
        struct kl_buf b = hist_bytes(m->value);

        ing_series_hist(h, s, m->time, kl_buf_span(&b));
        kl_buf_deinit(&b);
    } else {
        ing_series_float(h, s, m->time, m->value);
    }
    m->start = 0;
    if (!with_starts)
        return;
    if (draw() % 2 == 0) {
        m->start = m->time - 7;
        ing_series_start(h, s, m->time, m->start);
    }
    ing_series_start(h, s, time, time - 11);
    for (unsigned i = 0; i < model_count; i++)
        if (model[i].time == time)
            model[i].start = time - 11;
}

START_TEST(cuts_take_what_a_plain_list_would)
{
    static struct seen seen;
    struct ing_head   *h = ing_head_new(kl_span_str("t"), 60000, NULL);
    struct kl_buf      labels = { 0 };
    struct ing_series *s;
    int64_t            now = 1000000;
    uint32_t           cut = 0, let_go = 0;
    bool               hists = _i % 3 == 2, with_starts = _i % 2 == 1;

    state = (uint64_t)_i;
    model_count = 0;
    kl_buf_addspan(&labels, kl_span_str("a"));
    kl_buf_addspan(&labels, kl_span_str("b"));
    s = ing_head_series(h, kl_hash128("x", 1), (struct kl_labels){ (uint8_t *)labels.at, labels.size });
    s->definitions = 1;
    for (int n = 0; n < 1500; n++) {
        int64_t       time = now;
        struct model *m;
        bool          is_hist = hists && draw() % 3 == 0;

        if (draw() % (_i % 5 == 0 ? 2 : 6) == 0)           /* often late: late samples get sealed */
            time -= (int64_t)(draw() % 300) * 1000;
        else
            now += 1000;
        m = model_at(time);
        *m = (struct model){ time, value_like((unsigned)draw(), 5), 0, is_hist };
        if (is_hist) {
            struct kl_buf b = hist_bytes(m->value);

            ing_series_hist(h, s, time, kl_buf_span(&b));
            kl_buf_deinit(&b);
        } else {
            ing_series_float(h, s, time, m->value);
        }
        if (with_starts) {
            m->start = time - (int64_t)(draw() % 5000) - 1;
            ing_series_start(h, s, time, m->start);
        }
        if (draw() % 4 == 0)
            repeat_some(h, s, now, with_starts);
        if (draw() % (_i % 5 == 0 ? 500 : 150) == 0) {
            for (; let_go < cut; let_go++)
                ing_series_let_go(h, s, let_go + 1);
            seen.end_ms = draw() % 4 == 0 ? INT64_MAX : now - (int64_t)(draw() % 90) * 1000;
            seen.count = 0;
            ing_series_cut(h, s, ++cut, seen.end_ms, taken, &seen);
            check_taken(&seen, seen.end_ms);
            ck_assert_int_eq(ing_series_meets(s, INT64_MIN, INT64_MAX),
                             seen.count + model_count > 0);
            if (draw() % 2 == 0)                       /* its chunks stay until the next one */
                continue;
            ing_series_let_go(h, s, let_go = cut);
            ck_assert_int_eq(ing_series_meets(s, INT64_MIN, INT64_MAX), model_count > 0);
        }
    }
    seen.end_ms = INT64_MAX;
    seen.count = 0;
    ing_series_cut(h, s, ++cut, INT64_MAX, taken, &seen);
    check_taken(&seen, INT64_MAX);
    for (; let_go < cut; let_go++)
        ing_series_let_go(h, s, let_go + 1);
    ing_chunks_bury(h);
    ck_assert_int_eq(h->memory.bytes[ING_MEM_CHUNKS], 0);
    ck_assert_int_le(h->tails.bytes, 64 * (ING_TAIL_TINY + ING_TAIL_SMALL + ING_TAIL_LARGE));
    ck_assert_int_eq(h->memory.bytes[ING_MEM_LATE], 0);
    s->definitions = 0;
    ing_head_remove(h, s);
    ing_pairs_sweep(&h->pairs);
    ck_assert_uint_eq(h->pairs.pair_live, 0);
    kl_buf_deinit(&labels);
    ing_head_free(h);
}
END_TEST

/* ---- matchers against a scan ---- */

enum { MANY = 3000 };
static struct kl_buf all_labels[MANY];

static struct kl_labels labels_at(unsigned n)
{
    return (struct kl_labels){ (uint8_t *)all_labels[n].at, all_labels[n].size };
}

static void labels_draw(unsigned n)
{
    static struct kl_labels_builder b;
    char          texts[4][32];
    struct kl_err err;

    kl_labels_start(&b);
    snprintf(texts[0], 32, "m%u", (unsigned)(draw() % 7));
    snprintf(texts[1], 32, "job-%u", (unsigned)(draw() % 40));
    snprintf(texts[2], 32, "i%u", n);
    snprintf(texts[3], 32, "%s", draw() % 2 ? "eu" : "us");
    kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(texts[0]), &err);
    kl_labels_add(&b, kl_span_str("instance"), kl_span_str(texts[2]), &err);
    if (draw() % 3)
        kl_labels_add(&b, kl_span_str("job"), kl_span_str(texts[1]), &err);
    if (draw() % 4 == 0)
        kl_labels_add(&b, kl_span_str("zone"), kl_span_str(texts[3]), &err);
    kl_buf_reset(&all_labels[n]);
    ck_assert_int_eq(kl_labels_finish(&b, &all_labels[n], &err), KL_OK);
}

START_TEST(matchers_mean_what_a_scan_finds)
{
    static const struct { enum kl_match_op op; const char *name, *value; } pool[] = {
        { KL_MATCH_EQ, "__name__", "m3" }, { KL_MATCH_NE, "__name__", "m3" },
        { KL_MATCH_EQ, "job", "job-7" },   { KL_MATCH_NE, "job", "job-7" },
        { KL_MATCH_EQ, "job", "" },        { KL_MATCH_NE, "job", "" },
        { KL_MATCH_EQ, "none", "" },       { KL_MATCH_NE, "none", "" },
        { KL_MATCH_EQ, "none", "x" },      { KL_MATCH_NE, "none", "x" },
        { KL_MATCH_RE, "job", "job-1.*" }, { KL_MATCH_NRE, "job", "job-1.*" },
        { KL_MATCH_RE, "job", ".*" },      { KL_MATCH_NRE, "job", ".*" },
        { KL_MATCH_RE, "job", ".+" },      { KL_MATCH_NRE, "job", ".+" },
        { KL_MATCH_RE, "job", "job-1|job-2|nope" }, { KL_MATCH_NRE, "job", "job-1|job-2|" },
        { KL_MATCH_RE, "job", "|job-3" },  { KL_MATCH_RE, "instance", "i1[0-9]+7" },
        { KL_MATCH_NRE, "instance", "i1.*" }, { KL_MATCH_RE, "zone", "e.|" },
        { KL_MATCH_RE, "zone", "us|eu" },  { KL_MATCH_NRE, "none", "x.*" },
        { KL_MATCH_RE, "none", "x.*" },    { KL_MATCH_RE, "instance", ".*99" },
    };
    struct ing_head *h = ing_head_new(kl_span_str("t"), 60000, NULL);
    bool            *there = calloc(MANY, sizeof *there);

    state = (uint64_t)_i;
    for (unsigned n = 0; n < MANY; n++) {
        labels_draw(n);
        ing_head_series(h, kl_labels_fp(labels_at(n)), labels_at(n));
        there[n] = true;
    }
    for (int round = 0; round < 300; round++) {
        struct kl_matcher m[4];
        struct kl_regex  *re[4] = { NULL };
        size_t            count = draw() % 4;
        roaring_bitmap_t *got;
        struct kl_err     err;
        uint64_t          expected = 0;

        for (size_t i = 0; i < count; i++) {
            size_t k = draw() % (sizeof pool / sizeof *pool);

            m[i] = (struct kl_matcher){ pool[k].op, kl_span_str(pool[k].name),
                                        kl_span_str(pool[k].value), NULL };
            if (m[i].op >= KL_MATCH_RE) {
                ck_assert_int_eq(kl_regex_new(m[i].value, &re[i], &err), KL_OK);
                m[i].re = re[i];
            }
        }
        got = ing_match(h, m, count);
        for (unsigned n = 0; n < MANY; n++) {
            bool fits = there[n] && kl_matchers_test(m, count, labels_at(n));
            struct ing_series *s = ing_head_find(h, kl_labels_fp(labels_at(n)));

            expected += fits;
            ck_assert_int_eq(s != NULL, there[n]);
            if (fits)
                ck_assert(roaring_bitmap_contains(got, s->id));
        }
        ck_assert_uint_eq(roaring_bitmap_get_cardinality(got), expected);
        roaring_bitmap_free(got);
        for (size_t i = 0; i < count; i++)
            kl_regex_free(re[i]);
        if (round % 10 == 9) {                         /* series go and come */
            for (unsigned k = 0; k < 300; k++) {
                unsigned n = (unsigned)(draw() % MANY);

                if (there[n])
                    ing_head_remove(h, ing_head_find(h, kl_labels_fp(labels_at(n))));
                else
                    ing_head_series(h, kl_labels_fp(labels_at(n)), labels_at(n));
                there[n] = !there[n];
            }
            if (round % 20 == 19)
                ing_pairs_sweep(&h->pairs);
        }
    }
    for (unsigned n = 0; n < MANY; n++)
        kl_buf_deinit(&all_labels[n]);
    free(there);
    ing_head_free(h);
}
END_TEST

START_TEST(a_series_that_ends_or_rests_has_no_tail)
{
    struct ing_head   *h = ing_head_new(kl_span_str("t"), 7200000, NULL);
    struct ing_series *ends, *rests, *goes_on;

    for (unsigned n = 0; n < 3; n++)
        labels_draw(n);
    ends = ing_head_series(h, kl_labels_fp(labels_at(0)), labels_at(0));
    rests = ing_head_series(h, kl_labels_fp(labels_at(1)), labels_at(1));
    goes_on = ing_head_series(h, kl_labels_fp(labels_at(2)), labels_at(2));
    for (int64_t t = 1000; t < 6000; t += 1000) {
        ing_series_float(h, ends, t, 1);
        ing_series_float(h, rests, t, 2);
        ing_series_float(h, goes_on, t, 3);
    }
    ing_series_float(h, ends, 6000, kl_bits_f64(KL_STALE_BITS));
    ck_assert_uint_eq(ends->tail.count, 0);
    ck_assert_ptr_null(ends->tail.bytes);
    ck_assert_uint_eq(ends->first->count, 6);
    ing_head_seal_idle(h, 3);
    ck_assert_uint_eq(rests->tail.count, 5);           /* seen once */
    ing_series_float(h, goes_on, 7000, 3);
    ing_head_seal_idle(h, 3);
    ck_assert_uint_eq(rests->tail.count, 0);
    ck_assert_uint_eq(rests->first->count, 5);
    ck_assert_uint_eq(goes_on->tail.count, 6);
    ing_series_float(h, rests, 8000, 2);               /* and comes back into the same chunk */
    ing_series_seal_tail(h, rests);
    ck_assert_uint_eq(rests->first->count, 6);
    ck_assert_ptr_null(rests->first->next);
    for (unsigned n = 0; n < 3; n++)
        kl_buf_deinit(&all_labels[n]);
    ing_head_free(h);
}
END_TEST

START_TEST(labels_are_rendered_as_they_were_given)
{
    struct ing_head *h = ing_head_new(kl_span_str("t"), 60000, NULL);
    struct kl_buf    out = { 0 };

    state = 5;
    for (unsigned n = 0; n < 500; n++) {
        struct ing_series *s;

        labels_draw(n);
        s = ing_head_series(h, kl_labels_fp(labels_at(n)), labels_at(n));
        kl_buf_reset(&out);
        ing_render(h->pairs.pair_pages, h->pairs.name_pages, s->pairs, s->pair_count, &out);
        ck_assert(kl_span_eq(kl_buf_span(&out), kl_buf_span(&all_labels[n])));
        kl_buf_deinit(&all_labels[n]);
    }
    kl_buf_deinit(&out);
    ing_head_free(h);
}
END_TEST

/* Of two values for one time the later in the log counts, also where it is the first once more. */
START_TEST(a_value_that_came_back_is_the_one_after_a_replay_over_a_snapshot_too)
{
    struct ing_head   *h = ing_head_new(kl_span_str("t"), 7200000, NULL);
    struct ing_series *s;

    labels_draw(0);
    s = ing_head_series(h, kl_labels_fp(labels_at(0)), labels_at(0));
    for (int replay = 0; replay < 2; replay++) {
        ing_series_float(h, s, 1000, 1);
        ing_series_float(h, s, 1000, 2);
        ing_series_float(h, s, 1000, 1);
        ck_assert_ptr_nonnull(s->late);
        ck_assert_uint_eq(s->late->count, 1);
        ck_assert(s->late->at[0].value == 1);
        h->again = true;
    }
    kl_buf_deinit(&all_labels[0]);
    ing_head_free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("head");
    TCase *t = tcase_create("head");

    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_tail_gives_back_every_bit, 0, 20);
    tcase_add_test(t, a_value_that_stays_costs_nothing_a_sample);
    tcase_add_test(t, a_regular_counter_costs_three_bytes_a_sample);
    tcase_add_loop_test(t, cuts_take_what_a_plain_list_would, 0, 30);
    tcase_add_loop_test(t, matchers_mean_what_a_scan_finds, 0, 4);
    tcase_add_test(t, a_series_that_ends_or_rests_has_no_tail);
    tcase_add_test(t, a_value_that_came_back_is_the_one_after_a_replay_over_a_snapshot_too);
    tcase_add_test(t, labels_are_rendered_as_they_were_given);
    suite_add_tcase(s, t);
    return run_suite(s);
}
