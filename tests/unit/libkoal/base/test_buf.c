/* libkoal/base: bytes in and out, memory within its caps, errors in their words. */
#include "libkoal/base/base64.h"
#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"
#include "tests/suite.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const uint64_t numbers[] = { 0, 1, 127, 128, 300, 16383, 16384, UINT32_MAX, (uint64_t)1 << 62,
                                    (uint64_t)1 << 63, UINT64_MAX };
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

START_TEST(what_is_written_is_read_back)
{
    struct kl_buf b = { 0 };
    struct kl_cur c;
    double        nan = 0;
    uint64_t      bits = 0x7ff0000000000002;

    memcpy(&nan, &bits, sizeof nan);
    kl_buf_add8(&b, 200);
    kl_buf_add16(&b, 0x1234);
    kl_buf_add32(&b, 0x12345678);
    kl_buf_add64(&b, UINT64_MAX - 1);
    kl_buf_addf64(&b, nan);
    for (int i = 0; i < NUMBERS; i++) {
        kl_buf_addv(&b, numbers[i]);
        kl_buf_addz(&b, (int64_t)numbers[i]);
        kl_buf_addz(&b, -(int64_t)(numbers[i] >> 1));
    }
    kl_buf_addspan(&b, kl_span_str("hello"));
    kl_buf_addf(&b, "%d-%s", 42, "x");
    c = kl_cur(b.at, b.size);
    ck_assert_uint_eq(kl_cur_8(&c), 200);
    ck_assert_uint_eq(kl_cur_16(&c), 0x1234);
    ck_assert_uint_eq(kl_cur_32(&c), 0x12345678);
    ck_assert_uint_eq(kl_cur_64(&c), UINT64_MAX - 1);
    nan = kl_cur_f64(&c);
    ck_assert_int_eq(memcmp(&nan, &bits, 8), 0);       /* the payload, too */
    for (int i = 0; i < NUMBERS; i++) {
        ck_assert_uint_eq(kl_cur_v(&c), numbers[i]);
        ck_assert_int_eq(kl_cur_z(&c), (int64_t)numbers[i]);
        ck_assert_int_eq(kl_cur_z(&c), -(int64_t)(numbers[i] >> 1));
    }
    ck_assert(kl_span_eq(kl_cur_span(&c), kl_span_str("hello")));
    ck_assert(kl_span_eq(kl_cur_bytes(&c, 4), kl_span_str("42-x")));
    ck_assert(!c.bad);
    ck_assert_uint_eq(kl_cur_left(&c), 0);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(little_endian_whatever_the_machine)
{
    struct kl_buf b = { 0 };

    kl_buf_add16(&b, 0x0102);
    kl_buf_add32(&b, 0x03040506);
    ck_assert_mem_eq(b.at, "\x02\x01\x06\x05\x04\x03", 6);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(a_read_past_the_end_is_bad_and_stays_bad)
{
    struct kl_cur c = kl_cur("\x05" "abc", 4);

    ck_assert_uint_eq(kl_cur_span(&c).size, 0);        /* says five, has three */
    ck_assert(c.bad);
    ck_assert_uint_eq(kl_cur_left(&c), 0);
    ck_assert_uint_eq(kl_cur_64(&c), 0);
    ck_assert_uint_eq(kl_cur_v(&c), 0);
    ck_assert(c.bad);
}
END_TEST

START_TEST(a_varint_past_64_bits_or_without_an_end_is_bad)
{
    static const char *const wrong[] = { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
                                         "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x80\x80" };
    struct kl_cur c = kl_cur(wrong[_i], strlen(wrong[_i]));

    ck_assert_uint_eq(kl_cur_v(&c), 0);
    ck_assert(c.bad);
}
END_TEST

START_TEST(appends_past_the_cap_are_dropped_and_told)
{
    struct kl_buf b;

    kl_buf_init(&b, 100);
    kl_buf_add(&b, "0123456789", 10);
    ck_assert(kl_buf_ok(&b));
    ck_assert(!kl_buf_reserve(&b, 91));
    ck_assert(!kl_buf_ok(&b));
    ck_assert_uint_eq(b.size, 10);
    kl_buf_reset(&b);
    for (int i = 0; i < 20; i++)
        kl_buf_add(&b, "0123456789", 10);
    ck_assert(!kl_buf_ok(&b));
    ck_assert_uint_le(b.size, 100);
    ck_assert_uint_le(b.room, 100);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(an_arena_gives_aligned_pieces_up_to_its_cap)
{
    struct kl_arena a;
    size_t          total = 0;

    kl_arena_init(&a, 1 << 20);
    for (size_t i = 0; ; i++) {
        size_t size = i * 37 % 30000;
        char  *p = kl_arena_alloc(&a, size);
        if (p == NULL)
            break;
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        memset(p, (int)i, size);
        total += size;
        ck_assert_uint_le(a.used_bytes, 1 << 20);
    }
    ck_assert_uint_gt(total, (1 << 20) * 3 / 4);
    ck_assert_ptr_null(kl_arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_null(kl_arena_alloc(&a, SIZE_MAX - 8));
    kl_arena_deinit(&a);
    ck_assert_uint_eq(a.used_bytes, 0);
    ck_assert_ptr_nonnull(kl_arena_copy(&a, "again", 6));
    kl_arena_deinit(&a);
}
END_TEST

START_TEST(a_budget_gives_no_more_than_its_cap)
{
    struct kl_budget b = { .cap_bytes = 100 };

    ck_assert(kl_budget_take(&b, 60));
    ck_assert(!kl_budget_take(&b, 41));
    ck_assert(!kl_budget_take(&b, SIZE_MAX));
    ck_assert(kl_budget_take(&b, 40));
    kl_budget_give(&b, 100);
    ck_assert_uint_eq(b.used_bytes, 0);
    ck_assert_uint_eq(b.peak_bytes, 100);
}
END_TEST

START_TEST(an_error_gathers_context_in_front)
{
    struct kl_err err;

    ck_assert_int_eq(kl_fail(&err, KL_EIO, "write %s", "x"), KL_EIO);
    ck_assert_int_eq(kl_within(&err, "flush %d", 3), KL_EIO);
    ck_assert_str_eq(err.text, "flush 3: write x");
    for (int i = 0; i < 100; i++)
        kl_within(&err, "context that goes on and on");
    ck_assert_uint_lt(strlen(err.text), sizeof err.text);
}
END_TEST

START_TEST(hashes_are_those_of_the_specifications)
{
    /* CRC-32C: RFC 3720, B.4. XXH3: the reference implementation's values for no bytes at all. */
    uint8_t zeros[32] = { 0 }, ones[32];

    memset(ones, 0xff, sizeof ones);
    ck_assert_uint_eq(kl_crc32c(0, zeros, 32), 0x8a9136aa);
    ck_assert_uint_eq(kl_crc32c(0, ones, 32), 0x62a8ab43);
    ck_assert_uint_eq(kl_crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(kl_crc32c(kl_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    ck_assert_uint_eq(kl_hash64("", 0), 0x2d06800538d394c2);
    ck_assert_uint_eq(kl_hash128("", 0).hi, 0x99aa06d3014798d8);
    ck_assert_uint_eq(kl_hash128("", 0).lo, 0x6001c324468d497f);
}
END_TEST

/* RFC 4648, section 10. */
START_TEST(base64_is_that_of_its_rfc)
{
    static const char *in = "foobar", *padded[] = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };

    for (size_t n = 0; n <= 6; n++) {
        struct kl_buf b = { 0 }, c = { 0 };

        kl_base64(&b, kl_span(in, n), true);
        kl_base64(&c, kl_span(in, n), false);
        ck_assert(kl_span_eq(kl_buf_span(&b), kl_span_str(padded[n])));
        ck_assert(kl_span_eq(kl_buf_span(&c), kl_span(padded[n], strcspn(padded[n], "="))));
        kl_buf_deinit(&b);
        kl_buf_deinit(&c);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/base/buf");
    TCase *t = tcase_create("all");

    tcase_add_test(t, base64_is_that_of_its_rfc);
    tcase_add_test(t, what_is_written_is_read_back);
    tcase_add_test(t, little_endian_whatever_the_machine);
    tcase_add_test(t, a_read_past_the_end_is_bad_and_stays_bad);
    tcase_add_loop_test(t, a_varint_past_64_bits_or_without_an_end_is_bad, 0, 3);
    tcase_add_test(t, appends_past_the_cap_are_dropped_and_told);
    tcase_add_test(t, an_arena_gives_aligned_pieces_up_to_its_cap);
    tcase_add_test(t, a_budget_gives_no_more_than_its_cap);
    tcase_add_test(t, an_error_gathers_context_in_front);
    tcase_add_test(t, hashes_are_those_of_the_specifications);
    suite_add_tcase(s, t);
    return run_suite(s);
}
