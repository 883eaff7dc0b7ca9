/* Aggregates folded elsewhere, from another process: taken or refused inside the query's budget, and what was
 * taken ends in an answer. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libpromql/pql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = { "sum by (g) (rate(a[1m]))", "avg(a)", "max without (g) (a)", "count(a)",
                                         "min by (g) (a)", "group(rate(a[1m]))", "topk(2, a)", "bottomk by (g) (1, a)" };
    struct pql_params p = { .start_ms = 0, .end_ms = 120000, .step_ms = 60000, .memory_max_bytes = 1 << 20 };
    struct pql_failure failure;
    struct pql_fed_partials fed;
    struct pql_query *q;
    struct kl_span parts[2];
    struct kl_err err;

    if (size < 1)
        return 0;
    p.text = kl_span_str(texts[data[0] % 8]);
    p.samples_per_step = p.tally = data[0] & 64;
    parts[0] = parts[1] = kl_span(data + 1, size - 1);
    q = pql_new(&p, &failure);
    if (q == NULL || pql_step(q) != PQL_NEED)
        abort();
    if (pql_feed_partials(q, 0, parts, data[0] & 128 ? 2 : 1, &fed, &err) != KL_OK)
        pql_feed(q, 0, NULL, 0);
    for (enum pql_state st; (st = pql_step(q)) != PQL_DONE;)
        for (size_t i = 0; st == PQL_WORK && i < pql_work_count(q); i++)
            pql_work(q, i, 0);
    if (pql_result(q)->failure.kind == PQL_OK && pql_result(q)->series_count > size)
        abort();
    pql_free(q);
    return 0;
}
