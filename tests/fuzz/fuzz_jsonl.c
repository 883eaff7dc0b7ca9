/* JSON lines: any bytes are read or refused; a series has the samples that it announces, or names the bad. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/jsonl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_jsonl       *t = tsp_jsonl_new();
    struct tsp_jsonl_series s;
    enum tsp_jsonl_item     item;
    struct kl_buf           out = { 0 };
    struct kl_err           err;
    size_t                  items = 0, n, announced, seen;
    int64_t                 times[3];
    double                  values[3];
    uint64_t                bad;

    tsp_jsonl_open(t, kl_span(data, size));
    while ((item = tsp_jsonl_next(t, &s, &err)) != TSP_JSONL_END) {
        assert(++items <= size);
        if (item != TSP_JSONL_SERIES)
            continue;
        (void)kl_labels_finish(s.labels, &out, &err);
        announced = s.count;
        assert(announced <= size);
        for (seen = 0, bad = 0; (n = tsp_jsonl_walk(&s, times, values, 3, &bad)) > 0; )
            seen += n;
        assert(seen + bad == announced);
    }
    kl_buf_deinit(&out);
    tsp_jsonl_free(t);
    return 0;
}
