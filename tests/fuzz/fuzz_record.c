/* Log records: any bytes are told whole or refused before anything is told. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t calls, sum;

static void touch(struct kl_span s)
{
    for (size_t i = 0; i < s.size; i++)
        sum += ((const uint8_t *)s.at)[i];
}

static void define(void *c, struct kl_span t, uint64_t ref, struct kl_fp fp, struct kl_labels l)
{
    (void)c, (void)ref, (void)fp;
    calls++;
    touch(t);
    assert(kl_labels_check(l, &(struct kl_err){ 0 }) == KL_OK);
}

static void floats(void *c, struct kl_span t, uint64_t ref, const int64_t *times, const double *values, size_t n)
{
    (void)c, (void)ref;
    calls++;
    touch(t);
    assert(n > 0 && n <= 512);
    for (size_t i = 0; i < n; i++)
        sum += (uint64_t)times[i] + (values[i] > 0);
}

static void hist(void *c, struct kl_span t, uint64_t ref, int64_t time_ms, const struct kl_hist *h)
{
    struct kl_buf again = { 0 };

    (void)c, (void)ref, (void)time_ms;
    calls++;
    touch(t);
    tsp_hist_put(&again, h);                           /* asserts that it is consistent */
    kl_buf_deinit(&again);
}

static void start(void *c, struct kl_span t, uint64_t ref, int64_t time_ms, int64_t start_ms)
{
    (void)c, (void)ref, (void)time_ms, (void)start_ms;
    calls++;
    touch(t);
}

static void exemplar(void *c, struct kl_span t, uint64_t ref, int64_t time_ms, double v, struct kl_labels l)
{
    (void)c, (void)ref, (void)time_ms, (void)v;
    calls++;
    touch(t);
    assert(kl_labels_check(l, &(struct kl_err){ 0 }) == KL_OK);
}

static void metadata(void *c, struct kl_span t, struct kl_span m, uint8_t type, struct kl_span u, struct kl_span h)
{
    (void)c, (void)type;
    calls++;
    touch(t), touch(m), touch(u), touch(h);
}

static void deletion(void *c, struct kl_span t, const struct tsp_deletion *d)
{
    (void)c;
    calls++;
    touch(t);
    for (uint32_t i = 0; i < d->matcher_count; i++)
        touch(d->matchers[i].name), touch(d->matchers[i].value);
}

static void cut(void *c, const struct tsp_cut *x)
{
    (void)c, (void)x;
    calls++;
}

static const struct tsp_record_sink sink = { NULL, define, floats, hist, start, exemplar, metadata, deletion, cut };

static void read_it(struct tsp_record_reader *r, const uint8_t *at, size_t size)
{
    struct tsp_record_head head;
    struct kl_err          err;

    calls = 0;
    if (tsp_record_read(r, kl_span(at, size), &sink, &head, &err) != KL_OK)
        assert(calls == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_record_reader *r = tsp_record_reader_new();
    uint8_t  *sealed;
    uint32_t  crc, body;

    read_it(r, data, size);
    if (size >= 36) {                                  /* anew, with what a checksum would stop at */
        sealed = malloc(size);
        memcpy(sealed, data, size);
        memcpy(sealed, "KR\1", 3);
        sealed[3] &= 1;
        body = (uint32_t)(size - 36);
        if (sealed[3] == 0)
            memcpy(sealed + 32, &body, 4);
        crc = kl_crc32c(0, sealed + 8, size - 8);
        memcpy(sealed + 4, &crc, 4);
        read_it(r, sealed, size);
        free(sealed);
    }
    tsp_record_reader_free(r);
    return 0;
}
