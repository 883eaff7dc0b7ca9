/* Remote read's bytes: requests are parsed whole or refused, chunks say what went in. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "querier/read_priv.h"
#include "tests/suite.h"

/* A reader of XOR chunks of the test's own, bit by bit, after the format's description. */
struct reader { const uint8_t *at; size_t bit, bits; };

static uint64_t take(struct reader *r, unsigned n)
{
    uint64_t v = 0;

    ck_assert_uint_le(r->bit + n, r->bits);
    for (; n > 0; n--, r->bit++)
        v = v << 1 | (r->at[r->bit / 8] >> (7 - r->bit % 8) & 1);
    return v;
}

static uint64_t take_uvarint(struct reader *r)
{
    uint64_t v = 0, byte;
    unsigned shift = 0;

    do {
        byte = take(r, 8);
        v |= (byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    return v;
}

static int64_t take_dod(struct reader *r)
{
    static const unsigned sizes[] = { 0, 14, 17, 20, 64 };
    unsigned              ones = 0;
    uint64_t              v;

    while (ones < 4 && take(r, 1) == 1)
        ones++;
    if (ones == 0)
        return 0;
    v = take(r, sizes[ones]);
    if (ones < 4 && v > UINT64_C(1) << (sizes[ones] - 1))
        v -= UINT64_C(1) << sizes[ones];
    return (int64_t)v;
}

static void check_chunk(const int64_t *times, const double *values, uint32_t count)
{
    struct kl_buf out = { 0 };
    struct reader r;
    uint64_t      time = 0, delta = 0, bits = 0;
    unsigned      leading = 0, length = 0;

    qr_xor_chunk(times, values, count, &out);
    r = (struct reader){ (const uint8_t *)out.at, 16, out.size * 8 };
    ck_assert_uint_eq((unsigned)r.at[0] << 8 | r.at[1], count);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0) {
            uint64_t v = take_uvarint(&r);

            time = v >> 1 ^ -(v & 1);
            bits = take(&r, 64);
        } else {
            delta = i == 1 ? take_uvarint(&r) : delta + (uint64_t)take_dod(&r);
            time += delta;
            if (take(&r, 1) == 1) {
                if (take(&r, 1) == 1) {
                    leading = (unsigned)take(&r, 5);
                    length = (unsigned)take(&r, 6);
                    length = length == 0 ? 64 : length;
                }
                bits ^= take(&r, length) << (64 - leading - length);
            }
        }
        ck_assert_int_eq((int64_t)time, times[i]);
        ck_assert_uint_eq(bits, kl_f64_bits(values[i]));
    }
    ck_assert_uint_lt(r.bits - r.bit, 8);
    kl_buf_deinit(&out);
}

START_TEST(an_xor_chunk_gives_back_every_time_and_bit)
{
    int64_t  times[120];
    double   values[120];
    uint64_t x = 0x9e3779b97f4a7c15ull * (unsigned)(_i + 1);

    times[0] = _i % 2 ? 1700000000000 : -5000;
    for (unsigned i = 0; i < 120; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (i > 0)
            times[i] = times[i - 1] + 1 + (int64_t)(x % (_i < 5 ? 15000 : UINT64_C(1) << (_i * 4)));
        values[i] = _i % 3 == 0 ? kl_bits_f64(x) : _i % 3 == 1 ? (double)(x % 100) : 7.25;
    }
    values[7] = kl_bits_f64(KL_STALE_BITS);
    values[9] = -0.0;
    values[11] = (double)INFINITY;
    check_chunk(times, values, 120);
    check_chunk(times, values, 1);
    check_chunk(times, values, 2);
}
END_TEST

START_TEST(delta_classes_hold_their_edges)
{
    static const int64_t dods[] = { 8192, -8191, 8193, -8192, 65536, -65535, 65537, -65536, 524288,
                                    -524287, 524289, -524288 };
    int64_t times[26] = { 0, 1000000000 };
    double  values[26] = { 0 };
    int64_t delta = 1000000000;

    for (unsigned i = 2; i < 26; i++) {
        delta += dods[(i - 2) % 12];
        times[i] = times[i - 1] + delta;
    }
    check_chunk(times, values, 26);
}
END_TEST

/* ---- chunks of histograms, read after the format's description, too ---- */

/* The class of a varbit number by its leading ones; 8: 64 bits. */
static const unsigned varbits[] = { 0, 3, 6, 9, 12, 18, 25, 56, 64 };

