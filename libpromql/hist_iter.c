/* Walking a histogram's buckets. */
#include <string.h>

#include "libpromql/hist_priv.h"

static void side(struct pql_buckets *it, bool positive, bool reverse)
{
    const struct kl_hist *h = it->h;

    it->positive = positive;
    it->reverse = reverse;
    it->spans = positive ? h->pos_spans : h->neg_spans;
    it->span_count = positive ? h->pos_span_count : h->neg_span_count;
    it->counts = positive ? h->pos : h->neg;
    it->count_count = positive ? h->pos_count : h->neg_count;
    it->index = 0;
    if (!reverse) {
        it->span = it->in_span = it->at = 0;
        if (it->span_count > 0)
            it->index = it->spans[0].offset;
        return;
    }
    it->at = it->count_count;
    for (uint32_t i = 0; i < it->span_count; i++)
        it->index += (int64_t)it->spans[i].offset + it->spans[i].length;
    it->span = it->span_count;
    it->in_span = 0;
    while (it->span > 0 && it->spans[it->span - 1].length == 0) {
        it->index -= it->spans[it->span - 1].offset;
        it->span--;
    }
    if (it->span > 0)
        it->in_span = it->spans[it->span - 1].length;
}

/* One bucket of the current side; false at its end, or where spans and counts disagree. */
static bool forward(struct pql_buckets *it, int64_t *index, double *count)
{
    while (it->span < it->span_count && it->in_span >= it->spans[it->span].length) {
        it->in_span = 0;
        if (++it->span < it->span_count)
            it->index += it->spans[it->span].offset;
    }
    if (it->span >= it->span_count || it->at >= it->count_count)
        return false;
    *index = it->index++;
    *count = it->counts[it->at++];
    it->in_span++;
    return true;
}

static bool backward(struct pql_buckets *it, int64_t *index, double *count)
{
    if (it->span == 0 || it->at == 0)
        return false;
    *index = --it->index;
    *count = it->counts[--it->at];
    it->in_span--;
    while (it->span > 0 && it->in_span == 0) {
        it->index -= it->spans[--it->span].offset;
        if (it->span > 0)
            it->in_span = it->spans[it->span - 1].length;
    }
    return true;
}

static bool step(struct pql_buckets *it, struct pql_bucket *b)
{
    const struct kl_hist *h = it->h;
    int64_t               index = 0;
    double                near, far;

    if (!(it->reverse ? backward(it, &index, &b->count) : forward(it, &index, &b->count)))
        return false;
    if (index > INT32_MAX || index <= INT32_MIN)
        return false;
    b->index = (int32_t)index;
    far = pql_hist_bound(b->index, h->schema, h->bounds, h->bound_count);
    near = pql_hist_bound(b->index - 1, h->schema, h->bounds, h->bound_count);
    b->lower = it->positive ? near : -far;
    b->upper = it->positive ? far : -near;
    if (h->schema == KL_HIST_CUSTOM) {
        b->lower_in = index == 0;
        b->upper_in = true;
    } else {
        b->lower_in = b->lower < 0;
        b->upper_in = b->upper > 0;
    }
    return true;
}

/* A bucket that begins inside the zero bucket begins where that ends. */
static void cut_at_zero(const struct kl_hist *h, struct pql_bucket *b)
{
    if (b->upper < 0 && b->upper > -h->zero_threshold)
        b->upper = -h->zero_threshold;
    else if (b->lower > 0 && b->lower < h->zero_threshold)
        b->lower = h->zero_threshold;
}

void pql_buckets_all(struct pql_buckets *it, const struct kl_hist *h, bool descending)
{
    memset(it, 0, sizeof *it);
    it->h = h;
    it->down = descending;
    it->state = -1;
    side(it, descending, true);
}

void pql_buckets_side(struct pql_buckets *it, const struct kl_hist *h, bool positive)
{
    memset(it, 0, sizeof *it);
    it->h = h;
    it->state = 2;
    side(it, positive, false);
}

bool pql_buckets_next(struct pql_buckets *it, struct pql_bucket *b)
{
    if (it->state == 2)
        return step(it, b);
    if (it->state == -1) {
        if (step(it, b)) {
            cut_at_zero(it->h, b);
            return true;
        }
        it->state = 0;
    }
    if (it->state == 0) {
        it->state = 1;
        side(it, !it->down, false);
        if (it->h->zero_count > 0) {
            *b = (struct pql_bucket){ .lower = -it->h->zero_threshold, .upper = it->h->zero_threshold,
                                      .count = it->h->zero_count, .lower_in = true,
                                      .upper_in = true };
            return true;
        }
    }
    if (!step(it, b))
        return false;
    cut_at_zero(it->h, b);
    return true;
}

static void bucket_text(struct kl_buf *out, const struct pql_bucket *b)
{
    kl_buf_adds(out, b->lower_in ? ", [" : ", (");
    pql_fmt_g(out, b->lower);
    kl_buf_add8(out, ',');
    pql_fmt_g(out, b->upper);
    kl_buf_adds(out, b->upper_in ? "]:" : "):");
    pql_fmt_g(out, b->count);
}

void pql_hist_text(struct kl_buf *out, const struct kl_hist *h)
{
    struct pql_buckets it;
    struct pql_bucket  b;

    kl_buf_adds(out, "{count:");
    pql_fmt_g(out, h->count);
    kl_buf_adds(out, ", sum:");
    pql_fmt_g(out, h->sum);
    memset(&it, 0, sizeof it);
    it.h = h;
    it.state = 2;
    side(&it, false, true);
    while (pql_buckets_next(&it, &b))
        if (b.count != 0)
            bucket_text(out, &b);
    if (h->zero_count != 0) {
        b = (struct pql_bucket){ .lower = -h->zero_threshold, .upper = h->zero_threshold,
                                 .count = h->zero_count, .lower_in = true, .upper_in = true };
        bucket_text(out, &b);
    }
    pql_buckets_side(&it, h, true);
    while (pql_buckets_next(&it, &b))
        if (b.count != 0)
            bucket_text(out, &b);
    kl_buf_add8(out, '}');
}
