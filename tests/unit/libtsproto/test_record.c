/*
 * libtsproto/record: what a doorman wrote is what a reader is told, and a bad record changes nothing.
 */
#include "libtsproto/record.h"
#include "tests/suite.h"

#include <assert.h>
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct tsp_record_writer *w;
static struct tsp_record_reader *r;
static struct kl_buf             out, told, labels;
static struct kl_err             err;
static struct tsp_record_head    head;

static const struct tsp_incarnation who = { "0123456789abcdef" };
static const struct kl_hist_span    spans[] = { { -3, 2 }, { 5, 1 } };
static const double                 counts[] = { 1, 3, 2 }, floats[] = { 0.5, 1e300, 0 }, bounds[] = { 1, 2.5 };

static void setup(void)
{
    w = tsp_record_writer_new();
    r = tsp_record_reader_new();
    kl_buf_init(&out, 0);
    kl_buf_init(&told, 0);
    kl_buf_init(&labels, 0);
}

static void teardown(void)
{
    tsp_record_writer_free(w);
    tsp_record_reader_free(r);
    kl_buf_deinit(&out);
    kl_buf_deinit(&told);
    kl_buf_deinit(&labels);
}

static struct kl_span text(const char *s) { return kl_span_str(s); }

static struct kl_labels label_set(const char *metric, const char *value)
{
    static struct kl_labels_builder b;

    kl_labels_start(&b);
    kl_labels_add(&b, text("__name__"), text(metric), &err);
    kl_labels_add(&b, text("job"), text(value), &err);
    kl_buf_reset(&labels);
    assert(kl_labels_finish(&b, &labels, &err) == KL_OK);
    return (struct kl_labels){ .at = (const uint8_t *)labels.at, .size = labels.size };
}

/* ---- a sink that writes down what it is told, a line each ---- */

static void tell(const char *what, struct kl_span tenant, uint64_t ref)
{
    kl_buf_addf(&told, "%s %.*s %llu", what, (int)tenant.size, (const char *)tenant.at, (unsigned long long)ref);
}

static void tell_labels(struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;

    while (kl_labels_next(&c, &x))
        kl_buf_addf(&told, " %.*s=%.*s", (int)x.name.size, (const char *)x.name.at, (int)x.value.size,
                    (const char *)x.value.at);
    kl_buf_adds(&told, "\n");
}

static void on_define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    (void)ctx;
    tell("define", tenant, ref);
    kl_buf_addf(&told, " %llx-%llx", (unsigned long long)fp.hi, (unsigned long long)fp.lo);
    tell_labels(l);
}

static void on_floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times, const double *values,
                      size_t count)
{
    (void)ctx;
    ck_assert_uint_le(count, 512);
    tell("floats", tenant, ref);
    for (size_t i = 0; i < count; i++)
        kl_buf_addf(&told, " %lld=%llx", (long long)times[i], (unsigned long long)kl_f64_bits(values[i]));
    kl_buf_adds(&told, "\n");
}

static void tell_side(const struct kl_hist_span *s, uint32_t n, const double *c, uint32_t count)
{
    for (uint32_t i = 0; i < n; i++)
        kl_buf_addf(&told, " %d:%u", s[i].offset, s[i].length);
    for (uint32_t i = 0; i < count; i++)
        kl_buf_addf(&told, " %g", c[i]);
    kl_buf_adds(&told, " |");
}

static void on_hist(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, const struct kl_hist *h)
{
    (void)ctx;
    tell("hist", tenant, ref);
    kl_buf_addf(&told, " %lld schema %d reset %u int %d zero %g/%g count %g sum %g |", (long long)time_ms, h->schema,
                h->reset, h->was_int, h->zero_count, h->zero_threshold, h->count, h->sum);
    tell_side(h->pos_spans, h->pos_span_count, h->pos, h->pos_count);
    tell_side(h->neg_spans, h->neg_span_count, h->neg, h->neg_count);
    for (uint32_t i = 0; i < h->bound_count; i++)
        kl_buf_addf(&told, " %g", h->bounds[i]);
    kl_buf_adds(&told, "\n");
}

