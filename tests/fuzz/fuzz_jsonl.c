/* JSON lines: any bytes are read or refused; a series has the samples that it announces, or names the bad; a
 * histogram that was taken comes back bit for bit when it is written. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "libtsproto/jsonl.h"
#include "libtsproto/record.h"

static void write_and_read(const struct kl_hist *h, int64_t time, int64_t start)
{
    static const char        begins[] = "{\"metric\":{},\"histograms\":[";
    struct tsp_jsonl        *t = tsp_jsonl_new();
    struct tsp_jsonl_series  s;
    struct kl_arena          arena;
    struct kl_hist           again;
    struct kl_buf            text = { 0 }, a = { 0 }, b = { 0 };
    struct kl_err            err;
    int64_t                  time_again, start_again;

    kl_arena_init(&arena, 64 << 20);
    kl_buf_adds(&text, begins);
    tsp_jsonl_put_hist(&text, h, time, start, true);
    kl_buf_adds(&text, "]}");
    tsp_jsonl_open(t, kl_buf_span(&text));
    assert(tsp_jsonl_next(t, &s, &err) == TSP_JSONL_SERIES && s.hist_count == 1);
    assert(tsp_jsonl_walk_hist(&s, &arena, &time_again, &start_again, &again, &err));
    assert(time == time_again && start == start_again);
    tsp_hist_put(&a, h);
    tsp_hist_put(&b, &again);
    assert(a.size == b.size && memcmp(a.at, b.at, a.size) == 0);
    kl_buf_deinit(&text);
    kl_buf_deinit(&a);
    kl_buf_deinit(&b);
    kl_arena_deinit(&arena);
    tsp_jsonl_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_jsonl       *t = tsp_jsonl_new();
    struct tsp_jsonl_series s;
    enum tsp_jsonl_item     item;
    struct kl_arena         arena;
    struct kl_hist          h;
    struct kl_buf           out = { 0 };
    struct kl_err           err;
    size_t                  items = 0, n, announced, seen;
    int64_t                 times[3], starts[3];
    double                  values[3];
    uint64_t                bad;

    kl_arena_init(&arena, 64 << 20);
    tsp_jsonl_open(t, kl_span(data, size));
    while ((item = tsp_jsonl_next(t, &s, &err)) != TSP_JSONL_END) {
        assert(++items <= size);
        if (item != TSP_JSONL_SERIES)
            continue;
        (void)kl_labels_finish(s.labels, &out, &err);
        announced = s.count;
        assert(announced <= size);
        for (seen = 0, bad = 0; (n = tsp_jsonl_walk(&s, times, values, starts, 3, &bad)) > 0; )
            seen += n;
        assert(seen + bad == announced);
        announced = s.hist_count;
        for (seen = 0;; seen++) {
            kl_arena_deinit(&arena);
            if (tsp_jsonl_walk_hist(&s, &arena, &times[0], &starts[0], &h, &err))
                write_and_read(&h, times[0], starts[0]);
            else if (err.code == KL_OK)
                break;
        }
        assert(seen == announced);
    }
    kl_arena_deinit(&arena);
    kl_buf_deinit(&out);
    tsp_jsonl_free(t);
    return 0;
}
