/* Rates and sums of native histograms over a range. */
#include "libpromql/range_priv.h"

/* The first histogram counts as empty where the second begins anew. */
static void empty_like(struct kl_hist *e, const struct kl_hist *h)
{
    *e = (struct kl_hist){ .schema = h->schema, .bounds = h->bounds, .bound_count = h->bound_count };
}

static bool same_kind(struct pql_range_call *c, const struct pql_hists *h, const struct kl_hist *prev,
                      bool counter, int32_t *schema)
{
    bool                  custom = pql_hist_custom(prev);
    const struct kl_hist *last = h->h[h->count - 1];

    if (pql_hist_custom(last) != custom) {
        pql_range_note(c, A_MIXED_SCHEMAS);
        return false;
    }
    *schema = last->schema < prev->schema ? last->schema : prev->schema;
    for (uint32_t i = 1; counter && i + 1 < h->count; i++) {
        if (h->h[i]->reset == KL_HIST_GAUGE)
            pql_range_note(c, A_NOT_COUNTER);
        if (h->h[i]->schema < *schema)
            *schema = h->h[i]->schema;
        if (pql_hist_custom(h->h[i]) != custom) {
            pql_range_note(c, A_MIXED_SCHEMAS);
            return false;
        }
    }
    return true;
}

static bool add_resets(struct pql_range_call *c, const struct pql_hists *h, const struct kl_hist *prev,
                       struct pql_hist *sum)
{
    bool overlap = false;

    for (uint32_t i = 1; i < h->count; i++) {
        bool                 reset = false;
        struct pql_hist_said said = { false, false };

        if (h->st != NULL) {
            if (!overlap && pql_start_overlaps(h->st[i - 1], h->t[i - 1], h->st[i])) {
                pql_range_note(c, A_START_OVERLAP);
                overlap = true;
            }
            reset = pql_start_is_reset(h->st[i - 1], h->t[i - 1], h->st[i], h->t[i]);
        }
        if (reset || pql_hist_is_reset(h->h[i], prev)) {
            if (!pql_hist_add(sum, prev, H_ADD, &said)) {
                pql_range_note(c, A_MIXED_SCHEMAS);
                return false;
            }
            pql_range_said(c, &said, "addition");
        }
        prev = h->h[i];
    }
    return true;
}

/* The increase from the first to the last histogram, into `sum`. */
static bool increase(struct pql_range_call *c, const struct pql_hists *h, bool counter,
                     struct pql_hist *sum)
{
    const struct kl_hist *prev = h->h[0], *last = h->h[h->count - 1];
    struct kl_hist        empty;
    struct pql_hist_said  said = { false, false };
    int32_t               schema = 0;

    if (counter && (prev->reset == KL_HIST_GAUGE || last->reset == KL_HIST_GAUGE))
        pql_range_note(c, A_NOT_COUNTER);
    if (counter && ((h->st != NULL && pql_start_is_reset(h->st[0], h->t[0], h->st[1], h->t[1]))
                    || pql_hist_is_reset(h->h[1], prev))) {
        empty_like(&empty, h->h[1]);
        prev = &empty;
    }
    if (!same_kind(c, h, prev, counter, &schema))
        return false;
    pql_hist_load(sum, last);
    pql_hist_reduce(sum, schema, false);
    if (!pql_hist_add(sum, prev, H_SUB, &said)) {
        pql_range_note(c, A_MIXED_SCHEMAS);
        return false;
    }
    pql_range_said(c, &said, "subtraction");
    if (!counter) {
        if (h->h[0]->reset != KL_HIST_GAUGE || last->reset != KL_HIST_GAUGE)
            pql_range_note(c, A_NOT_GAUGE);
    } else if (!add_resets(c, h, prev, sum)) {
        return false;
    }
    sum->reset = KL_HIST_GAUGE;
    return true;
}

/* The factor that extends what was seen to the whole range; false: there is no result. */
static bool extrapolate(struct pql_range_call *c, const struct pql_window *w, bool counter,
                        struct pql_hist *sum, double *factor)
{
    uint32_t n = w->h.count;
    int64_t  first = w->h.t[0], last = w->h.t[n - 1], start = counter ? pql_start_at(w->h.st, 0) : 0;
    double   to_start = (double)(first - w->start) / 1000, to_end = (double)(w->end - last) / 1000;
    double   interval = (double)(last - first) / 1000;
    double   average = n > 1 ? interval / (double)(n - 1) : 0, threshold = average * 1.1;