static void on_start(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, int64_t start_ms)
{
    (void)ctx;
    tell("start", tenant, ref);
    kl_buf_addf(&told, " %lld %lld\n", (long long)time_ms, (long long)start_ms);
}

static void on_exemplar(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, double value,
                        struct kl_labels l)
{
    (void)ctx;
    tell("exemplar", tenant, ref);
    kl_buf_addf(&told, " %lld %g", (long long)time_ms, value);
    tell_labels(l);
}

static void on_metadata(void *ctx, struct kl_span tenant, struct kl_span metric, uint8_t type, struct kl_span unit,
                        struct kl_span help)
{
    (void)ctx;
    tell("metadata", tenant, type);
    kl_buf_addf(&told, " %.*s/%.*s/%.*s\n", (int)metric.size, (const char *)metric.at, (int)unit.size,
                (const char *)unit.at, (int)help.size, (const char *)help.at);
}

static void on_deletion(void *ctx, struct kl_span tenant, const struct tsp_deletion *d)
{
    (void)ctx;
    tell("deletion", tenant, d->matcher_count);
    kl_buf_addf(&told, " %lld..%lld", (long long)d->from_ms, (long long)d->to_ms);
    for (uint32_t i = 0; i < d->matcher_count; i++)
        kl_buf_addf(&told, " %.*s %d %.*s", (int)d->matchers[i].name.size, (const char *)d->matchers[i].name.at,
                    d->matchers[i].op, (int)d->matchers[i].value.size, (const char *)d->matchers[i].value.at);
    kl_buf_adds(&told, "\n");
}

static void on_cut(void *ctx, const struct tsp_cut *cut)
{
    (void)ctx;
    kl_buf_addf(&told, "cut %lld+%lld epoch %llu format %u\n", (long long)cut->window_start_ms,
                (long long)cut->window_ms, (unsigned long long)cut->epoch, cut->format);
}

static const struct tsp_record_sink everything = {
    .define = on_define, .floats = on_floats, .hist = on_hist, .start_time = on_start, .exemplar = on_exemplar,
    .metadata = on_metadata, .deletion = on_deletion, .cut = on_cut,
};

static enum kl_code read_it(struct kl_span record)
{
    enum kl_code code;

    kl_buf_reset(&told);
    code = tsp_record_read(r, record, &everything, &head, &err);
    kl_buf_add8(&told, 0);
    return code;
}

/* ---- the golden records ---- */

