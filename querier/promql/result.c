/* The end: names dropped that functions owe, rows of equal labels joined, rows as points. */
#include <stdlib.h>
#include <string.h>

#include "querier/promql/top_priv.h"

static int by_labels(const void *a, const void *b)
{
    return kl_labels_cmp(((const struct pql_row *)a)->labels, ((const struct pql_row *)b)->labels);
}

/* The histograms and labels of the answer lie with the operators, which live as long as the query. */
static bool points_of(struct pql_query *q, const struct pql_op *top, struct pql_out_series *out)
{
    for (uint32_t k = 0; k < top->out.count; k++) {
        const struct pql_row *r = &top->out.at[k];
        struct pql_point     *p = kl_arena_alloc(&q->result_arena, ((size_t)r->have + 1) * sizeof *p);
        uint32_t              n = 0;

        if (p == NULL)
            return false;
        for (uint32_t i = 0; i < top->grid.count; i++)
            if (r->has[i] != P_NONE)
                p[n++] = (struct pql_point){ pql_at(top->grid, i), r->v[i], pql_hist_at(r, i) };
        out[k] = (struct pql_out_series){ .labels = r->labels, .count = n, .points = p };
    }
    return true;
}

static bool rows_result(struct pql_query *q, struct pql_op *top)
{
    struct pql_out_series *out;
    bool                   sorted = q->result.type == PQL_MATRIX;

    for (uint32_t k = 0; k < top->out.count; k++)
        if (top->out.at[k].drop_name)
            top->out.at[k].labels = pql_labels_bare(top, 0, top->out.at[k].labels);
    if (top->out.count > 1)
        pql_join_equal(top);
    if (pql_failed(q))
        return true;
    if (sorted && top->out.count > 1)
        qsort(top->out.at, top->out.count, sizeof *top->out.at, by_labels);
    out = kl_arena_alloc(&q->result_arena, ((size_t)top->out.count + 1) * sizeof *out);
    if (out == NULL || !points_of(q, top, out))
        return false;
    q->result.series = out;
    q->result.series_count = top->out.count;
    return true;
}

static bool make_result(struct pql_query *q)
{
    struct pql_result     *r = &q->result;
    const struct pql_node *n = q->root;
    uint8_t                type = pql_type(n);

    r->time_ms = q->params.start_ms;
    r->type = !q->params.instant || type == V_MATRIX ? PQL_MATRIX : type == V_SCALAR ? PQL_SCALAR
            : type == V_STRING ? PQL_STRING : PQL_VECTOR;
    if (r->type == PQL_STRING) {
        r->string = n->text;
        return true;
    }
    if (q->top->kind == &pql_op_top_matrix) {
        r->series = pql_top_matrix_series(q->top, &r->series_count);
        return true;
    }
    return rows_result(q, q->top);
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
    if (!pql_failed(q) && !make_result(q))
        pql_fail(q, PQL_EXECUTION, "query needs more memory for its answer than its budget of %zu bytes",
                 q->memory_max);
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
    if (q->per_step != NULL) {
        uint64_t *steps = kl_arena_alloc(&q->result_arena, q->step_count * sizeof *steps);
        for (uint32_t i = 0; steps != NULL && i < q->step_count; i++)
            steps[i] = atomic_load(&q->per_step[i]) + atomic_load(&q->each_step);
        q->result.samples_per_step = steps;
        q->result.step_count = steps != NULL ? q->step_count : 0;
        if (steps != NULL && q->top != NULL && q->top->kind == &pql_op_top_matrix)
            steps[0] = q->result.samples_total;
    }
}

const struct pql_result *pql_result(struct pql_query *q)
{
    return &q->result;
}