static uint64_t take_varbit(struct reader *r, unsigned *bits)
{
    unsigned ones = 0;

    while (ones < 8 && take(r, 1) == 1)
        ones++;
    *bits = varbits[ones];
    return take(r, *bits);
}

static int64_t take_int(struct reader *r)
{
    unsigned bits;
    uint64_t v = take_varbit(r, &bits);

    if (bits > 0 && bits < 64 && v > UINT64_C(1) << (bits - 1))
        v -= UINT64_C(1) << bits;
    return (int64_t)v;
}

static uint64_t take_uint(struct reader *r)
{
    unsigned bits;

    return take_varbit(r, &bits);
}

static double take_threshold(struct reader *r)
{
    unsigned byte = (unsigned)take(r, 8);

    return byte == 0 ? 0 : byte == 255 ? kl_bits_f64(take(r, 64)) : ldexp(0.5, (int)byte - 243);
}

static double take_bound(struct reader *r)
{
    uint64_t v = take_uint(r);

    return v == 0 ? kl_bits_f64(take(r, 64)) : (double)(v - 1) / 1000;
}

static void check_spans(struct reader *r, const struct kl_hist_span *spans, uint32_t count)
{
    ck_assert_uint_eq(take_uint(r), count);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_eq(take_uint(r), spans[i].length);
        ck_assert_int_eq(take_int(r), spans[i].offset);
    }
}

struct seen { uint64_t bits; unsigned leading, length; };

static void check_value(struct reader *r, bool first, struct seen *s, double wanted)
{
    if (first) {
        s->bits = take(r, 64);
    } else if (take(r, 1) == 1) {
        if (take(r, 1) == 1) {
            s->leading = (unsigned)take(r, 5);
            s->length = (unsigned)take(r, 6);
            s->length = s->length == 0 ? 64 : s->length;
        }
        s->bits ^= take(r, s->length) << (64 - s->leading - s->length);
    }
    ck_assert_uint_eq(s->bits, kl_f64_bits(wanted));
}

