/*
 * libblock/chunk and its codecs: whatever goes in comes out, bit for bit, by every kernel; and
 * bytes that nobody wrote are refused, or decode to something, within their bounds.
 */
#include "libblock/blk_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static uint64_t seed;
static uint64_t draw(void)                             /* splitmix64 */
{
    uint64_t z = seed += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static uint64_t below(uint64_t n) { return draw() % n; }
static double   unit(void) { return (double)(draw() >> 11) / 9007199254740992.0; }

/* Classes of series, as they occur and as they may hurt. */
enum class {
    CONSTANT, COUNTER, RESETS, GAUGE, STEPS, BYTES_OF_PAGES, TICKS, SECONDS_OF_NS, SUM_OF_SECONDS,
    NOISE, SPECIALS, MOSTLY_STALE, SUBNORMALS, HUGE_NUMBERS, ANY_BITS, ALTERNATING, ZEROS_OF_BOTH,
    NAN_PAYLOADS, LINE, POWERS_OF_TEN, CLASSES
};

static double special(void)
{
    static const uint64_t bits[] = {
        KL_STALE_BITS, 0x7ff8000000000001ull, 0x7ff8000000000000ull, 0x7ff0000000000000ull,
        0xfff0000000000000ull, 0x8000000000000000ull, 0, 1, 0x7fefffffffffffffull,
        0x7ff0000000000001ull, 0xffffffffffffffffull, 0x0010000000000000ull, 0x43e0000000000000ull,
        0xc3e0000000000000ull, 0x4340000000000000ull, 0x4340000000000001ull, 0x433fffffffffffffull,
    };
    return kl_bits_f64(bits[below(sizeof bits / sizeof *bits)]);
}

static void make(enum class class, double *v, uint32_t n)
{
    double at = (double)below(1000000);

    for (uint32_t i = 0; i < n; i++)
        switch (class) {
        case CONSTANT:       v[i] = i == 0 ? unit() * 1e6 : v[0]; break;
        case COUNTER:        v[i] = at += (double)below(500); break;
        case RESETS:         v[i] = at = below(100) == 0 ? 0 : at + (double)below(90000); break;
        case GAUGE:          v[i] = (double)(int64_t)below(2000) - 1000; break;
        case STEPS:          v[i] = at = below(40) == 0 ? (double)below(100) : at; break;
        case BYTES_OF_PAGES: v[i] = 4096.0 * (double)below(1u << 20); break;
        case TICKS:          v[i] = (double)(uint64_t)(at += (double)below(3)) / 100; break;
        case SECONDS_OF_NS:  v[i] = (double)below(100000000) / 1e9; break;
        case SUM_OF_SECONDS: v[i] = at += (double)below(100000000) / 1e9; break;
        case NOISE:          v[i] = unit(); break;
        case SPECIALS:       v[i] = special(); break;
        case MOSTLY_STALE:   v[i] = below(20) == 0 ? special() : (at += 3); break;
        case SUBNORMALS:     v[i] = kl_bits_f64(draw() >> 12); break;
        case HUGE_NUMBERS:   v[i] = ldexp(unit() - 0.5, (int)below(1024)); break;
        case ANY_BITS:       v[i] = kl_bits_f64(draw()); break;
        case ALTERNATING:    v[i] = i % 2 ? 1e15 : -1e-9; break;
        case ZEROS_OF_BOTH:  v[i] = below(2) ? 0.0 : -0.0; break;
        case NAN_PAYLOADS:   v[i] = kl_bits_f64(0x7ff0000000000000ull | (draw() >> 12)); break;
        case LINE:           v[i] = at += 0.25; break;
        case POWERS_OF_TEN:  v[i] = pow(10, (double)below(40) - 20); break;
        case CLASSES:        abort();
        }
}

static void make_times(unsigned how, int64_t *t, uint32_t n)
{
    int64_t at = how == 5 ? INT64_MIN / 2 : 1700000000000;

    for (uint32_t i = 0; i < n; i++) {
        switch (how) {
        case 0: at += 15000; break;
        case 1: at += 15000 - (int64_t)below(7) + 3; break;
        case 2: at += 1 + (int64_t)below(1000000); break;
        case 3: at += below(50) == 0 ? 30000 : 15000; break;
        case 4: at += 1; break;
        default: at += 1 + (int64_t)(draw() >> 12); break;
        }
        t[i] = at;
    }
}
enum { TIMES = 6 };

static int64_t       times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
static int64_t       times_back[BLK_CHUNK_MAX], starts_back[BLK_CHUNK_MAX];
static double        values[BLK_CHUNK_MAX], values_back[BLK_CHUNK_MAX];
static struct kl_err err;

static void check_round(const struct kl_buf *b, uint32_t n, bool with_starts)
{
    const struct blk_kernels *list[BLK_KERNELS_MAX];
    uint32_t                  kernels = blk_kernels_list(list), got;
    struct blk_chunk_head     head;
    struct blk_parts          parts;
    struct kl_buf             joined = { 0 };

    for (uint32_t k = 0; k < kernels; k++) {
        memset(times_back, 0xee, sizeof times_back);
        memset(values_back, 0xee, sizeof values_back);
        ck_assert_int_eq(blk_chunk_decode_by(list[k], kl_buf_span(b), times_back, values_back,
                                             starts_back, &got, &err), KL_OK);
        ck_assert_uint_eq(got, n);
        ck_assert_msg(memcmp(times, times_back, n * 8) == 0, "times differ by %s", list[k]->name);
        ck_assert_msg(memcmp(values, values_back, n * 8) == 0, "values differ by %s", list[k]->name);
        for (uint32_t i = 0; i < n; i++)
            ck_assert_int_eq(starts_back[i], with_starts ? starts[i] : 0);
    }
    ck_assert_int_eq(blk_chunk_peek(kl_buf_span(b), &head, &err), KL_OK);
    ck_assert(head.count == n && head.first_ms == times[0] && head.last_ms == times[n - 1]);
    ck_assert_int_eq(blk_chunk_split(kl_buf_span(b), &parts, &err), KL_OK);
    blk_chunk_join(&parts, &joined);
    ck_assert(kl_span_eq(kl_buf_span(&joined), kl_buf_span(b)));
    ck_assert_str_ne(blk_chunk_codec(kl_buf_span(b)), "corrupt");
    kl_buf_deinit(&joined);
}

START_TEST(every_class_of_series_comes_back_bit_for_bit)
{
    for (unsigned round = 0; round < 60; round++) {
        struct kl_buf b = { 0 };
        uint32_t      n = round < 12 ? round + 1 : round == 12 ? BLK_CHUNK_MAX
                                                               : 1 + (uint32_t)below(BLK_CHUNK_MAX);
        seed = (uint64_t)_i * 1000 + round;
        make((enum class)_i, values, n);
        make_times(round % TIMES, times, n);
        for (uint32_t i = 0; i < n; i++)
            starts[i] = round % 3 == 0 ? times[0] - 5 : (int64_t)below(3) * 1000;
        blk_chunk_encode(times, values, round % 2 ? starts : NULL, n, &b);
        check_round(&b, n, round % 2);
        ck_assert_uint_lt(b.size, n * 18 + 40);        /* never much above raw */
        kl_buf_reset(&b);
        blk_chunk_encode_quick(times, values, round % 2 ? starts : NULL, n, &b);
        check_round(&b, n, round % 2);
        ck_assert_uint_lt(b.size, n * 24 + 40);
        kl_buf_deinit(&b);
    }
}
END_TEST

START_TEST(encoding_depends_on_the_samples_alone)
{
    struct kl_buf a = { 0 }, b = { 0 };

    seed = 5;
    make(TICKS, values, 300);
    make_times(1, times, 300);
    blk_chunk_encode(times, values, NULL, 300, &a);
    kl_buf_add8(&b, 0);                                /* elsewhere in memory, other alignment */
    blk_chunk_encode(times, values, NULL, 300, &b);
    ck_assert_uint_eq(a.size + 1, b.size);
    ck_assert_int_eq(memcmp(a.at, b.at + 1, a.size), 0);
    kl_buf_deinit(&a);
    kl_buf_deinit(&b);
}
END_TEST

static size_t bytes_of(enum class class, uint32_t n)
{
    struct kl_buf b = { 0 };
    size_t        size;

    seed = 11;
    make(class, values, n);
    make_times(0, times, n);
    blk_chunk_encode(times, values, NULL, n, &b);
    size = b.size;
    kl_buf_deinit(&b);
    return size;
}

START_TEST(what_is_regular_costs_next_to_nothing)
{
    ck_assert_uint_le(bytes_of(LINE, 480), 32);
    for (uint32_t i = 0; i < 480; i++)
        values[i] = 42;
    struct kl_buf b = { 0 };
    blk_chunk_encode(times, values, NULL, 480, &b);
    ck_assert_uint_le(b.size, 24);
    ck_assert_str_eq(blk_chunk_codec(kl_buf_span(&b)), "decimal/const");
    kl_buf_deinit(&b);
    ck_assert_uint_le(bytes_of(TICKS, 480), 480 * 2 / 8 + 48);        /* two bits a sample */
    ck_assert_uint_le(bytes_of(BYTES_OF_PAGES, 480), 480 * 20 / 8 + 48);
    ck_assert_uint_le(bytes_of(STEPS, 480), 480 * 2 / 8);
}
END_TEST

START_TEST(sums_of_decimals_cost_far_less_than_their_bits)
{
    ck_assert_uint_le(bytes_of(SUM_OF_SECONDS, 480), 480 * 34 / 8);
}
END_TEST

START_TEST(kernels_agree_on_every_width_and_length)
{
    static uint64_t           x[BLK_CHUNK_MAX], plain[BLK_CHUNK_MAX], other[BLK_CHUNK_MAX];
    static double             plain_f[BLK_CHUNK_MAX], other_f[BLK_CHUNK_MAX];
    static int64_t            line[BLK_CHUNK_MAX];
    const struct blk_kernels *list[BLK_KERNELS_MAX];
    uint32_t                  kernels = blk_kernels_list(list);

    seed = (uint64_t)_i;
    for (uint32_t n = 1; n <= BLK_CHUNK_MAX; n += n < 40 ? 1 : 59) {
        struct kl_buf b = { 0 };
        uint8_t      *exact;
        unsigned      e = (unsigned)below(BLK_DECIMAL_E_MAX + 1);

        for (uint32_t i = 0; i < n; i++)
            x[i] = _i == 0 ? 0 : draw() >> (64 - _i);
        blk_pack(x, n, (unsigned)_i, &b);
        ck_assert_uint_eq(b.size, blk_packed_size(n, (unsigned)_i));
        exact = malloc(b.size + 1);                    /* to its very end, for ASan */
        exact = realloc(exact, b.size > 0 ? b.size : 1);
        if (b.size > 0)
            memcpy(exact, b.at, b.size);
        for (uint32_t k = 0; k < kernels; k++) {
            list[k]->unpack(exact, (unsigned)_i, n, 0, other);
            ck_assert_msg(memcmp(x, other, n * 8) == 0, "unpack by %s", list[k]->name);
        }
        uint64_t first = draw(), step = draw();
        for (uint32_t k = 0; k < kernels; k++) {
            memcpy(other, x, sizeof x);
            list[k]->prefix(other, n, first);
            list[k]->scale(other, n, step, first);
            list[k]->line(other, n, first, step);
            list[k]->decimal(other, n, e, other_f);
            uint64_t filled[40];
            uint32_t some = n < 40 ? n : 40;
            list[k]->fill(filled, some, step);
            for (uint32_t i = 0; i < some; i++)
                ck_assert_uint_eq(filled[i], step);
            for (uint32_t i = 0; i < n; i++)
                line[i] = (int64_t)i * 3 - 700;
            ck_assert(list[k]->rising(line, n));
            for (uint32_t i = 1; i < n; i++) {         /* wherever it does not */
                line[i] -= 3;
                ck_assert(!list[k]->rising(line, n));
                line[i] += 3;
            }
            if (k == 0) {
                memcpy(plain, other, sizeof plain);
                memcpy(plain_f, other_f, sizeof plain_f);
            }
            ck_assert_msg(memcmp(plain, other, n * 8) == 0, "sums by %s", list[k]->name);
            ck_assert_msg(memcmp(plain_f, other_f, n * 8) == 0, "decimals by %s", list[k]->name);
        }
        free(exact);
        kl_buf_deinit(&b);
    }
}
END_TEST

START_TEST(kernels_divide_as_the_processor_does)       /* many small and large m, every exponent */
{
    static uint64_t           x[BLK_CHUNK_MAX];
    static double             plain[BLK_CHUNK_MAX], other[BLK_CHUNK_MAX];
    const struct blk_kernels *list[BLK_KERNELS_MAX];
    uint32_t                  kernels = blk_kernels_list(list);

    seed = 77 + (uint64_t)_i;
    for (unsigned round = 0; round < 400; round++) {
        for (uint32_t i = 0; i < BLK_CHUNK_MAX; i++)
            x[i] = (draw() >> below(64)) * (below(2) ? 1 : -1ull);
        list[0]->decimal(x, BLK_CHUNK_MAX, (unsigned)_i, plain);
        for (uint32_t k = 1; k < kernels; k++) {
            list[k]->decimal(x, BLK_CHUNK_MAX, (unsigned)_i, other);
            ck_assert_int_eq(memcmp(plain, other, sizeof plain), 0);
        }
    }
}
END_TEST

START_TEST(integers_of_any_kind_come_back)
{
    static uint64_t x[BLK_CHUNK_MAX], back[BLK_CHUNK_MAX];

    for (unsigned round = 0; round < 400; round++) {
        struct kl_buf b = { 0 };
        struct kl_cur c;
        uint32_t      n;
        uint8_t       head;

        seed = (uint64_t)_i * 4096 + round;
        n = 1 + (uint32_t)below(BLK_CHUNK_MAX);
        for (uint32_t i = 0; i < n; i++)
            switch (_i) {
            case 0:  x[i] = draw(); break;
            case 1:  x[i] = draw() >> (round % 64); break;
            case 2:  x[i] = below(30) == 0 ? draw() : below(100); break;
            case 3:  x[i] = (i ? x[i - 1] : draw()) + below(100) * 1000; break;
            case 4:  x[i] = (uint64_t)INT64_MIN * below(2); break;
            case 5:  x[i] = (i ? x[i - 1] : 0) + (below(40) == 0 ? draw() : 7 + below(2)); break;
            default: x[i] = (uint64_t)i * i * 3 + below(4); break;
            }
        blk_int_encode(x, n, &b);
        c = kl_cur(b.at, b.size);
        ck_assert(blk_int_decode(blk_kernels(), &c, n, back));
        ck_assert_uint_eq(kl_cur_left(&c), 0);
        ck_assert_int_eq(memcmp(x, back, n * 8), 0);
        c = kl_cur(b.at, b.size);
        ck_assert(blk_int_skip(&c, n, &head));
        ck_assert_uint_eq(kl_cur_left(&c), 0);
        kl_buf_deinit(&b);
    }
}
END_TEST

START_TEST(flipped_and_cut_bytes_never_lead_outside)   /* what they decode to is the frame's concern */
{
    for (unsigned class = 0; class < CLASSES; class++) {
        struct kl_buf b = { 0 };
        uint32_t      got, n = 40;

        seed = class;
        make((enum class)class, values, n);
        make_times(class % TIMES, times, n);
        blk_chunk_encode(times, values, times, n, &b);
        for (size_t at = 0; at < b.size; at++) {
            uint8_t *copy = malloc(b.size);

            for (unsigned bit = 0; bit < 8; bit++) {
                memcpy(copy, b.at, b.size);
                copy[at] ^= (uint8_t)(1u << bit);
                enum kl_code code = blk_chunk_decode(kl_span(copy, b.size), times_back, values_back,
                                                     starts_back, &got, &err);
                ck_assert(code == KL_ECORRUPT || (code == KL_OK && got >= 1 && got <= BLK_CHUNK_MAX));
                blk_chunk_codec(kl_span(copy, b.size));
            }
            free(copy);
            copy = malloc(at + 1);
            memcpy(copy, b.at, at + 1);
            if (at + 1 < b.size)
                ck_assert_int_eq(blk_chunk_decode(kl_span(copy, at + 1), times_back, values_back,
                                                  starts_back, &got, &err), KL_ECORRUPT);
            free(copy);
        }
        kl_buf_deinit(&b);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libblock/chunk");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, every_class_of_series_comes_back_bit_for_bit, 0, CLASSES);
    tcase_add_test(t, encoding_depends_on_the_samples_alone);
    tcase_add_test(t, what_is_regular_costs_next_to_nothing);
    tcase_add_test(t, sums_of_decimals_cost_far_less_than_their_bits);
    tcase_add_loop_test(t, kernels_agree_on_every_width_and_length, 0, 65);
    tcase_add_loop_test(t, kernels_divide_as_the_processor_does, 0, BLK_DECIMAL_E_MAX + 1);
    tcase_add_loop_test(t, integers_of_any_kind_come_back, 0, 7);
    tcase_add_test(t, flipped_and_cut_bytes_never_lead_outside);
    suite_add_tcase(s, t);
    return run_suite(s);
}