static void write_plain(void)
{
    struct kl_hist h = { .schema = 2, .reset = KL_HIST_NO_RESET, .was_int = true, .zero_threshold = 0.001,
                         .zero_count = 4, .count = 16, .sum = 12.5, .pos_span_count = 2, .pos_spans = spans,
                         .pos_count = 3, .pos = counts, .neg_span_count = 2, .neg_spans = spans, .neg_count = 3,
                         .neg = counts };
    struct kl_hist f = { .schema = KL_HIST_CUSTOM, .sum = -1, .count = 7.5, .pos_span_count = 2, .pos_spans = spans,
                         .pos_count = 3, .pos = floats, .bound_count = 2, .bounds = bounds };
    struct tsp_deletion d = { .from_ms = -5, .to_ms = 1700000000000, .matcher_count = 2, .matchers = {
        { .op = KL_MATCH_EQ, .name = text("job"), .value = text("node") },
        { .op = KL_MATCH_NRE, .name = text("x"), .value = text("") } } };
    struct tsp_cut cut = { .window_start_ms = 1700000000000, .window_ms = 7200000, .epoch = 3, .format = 1 };
    struct tsp_cut all = { .epoch = 4, .format = 1 };
    struct kl_labels l;

    tsp_record_start(w);
    tsp_record_floats(w, text("anonymous"), 7, (int64_t[]){ 1700000000000 }, (double[]){ 1.5 }, 1);
    l = label_set("up", "node");
    tsp_record_define(w, text("anonymous"), 7, (struct kl_fp){ 1, 2 }, l);
    l = label_set("up", "\xc3\xa9");
    tsp_record_define(w, text("anonymous"), 3, (struct kl_fp){ UINT64_MAX, 0xabcdef }, l);
    tsp_record_floats(w, text("anonymous"), 3, (int64_t[]){ 1700000015000, 1699999999999, INT64_MIN, INT64_MAX },
                      (double[]){ -0.0, kl_bits_f64(KL_STALE_BITS), INFINITY, 5e-324 }, 4);
    tsp_record_floats(w, text("other"), 1, (int64_t[]){ 0 }, (double[]){ 0 }, 1);
    tsp_record_floats(w, text("anonymous"), UINT64_MAX >> 2, (int64_t[]){ 5 }, (double[]){ 6 }, 1);
    tsp_record_hist(w, text("anonymous"), 9, 1700000000001, &h);
    tsp_record_hist(w, text("anonymous"), 8, 1700000000000, &f);
    tsp_record_start_time(w, text("anonymous"), 9, 1700000000001, 1600000000000);
    l = label_set("x", "y");
    tsp_record_exemplar(w, text("other"), 1, 44, 0.25, l);
    tsp_record_metadata(w, text("anonymous"), text("up"), 2, text(""), text("Is it up?"));
    tsp_record_delete(w, text("other"), &d);
    tsp_record_cut(w, &cut);
    tsp_record_cut(w, &all);
}

static const char plain_says[] =
    "define anonymous 7 1-2 __name__=up job=node\n"
    "define anonymous 3 ffffffffffffffff-abcdef __name__=up job=\xc3\xa9\n"
    "floats anonymous 7 1700000000000=3ff8000000000000\n"
    "floats anonymous 3 1700000015000=8000000000000000 1699999999999=7ff0000000000002 "
    "-9223372036854775808=7ff0000000000000 9223372036854775807=1\n"
    "floats other 1 0=0\n"
    "floats anonymous 4611686018427387903 5=4018000000000000\n"
    "hist anonymous 9 1700000000001 schema 2 reset 2 int 1 zero 4/0.001 count 16 sum 12.5 | -3:2 5:1 1 3 2 | -3:2 5:1 "
    "1 3 2 |\n"
    "hist anonymous 8 1700000000000 schema -53 reset 0 int 0 zero 0/0 count 7.5 sum -1 | -3:2 5:1 0.5 1e+300 0 | | 1 2.5\n"
    "start anonymous 9 1700000000001 1600000000000\n"
    "exemplar other 1 44 0.25 __name__=x job=y\n"
    "metadata anonymous 2 up//Is it up?\n"
    "deletion other 2 -5..1700000000000 job 0 node x 3 \n"
    "cut 1700000000000+7200000 epoch 3 format 1\n"
    "cut 0+0 epoch 4 format 1\n";

static void write_packed(void)
{
    struct kl_labels l = label_set("up", "node");

    tsp_record_start(w);
    tsp_record_define(w, text("anonymous"), 1, (struct kl_fp){ 1, 2 }, l);
    for (int i = 0; i < 20; i++) {
        int64_t times[100];
        double  values[100];
        for (int k = 0; k < 100; k++) {
            times[k] = 1700000000000 + k * 15000;
            values[k] = i * 100 + k;
        }
        tsp_record_floats(w, text("anonymous"), (uint64_t)i, times, values, 100);
    }
}

static void finish(uint64_t counter)
{
    kl_buf_reset(&out);
    assert(tsp_record_finish(w, who, counter, &out, &err) == KL_OK);
}

static size_t load(const char *name, char *bytes, size_t room)
{
    char   path[80];
    FILE  *f;
    size_t n;

    snprintf(path, sizeof path, "tests/data/record-v1/%s.record", name);
    f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is not there: tests run from the root of the tree", path);
    n = fread(bytes, 1, room, f);
    fclose(f);
    return n;
}