static void check_hists(const int64_t *times, const struct kl_hist *const *hists, uint32_t count,
                        unsigned flags)
{
    const struct kl_hist *l = hists[0];
    struct kl_buf         out = { 0 };
    struct reader         r;
    struct seen           seen[20] = { { 0 } };
    int64_t               time = 0, delta = 0;

    qr_hist_chunk(times, hists, count, &out);
    r = (struct reader){ (const uint8_t *)out.at, 24, out.size * 8 };
    ck_assert_uint_eq((unsigned)r.at[0] << 8 | r.at[1], count);
    ck_assert_uint_eq(r.at[2], flags);
    ck_assert(take_threshold(&r) == l->zero_threshold);
    ck_assert_int_eq(take_int(&r), l->schema);
    check_spans(&r, l->pos_spans, l->pos_span_count);
    check_spans(&r, l->neg_spans, l->neg_span_count);
    if (l->schema == KL_HIST_CUSTOM) {
        ck_assert_uint_eq(take_uint(&r), l->bound_count);
        for (uint32_t i = 0; i < l->bound_count; i++)
            ck_assert(take_bound(&r) == l->bounds[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct kl_hist *h = hists[i];

        if (i == 0) {
            time = take_int(&r);
        } else {
            delta += take_int(&r);
            time += delta;
        }
        ck_assert_int_eq(time, times[i]);
        check_value(&r, i == 0, &seen[0], h->count);
        check_value(&r, i == 0, &seen[1], h->zero_count);
        check_value(&r, i == 0, &seen[2], h->sum);
        for (uint32_t k = 0; k < h->pos_count; k++)
            check_value(&r, i == 0, &seen[3 + k], h->pos[k]);
        for (uint32_t k = 0; k < h->neg_count; k++)
            check_value(&r, i == 0, &seen[3 + h->pos_count + k], h->neg[k]);
    }
    ck_assert_uint_lt(r.bits - r.bit, 8);
    kl_buf_deinit(&out);
}

static const struct kl_hist_span two[] = { { -20, 2 }, { 3000, 1 } }, one[] = { { 0, 2 } };
static const double              bounds[] = { -1.5, 0, 0.001, 33554.43, 1e300 };

static struct kl_hist hist_of(unsigned kind, const double *counts, double n)
{
    struct kl_hist h = { .schema = 3, .zero_threshold = ldexp(1, -128), .zero_count = n, .count = 10 * n,
                         .sum = n * 0.1, .pos_spans = two, .pos_span_count = 2, .pos = counts,
                         .pos_count = 3 };

    if (kind == 1) {
        h.neg_spans = one, h.neg_span_count = 1, h.neg = counts + 3, h.neg_count = 2;
        h.zero_threshold = 0.3;
    } else if (kind == 2) {
        h = (struct kl_hist){ .schema = KL_HIST_CUSTOM, .bounds = bounds, .bound_count = 5, .count = n,
                              .sum = -n, .pos_spans = one, .pos_span_count = 1, .pos = counts,
                              .pos_count = 2 };
    } else if (kind == 3) {
        h.reset = KL_HIST_GAUGE, h.zero_threshold = 0;
    }
    return h;
}

START_TEST(a_chunk_of_histograms_gives_back_every_time_and_bit)
{
    enum { COUNT = 40 };
    static double         counts[COUNT][5];
    struct kl_hist        hists[COUNT];
    const struct kl_hist *list[COUNT];
    int64_t               times[COUNT] = { _i % 2 ? 1700000000000 : -9 };

    for (unsigned i = 0; i < COUNT; i++) {
        for (unsigned k = 0; k < 5; k++)
            counts[i][k] = (double)(i * (k + 1)) / 3;
        hists[i] = hist_of((unsigned)_i, counts[i], i);
        list[i] = &hists[i];
        if (i > 0)
            times[i] = times[i - 1] + 15000 + (i % 7 == 0 ? INT64_C(1) << i : i % 3);
    }
    check_hists(times, list, COUNT, _i == 3 ? 0xc0 : 0);
    check_hists(times, list, 1, _i == 3 ? 0xc0 : 0);
    ck_assert_uint_eq(qr_hist_chunk_run(list, COUNT), COUNT);
}
END_TEST

START_TEST(a_chunk_of_histograms_ends_where_its_layout_or_its_counting_does)
{
    static double         counts[3][5] = { { 1, 2, 3, 4, 5 }, { 2, 2, 3, 4, 5 }, { 1, 2, 3, 4, 5 } };
    struct kl_hist        h[3];
    const struct kl_hist *list[3] = { &h[0], &h[1], &h[2] };
    const int64_t         times[3] = { 1, 2, 3 };

    for (unsigned i = 0; i < 3; i++)
        h[i] = hist_of(1, counts[i], i);
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 2);  /* a bucket fell */
    h[2] = h[1];
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 3);
    h[2].schema = 2;
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 2);
    h[2] = h[1];
    h[2].pos_spans = h[2].neg_spans = one;
    h[2].pos_span_count = 1;
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 2);
    h[2] = h[1];
    h[1].reset = KL_HIST_RESET;
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 1);
    check_hists(times + 1, list + 1, 1, 0x80);
    h[1].reset = KL_HIST_GAUGE;
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 1);
    h[1].reset = KL_HIST_UNKNOWN;
    h[1].sum = kl_bits_f64(KL_STALE_BITS);
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 1);
    ck_assert_uint_eq(qr_hist_chunk_run(list + 1, 2), 1);
    list[1] = NULL;
    ck_assert_uint_eq(qr_hist_chunk_run(list, 3), 1);
}
END_TEST

static const uint8_t request[] = {
    0x0a, 0x1c,                                        /* query */
    0x08, 0x01, 0x10, 0xe8, 0x07,                      /* start 1, end 1000 */
    0x1a, 0x0e, 0x12, 0x08, '_', '_', 'n', 'a', 'm', 'e', '_', '_', 0x1a, 0x02, 'u', 'p',
    0x1a, 0x05, 0x08, 0x01, 0x12, 0x01, 'a',           /* a != "" */
    0x10, 0x01, 0x10, 0x00,                            /* streamed, samples */
};

START_TEST(a_request_is_parsed_whole)
{
    struct qr_read_request q;
    struct kl_arena        arena;
    struct kl_err          err;

    kl_arena_init(&arena, 1 << 20);
    ck_assert_msg(qr_read_parse(kl_span(request, sizeof request), &arena, &q, &err) == KL_OK, "%s",
                  err.text);
    ck_assert_uint_eq(q.query_count, 1);
    ck_assert_int_eq(q.queries[0].from_ms, 1);
    ck_assert_int_eq(q.queries[0].to_ms, 1000);
    ck_assert_uint_eq(q.queries[0].matcher_count, 2);
    ck_assert(kl_span_eq(q.queries[0].matchers[0].value, kl_span_str("up")));
    ck_assert_int_eq(q.queries[0].matchers[1].op, KL_MATCH_NE);
    ck_assert(q.samples && q.streamed && q.streamed_first);
    kl_arena_deinit(&arena);
}
END_TEST