    if (start != 0 && start > w->start && start < first) {
        to_start = 0;
        interval = (double)(last - start) / 1000;
        if (n == 1) {
            pql_hist_load(sum, w->h.h[0]);
        } else {
            struct pql_hist_said said = { false, false };
            if (!pql_hist_add(sum, w->h.h[0], H_ADD, &said)) {
                pql_range_note(c, A_MIXED_SCHEMAS);
                return false;
            }
            pql_range_said(c, &said, "addition");
        }
    } else if (n == 1) {
        return false;
    } else {
        if (to_start >= threshold)
            to_start = average / 2;
        if (counter) {
            double to_zero = to_start;
            if (sum->count > 0 && w->h.h[0]->count >= 0)
                to_zero = interval * (w->h.h[0]->count / sum->count);
            if (to_zero < to_start)
                to_start = to_zero;
        }
    }
    if (to_end >= threshold)
        to_end = average / 2;
    *factor = interval != 0 ? (interval + to_start + to_end) / interval : 1;
    if (c->id == FN_RATE)
        *factor /= c->range_s;
    return true;
}

bool pql_range_hist_rate(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    bool            counter = c->id != FN_DELTA, fine = true;
    struct pql_hist sum;
    double          factor = 1;

    pql_hist_init(&sum);
    if (w->h.count > 1)
        fine = increase(c, &w->h, counter, &sum);
    if (fine)
        fine = extrapolate(c, w, counter, &sum, &factor);
    if (fine) {
        pql_hist_mul(&sum, factor);
        out->h = pql_hist_store(c->op, c->worker, &sum, true);
    }
    pql_hist_deinit(&sum);
    return fine && out->h != NULL;
}

/* ---- sums and averages ---- */

static void hint(uint8_t reset, bool *resets, bool *no_resets)
{
    *resets |= reset == KL_HIST_RESET;
    *no_resets |= reset == KL_HIST_NO_RESET;
}

/* A compensated sum; for an average, once it overflows, a running mean. */
static bool total(const struct pql_hists *h, bool average, struct pql_hist *sum,
                  struct pql_hist_said *said)
{
    struct pql_hist next;
    bool            mean = false, fine = true;
    double          count = 1;

    pql_hist_init(&next);
    pql_hist_load(sum, h->h[0]);
    for (uint32_t i = 1; fine && i < h->count; i++) {
        count = (double)(i + 1);
        if (!average) {
            fine = pql_hist_add(sum, h->h[i], H_KAHAN, said);
            continue;
        }
        if (!mean) {
            pql_hist_copy(&next, sum);
            fine = pql_hist_add(&next, h->h[i], H_KAHAN, said);
            if (!fine)
                break;
            if (!pql_hist_overflows(&next)) {
                pql_hist_copy(sum, &next);
                continue;
            }
            mean = true;
            pql_hist_div(sum, count - 1);
        }
        pql_hist_mul(sum, (count - 1) / count);
        fine = pql_hist_add_part(sum, h->h[i], count, said);
    }
    if (fine && average && !mean)
        pql_hist_div(sum, count);
    if (fine)
        pql_hist_settle(sum);
    pql_hist_deinit(&next);
    return fine;
}

bool pql_range_hist_sum(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    struct pql_hist      sum;
    struct pql_hist_said said = { false, false };
    bool                 resets = false, no_resets = false, fine;

    pql_hist_init(&sum);
    fine = total(&w->h, c->id == FN_AVG_OVER_TIME, &sum, &said);
    if (!fine) {
        pql_range_note(c, A_MIXED_SCHEMAS);
    } else {
        for (uint32_t i = 0; i < w->h.count; i++)
            hint(w->h.h[i]->reset, &resets, &no_resets);
        if (resets && no_resets)
            pql_note(c->op, c->step, A_RESET_COLLISION, c->at, kl_span("", 0), kl_span_str("aggregation"),
                     0, 0);
        pql_range_said(c, &said, "aggregation");
        out->h = pql_hist_store(c->op, c->worker, &sum, false);
    }
    pql_hist_deinit(&sum);
    return fine && out->h != NULL;
}