START_TEST(the_plain_record_of_version_1_is_written_byte_for_byte)
{
    char   bytes[8192];
    size_t n = load("plain", bytes, sizeof bytes);

    write_plain();
    finish(42);
    ck_assert_uint_eq(out.size, n);
    ck_assert_mem_eq(out.at, bytes, n);
}
END_TEST

START_TEST(the_plain_record_of_version_1_is_read)
{
    char   bytes[8192];
    size_t n = load("plain", bytes, sizeof bytes);

    ck_assert_msg(read_it(kl_span(bytes, n)) == KL_OK, "%s", err.text);
    ck_assert_str_eq(told.at, plain_says);
    ck_assert_mem_eq(head.who.bytes, who.bytes, 16);
    ck_assert_uint_eq(head.counter, 42);
}
END_TEST

/* Its bytes are zstd's own, which another version may choose differently: only what it says counts. */
START_TEST(the_packed_record_of_version_1_is_read)
{
    char          bytes[8192];
    size_t        n = load("packed", bytes, sizeof bytes);
    struct kl_buf before = { 0 };

    ck_assert_uint_eq((uint8_t)bytes[3], 1);
    ck_assert_msg(read_it(kl_span(bytes, n)) == KL_OK, "%s", err.text);
    kl_buf_add(&before, told.at, told.size);
    write_packed();
    finish(43);
    ck_assert_uint_lt(out.size, 8000);                 /* of 18,000 */
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_OK);
    ck_assert_uint_eq(told.size, before.size);
    ck_assert_mem_eq(told.at, before.at, before.size);
    kl_buf_deinit(&before);
}
END_TEST

/* ---- bounds ---- */

START_TEST(a_long_run_comes_in_pieces_with_nothing_lost)
{
    enum { COUNT = 1300 };
    static int64_t times[COUNT];
    static double  values[COUNT];
    const char    *at;
    int            lines = 0, samples = 0;

    for (int i = 0; i < COUNT; i++)
        times[i] = 1000 * i, values[i] = i;
    tsp_record_start(w);
    tsp_record_floats(w, text("t"), 1, times, values, COUNT);
    finish(1);
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_OK);
    for (at = told.at; *at != '\0'; at++) {
        lines += *at == '\n';
        samples += *at == '=';
    }
    ck_assert_int_eq(lines, 3);
    ck_assert_int_eq(samples, COUNT);
    ck_assert_ptr_nonnull(strstr(told.at, " 1299000=40944c0000000000\n"));
}
END_TEST

START_TEST(the_size_is_what_the_body_will_weigh)
{
    uint32_t body;

    write_plain();
    finish(1);
    memcpy(&body, out.at + 32, 4);
    ck_assert_uint_eq(tsp_record_size(w), body);
    tsp_record_start(w);
    ck_assert_uint_eq(tsp_record_size(w), 0);
}
END_TEST

START_TEST(a_record_past_the_bound_is_refused_by_its_writer)
{
    char *help = malloc(1 << 20);

    memset(help, 'x', 1 << 20);
    tsp_record_start(w);
    for (int i = 0; i < 5; i++)
        tsp_record_metadata(w, text("t"), text("m"), 0, text(""), kl_span(help, 1 << 20));
    ck_assert_int_eq(tsp_record_finish(w, who, 1, &out, &err), KL_ELIMIT);
    ck_assert_uint_eq(out.size, 0);
    free(help);
}
END_TEST

START_TEST(an_empty_record_is_a_record)
{
    tsp_record_start(w);
    finish(5);
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_OK);
    ck_assert_str_eq(told.at, "");
    ck_assert_uint_eq(head.counter, 5);
}
END_TEST

/* ---- bad records ---- */

/* Anew the checksum of a tampered record, so that what it guards is seen. */
static void reseal(void)
{
    uint32_t crc = kl_crc32c(0, out.at + 8, out.size - 8);

    memcpy(out.at + 4, &crc, 4);
}