START_TEST(a_request_cut_anywhere_is_refused_or_shorter_never_worse)
{
    for (size_t n = 0; n < sizeof request; n++) {
        struct qr_read_request q;
        struct kl_arena        arena;
        struct kl_err          err;
        uint8_t               *cut = malloc(n + 1);    /* so that a sanitizer sees its end */

        memcpy(cut, request, n);
        kl_arena_init(&arena, 1 << 20);
        if (qr_read_parse(kl_span(cut, n), &arena, &q, &err) != KL_OK)
            ck_assert_int_eq(err.code, KL_EINVAL);
        kl_arena_deinit(&arena);
        free(cut);
    }
}
END_TEST

START_TEST(more_matchers_than_a_fetch_takes_are_refused_before_any_is_made)
{
    static const uint8_t matcher[] = { 0x1a, 0x08, 0x08, 0x02, 0x12, 0x01, 'a', 0x1a, 0x01, 'b' };      /* a =~ "b" */

    for (size_t n = QR_READ_MATCHERS_MAX; n <= QR_READ_MATCHERS_MAX + 1; n++) {
        struct qr_read_request q;
        struct kl_arena        arena;
        struct kl_err          err;
        struct kl_buf          query = { 0 }, message = { 0 };

        for (size_t i = 0; i < n; i++)
            kl_buf_add(&query, matcher, sizeof matcher);
        kl_buf_add8(&message, 0x0a);
        kl_buf_addspan(&message, kl_buf_span(&query));
        kl_arena_init(&arena, 1 << 20);
        if (n <= QR_READ_MATCHERS_MAX) {
            ck_assert_int_eq(qr_read_parse(kl_buf_span(&message), &arena, &q, &err), KL_OK);
            ck_assert_uint_eq(q.queries[0].matcher_count, n);
        } else {
            ck_assert_int_eq(qr_read_parse(kl_buf_span(&message), &arena, &q, &err), KL_ELIMIT);
            ck_assert_uint_eq(arena.used_bytes, 0);
        }
        kl_arena_deinit(&arena);
        kl_buf_deinit(&message);
        kl_buf_deinit(&query);
    }
}
END_TEST

START_TEST(snappy_literals_say_their_size_and_hold_the_bytes)
{
    static char   in[140000];
    struct kl_buf out = { 0 };
    struct kl_cur c;
    size_t        got = 0;

    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (char)(i * 7);
    qr_snappy_literals(kl_span(in, sizeof in), &out);
    c = kl_cur(out.at, out.size);
    ck_assert_uint_eq(kl_cur_v(&c), sizeof in);
    while (kl_cur_left(&c) > 0) {
        unsigned tag = kl_cur_8(&c);
        size_t   n = tag >> 2;

        ck_assert_uint_eq(tag & 3, 0);
        n = n < 60 ? n + 1 : (size_t)kl_cur_16(&c) + 1;
        ck_assert_mem_eq(kl_cur_bytes(&c, n).at, in + got, n);
        got += n;
    }
    ck_assert_uint_eq(got, sizeof in);
    kl_buf_deinit(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("read");
    TCase *t = tcase_create("all");

    tcase_add_loop_test(t, an_xor_chunk_gives_back_every_time_and_bit, 0, 12);
    tcase_add_loop_test(t, a_chunk_of_histograms_gives_back_every_time_and_bit, 0, 4);
    tcase_add_test(t, a_chunk_of_histograms_ends_where_its_layout_or_its_counting_does);
    tcase_add_test(t, delta_classes_hold_their_edges);
    tcase_add_test(t, a_request_is_parsed_whole);
    tcase_add_test(t, a_request_cut_anywhere_is_refused_or_shorter_never_worse);
    tcase_add_test(t, more_matchers_than_a_fetch_takes_are_refused_before_any_is_made);
    tcase_add_test(t, snappy_literals_say_their_size_and_hold_the_bytes);
    suite_add_tcase(s, t);
    return run_suite(s);
}
