/*
 * libtsproto/inflate: what was packed comes out, and a bomb takes no memory.
 */
#include "libtsproto/inflate.h"
#include "tests/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

enum { SIZE = 300 * 1000, CAP = 1 << 20, BOMB = 64 << 20 };

static struct kl_err err;
static char         *out;
static size_t        out_size;

static const enum tsp_coding codings[] = { TSP_IDENTITY, TSP_GZIP, TSP_DEFLATE, TSP_ZSTD, TSP_SNAPPY };

static char *pattern(size_t size)
{
    char *at = malloc(size + 1);

    for (size_t i = 0; i < size; i++)
        at[i] = (char)('a' + i * i % 23);
    return at;
}

static char *zip(bool gzip, const char *in, size_t in_size, size_t *size)
{
    z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)in_size };
    char    *at = malloc(in_size / 100 + in_size + 1000);

    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, gzip ? 31 : 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = (Bytef *)at;
    z.avail_out = (uInt)(in_size / 100 + in_size + 1000);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    *size = z.total_out;
    deflateEnd(&z);
    return at;
}

/* zstd, with its content size declared in the frame or not. */
static char *zst(bool declare, const char *in, size_t in_size, size_t *size)
{
    ZSTD_CCtx *z = ZSTD_createCCtx();
    size_t     bound = ZSTD_compressBound(in_size);
    char      *at = malloc(bound);

    ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, declare);
    *size = ZSTD_compress2(z, at, bound, in, in_size);
    ck_assert(!ZSTD_isError(*size));
    ZSTD_freeCCtx(z);
    return at;
}

static char *pack(enum tsp_coding coding, const char *in, size_t in_size, size_t *size)
{
    char *at;

    switch (coding) {
    case TSP_GZIP:    return zip(true, in, in_size, size);
    case TSP_DEFLATE: return zip(false, in, in_size, size);
    case TSP_ZSTD:    return zst(true, in, in_size, size);
    case TSP_SNAPPY:
        *size = snappy_max_compressed_length(in_size);
        at = malloc(*size);
        ck_assert_int_eq(snappy_compress(in, in_size, at, size), SNAPPY_OK);
        return at;
    default:
        *size = in_size;
        at = malloc(in_size + 1);
        memcpy(at, in, in_size);
        return at;
    }
}

START_TEST(what_was_packed_comes_out)
{
    enum tsp_coding coding = codings[_i % 5];
    size_t          sizes[] = { 0, 1, SIZE, CAP }, n = sizes[_i / 5], packed_size;
    char           *in = pattern(n), *packed = pack(coding, in, n, &packed_size);

    ck_assert_int_eq(tsp_inflate(coding, kl_span(packed, packed_size), CAP, &out, &out_size, &err), KL_OK);
    ck_assert_uint_eq(out_size, n);
    ck_assert_mem_eq(out, in, n);
    free(out);
    free(in);
    free(packed);
}
END_TEST

START_TEST(one_byte_past_the_cap_is_refused)
{
    enum tsp_coding coding = codings[_i];
    size_t          size;
    char           *in = pattern(SIZE), *packed = pack(coding, in, SIZE, &size);

    ck_assert_int_eq(tsp_inflate(coding, kl_span(packed, size), SIZE - 1, &out, &out_size, &err), KL_ELIMIT);
    ck_assert_str_eq(err.text, "unpacks to more than 299999 bytes");
    free(in);
    free(packed);
}
END_TEST

START_TEST(a_bomb_is_refused_at_the_cap)
{
    enum tsp_coding coding = codings[_i];
    size_t          size;
    char           *in = calloc(1, BOMB), *packed = pack(coding, in, BOMB, &size);

    ck_assert_int_eq(tsp_inflate(coding, kl_span(packed, size), CAP, &out, &out_size, &err), KL_ELIMIT);
    free(in);
    free(packed);
}
END_TEST

START_TEST(a_zstd_bomb_that_declares_nothing_is_refused_at_the_cap)
{
    size_t size;
    char  *in = calloc(1, BOMB), *packed = zst(false, in, BOMB, &size);

    ck_assert_int_eq(tsp_inflate(TSP_ZSTD, kl_span(packed, size), CAP, &out, &out_size, &err), KL_ELIMIT);
    free(in);
    free(packed);
}
END_TEST