START_TEST(a_flipped_bit_anywhere_is_found)
{
    write_plain();
    finish(42);
    for (size_t bit = 0; bit < out.size * 8; bit++) {
        out.at[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_ECORRUPT);
        ck_assert_str_eq(told.at, "");
        out.at[bit / 8] ^= (char)(1 << bit % 8);
    }
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_OK);
}
END_TEST

START_TEST(a_cut_record_is_found)
{
    write_plain();
    finish(42);
    for (size_t n = 0; n < out.size; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, out.at, n);
        ck_assert_int_eq(read_it(kl_span(cut, n)), KL_ECORRUPT);
        ck_assert_str_eq(told.at, "");
        free(cut);
    }
}
END_TEST

/* Damage that carries a right checksum, as a faulty writer would make: refused, or read whole, but
 * never told in part. */
START_TEST(a_wrong_body_is_told_whole_or_not_at_all)
{
    write_plain();
    finish(42);
    for (size_t i = 36; i < out.size; i++)
        for (int step = 1; step < 256; step += 51) {
            enum kl_code code;
            out.at[i] = (char)(out.at[i] + step);
            reseal();
            code = read_it(kl_buf_span(&out));
            ck_assert(code == KL_OK || code == KL_ECORRUPT || code == KL_ELIMIT);
            ck_assert(code == KL_OK || told.size == 1);
            out.at[i] = (char)(out.at[i] - step);
        }
}
END_TEST

START_TEST(what_this_version_does_not_know_stops_the_reader)
{
    static const char *const words[] = {
        "a log record of version 2 with flags 0, which this version does not know: upgrade before reading on",
        "a log record of version 1 with flags 2, which this version does not know: upgrade before reading on",
        "a log record with a section of type 9, which this version does not know: upgrade before reading on",
        "a log record with a section of type 0, which this version does not know: upgrade before reading on",
    };
    static const size_t at[] = { 2, 3, 36, 36 };
    static const char   what[] = { 2, 2, 9, 0 };

    tsp_record_start(w);
    tsp_record_floats(w, text("t"), 1, (int64_t[]){ 1 }, (double[]){ 1 }, 1);
    finish(1);
    out.at[at[_i]] = what[_i];
    reseal();
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_ECORRUPT);
    ck_assert_str_eq(err.text, words[_i]);
    ck_assert_str_eq(told.at, "");
}
END_TEST

START_TEST(labels_that_are_not_canonical_are_refused_before_anything_is_told)
{
    static const char unsorted[] = "\1b\1x\1a\1y";
    struct kl_labels  l = { .at = (const uint8_t *)unsorted, .size = 8 };

    tsp_record_start(w);
    tsp_record_floats(w, text("t"), 1, (int64_t[]){ 1 }, (double[]){ 1 }, 1);
    if (_i == 0)
        tsp_record_define(w, text("t"), 1, (struct kl_fp){ 0, 0 }, l);
    else
        tsp_record_exemplar(w, text("t"), 1, 1, 1, l);
    finish(1);
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_ECORRUPT);
    ck_assert_str_eq(told.at, "");
}
END_TEST

START_TEST(a_declared_size_past_the_bound_takes_no_memory)
{
    write_packed();
    finish(1);
    memcpy(out.at + 32, "\xff\xff\xff\x7f", 4);
    reseal();
    ck_assert_int_eq(read_it(kl_buf_span(&out)), KL_ECORRUPT);
    ck_assert_str_eq(err.text, "a log record whose declared size is too large");
}
END_TEST

