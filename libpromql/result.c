/* The end: what came out, or why nothing did. */
#include "libpromql/top_priv.h"

static void make_result(struct pql_query *q)
{
    struct pql_result     *r = &q->result;
    const struct pql_node *n = q->root;
    uint8_t                type = pql_type(n);

    r->time_ms = q->params.start_ms;
    r->type = !q->params.instant || type == V_MATRIX ? PQL_MATRIX : type == V_SCALAR ? PQL_SCALAR
            : type == V_STRING ? PQL_STRING : PQL_VECTOR;
    if (r->type == PQL_STRING) {
        r->string = n->text;
        return;
    }
    if (q->top->kind == &pql_op_top_matrix) {
        r->series = pql_top_matrix_series(q->top, &r->series_count);
        return;
    }
    r->series = q->top->own;
    r->series_count = r->series != NULL ? q->top->out.count : 0;
}

static void limit(struct pql_query *q)
{
    if (q->params.result_limit == 0 || q->result.series_count <= q->params.result_limit
        || q->result.type == PQL_SCALAR)
        return;
    q->result.series_count = q->params.result_limit;
    q->result.limited = true;
}

void pql_finish(struct pql_query *q)
{
    q->done = true;
    if (!pql_failed(q) && !q->params.partial)
        make_result(q);
    limit(q);
    if (!pql_annos_result(q))
        q->result.info_count = q->result.warning_count = 0;
    if (pql_failed(q)) {
        while (atomic_load(&q->failing) != 2)          /* another thread is writing the words */
            ;
        q->result.failure = q->failure;
        q->result.series_count = 0;
    }
    q->result.samples_total = atomic_load(&q->samples_total);
    q->result.samples_peak = atomic_load(&q->samples_peak);
    for (uint32_t i = 0; q->tally && i < q->step_count; i++)
        q->result.samples_read += atomic_load(&q->reads[i]);
    if (q->params.samples_per_step) {
        uint64_t *steps = kl_arena_alloc(&q->result_arena, 2 * q->step_count * sizeof *steps);
        for (uint32_t i = 0; steps != NULL && i < q->step_count; i++) {
            steps[i] = atomic_load(&q->per_step[i]) + atomic_load(&q->each_step);
            steps[q->step_count + i] = atomic_load(&q->reads[i]);
        }
        q->result.samples_per_step = steps;
        q->result.reads_per_step = steps != NULL ? steps + q->step_count : NULL;
        q->result.step_count = steps != NULL ? q->step_count : 0;
        if (steps != NULL && q->top != NULL && q->top->kind == &pql_op_top_matrix)
            steps[0] = q->result.samples_total;
    }
}

const struct pql_result *pql_result(struct pql_query *q)
{
    return &q->result;
}