START_TEST(a_declared_size_that_lies_is_refused_before_memory_is_taken)
{
    /* snappy: 900,000 bytes said, ten there. */
    ck_assert_int_eq(tsp_inflate(TSP_SNAPPY, kl_span("\xa0\xf7\x36\x00z", 5), CAP, &out, &out_size, &err),
                     KL_EINVAL);
    /* zstd: a frame of 2^62 bytes; single segment, eight bytes of content size. */
    ck_assert_int_eq(tsp_inflate(TSP_ZSTD, kl_span("\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x40\x01\0\0", 16),
                                 CAP, &out, &out_size, &err), KL_ELIMIT);
}
END_TEST

START_TEST(a_zstd_window_of_128_mib_is_refused)
{
    /* Window descriptor 17 << 3: 2^27; an empty last raw block. RFC 8878 3.1.1.1.2. */
    ck_assert_int_eq(tsp_inflate(TSP_ZSTD, kl_span("\x28\xb5\x2f\xfd\x00\x88\x01\0\0", 9), CAP, &out,
                                 &out_size, &err), KL_EINVAL);
}
END_TEST

START_TEST(a_cut_or_foreign_body_is_refused)
{
    enum tsp_coding coding = codings[1 + _i];
    size_t          size;
    char           *in = pattern(5000), *packed = pack(coding, in, 5000, &size);

    for (size_t n = 0; n < size; n += 1 + n / 7) {
        char *cut = malloc(n + 1);
        memcpy(cut, packed, n);
        ck_assert_int_eq(tsp_inflate(coding, kl_span(cut, n), CAP, &out, &out_size, &err), KL_EINVAL);
        free(cut);
    }
    ck_assert_int_eq(tsp_inflate(coding, kl_span("no such thing at all", 20), CAP, &out, &out_size, &err),
                     KL_EINVAL);
    free(in);
    free(packed);
}
END_TEST

START_TEST(gzip_members_and_zstd_frames_in_a_row_are_one_body)
{
    enum tsp_coding coding = _i == 0 ? TSP_GZIP : TSP_ZSTD;
    size_t          size;
    char           *in = pattern(5000), *packed = pack(coding, in, 5000, &size), *twice = malloc(2 * size);

    memcpy(twice, packed, size);
    memcpy(twice + size, packed, size);
    ck_assert_int_eq(tsp_inflate(coding, kl_span(twice, 2 * size), CAP, &out, &out_size, &err), KL_OK);
    ck_assert_uint_eq(out_size, 10000);
    ck_assert(memcmp(out, in, 5000) == 0 && memcmp(out + 5000, in, 5000) == 0);
    free(out);
    free(in);
    free(packed);
    free(twice);
}
END_TEST

START_TEST(a_coding_is_known_by_its_header)
{
    static const struct { const char *header; enum tsp_coding coding; } known[] = {
        { NULL, TSP_IDENTITY }, { "", TSP_IDENTITY }, { "identity", TSP_IDENTITY }, { "gzip", TSP_GZIP },
        { "GZIP ", TSP_GZIP }, { "deflate", TSP_DEFLATE }, { " zstd", TSP_ZSTD }, { "snappy", TSP_SNAPPY },
    };
    enum tsp_coding coding = (enum tsp_coding)99;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        ck_assert_int_eq(tsp_coding_of(known[i].header, &coding, &err), KL_OK);
        ck_assert_int_eq(coding, known[i].coding);
    }
    ck_assert_int_eq(tsp_coding_of("br", &coding, &err), KL_EINVAL);
    ck_assert_int_eq(tsp_coding_of("gzip, gzip", &coding, &err), KL_EINVAL);
    ck_assert_int_eq(coding, TSP_SNAPPY);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libtsproto/inflate");
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, what_was_packed_comes_out, 0, 20);
    tcase_add_loop_test(t, one_byte_past_the_cap_is_refused, 0, 5);
    tcase_add_loop_test(t, a_bomb_is_refused_at_the_cap, 1, 5);
    tcase_add_test(t, a_zstd_bomb_that_declares_nothing_is_refused_at_the_cap);
    tcase_add_test(t, a_declared_size_that_lies_is_refused_before_memory_is_taken);
    tcase_add_test(t, a_zstd_window_of_128_mib_is_refused);
    tcase_add_loop_test(t, a_cut_or_foreign_body_is_refused, 0, 4);
    tcase_add_loop_test(t, gzip_members_and_zstd_frames_in_a_row_are_one_body, 0, 2);
    tcase_add_test(t, a_coding_is_known_by_its_header);
    suite_add_tcase(s, t);
    return run_suite(s);
}