/* Known series, ten thousand of a gate's, scraped together or each at its own time, in any order. */
START_TEST(a_known_series_with_one_sample_costs_at_most_16_bytes)
{
    enum { SERIES = 10000 };
    int64_t  time_ms = 1700000000000;
    double   value = 0.1;
    uint64_t ref = 1, x = 88172645463325252u;

    tsp_record_start(w);
    for (int i = 0; i < SERIES; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        if (_i == 0)
            ref = (uint64_t)i + 1;                     /* as they were first seen, at one time */
        else if (_i == 1)
            time_ms = 1700000000000 + (int64_t)(x % 60000), ref = (uint64_t)i + 1;
        else                                           /* of a million, and of an hour */
            time_ms = 1700000000000 + (int64_t)(x % 3600000), ref = x % 1000000 + 1;
        tsp_record_floats(w, kl_span_str("t"), ref, &time_ms, &value, 1);
    }
    ck_assert_uint_le(tsp_record_size(w), (_i == 0 ? 10 : _i == 1 ? 12 : 16) * SERIES + 100);
}
END_TEST

START_TEST(a_histogram_comes_back_as_it_was)               /* integers, floats, empty */
{
    struct kl_hist  h = { .sum = _i == 2 ? kl_bits_f64(KL_STALE_BITS) : 3, .count = 6 }, got;
    struct kl_arena arena;
    struct kl_cur   c;

    kl_arena_init(&arena, 1 << 20);
    if (_i < 2) {
        h.pos_span_count = 2, h.pos_spans = spans, h.pos_count = 3;
        h.pos = _i == 0 ? counts : floats;
    }
    tsp_hist_put(&out, &h);
    c = kl_cur(out.at, out.size);
    ck_assert_int_eq(tsp_hist_get(&c, &arena, &got, &err), KL_OK);
    ck_assert_uint_eq(kl_cur_left(&c), 0);
    ck_assert_uint_eq(kl_f64_bits(got.sum), kl_f64_bits(h.sum));
    ck_assert_uint_eq(got.pos_count, h.pos_count);
    for (uint32_t i = 0; i < h.pos_count; i++)
        ck_assert(kl_f64_bits(got.pos[i]) == kl_f64_bits(h.pos[i]));
    kl_arena_deinit(&arena);
}
END_TEST

/* For a new version: test_record write. Old versions stay as they are. */
static int write_golden(void)
{
    setup();
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(i == 0 ? "tests/data/record-v1/plain.record" : "tests/data/record-v1/packed.record", "wb");
        if (f == NULL)
            return 1;
        if (i == 0)
            write_plain();
        else
            write_packed();
        finish(42 + (uint64_t)i);
        fwrite(out.at, 1, out.size, f);
        fclose(f);
    }
    teardown();
    return 0;
}

int main(int argc, char **argv)
{
    Suite *s = suite_create("libtsproto/record");
    TCase *t = tcase_create("all");

    if (argc > 1 && strcmp(argv[1], "write") == 0)
        return write_golden();
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, the_plain_record_of_version_1_is_written_byte_for_byte);
    tcase_add_test(t, the_plain_record_of_version_1_is_read);
    tcase_add_test(t, the_packed_record_of_version_1_is_read);
    tcase_add_test(t, a_long_run_comes_in_pieces_with_nothing_lost);
    tcase_add_test(t, the_size_is_what_the_body_will_weigh);
    tcase_add_test(t, a_record_past_the_bound_is_refused_by_its_writer);
    tcase_add_test(t, an_empty_record_is_a_record);
    tcase_add_test(t, a_flipped_bit_anywhere_is_found);
    tcase_add_test(t, a_cut_record_is_found);
    tcase_add_test(t, a_wrong_body_is_told_whole_or_not_at_all);
    tcase_add_loop_test(t, what_this_version_does_not_know_stops_the_reader, 0, 4);
    tcase_add_loop_test(t, labels_that_are_not_canonical_are_refused_before_anything_is_told, 0, 2);
    tcase_add_test(t, a_declared_size_past_the_bound_takes_no_memory);
    tcase_add_loop_test(t, a_known_series_with_one_sample_costs_at_most_16_bytes, 0, 3);
    tcase_add_loop_test(t, a_histogram_comes_back_as_it_was, 0, 3);
    suite_add_tcase(s, t);
    return run_suite(s);
}
