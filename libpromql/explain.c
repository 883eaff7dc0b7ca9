/* The plan and what became of it: one entry an operator, in the order they run. */
#include "libpromql/partial_priv.h"

#include "libkoal/base/json.h"

enum { EXPRESSION_SHOWN_MAX = 400 };

size_t pql_operator_count(const struct pql_query *q)
{
    return q->op_count;
}

size_t pql_operator(const struct pql_query *q)
{
    return q->cur != NULL && !q->done ? q->cur->number : q->op_count;
}

static void expression(const struct pql_op *op, struct kl_buf *b)
{
    kl_buf_init(b, EXPRESSION_SHOWN_MAX);
    if (op->node != NULL)
        pql_print(b, op->node);
}

static void field(struct kl_buf *out, const char *name, uint64_t v)
{
    kl_buf_addf(out, ",\"%s\":%llu", name, (unsigned long long)v);
}

static void one_json(const struct pql_op *op, const int64_t *ns, struct kl_buf *out)
{
    struct kl_buf text;
    bool          first = true;

    expression(op, &text);
    kl_buf_addf(out, "{\"id\":%u,\"operator\":", op->number);
    kl_json_cstr(out, op->kind->name);
    kl_buf_adds(out, ",\"expression\":");
    kl_json_str(out, kl_buf_span(&text));
    kl_buf_adds(out, ",\"inputs\":[");
    for (uint32_t i = 0; i < op->inputs_had; i++)
        if (op->input_numbers[i] != UINT32_MAX) {
            kl_buf_addf(out, first ? "%u" : ",%u", op->input_numbers[i]);
            first = false;
        }
    kl_buf_add8(out, ']');
    if (op->need != 0)
        field(out, "need", op->need - 1);
    if (pql_op_partials(op) != NULL)
        kl_buf_adds(out, ",\"pushed\":true");
    field(out, "steps", op->grid.count);
    field(out, "series", op->rows_made);
    field(out, "points", op->points_made);
    field(out, "workItems", op->items_made);
    field(out, "bytes", op->bytes_used);
    if (ns != NULL)
        field(out, "nanoseconds", (uint64_t)ns[op->number]);
    kl_buf_add8(out, '}');
    kl_buf_deinit(&text);
}

void pql_explain_json(const struct pql_query *q, const int64_t *ns, struct kl_buf *out)
{
    kl_buf_add8(out, '[');
    for (const struct pql_op *op = q->ops; op != NULL; op = op->next) {
        if (op != q->ops)
            kl_buf_add8(out, ',');
        one_json(op, ns, out);
    }
    kl_buf_add8(out, ']');
}

void pql_explain_text(const struct pql_query *q, const int64_t *ns, struct kl_buf *out)
{
    for (const struct pql_op *op = q->ops; op != NULL; op = op->next) {
        struct kl_buf text;

        expression(op, &text);
        kl_buf_addf(out, "%3u %-22s %6u steps %8llu series %10llu points %10llu bytes", op->number,
                    op->kind->name, op->grid.count, (unsigned long long)op->rows_made,
                    (unsigned long long)op->points_made, (unsigned long long)op->bytes_used);
        if (ns != NULL)
            kl_buf_addf(out, " %9.3f ms", (double)ns[op->number] * 1e-6);
        for (uint32_t i = 0; i < op->inputs_had; i++)
            if (op->input_numbers[i] != UINT32_MAX)
                kl_buf_addf(out, "%s%u", i == 0 ? "  of " : ",", op->input_numbers[i]);
        kl_buf_addf(out, "  %.*s%s\n", (int)text.size, text.size > 0 ? text.at : "",
                    pql_op_partials(op) != NULL ? "  (pushed)" : "");
        kl_buf_deinit(&text);
    }
}
