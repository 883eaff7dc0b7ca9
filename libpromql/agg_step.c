/* sum and avg at one step, where averages, overflow and histograms ask for more than a column sum. */
#include "libpromql/agg_priv.h"

struct fold {
    struct pql_op *op;
    uint32_t step;
    double value, mean, c, count;
    bool has_float, has_hist, float_mean, hist_mean, incompatible, resets, no_resets;
    struct pql_hist sum, next;
    bool hists_inited;
};

static void note(struct fold *f, enum pql_note what, const char *more)
{
    pql_note(f->op, f->step, what, f->op->node->a->from, kl_span("", 0), kl_span_str(more), 0, 0);
}

static void hint(struct fold *f, const struct kl_hist *h)
{
    f->resets |= h->reset == KL_HIST_RESET;
    f->no_resets |= h->reset == KL_HIST_NO_RESET;
}

static void first(struct fold *f, const struct kl_hist *h, double v)
{
    f->value = f->mean = v;
    f->count = 1;
    if (h == NULL) {
        f->has_float = true;
        return;
    }
    f->has_hist = true;
    pql_hist_load(&f->sum, h);
    f->hists_inited = true;
    hint(f, h);
}

static void add_float(struct fold *f, bool average, double v)
{
    double q, s = f->value, c = f->c;

    f->has_float = true;
    if (!average || !f->float_mean) {
        pql_kahan(v, &s, &c);
        if (!average || !isinf(s)) {
            f->value = s;
            f->c = c;
            return;
        }
        f->float_mean = true;
        f->mean = f->value / (f->count - 1);
        f->c /= f->count - 1;
    }
    q = (f->count - 1) / f->count;
    f->mean *= q;
    f->c *= q;
    pql_kahan(v / f->count, &f->mean, &f->c);
}

static void add_hist(struct fold *f, bool average, const struct kl_hist *h, struct kl_span name)
{
    struct pql_hist_said said = { false, false };
    bool                 fine = true;

    f->has_hist = true;
    if (!f->hists_inited)                              /* the first sample was a float: no result */
        return;
    hint(f, h);
    if (!average) {
        fine = pql_hist_add(&f->sum, h, H_KAHAN, &said);
    } else if (!f->hist_mean) {
        pql_hist_copy(&f->next, &f->sum);
        fine = pql_hist_add(&f->next, h, H_KAHAN, &said);
        if (fine && !pql_hist_overflows(&f->next)) {
            pql_hist_copy(&f->sum, &f->next);
        } else if (fine) {
            f->hist_mean = true;
            pql_hist_div(&f->sum, f->count - 1);
        }
    }
    if (fine && average && f->hist_mean) {
        pql_hist_mul(&f->sum, (f->count - 1) / f->count);
        fine = pql_hist_add_part(&f->sum, h, f->count, &said);
    }
    if (said.reconciled)
        note(f, A_MISMATCHED_BOUNDS, "aggregation");
    if (!fine) {
        pql_note(f->op, f->step, A_MIXED_SCHEMAS, f->op->node->a->from, name, kl_span("", 0), 0, 0);
        f->incompatible = true;
    }
}

static void result(struct fold *f, unsigned worker, bool average, struct pql_row *out, uint32_t step)
{
    const struct kl_hist *h;

    if (f->has_float && f->has_hist) {
        note(f, A_MIXED_AGG, "");
        return;
    }
    if (f->incompatible)
        return;
    if (f->has_hist) {
        if (average && !f->hist_mean)
            pql_hist_div(&f->sum, f->count);
        pql_hist_settle(&f->sum);
        h = pql_hist_store(f->op, worker, &f->sum, true);
        if (h == NULL)
            return;
        out->h[step] = h;
        out->v[step] = 0;
        out->has[step] = P_HIST;
    } else {
        out->v[step] = !average ? f->value + f->c : f->float_mean ? f->mean + f->c
                     : f->value / f->count + f->c / f->count;
        out->has[step] = P_FLOAT;
    }
    if (f->resets && f->no_resets)
        note(f, A_RESET_COLLISION, "aggregation");
}

void pql_agg_step(struct pql_op *op, unsigned worker, bool average, const struct pql_row *rows,
                  const uint32_t *members, uint32_t count, struct pql_row *out, uint32_t step)
{
    struct fold f = { .op = op, .step = step };

    pql_hist_init(&f.sum);
    pql_hist_init(&f.next);
    for (uint32_t m = 0; m < count && !f.incompatible; m++) {
        const struct pql_row *r = &rows[members[m]];
        const struct kl_hist *h = r->has[step] == P_HIST ? r->h[step] : NULL;

        if (r->has[step] == P_NONE)
            continue;
        if (f.count == 0) {
            first(&f, h, r->v[step]);
            continue;
        }
        f.count++;
        if (h != NULL)
            add_hist(&f, average, h, pql_metric_name(r->labels));
        else
            add_float(&f, average, r->v[step]);
    }
    if (f.count > 0)
        result(&f, worker, average, out, step);
    pql_hist_deinit(&f.sum);
    pql_hist_deinit(&f.next);
}
