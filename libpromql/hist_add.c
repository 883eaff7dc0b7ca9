/* Sums and differences of histograms: the coarser resolution, the wider zero bucket, the bounds that
 * both have; plainly, or with compensation (Neumaier) for long sums. */
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

/* ---- zero buckets ---- */

/* How many observations a zero bucket that reaches to *threshold would hold. A bucket cut by it that
 * is not empty widens it. */
static double wider_zero(const struct pql_hist *h, double *threshold, double *c)
{
    double zero;

again:
    zero = h->zero;
    *c = h->zero_c;
    if (*threshold == h->zero_threshold)
        return zero;
    for (uint32_t i = 0; i < h->pos.count; i++) {
        double lower = pql_hist_bound_exp(h->pos.index[i] - 1, h->schema);
        double upper = pql_hist_bound_exp(h->pos.index[i], h->schema);
        if (lower >= *threshold)
            break;
        pql_kahan(h->pos.n[i], &zero, c);
        pql_kahan(h->pos.c[i], &zero, c);
        if (upper > *threshold) {
            if (h->pos.n[i] != 0)
                *threshold = upper;
            break;
        }
    }
    for (uint32_t i = 0; i < h->neg.count; i++) {
        double upper = pql_hist_bound_exp(h->neg.index[i] - 1, h->schema);
        double lower = pql_hist_bound_exp(h->neg.index[i], h->schema);
        if (upper >= *threshold)
            break;
        pql_kahan(h->neg.n[i], &zero, c);
        pql_kahan(h->neg.c[i], &zero, c);
        if (lower > *threshold) {
            if (h->neg.n[i] != 0) {
                *threshold = lower;
                goto again;
            }
            break;
        }
    }
    return zero;
}

static void empty_below(struct pql_side *s, int32_t schema, double threshold)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        bool inside = pql_hist_bound_exp(s->index[i] - 1, schema) < threshold;
        if (inside || (s->n[i] == 0 && s->c[i] == 0))
            continue;
        s->index[n] = s->index[i];
        s->n[n] = s->n[i];
        s->c[n++] = s->c[i];
    }
    s->count = n;
}

/* Makes both thresholds equal by widening; returns the other's count of zeros. */
static double reconcile_zero(struct pql_hist *h, const struct pql_hist *other)
{
    double zero = other->zero, threshold = other->zero_threshold, c;

    while (threshold != h->zero_threshold && !isnan(threshold) && !isnan(h->zero_threshold)) {
        if (h->zero_threshold > threshold) {
            threshold = h->zero_threshold;
            zero = wider_zero(other, &threshold, &c);
        }
        if (threshold > h->zero_threshold) {
            double wider = threshold;
            h->zero = wider_zero(h, &wider, &c);
            h->zero_c = c;
            h->zero_threshold = wider;
            empty_below(&h->pos, h->schema, wider);
            empty_below(&h->neg, h->schema, wider);
        }
    }
    return zero;
}

/* ---- buckets ---- */

static void put(struct pql_side *s, int32_t index, double n, double c)
{
    if (s->count == s->room) {
        uint32_t room = s->room < 16 ? 32 : s->room * 2;
        s->index = kl_resize(s->index, room * sizeof *s->index);
        s->n = kl_resize(s->n, room * sizeof *s->n);
        s->c = kl_resize(s->c, room * sizeof *s->c);
        s->room = room;
    }
    s->index[s->count] = index;
    s->n[s->count] = n;
    s->c[s->count++] = c;
}

static void combine(double *n, double *c, double bn, double bc, enum pql_hist_how how)
{
    if (how != H_KAHAN) {
        *n += how == H_SUB ? -bn : bn;
        return;
    }
    pql_kahan(bn, n, c);
    if (bc != 0)
        pql_kahan(bc, n, c);
}

/* a and b into the spare list, which then becomes a. Buckets of b inside the zero bucket are left
 * out: they are counted there. */
static void merge(struct pql_hist *h, struct pql_side *a, const struct pql_side *b,
                  enum pql_hist_how how)
{
    struct pql_side out = h->spare;
    uint32_t        i = 0, k = 0;

    out.count = 0;
    while (h->schema != KL_HIST_CUSTOM && k < b->count
           && pql_hist_bound_exp(b->index[k], h->schema) <= h->zero_threshold)
        k++;
    while (i < a->count || k < b->count) {
        if (k == b->count || (i < a->count && a->index[i] < b->index[k])) {
            put(&out, a->index[i], a->n[i], a->c[i]);
            i++;
        } else if (i == a->count || b->index[k] < a->index[i]) {
            put(&out, b->index[k], how == H_SUB ? -b->n[k] : b->n[k], how == H_KAHAN ? b->c[k] : 0);
            k++;
        } else {
            put(&out, a->index[i], a->n[i], a->c[i]);
            combine(&out.n[out.count - 1], &out.c[out.count - 1], b->n[k], b->c[k], how);
            i++;
            k++;
        }
    }
    h->spare = *a;
    *a = out;
}

