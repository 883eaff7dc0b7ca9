/* Any query over a little data, hostile histograms included: answered or refused inside its budget. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/pql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SERIES = 6, SAMPLES = 24 };

struct stock {
    struct kl_buf labels[SERIES];
    int64_t t[SAMPLES];
    double v[SERIES][SAMPLES];
    struct kl_hist h[SAMPLES];
    const struct kl_hist *hp[SAMPLES];
    struct pql_series series[SERIES];
};

static const struct kl_hist_span spans[] = { { -3, 2 }, { 5, 3 }, { 2147483647, 4 } };
static const double counts[] = { 1, 2, 0, 3, -1 };
static const double bounds[] = { -1, 0, 2.5 };

static void stock_up(struct stock *s, const uint8_t *seed, size_t size)
{
    static struct kl_labels_builder b;
    struct kl_err                   err;
    static const char *const names[] = { "a", "b", "a_bucket", "a_total", "target_info", "h" };

    for (int k = 0; k < SERIES; k++) {
        char value[2] = { (char)('0' + k % 2), '\0' };
        kl_buf_init(&s->labels[k], 4096);
        kl_labels_start(&b);
        kl_labels_add(&b, kl_span_str("__name__"), kl_span_str(names[k]), &err);
        kl_labels_add(&b, kl_span_str("job"), kl_span_str("j"), &err);
        kl_labels_add(&b, kl_span_str("instance"), kl_span_str(value), &err);
        kl_labels_add(&b, kl_span_str("le"), kl_span_str(k == 2 ? "+Inf" : "1"), &err);
        kl_labels_finish(&b, &s->labels[k], &err);
        for (int i = 0; i < SAMPLES; i++) {
            uint8_t x = size > 0 ? seed[(size_t)(i + k * 7) % size] : 1;
            s->t[i] = (int64_t)i * 15000;
            s->v[k][i] = x == 255 ? NAN : x == 254 ? INFINITY : x == 253 ? kl_bits_f64(KL_STALE_BITS)
                       : (double)x * i;
            s->h[i] = (struct kl_hist){ .schema = x % 5 == 0 ? KL_HIST_CUSTOM : (int32_t)(x % 13) - 4,
                .reset = x % 4, .zero_threshold = x % 5 == 0 ? 0 : x % 3, .zero_count = x % 7, .count = x,
                .sum = x == 252 ? NAN : x, .pos_spans = spans, .pos_span_count = x % 4,
                .pos = counts, .pos_count = x % 6, .neg_spans = spans, .neg_span_count = x % 3,
                .neg = counts, .neg_count = x % 5, .bounds = x % 5 == 0 ? bounds : NULL,
                .bound_count = x % 5 == 0 ? x % 4 : 0 };
            s->hp[i] = x % 3 == 0 ? NULL : &s->h[i];
        }
        s->series[k] = (struct pql_series){ { (const uint8_t *)s->labels[k].at, s->labels[k].size },
                                            SAMPLES, s->t, s->v[k], k == 5 ? s->hp : NULL, NULL };
    }
}

static void answer(struct pql_query *q, struct stock *s)
{
    struct kl_buf out;

    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;) {
        const struct pql_need *needs;
        size_t                 count = st == PQL_NEED ? pql_needs(q, &needs) : 0;
        for (size_t i = 0; i < count; i++) {
            struct pql_series found[SERIES];
            size_t            n = 0;
            for (int k = 0; k < SERIES; k++)
                if (kl_matchers_test(needs[i].matchers, needs[i].matcher_count, s->series[k].labels))
                    found[n++] = s->series[k];
            pql_feed(q, needs[i].id, found, n);
        }
        for (size_t i = 0; st == PQL_WORK && i < pql_work_count(q); i++)
            pql_work(q, i, (unsigned)i % 3);
    }
    kl_buf_init(&out, 1 << 20);
    pql_result_json(pql_result(q), 0, pql_result(q)->series_count, &out);
    kl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stock      *s;
    struct pql_failure failure;
    struct pql_params  p = { .memory_max_bytes = 16 << 20, .samples_max = 100000, .series_max = 10000 };

    if (size < 8)
        return 0;
    s = calloc(1, sizeof *s);
    stock_up(s, data, 8);
    for (int range = 0; range < 2; range++) {
        struct pql_query *q;
        p.text = kl_span(data + 8, size - 8);
        p.instant = range == 0;
        p.start_ms = range == 0 ? 200000 : 0;
        p.end_ms = 300000;
        p.step_ms = 30000;
        q = pql_new(&p, &failure);
        if (q == NULL)
            break;
        answer(q, s);
        pql_free(q);
    }
    for (int k = 0; k < SERIES; k++)
        kl_buf_deinit(&s->labels[k]);
    free(s);
    return 0;
}