/* ---- custom bounds ---- */

static bool same_bounds(const double *a, uint32_t na, const double *b, uint32_t nb)
{
    if (na != nb)
        return false;
    for (uint32_t i = 0; i < na; i++)
        if (a[i] != b[i])
            return false;
    return true;
}

/* Maps buckets to those of `bounds`, whose every bound the source has too. */
static void remap(const struct pql_side *s, const double *from, uint32_t from_count,
                  const double *bounds, uint32_t count, double *n, double *c, bool minus, bool comp)
{
    uint32_t to = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t index = s->index[i] < 0 ? 0 : (uint32_t)s->index[i], target = count;
        if (index < from_count) {
            while (to < count && bounds[to] < from[index])
                to++;
            target = to;
        }
        pql_kahan(minus ? -s->n[i] : s->n[i], &n[target], &c[target]);
        if (comp && !minus)
            pql_kahan(s->c[i], &n[target], &c[target]);
    }
}

static void add_mismatched(struct pql_hist *h, const struct pql_hist *other, enum pql_hist_how how)
{
    uint32_t least = h->bound_count < other->bound_count ? h->bound_count : other->bound_count;
    double  *common = kl_resize(NULL, (least + 1) * sizeof *common);
    uint32_t count = 0;
    double  *n, *c;

    for (uint32_t i = 0, k = 0; i < h->bound_count && k < other->bound_count;) {
        if (h->bounds[i] == other->bounds[k]) {
            common[count++] = h->bounds[i++];
            k++;
        } else if (h->bounds[i] < other->bounds[k]) {
            i++;
        } else {
            k++;
        }
    }
    n = kl_new((count + 1) * sizeof *n);
    c = kl_new((count + 1) * sizeof *c);
    remap(&h->pos, h->bounds, h->bound_count, common, count, n, c, false, how == H_KAHAN);
    remap(&other->pos, other->bounds, other->bound_count, common, count, n, c, how == H_SUB, false);
    h->pos.count = 0;
    for (uint32_t i = 0; i <= count; i++)
        if (n[i] != 0 || c[i] != 0)
            put(&h->pos, (int32_t)i, n[i], how == H_KAHAN ? c[i] : 0);
    free(n);
    free(c);
    free(h->own_bounds);
    h->own_bounds = common;
    h->bound_room = least + 1;
    h->bounds = common;
    h->bound_count = count;
}

/* ---- the whole ---- */

static void adjust_hint(struct pql_hist *h, uint8_t other, struct pql_hist_said *said)
{
    if (other == h->reset || h->reset == KL_HIST_GAUGE)
        return;
    if (other == KL_HIST_GAUGE) {
        h->reset = KL_HIST_GAUGE;
    } else if (h->reset != KL_HIST_UNKNOWN) {
        said->collision |= other != KL_HIST_UNKNOWN;
        h->reset = KL_HIST_UNKNOWN;
    }
}

static void add_exponential(struct pql_hist *h, struct pql_hist *other, enum pql_hist_how how)
{
    double zero = reconcile_zero(h, other);

    combine(&h->zero, &h->zero_c, zero, 0, how);
    if (other->schema < h->schema)
        pql_hist_reduce(h, other->schema, how == H_KAHAN);
    else
        pql_hist_reduce(other, h->schema, how == H_KAHAN);
    merge(h, &h->pos, &other->pos, how);
    merge(h, &h->neg, &other->neg, how);
}

static bool add(struct pql_hist *h, struct pql_hist *other, enum pql_hist_how how,
                struct pql_hist_said *said)
{
    if ((h->schema == KL_HIST_CUSTOM) != (other->schema == KL_HIST_CUSTOM))
        return false;
    adjust_hint(h, other->reset, said);
    if (h->schema != KL_HIST_CUSTOM) {
        add_exponential(h, other, how);
    } else if (same_bounds(h->bounds, h->bound_count, other->bounds, other->bound_count)) {
        merge(h, &h->pos, &other->pos, how);
    } else {
        said->reconciled = true;
        add_mismatched(h, other, how);
    }
    combine(&h->count, &h->count_c, other->count, 0, how);
    combine(&h->sum, &h->sum_c, other->sum, 0, how);
    return true;
}

bool pql_hist_add(struct pql_hist *h, const struct kl_hist *value, enum pql_hist_how how,
                  struct pql_hist_said *said)
{
    struct pql_hist other;
    bool            fine;

    pql_hist_init(&other);
    pql_hist_load(&other, value);
    fine = add(h, &other, how, said);
    pql_hist_deinit(&other);
    return fine;
}

bool pql_hist_add_part(struct pql_hist *h, const struct kl_hist *value, double divisor,
                       struct pql_hist_said *said)
{
    struct pql_hist other;
    bool            fine;

    pql_hist_init(&other);
    pql_hist_load(&other, value);
    pql_hist_div(&other, divisor);
    fine = add(h, &other, H_KAHAN, said);
    pql_hist_deinit(&other);
    return fine;
}
